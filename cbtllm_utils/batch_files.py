"""The files of the Batch API: requests, one a line, to send; answers and errors, one a line, that come back."""

import json
from collections.abc import Iterator

from openai.types.chat import ChatCompletion

from cbtllm_utils.completions import body, entry

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
        except ValueError:
            continue
        if isinstance(value, dict) and isinstance(value.get("custom_id"), str):
            found.append(value)
    return found


def answer(line: dict, request: dict) -> dict | str:
    """The journal's entry for a line of a batch's output, or why it holds no answer, whatever a provider wrote there."""
    response = line.get("response")
    content = response.get("body") if isinstance(response, dict) else None
    error = line.get("error") or (content.get("error") if isinstance(content, dict) else content)
    if error or not isinstance(content, dict):
        status = response.get("status_code") if isinstance(response, dict) else None
        code, said = (error.get("code") or status, error.get("message")) if isinstance(error, dict) else (status, error)
        return f"{code}: {' '.join(str(said).split())[:200]}"
    try:
        return entry(ChatCompletion.construct(**content), request) | {"hash": line["custom_id"]}
    except (ValueError, AttributeError, TypeError) as error:
        return f"no answer: {' '.join(str(error).split())[:200]}"
