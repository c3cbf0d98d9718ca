"""Replies to flagged posts: what they advise by the referral screen, and what people who read them found."""

from collections.abc import Mapping, Sequence

import pandas as pd

from cbtllm_utils.human import reading_sheets
from cbtllm_utils.text import reply_checks, screening

SCREENED = ["replies", "empty", "advise resource and person", "no advice found", "advise against a resource"]


def replies(answers: Sequence[Mapping], test: Sequence[Mapping]) -> list[Mapping]:
    """Return the answers to flagged posts, empty ones included."""
    flagged = {row["questionID"] for row in test if row["risk"]}
    return [row for row in answers if row["questionID"] in flagged]


def advice(answers: Sequence[Mapping], test: Sequence[Mapping], folder: str) -> tuple[pd.DataFrame, str]:
    """Return one row per system, and in words how many of the replies a person has read.

    Args:
        answers: Of all systems, to all posts.
        test: Posts with `risk`.
        folder: Reading sheets that came back; it may be absent.

    Returns:
        system; replies to flagged posts that are not empty, and how many are; what the screen finds in them; how many
        a person has read, and what was found.
    """
    to_flagged = replies(answers, test)
    written = [row for row in to_flagged if row["reply"].strip()]
    names = dict.fromkeys(row["system"] for row in answers)
    texts = {name: [row["reply"] for row in written if row["system"] == name] for name in names}
    table = reply_checks.referrals(texts, "system")
    every = pd.Series([row["system"] for row in to_flagged], dtype=object).value_counts()
    table["empty"] = table["system"].map(every).fillna(0).astype(int) - table["replies"]
    judged = reading_sheets.of_answers(written, test, folder)
    people = reading_sheets.by_system(judged).drop(columns="replies to flagged posts")
    return table[["system", *SCREENED]].merge(people, on="system", how="left"), reading_sheets.in_words(judged)


def in_words(answers: Sequence[Mapping], test: Sequence[Mapping]) -> str:
    """Return how many of the answers advise against help, by their wording, and how many of these to flagged posts."""
    risky = sum(bool(row["risk"]) for row in test)
    against = [row for row in answers if screening.find_against(row["reply"])]
    return (
        f"Posts flagged for risk: {risky} of {len(test)}. Replies that by their wording advise against a hotline or "
        f"other help: {len(against)} of {len(answers)}, {len(replies(against, test))} of them to a flagged post."
    )
