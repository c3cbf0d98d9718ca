"""Replies by a model that a server holds (vLLM with the adapter, say): asked as local ones are, rows as theirs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from cbtllm_utils import files
from cbtllm_utils.llm import client
from cbtllm_utils.models import prompt_forms

ROUTES = ("completions", "chat")


def systems(served: Mapping[str, str], backbone: str) -> dict[str, str]:
    """system -> its name on the server, of {"untuned": …, "tuned": …}; InputError where neither is named."""
    names = {"untuned": f"{backbone}-untuned", "tuned": backbone}
    if not served or served.keys() - names.keys():
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
    ends: Sequence[int] = (),
) -> list[dict]:
    """One request an item for `client.complete`.

    completions: the prompt as it stands, so that an adapter is asked in the form in which it was trained, and top_k,
    which OpenAI's API lacks but vLLM, SGLang and llama.cpp take. chat: the instruction as system text and the post, in
    the server's own form, for models that were not trained here; without top_k. `begun`: the prompts hold the token
    that begins a text already, and the server (vLLM) is told not to put another. `ends`: tokens at which a reply ends
    besides those that the server knows of; a base model's server knows of none that its chat template puts there.
    """
    if route not in ROUTES:
        raise files.InputError(f"route = {route!r}: there are {', '.join(ROUTES)}")
    common = {"model": model, "max_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
    common |= {"top_p": top_p} if temperature else {}  # greedy decoding has nothing to choose from
    if route == "chat":
        return [common | {"id": row["questionID"], "messages": prompt_forms.messages(row)} for row in rows]
    body = {"top_k": top_k} if top_k and temperature else {}
    body |= {"add_special_tokens": False} if begun else {}
    body |= {"stop_token_ids": list(ends)} if ends else {}
    more = {"extra_body": body} if body else {}
    return [
        common | more | {"id": row["questionID"], "prompt": prompt} for row, prompt in zip(rows, prompts, strict=True)
    ]


def answer(
    rows: Sequence[Mapping],
    prompts: Sequence[str],
    system: str,
    *,
    model: str,
    endpoint_url: str,
    route: str,
    path: str | Path,
    concurrency: int = 32,
    price: dict | None = None,
    budget: float | None = None,
    **decoding: object,
) -> list[dict]:
    """The system's answers to the rows as `answering.answer`'s: system, questionID, reply, finish_reason, tokens.

    `model` is the name by which the server knows the system. Each answer goes to the journal at `path` when it comes; a
    run that was broken off asks only for the rest. InputError when some prompts found no answer, EndpointError before
    the `budget` is exceeded by what all answers of the journal cost at this `price`. `tokens` are those that the server
    counted, the end of text included where it counts it (vLLM does).
    """
    asked = requests(rows, prompts, model, route, **decoding)
    limits = {"concurrency": concurrency, "price": price, "budget": budget}
    done, failed = client.complete(asked, endpoint=endpoint_url, cache_path=path, **limits)
    if failed:
        item, reason = next(iter(failed.items()))
        raise files.InputError(
            f"answers of {system}: {len(failed)} of {len(rows)} prompts found no answer (item {item}: {reason}); "
            "what came is kept, run again"
        )
    return [
        {
            "system": system,
            "questionID": found.id,
            "reply": found.text.strip(),
            "finish_reason": found.finish_reason,
            "tokens": found.completion_tokens,
        }
        for found in done
    ]
