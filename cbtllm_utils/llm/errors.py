"""What can go wrong with a provider: which faults pass, which do not, and how they are told."""

import logging
import re

import openai

from cbtllm_utils import files

PERMANENT = (
    *(openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError),
    *(openai.BadRequestError, openai.UnprocessableEntityError),
)
NO_MONEY = ("insufficient_quota", "billing_hard_limit_reached")
ONE_POST = re.compile(  # a provider refuses this post, or it is too long: the others may pass
    r"content.?(filter|policy|management|exists.risk)|inspection|moderation|sensitive|context.?length|maximum context",
    re.I,
)
SECRET = 12  # characters: OpenAI's keys have 51 and more; a shorter word is no secret, and may stand in any reply


class EndpointError(files.InputError):
    """A fault that will not pass by asking again: a bad key, an unknown model, no quota, no budget."""


def one_post(error: Exception) -> bool:
    """Whether a provider refuses this post alone, or finds it too long."""
    return isinstance(error, openai.BadRequestError) and bool(ONE_POST.search(f"{error.code} {error.message}"))


def permanent(error: Exception) -> bool:
    """Whether asking again cannot help, for this request or another."""
    if getattr(error, "code", None) in NO_MONEY:
        return True
    return isinstance(error, PERMANENT) and not one_post(error)


def safe(error: Exception) -> str:
    """An error's text on one line, without the key that a provider may echo."""
    body = getattr(error, "body", None)
    said = body.get("message") if isinstance(body, dict) else None
    cause = f" ({type(error.__cause__).__name__})" if error.__cause__ else ""
    return told(f"{said or getattr(error, 'message', error)}{cause}")


def told(text: object, most: int = 300) -> str:
    """What a provider says of itself or of a fault, on one short line without the key."""
    return files.one_line(without_key(str(text)))[:most]


def without_key(text: str) -> str:
    """The text with … where it holds the key; a word that a server without keys is given, such as EMPTY, may stand."""
    key = files.environment("OPENAI_API_KEY") or ""
    return text.replace(key, "…") if len(key) >= SECRET else text


class Masked(logging.Filter):
    """Takes the key out of what is logged: with OPENAI_LOG=debug the client tells a provider's headers."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = without_key(record.getMessage()), None
        return True


MASKED = Masked()
