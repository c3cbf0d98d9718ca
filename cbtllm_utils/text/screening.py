"""Two screens by word lists: risk in a post, and a mention of help in a reply. They find texts for people to read."""

import csv
import functools
import re
import unicodedata
from pathlib import Path

PHRASES = Path(__file__).with_name("risk_phrases.csv")  # one regular expression a line
HELP = re.compile(r"12356|12320|400-?161-?9995|010-?82951332|(?<!\d)1[12]0(?!\d)|热线|急救|报警|(?:医院|精神科|急诊)")
TRUSTED = re.compile(r"信任|信得过|信赖|家人|亲人|朋友|老师|爸|妈|父母|同学|身边的?人|亲近")


@functools.cache
def phrases(kind: str) -> re.Pattern[str]:
    """Return all phrases of a kind, risk or harmless, as one pattern."""
    with PHRASES.open(encoding="utf-8", newline="") as file:
        return re.compile("|".join(row["pattern"] for row in csv.DictReader(file) if row["kind"] == kind))


def risk(text: str) -> bool:
    """Return whether the risk screen flags a post: a wish to die, self-harm, or harm by or to others.

    Lexical, and wide on purpose: a false alarm costs a look, a miss may cost a life. It is not a diagnosis, and a post
    that it does not flag is not thereby safe.
    """
    plain = re.sub(r"\s+", "", unicodedata.normalize("NFKC", text))
    return bool(phrases("risk").search(phrases("harmless").sub("…", plain)))


def advice(reply: str) -> bool:
    """Return whether a reply mentions help: a hotline, an emergency number or a clinic, and somebody to trust."""
    return bool(HELP.search(reply) and TRUSTED.search(reply))
