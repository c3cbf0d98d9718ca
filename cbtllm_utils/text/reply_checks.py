"""Whether a reply does what its prompt asks: fit to enter the data set or not and why, and shares over many replies."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from cbtllm_utils import statistics
from cbtllm_utils.data.prompts import COMPONENTS, OPEN, Prompt
from cbtllm_utils.text import sections

REFUSAL = re.compile(
    r"作为(?:一个|一名|一款)?(?:AI|人工智能|大?语言模型)(?:语言模型|大模型|模型|助手|程序|系统|聊天机器人)?[，,我]"
    r"|我(?:很|非常)?(?:抱歉|遗憾)?[，,]?(?:但是?)?我?(?:无法|不能)(?:为[你您]|给[你您]|向[你您])?"
    r"(?:提供(?:[你您])?(?:所)?(?:需要|需)?的?(?:帮助|支持|建议|服务|治疗)"
    r"|(?:回答|满足|处理|协助)(?:[你您]的?)?(?:这|该|此)?(?:个|些|样|类|种)?的?(?:问题|请求|要求|话题|提问|咨询)"
    r"|继续(?:这|该)?(?:次|个)?(?:对话|话题))"
    r"|(?:抱歉|对不起)[，,]?我(?:无法|不能)(?:提供|回答|满足|处理|协助|讨论)"
    r"|(?i:as an ai\b|i(?:'|’)?m sorry,? but i can(?:'|’)?t|i can(?:'|’)?t (?:help|assist))"
)
QUOTED = re.compile(  # the client's thoughts, such as “我无法处理这个问题”
    r"“[^“”]*”|「[^「」]*」|『[^『』]*』|\"[^\"]*\""
)
DEMAND = re.compile(  # of the model, not of people, by the clause: 他总是忽略我的感受 is none, nor 他只回复“嗯”
    r"(?:忽略|无视|不要?理会|不用管|忘掉|忘记)[^。！？\n]{0,6}(?:以上|上述|之前|前面|上面|所有|全部)[^。！？\n]{0,4}"
    r"(?:规则|要求|指令|提示|设定|限制)|系统提示|提示词|^(?:请?你|从现在(?:起|开始)你?)(?:现在)?(?:是|扮演)一"
    r"|(?:^|请|你|须)(?:只|仅)(?:需|要|能|许|准)?(?:回答|输出|回复|返回)[：:“\"「]"
    r"|(?i:ignore (?:all |any |the |your )*(?:previous|above|prior)|system prompt|^you are now an? )"
)
SAID = 8  # characters of a demand: so many in a row are no chance
COPIED = 15  # characters: a sentence of the prompt at least so long is no chance in a reply


@dataclass(frozen=True)
class Rules:
    """What a reply must be to enter the data set: characters, share of Chinese letters, parts found of the five."""

    min_characters: int = 200
    max_characters: int = 1500
    min_chinese: float = 0.5
    min_parts: int = 3


def fault(text: str, finish_reason: str, prompt: Prompt, rules: Rules, post: str = "") -> str | None:
    """Why a reply to a post cannot enter the data set, or None: the first of ten named reasons, the surest first.

    cut off (by the limit of tokens or a provider's filter), empty, a broken character (�), refusal, prompt repeated,
    instructions of the post quoted, wrong language, too short, too long, parts missing (as `sections.structure` sees
    them, which may err: `min_parts` leaves it room to).
    """
    if finish_reason in ("length", "content_filter"):
        return f"cut off ({finish_reason})"
    if not text.strip():
        return "empty"
    if "�" in text:
        return "a character is broken"
    if REFUSAL.search(QUOTED.sub("", text)):
        return "refusal"
    if repeated(text, prompt):
        return "prompt repeated"
    if instructed(text, post):
        return "instructions of the post quoted"
    if chinese(text) < rules.min_chinese:
        return "wrong language"
    if not rules.min_characters <= len(text) <= rules.max_characters:
        return "too short" if len(text) < rules.min_characters else "too long"
    present = sections.structure(text).present
    absent = [name for name in COMPONENTS if name not in present]
    return f"parts missing: {', '.join(absent)}" if len(absent) > 5 - rules.min_parts else None


def instructed(text: str, post: str) -> bool:
    """Whether a reply repeats what a post demands of the model that answers it, as one does that has given in."""
    demands = [piece for piece in re.split(r"[。！？!?\n，,；;]", post) if DEMAND.search(piece.strip())]
    said = {text[i : i + SAID] for i in range(len(text) - SAID + 1)} if demands else set()
    long = (piece[i : i + SAID] for piece in demands for i in range(len(piece) - SAID + 1))
    return any(run in said for run in long) or any(len(piece) < SAID and piece in text for piece in demands)


def chinese(text: str) -> float:
    """The share of Chinese characters among a text's letters; 0 where it has none."""
    letters = [character for character in text if character.isalpha()]
    return hanzi(text) / len(letters) if letters else 0.0


def hanzi(text: str) -> int:
    """How many Chinese characters a text has, as a prompt's limits count them."""
    return sum("\u4e00" <= character <= "\u9fff" for character in text)


def shares(texts: Mapping[str, list[str]], low: int, high: int) -> pd.DataFrame:
    """How far texts do what the prompt asks, one line a kind of text and demand: row, kind, value, low, high, n.

    Demands: all five parts, these in the paper's order, `low` to `high` Chinese characters. Shares with Wilson's
    intervals.
    """
    lines = []
    for kind, replies in texts.items():
        found = [sections.structure(reply) for reply in replies]
        met = {
            "all five parts": sum(set(COMPONENTS) <= set(s.present) for s in found),
            "all five, in order": sum(s.complete for s in found),
            f"{low} to {high} characters": sum(low <= hanzi(reply) <= high for reply in replies),
        }
        for demand, count in met.items():
            share = statistics.wilson(count, len(replies))._asdict()
            lines.append({"row": f"{kind}: {demand}", "kind": kind} | share | {"n": len(replies)})
    return pd.DataFrame(lines)


def repeated(text: str, prompt: Prompt) -> bool:
    """Whether a reply holds a whole sentence of its prompt, or the prompt's brackets."""
    pieces = (piece.strip("- ") for piece in re.split(r"[。！？；\n]", prompt.text))
    return any(mark in text for mark in OPEN.values()) or any(p in text for p in pieces if len(p) >= COPIED)
