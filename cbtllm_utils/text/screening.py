"""Risk in a question, advice in a reply, and the notices that every answer, form, card and report shows."""

import csv
import functools
import re
import unicodedata
from pathlib import Path

PHRASES = Path(__file__).with_name("risk_phrases.csv")  # one way of saying it a line, as a regular expression
HELP = re.compile(r"12356|12320|400-?161-?9995|010-?82951332|(?<!\d)1[12]0(?!\d)|热线|急救|报警|(?:医院|精神科|急诊)")
TRUSTED = re.compile(r"信任|信得过|信赖|家人|亲人|朋友|老师|爸|妈|父母|同学|身边的?人|亲近")


@functools.cache
def phrases(kind: str) -> re.Pattern[str]:
    """All phrases of a kind, risk or harmless, as one pattern."""
    with PHRASES.open(encoding="utf-8", newline="") as file:
        return re.compile("|".join(row["pattern"] for row in csv.DictReader(file) if row["kind"] == kind))


def risk(text: str) -> bool:
    """Whether a question speaks of a wish to die, self-harm, or harm by or to others, not of being tired to death.

    Lexical and meant to miss nothing: false alarms cost a look, misses may cost a life. No diagnosis.
    """
    plain = re.sub(r"\s+", "", unicodedata.normalize("NFKC", text))
    return bool(phrases("risk").search(phrases("harmless").sub("…", plain)))


def advice(reply: str) -> bool:
    """Whether a reply names help: a hotline, an emergency number or a clinic, and somebody to trust."""
    return bool(HELP.search(reply) and TRUSTED.search(reply))
