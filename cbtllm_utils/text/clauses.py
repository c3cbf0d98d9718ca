"""Read a text clause by clause: where each is, who acts, what is forbidden or quoted."""

import csv
import functools
import re
import unicodedata
from pathlib import Path
from typing import NamedTuple

from cbtllm_utils.text import normalization

PATTERNS = Path(__file__).with_name("clause_patterns.csv")  # one regular expression a line; {person} represents all
VARIANTS = {
    "妳": "你",
    "著": "着",
    "牠": "它",
    "裏": "里",
    "瞭": "了",
    "么": "么",
}  # OpenCC needs the word around these
QUOTES = "“”\"‘’'「」『』《》〈〉"
BOUNDARY = re.compile(r"[,:—。!?;\n…]|(?<![0-9一二三四五六七八九零幺]) (?![0-9])")
QUOTATION = re.compile(r"“[^“”\n]*”|「[^「」\n]*」|『[^『』\n]*』|\"[^\"\n]*\"")


class Clause(NamedTuple):
    """A clause of a text, and where it begins."""

    text: str
    start: int


class Plain(dict):
    """A table for str.translate: NFKC and simplified characters, one for one, so that positions are unchanged."""

    def __missing__(self, code: int) -> str:
        normal = unicodedata.normalize("NFKC", chr(code))
        simple = VARIANTS.get(normal) or normalization.simplify(normal)
        numbered = unicodedata.category(chr(code)) == "No"  # ① before 12356 is not a digit of it
        self[code] = chr(code) if numbered or len(simple) != 1 else simple
        return self[code]


PLAIN = Plain()


def plain(text: str) -> str:
    """Return a text in half-width and simplified characters, each in its place."""
    return text.translate(PLAIN)


@functools.cache
def patterns() -> dict[str, re.Pattern[str]]:
    """Return one pattern for each kind of the table."""
    with PATTERNS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    person = "|".join(row["pattern"] for row in rows if row["kind"] == "person")
    kinds = dict.fromkeys(row["kind"] for row in rows)
    joined = {kind: "|".join(row["pattern"] for row in rows if row["kind"] == kind) for kind in kinds}
    return {kind: re.compile(words.replace("{person}", f"(?:{person})")) for kind, words in joined.items()}


def split(text: str) -> list[Clause]:
    """Return the clauses of a plain text, without the blanks around them."""
    clauses, start = [], 0
    for mark in [*BOUNDARY.finditer(text), None]:
        words = text[start : mark.start() if mark else None]
        if words.strip():
            clauses.append(Clause(words.strip(), start + words.index(words.strip())))
        start = mark.end() if mark else len(text)
    return clauses


def unquoted(text: str) -> str:
    """Return a text with a mark in place of each quotation, whose words are not the writer's."""
    return QUOTATION.sub("…", text)


def subject(text: str, inherited: str = "") -> str:
    """Return who acts in a clause, or in the part of it before a word: "reader", "writer", "other" or "".

    The last one named counts who is not an object (跟妈妈, 让他). Where none is named, that of the clause before it in
    the sentence is inherited, except by an imperative.
    """
    actors = [
        (found.start(), who)
        for who in ("reader", "writer", "other")
        for found in patterns()[who].finditer(text)
        if not patterns()["object"].search(text[max(0, found.start() - 6) : found.start()])
    ]
    if actors:
        return max(actors)[1]
    return "" if patterns()["imperative"].match(text) else inherited


def forbidden(before: str, after: str) -> bool:
    """Return whether a clause advises against what is between two parts of it: 别打…, …就不用了."""
    return bool(patterns()["prohibition"].search(before) or patterns()["prohibition_after"].match(after))
