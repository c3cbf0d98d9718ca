"""Two screens: risk in a post, and help that a reply directs to. They find texts for people to read, and clear none.

A text that a screen does not flag is one in which it found nothing, no more. How much each finds in voices
that nothing here was fitted to is measured in notebook 10.
"""

import csv
import functools
import re
from pathlib import Path
from typing import NamedTuple

from cbtllm_utils.text import clauses, normalization, referral, risk_model
from cbtllm_utils.text.referral import Referral

PATTERNS = Path(__file__).with_name("risk_patterns.csv")  # kind, pattern, and what around it means something else


class Risk(NamedTuple):
    """A kind of risk that a post speaks of, the clause that does, and the position where it begins.

    Kinds: suicide_ideation, suicide_plan_or_means, suicide_attempt, self_harm, abuse_suffered, harm_to_others,
    psychosis_danger, about_third_person.
    """

    kind: str
    text: str
    start: int


class Pattern(NamedTuple):
    """Words that speak of a risk, but not in a clause where others (`unless`) give them another meaning."""

    kind: str
    words: re.Pattern[str]
    unless: re.Pattern[str] | None


@functools.cache
def patterns() -> tuple[Pattern, ...]:
    """Return the patterns of plain words for risk."""
    with PATTERNS.open(encoding="utf-8", newline="") as file:
        return tuple(
            Pattern(row["kind"], re.compile(row["pattern"]), re.compile(row["unless"]) if row["unless"] else None)
            for row in csv.DictReader(file)
        )


@functools.cache
def any_pattern() -> re.Pattern[str]:
    """Return one pattern that finds whatever one of the patterns finds; most posts hold none."""
    return re.compile("|".join(f"(?:{pattern.words.pattern})" for pattern in patterns()), re.MULTILINE)


def find_risk(text: str) -> list[Risk]:
    """Return what the risk screen finds in a post, in order: kind, text (the clause as written), start.

    Plain words are found by patterns, each read in its own clause; the rest by a statistical model, which points at the
    clause that weighs most. An empty list means that the screen found nothing, not that there is no risk.
    """
    found = by_words(text)
    if flagged_by_model(text):
        gravest = gravest_clause(text)
        if gravest.start not in {risk.start for risk in found}:
            found.append(Risk(risk_model.fitted().kind(text), gravest.text, gravest.start))
    return sorted(found, key=lambda risk: risk.start)


def risk(text: str) -> bool:
    """Return whether the risk screen flags a post for a person to read."""
    return bool(flagged_by_model(text) or by_words(text))


def by_words(text: str) -> list[Risk]:
    """Return the risks that a post states in plain words, by the patterns alone."""
    if not any_pattern().search("\n".join(risk_model.clauses_of(text))):
        return []
    return [
        Risk(pattern.kind, text[clause.start : clause.start + len(clause.text)], clause.start)
        for clause in clauses.split(clauses.plain(text))
        for pattern in spoken(normalization.normalize(clause.text))
    ]


def spoken(clause: str) -> list[Pattern]:
    """Return the patterns that hold in a normalized clause, one for each kind."""
    held = [one for one in patterns() if one.words.search(clause) and not (one.unless and one.unless.search(clause))]
    return list({one.kind: one for one in held}.values())


def flagged_by_model(text: str) -> bool:
    """Return whether the statistical model flags a post; one without letters says nothing to it."""
    return bool(re.search(r"[^\W\d_]", text)) and risk_model.flagged(risk_model.fitted().scores(text))


def gravest_clause(text: str) -> Risk:
    """Return the clause of a text with letters that weighs most for the statistical model, without a kind."""
    parts = clauses.split(clauses.plain(text))
    clause = parts[risk_model.fitted().gravest([part.text for part in parts])]
    return Risk("", text[clause.start : clause.start + len(clause.text)], clause.start)


def find_referral(reply: str) -> list[Referral]:
    """Return what a reply advises its reader to turn to, in order: to, text (the clause as written), start.

    `to`: hotline, emergency, clinic, police or trusted_person. Help that is advised against, asked about, told of or
    meant for somebody else is not returned; neither is what the screen fails to read.
    """
    return referral.find(reply)


def find_against(reply: str) -> list[Referral]:
    """Return the clauses in which a reply advises against a crisis resource (先别打12356), in the same form."""
    return referral.find_against(reply)


def advised(reply: str, least: referral.Least = referral.ADVISED) -> set[str]:
    """Return the kinds of help that a reply directs to (`find_referral`), without those that it advises against too."""
    against = {one.to for one in find_against(reply)}
    return {one.to for one in referral.find(reply, least)} - against


def advice(reply: str) -> bool:
    """Return whether a reply advises both a crisis resource and a trusted person, by what the referral screen is sure
    of: less than `find_referral` returns."""
    found = advised(reply, referral.SURE)
    return "trusted_person" in found and len(found) > 1
