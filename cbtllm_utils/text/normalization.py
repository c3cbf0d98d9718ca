"""One way to write what people write in many: forms of characters, traditional script, masked and forum words."""

import csv
import functools
import re
import unicodedata
from pathlib import Path

import opencc

# OpenCC ends a text at NUL and refuses half of a surrogate pair; the others have no width and would part a word.
UNREADABLE = re.compile("[\0\ud800-\udfff\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
WORDS = Path(__file__).with_name("forum_words.csv")  # one regular expression a line, and what it means


@functools.cache
def simplifier() -> opencc.OpenCC:
    """Return OpenCC's converter from traditional characters and Taiwanese words to those of the mainland."""
    return opencc.OpenCC("tw2sp")


def simplify(text: str) -> str:
    """Return a text in simplified characters, without those that nobody sees or OpenCC cannot read."""
    return simplifier().convert(UNREADABLE.sub("", text))


@functools.cache
def words() -> list[tuple[re.Pattern[str], str]]:
    """Return (pattern, meant) for masked, abbreviated and homophone words of the forums, and words of dialects."""
    with WORDS.open(encoding="utf-8", newline="") as file:
        return [(re.compile(row["written"]), row["meant"]) for row in csv.DictReader(file)]


@functools.cache
def any_word() -> re.Pattern[str]:
    """Return one pattern that finds whatever one of the words finds; most texts hold none."""
    return re.compile("|".join(f"(?:{pattern.pattern})" for pattern, _ in words()))


def normalize(text: str) -> str:
    """Return a text as a screen reads it: NFKC, lower case, simplified characters, words of the forums written out.

    Positions change; a caller that needs them normalizes clause by clause.
    """
    plain = simplify(unicodedata.normalize("NFKC", text)).lower()
    for pattern, meant in words() if any_word().search(plain) else ():
        plain = pattern.sub(meant, plain)
    return plain
