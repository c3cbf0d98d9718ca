"""What can go wrong with a provider: which errors pass with time, which do not, and how they are shown."""

import logging
import re
from typing import NamedTuple

import openai

from cbtllm_utils import files

PERMANENT = (
    *(openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError),
    *(openai.BadRequestError, openai.UnprocessableEntityError),
)
OUT_OF_CREDIT = ("insufficient_quota", "billing_hard_limit_reached")
POST_REFUSED = re.compile(  # the provider refuses this post, or it is too long: the others may pass
    r"content.?(filter|policy|management|exists.risk)|inspection|moderation|sensitive|context.?length|maximum context",
    re.I,
)
REFUSED, UNANSWERED = "refused by the provider", "no answer"  # this post for certain; everything else
SHORTEST_KEY = 12  # characters: OpenAI's keys have 51 and more; a shorter word is not secret and may occur in a reply


class Failure(NamedTuple):
    """Why a request has no answer: REFUSED or UNANSWERED, and the reason in the server's own words."""

    kind: str
    reason: str

    def __str__(self) -> str:
        """Return both, as a table or a message shows them."""
        return f"{self.kind}: {self.reason}"


class EndpointError(files.InputError):
    """An error that asking again cannot mend: a bad key, an unknown model, no credit, no budget left."""


def refuses_post(error: Exception) -> bool:
    """Return whether a provider refuses this post alone, or finds it too long."""
    return isinstance(error, openai.BadRequestError) and bool(POST_REFUSED.search(f"{error.code} {error.message}"))


def permanent(error: Exception) -> bool:
    """Return whether asking again cannot help, for this request or for another."""
    if getattr(error, "code", None) in OUT_OF_CREDIT:
        return True
    return isinstance(error, PERMANENT) and not refuses_post(error)


def message(error: Exception) -> str:
    """Return an error's text on one line, without the key that a provider may echo."""
    body = getattr(error, "body", None)
    stated = body.get("message") if isinstance(body, dict) else None
    cause = f" ({type(error.__cause__).__name__})" if error.__cause__ else ""
    return printable(f"{stated or getattr(error, 'message', error)}{cause}")


def printable(text: object, most: int = 300) -> str:
    """Return what a provider wrote as one line of at most `most` characters, without the key."""
    return files.one_line(without_key(str(text)))[:most]


def without_key(text: str) -> str:
    """Return the text with … in place of the key; a word such as EMPTY, for a server without keys, is not hidden."""
    key = files.environment("OPENAI_API_KEY") or ""
    return text.replace(key, "…") if len(key) >= SHORTEST_KEY else text


class HideKey(logging.Filter):
    """Remove the key from log records: with OPENAI_LOG=debug the client logs a provider's headers."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace the record's message by one without the key."""
        record.msg, record.args = without_key(record.getMessage()), None
        return True


HIDE_KEY = HideKey()
