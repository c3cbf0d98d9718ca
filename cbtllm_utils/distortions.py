"""Which cognitive distortions a reply names (paper §3.3): a taxonomy as data, and mentions found in Chinese text."""

import csv
import functools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from cbtllm_utils import files

TAXONOMY = Path(__file__).with_name("distortion_taxonomy.csv")
QUOTES = "“”\"'‘’「」『』"
# One character for one, so that positions stay: full-width forms and quotation marks, and the traditional characters
# of the names.
PLAIN = str.maketrans(
    {chr(code + 0xFEE0): chr(code) for code in range(0x21, 0x7F)}
    | dict(
        zip(
            "無絕對極維過納廣緒災難讀術靈閱預測來師負選擇關應該則貼標籤個歸責錯誤斷論結聽貶損積優勢擴誇與縮雙鏡戲體驗經陳規濾轉",
            "无绝对极维过纳广绪灾难读术灵阅预测来师负选择关应该则贴标签个归责错误断论结听贬损积优势扩夸与缩双镜戏体验经陈规滤转",
            strict=True,
        )
    )
)
DENIED = re.compile(
    r"(?:不是|并非|并不是|不算|算不上|算不得|谈不上|称不上|说不上|不属于|不等于|没有|看不出|没看出|不觉得|不认为|不必|未必是|谁也|别急着|不想)"
    r"(?:(?!而是|就是)[^,。;!?\n]){0,10}$"
)
ADVISED = re.compile(
    r"(?:避免|防止|警惕|不要|别(?!人|的)再?|小心|减少|学会(?:识别|辨认)|常见的(?:认知扭曲|思维误区)有)[^,。;!?\n]{0,6}$"
)
OTHERS = re.compile(
    r"(?:他|她|他们|人家|妈妈?|爸爸?|父母|领导|老师|同事|朋友|老板|婆婆|对方)"
    r"(?:也|可能|总|会|就|又|是|在|有|喜欢|把|陷入|习惯)(?:[^,。;!?\n你您]|[给对帮替][你您]){0,8}$|帮[你我他她][^,。;!?\n]{0,2}$"
)
EXPLAINED = re.compile(r"(?:所谓|什么是|书上说|书里说)的?[^,。;!?\n]{0,4}$")
DEFINED = re.compile(rf"[{QUOTES}]?(?:,?是?指的?是?|的意思是|的定义是?)")


class Mention(NamedTuple):
    """A distortion's label, the words that name it as they stand, and where they begin."""

    label: str
    text: str
    start: int


@functools.cache
def taxonomy() -> pd.DataFrame:
    """The classes: label, english, row (of the paper's Table 2), pattern, definition, source."""
    return pd.read_csv(TAXONOMY, dtype=str)


@functools.cache
def patterns() -> dict[str, re.Pattern[str]]:
    """label -> how the class is named; `~` in the data is a place where a quotation mark may stand."""
    with TAXONOMY.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {row["label"]: re.compile(row["pattern"].replace("~", f"[{QUOTES}]?")) for row in rows}


def find(reply: str, mode: str = "attributed") -> list[Mention]:
    """The mentions in a reply, in order; where two overlap the longer counts.

    `named`: any naming, as the paper must have counted. `attributed`: named of the client; a denial, general advice, a
    definition or another person's distortion does not count. Lexical: a paraphrase without a name is not found.
    """
    if mode not in ("named", "attributed"):
        raise files.InputError(f"mode {mode!r}: expected 'named' or 'attributed'")
    plain = reply.translate(PLAIN)
    spans = [
        (m.start(), m.start() + len(m[0].rstrip(QUOTES)), label)
        for label, pattern in patterns().items()
        for m in pattern.finditer(plain)
    ]
    kept: list[tuple[int, int, str]] = []
    for start, end, label in sorted(spans, key=lambda span: (span[0] - span[1], span[0])):
        if all(end <= other[0] or start >= other[1] for other in kept):
            kept.append((start, end, label))
    return [
        Mention(label, reply[start:end], start)
        for start, end, label in sorted(kept)
        if mode == "named" or attributed(plain, start, end)
    ]


def attributed(plain: str, start: int, end: int) -> bool:
    """Whether a naming at this place speaks of the client, by the words around it in its sentence."""
    begin = max(plain.rfind(mark, 0, start) for mark in "。!?\n") + 1
    before = plain[begin:start].rstrip(QUOTES + " ")
    defined = DEFINED.match(plain, end) and not re.search("[你您这那]", before)
    if defined or EXPLAINED.search(before) or ADVISED.search(before):
        return False
    return not (DENIED.search(before) or OTHERS.search(before))


def labels(reply: str, mode: str = "attributed") -> list[str]:
    """The classes that a reply names, each once, in the taxonomy's order."""
    found = {mention.label for mention in find(reply, mode)}
    return [label for label in patterns() if label in found]


def table(replies: Iterable[str], mode: str) -> pd.DataFrame:
    """replies x classes: whether each names each."""
    rows = [labels(reply, mode) for reply in replies]
    return pd.DataFrame([[label in row for label in patterns()] for row in rows], columns=list(patterns()))


def paper_rows(named: pd.DataFrame) -> pd.DataFrame:
    """replies x the six rows of the paper's Table 2: all classes that it does not list are its Others."""
    rows = taxonomy().set_index("label")["row"]
    return pd.DataFrame({row: named[rows.index[rows == row]].any(axis=1) for row in dict.fromkeys(rows)})


def together(named: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(observed, expected): how many replies name two classes, and how many would if they were independent."""
    matrix = named.astype(int)
    counts = matrix.sum()
    expected = np.outer(counts, counts) / max(len(named), 1)
    names = list(named.columns)
    observed = matrix.T @ matrix
    apart = ~np.eye(len(names), dtype=bool)
    return observed.where(apart), pd.DataFrame(expected, names, names).where(apart)
