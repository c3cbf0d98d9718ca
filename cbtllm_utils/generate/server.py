"""Answers of a model that a server holds, such as vLLM with the adapter: asked like a local one, rows like its rows."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from cbtllm_utils import files
from cbtllm_utils.llm import client
from cbtllm_utils.models import prompt_forms


def systems(served: Mapping[str, str], backbone: str) -> dict[str, str]:
    """Return system -> its name on the server, from {"untuned": …, "tuned": …}, of which one may be missing.

    Raises:
        InputError: When both are missing.
    """
    names = {"untuned": f"{backbone}-untuned", "tuned": backbone}
    if not names.keys() & served.keys():
        raise files.InputError(
            f"served = {dict(served)}: with an endpoint, give the server's names of untuned, tuned or both"
        )
    return {names[kind]: served[kind] for kind in names if kind in served}


def requests(
    rows: Sequence[Mapping],
    prompts: Sequence[str],
    model: str,
    route: str,
    *,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    top_k: int,
    seed: int,
    begun: bool = False,
    stops: Sequence[int] = (),
) -> list[dict]:
    """Return one request for each row, for `client.complete`.

    Args:
        model: The name by which the server knows the system.
        route: "completions" sends the prompt unchanged, so that an adapter is asked in the form in which it was
            trained, and top_k, which OpenAI's API lacks but vLLM, SGLang and llama.cpp take. "chat" sends the
            instruction as system message and the post, without top_k, for models that were not trained here.
        begun: The prompts already hold the token that begins a text, and the server (vLLM) must not add another.
        stops: Tokens that end a reply besides those that the server knows: a base model's server does not know the
            token that the chat template puts there.
    """
    common = {"model": model, "max_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
    common |= {"top_p": top_p} if temperature else {}  # greedy decoding does not sample
    if route == "chat":
        return [common | {"id": row["questionID"], "messages": prompt_forms.messages(row)} for row in rows]
    body = {"top_k": top_k} if top_k and temperature else {}
    body |= {"add_special_tokens": False} if begun else {}
    body |= {"stop_token_ids": list(stops)} if stops else {}
    common |= {"extra_body": body} if body else {}
    return [common | {"id": row["questionID"], "prompt": prompt} for row, prompt in zip(rows, prompts, strict=True)]


def answer(
    rows: Sequence[Mapping],
    prompts: Sequence[str],
    system: str,
    *,
    model: str,
    route: str,
    path: str | Path,
    decoding: Mapping[str, object],
    **limits: object,
) -> list[dict]:
    """Return the system's answers to the rows, with the keys of `answering.answer`.

    Args:
        path: The response cache: an interrupted run asks only for what is missing there.
        decoding: What else `requests` takes.
        limits: endpoint, concurrency, price, budget, … of `client.complete`.

    Returns:
        One answer for each row; `tokens` as the server counts them, vLLM including the end of text.

    Raises:
        InputError: When some prompts got no answer.
        EndpointError: When the budget would be exceeded.
    """
    asked = requests(rows, prompts, model, route, **decoding)
    completions, failed = client.complete(asked, cache_path=path, **limits)
    if failed:
        item, failure = next(iter(failed.items()))
        raise files.InputError(
            f"answers of {system}: {len(failed)} of {len(rows)} prompts got no answer (question {item}: {failure}); "
            "the others are on disk, run again"
        )
    return [
        {
            "system": system,
            "questionID": completion.id,
            "reply": completion.text.strip(),
            "finish_reason": completion.finish_reason,
            "tokens": completion.completion_tokens,
        }
        for completion in completions
    ]
