"""Whether quoted words occur in a text, whatever an input method or a copy made of its marks."""

import re
import unicodedata

SHORTEST = 2  # characters of a quotation: a single one occurs in almost any text
MARKS = (  # what an input method or a copy makes of a mark: quotation marks are left out, and 〈〉, which prompts replace
    (re.compile("[\"'`´‘’‚‛“”„‟«»‹›「」『』〝〞〟〈〉<>]"), ""),
    (re.compile("[.。]+"), "."),  # NFKC makes three of …
    (re.compile("[-‐-―−─]+"), "-"),
)


def unseen(character: str) -> bool:
    """Return whether a character has no shape of its own: zero-width marks, the choice of an emoji's style."""
    return unicodedata.category(character) == "Cf" or character in "\ufe0e\ufe0f"


def comparable(text: str) -> str:
    """Return a text without what an input method or a copy changes: width, white space, and the form of marks."""
    folded = "".join(c for c in unicodedata.normalize("NFKC", text) if not c.isspace() and not unseen(c))
    for pattern, mark in MARKS:
        folded = pattern.sub(mark, folded)
    return folded


def occurs(quotation: str, text: str) -> bool:
    """Return whether a text has these words; width, white space, quotation marks and 〈〉 do not count."""
    return comparable(quotation) in comparable(text)


def problem(quotation: str, text: str) -> str | None:
    """Return why a quotation shows nothing of a text: too short, or not its words; None where it does."""
    if len(comparable(quotation)) < SHORTEST:
        return f"{quotation!r} is too short to show anything"
    return None if occurs(quotation, text) else f"the text does not contain {quotation[:40]!r}"
