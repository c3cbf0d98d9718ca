"""Risk in a question, advice in a reply, and the notices that every answer, form, card and report shows."""

import csv
import functools
import re
import unicodedata
from pathlib import Path

NOTICES = {
    "en": (
        "This is research material, not a substitute for psychological treatment, and no model here may advise people "
        "in distress without professional supervision. If you think of suicide or self-harm, get help now: in China "
        "call 12356 (psychological aid) or 120 (emergency); elsewhere see https://findahelpline.com."
    ),
    "zh": (
        "本页内容仅供研究，不能替代专业心理治疗；未经专业人员督导，不得用这里的任何模型为求助者提供建议。"
        "如果你有伤害自己的念头，请立即联系身边可信任的人，拨打心理援助热线 12356 或急救电话 120。"
    ),
    "psyqa": (
        "PsyQA holds peer support from an online forum, not professional counselling; "
        "its data come from Yixinli (壹心理)."
    ),
}

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


def notice(language: str = "en") -> str:
    """The notice in a language, for a form, a card or a page."""
    return NOTICES[language]
