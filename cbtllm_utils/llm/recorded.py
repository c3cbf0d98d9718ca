"""Recorded answers behind the client's own transport: the same code as with a provider, without a network."""

import functools
import json
from pathlib import Path

import httpx2

from cbtllm_utils import files
from cbtllm_utils.data import prompts, psyqa

REPLAY = "replay:"  # begins the endpoint of a recording
PROMPT = "a9d7d6d4ddb80cae"  # the hash of params/prompts/cbt_prompt.zh.md, to which the bundled replies were written


def is_recording(endpoint: str | None) -> bool:
    """Return whether an endpoint is a recording, which costs nothing and answers by the post alone."""
    return bool(endpoint) and endpoint.startswith(REPLAY)


def note(endpoint: str, prompt: str) -> str:
    """Return what captions must say of recorded replies to another prompt than theirs; "" for their own.

    A recording answers by the post alone, whatever the prompt.

    Args:
        endpoint: Where replies come from.
        prompt: The hash of the prompt that is asked.
    """
    other = is_recording(endpoint) and prompt != PROMPT
    return (
        f"recorded replies, written to prompt {PROMPT} and not to {prompt}, whose effect they cannot show"
        if other
        else ""
    )


@functools.cache
def replies(path: Path) -> dict[str, str]:
    """Read a recording: the answer to each post, by the user's message that shows the post.

    A row holds a reply by its `sections`, or a second reader's `reading`. It names its post by questionID; the posts'
    texts are in psyqa_sample.json beside the recording.

    Raises:
        InputError: With the number of the first row that has no post there, or no reply.
    """
    posts, _ = psyqa.read(path.with_name("psyqa_sample.json"))
    known = {post.questionID: post for post in posts}
    found = {}
    for number, row in enumerate(files.read_jsonl(path), 1):
        try:
            post, reply = known[row["questionID"]], answer(row)
        except (KeyError, TypeError, ValueError):
            where = f"{files.shown(path)}, row {number}"
            raise files.InputError(f"{where}: no recorded reply to a post of psyqa_sample.json beside it") from None
        found[prompts.enclosed(post.question, post.description)] = reply
    return found


def answer(row: dict) -> str:
    """Return the recorded answer in a row as a model writes it."""
    if "reading" in row:
        return json.dumps(dict(row["reading"]), ensure_ascii=False)
    return "".join(text for _, text in row["sections"])


class Recording(httpx2.AsyncBaseTransport):
    """A transport that answers chat completions from a recording, and an unknown post with 404."""

    def __init__(self, path: str) -> None:
        self.name, self.replies = files.shown(path), replies(files.path(path))

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one request as a provider would."""
        post = json.loads(await request.aread())["messages"][-1]["content"]
        reply = self.replies.get(post)
        if reply is None:
            question = post.removeprefix(prompts.OPEN["question"]).split(prompts.CLOSE["question"])[0]
            advice = "name an endpoint that can answer (for a second reader, null asks nobody)"
            message = f"the recording {self.name} holds no reply to {question[:30]!r}; {advice}"
            return httpx2.Response(404, json={"error": {"message": message, "code": "not_recorded"}})
        return httpx2.Response(200, json=completion(reply))


def completion(reply: str) -> dict:
    """Return a chat completion as a provider sends it, by the model `recorded`, which takes no tokens."""
    return {
        "id": "recorded",
        "object": "chat.completion",
        "created": 0,
        "model": "recorded",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": reply}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    }
