"""The provider's API key: checked before the first request, never shown."""

import logging

from cbtllm_utils import files

NAME = "OPENAI_API_KEY"
SHORTEST_KEY = 12  # characters: OpenAI's keys have 51 and more; a shorter word is not secret and may occur in a reply
NOT_SHOWN = {"\n": "a line break", "\r": "a line break", "\t": "a tab", " ": "a blank"}


def read() -> str:
    """Return the key from the environment; InputError for one that cannot be used."""
    if wrong := problem():
        raise files.InputError(wrong)
    return files.environment(NAME)


def problem() -> str | None:
    """Return what is wrong with the key: unset, empty, or with a character that no HTTP header can carry; or None."""
    key = files.environment(NAME)
    if not key:
        return f"{NAME} is not set or empty; export it (any text for a server that asks for no key)"
    for place, character in enumerate(key, 1):
        if not "!" <= character <= "~":
            what = NOT_SHOWN.get(character, f"{character!r}, which is not ASCII")
            return f"{NAME}: character {place} is {what}; copy the key again, and nothing else"
    return None


def printable(text: object, most: int = 300) -> str:
    """Return what a provider wrote as one line of at most `most` characters, without the key."""
    return files.one_line(without_key(str(text)))[:most]


def without_key(text: str) -> str:
    """Return the text with … in place of the key; a word such as EMPTY, for a server without keys, is not hidden."""
    key = files.environment(NAME) or ""
    return text.replace(key, "…") if len(key) >= SHORTEST_KEY else text


class HideKey(logging.Filter):
    """Remove the key from log records: with OPENAI_LOG=debug the client logs a provider's headers."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace the record's message by one without the key."""
        record.msg, record.args = without_key(record.getMessage()), None
        return True


HIDE_KEY = HideKey()
