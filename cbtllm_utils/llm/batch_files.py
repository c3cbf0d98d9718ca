"""The files of the Batch API: requests, one a line, to send; answers and errors, one a line, that come back."""

import json
import re
from collections.abc import Iterator

from openai.types.chat import ChatCompletion

from cbtllm_utils.llm.completions import body, entry
from cbtllm_utils.llm.errors import told

MARK = re.compile("[0-9a-f]{64}")  # a request's hash
MOST_REQUESTS, MOST_BYTES = 50_000, 200_000_000  # of one input file (OpenAI)


def parts(missing: dict[str, dict], most_requests: int = MOST_REQUESTS) -> Iterator[bytes]:
    """Input files, each within the provider's limits and an account's: one request a line, under its hash."""
    held: list[bytes] = []
    size = 0
    for mark, request in missing.items():
        call = {"custom_id": mark, "method": "POST", "url": "/v1/chat/completions", "body": body(request)}
        line = (json.dumps(call) + "\n").encode()
        if size + len(line) > MOST_BYTES or len(held) == min(most_requests, MOST_REQUESTS):
            yield b"".join(held)
            held, size = [], 0
        held.append(line)
        size += len(line)
    yield b"".join(held)


def lines(content: bytes) -> list[dict]:
    """The lines of an output or error file that are whole; one that is not is no answer, and is asked again."""
    found = []
    for line in content.split(b"\n"):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and MARK.fullmatch(str(value.get("custom_id"))):
            found.append(value)
    return found


def answer(line: dict, request: dict) -> dict | str:
    """The journal's entry for a line of a batch's output, or why it holds no answer, whatever a provider wrote."""
    response = fields(line.get("response"))
    sent = response.get("body")
    content = fields(sent)
    if not content and not line.get("error"):
        return told(f"no answer: {response.get('status_code')} {sent}", 200)
    if error := line.get("error") or content.get("error"):
        said = fields(error)
        return told(f"{said.get('code') or response.get('status_code')}: {said.get('message', error)}", 200)
    try:
        return entry(ChatCompletion.construct(**content), request) | {"hash": line["custom_id"]}
    except (ValueError, AttributeError, TypeError) as error:
        return told(f"no answer: {error}", 200)


def fields(value: object) -> dict:
    """The value where it is an object; what a provider sends in its place has no fields."""
    return value if isinstance(value, dict) else {}
