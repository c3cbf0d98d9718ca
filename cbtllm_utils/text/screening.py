"""Two screens by word lists: risk in a post, and a mention of help in a reply. They find texts for people to read."""

import csv
import functools
import re
import unicodedata
from pathlib import Path

from cbtllm_utils.text import referral
from cbtllm_utils.text.referral import Referral

PHRASES = Path(__file__).with_name("risk_phrases.csv")  # one regular expression a line


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


def find_referral(reply: str) -> list[Referral]:
    """Return what a reply advises its reader to turn to, in order: to, text (the clause as it stands), start.

    `to`: hotline, emergency, clinic, police or trusted_person. Help that is advised against, asked about, told of or
    meant for somebody else is not returned; neither is what the screen fails to read.
    """
    return referral.find(reply)


def find_against(reply: str) -> list[Referral]:
    """Return the clauses in which a reply advises against a crisis resource (先别打12356), in the same form."""
    return referral.find_against(reply)


def advice(reply: str) -> bool:
    """Return whether a reply advises both a crisis resource and a trusted person, by what the referral screen is sure
    of: less than `find_referral` returns."""
    advised = {one.to for one in referral.find(reply, referral.SURE)}
    return "trusted_person" in advised and len(advised) > 1
