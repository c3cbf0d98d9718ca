"""Answers of a model that a server holds, such as vLLM with the adapter: asked like a local one, rows like its rows."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from cbtllm_utils import files
from cbtllm_utils.data.prompts import Prompt
from cbtllm_utils.finetune import adapters
from cbtllm_utils.generate import kinds, server_reading
from cbtllm_utils.generate.settings import AnswerSettings
from cbtllm_utils.llm import budget, client, completeness
from cbtllm_utils.llm.client import Completion
from cbtllm_utils.llm.failure import Failure
from cbtllm_utils.models import chat_templates, prompt_forms
from cbtllm_utils.text import cleaning, endings


def systems(served: Mapping[str, str], backbone: str, wanted: Sequence[str] = kinds.KINDS) -> dict[str, str]:
    """Return system -> its name on the server, from {"untuned": …, "prompted": …, "tuned": …} as far as wanted.

    Raises:
        InputError: When none is left.
    """
    found = {kinds.system(backbone, kind): served[kind] for kind in kinds.KINDS if kind in wanted and kind in served}
    if not found:
        raise files.InputError(
            f"served = {dict(served)}: with an endpoint, give the server's names of {' or '.join(wanted)}"
        )
    return found


def check_route(route: str, adapter: str | Path) -> None:
    """Raise InputError when a server would word the prompts of an adapter that was trained in another form.

    Raises:
        InputError: With the route "chat", for an adapter that was not trained in a chat template.
    """
    trained = adapters.trained_form(adapter)
    if route == "chat" and trained not in (None, prompt_forms.CHAT):
        raise files.InputError(
            f"route = chat leaves the form of the prompt to the server, but {files.shown(adapter)} was trained with "
            f"{trained}; set route = completions"
        )


def check_form(chosen: AnswerSettings, tokenizer: object) -> None:
    """Raise InputError when the tuned system would be asked in another form than it was trained in.

    A line says where nobody knows: of an adapter without the record of a training here.
    """
    if kinds.TUNED in chosen.answered:
        adapter = f"{chosen.run}/adapters/{chosen.backbone}"
        trained = adapters.tuned_folder(chosen.tuned_model, chosen.run) or adapter
        adapters.check_template(trained, chosen.template, tokenizer)
        check_route(chosen.route, trained)
        if not chosen.tuned_model and (said := adapters.unrecorded(adapter)):
            print(f"adapter: {said}")


def as_read_by(
    chosen: AnswerSettings, kind: str, test: Sequence[Mapping], tokenizer: object, prompts: Sequence[str]
) -> tuple[object, Sequence[str]]:
    """Return the tokenizer of a kind of system, and its prompts: a `tuned_model` has its own, all others these."""
    if kind != kinds.TUNED or not chosen.tuned_model or (chosen.endpoint and chosen.route == "chat"):
        return tokenizer, prompts
    own = tokenizer_for(chosen, (chosen.tuned_model,))
    return own, [prompt_forms.prompt(row, chosen.template, own) for row in test]


def identity(endpoint: str, adapter: str | Path | None = None) -> dict[str, str | None]:
    """Return what identifies a server's answers besides the requests: its address and the adapter.

    A name on a server says neither which engine answers nor which training: after another one it is asked again.
    """
    return {"endpoint": files.public(endpoint), "adapter": adapters.acting(adapter) if adapter else None}


def record(chosen: AnswerSettings, sent: Mapping[str, str]) -> dict:
    """Return how a server's replies are made, with the keys of `answering.record` as far as it can be known here.

    Args:
        chosen: The settings of notebook 05.
        sent: The server's name of a model -> in which form its prompts were sent (`server_reading`).
    """
    return {
        "engine": f"server at {files.public(chosen.endpoint)}",
        "served": {kind: files.model_name(model) for kind, model in chosen.served.items()},
        "route": chosen.route,
        "prompts_sent_as": {files.model_name(model): how for model, how in sent.items()},
        "decoding": chosen.decoding,
        "sampling": chosen.sampling,
    }


def tokenizer_for(chosen: AnswerSettings, weights: Sequence[str] = ()) -> object | None:
    """Return the tokenizer of the backbone, or of these weights (a model and its deltas).

    It is needed to answer here and for a chat template; else it is None where it is not here. With it, how a server
    reads the prompts is checked. On the route "chat" the server words them itself.
    """
    model, *deltas = weights or (chosen.model, *chosen.deltas)
    if chosen.endpoint is None or chosen.template == prompt_forms.CHAT:
        return adapters.tokenizer(model, deltas, chosen.run)
    try:
        return adapters.tokenizer(model, deltas, chosen.run) if chosen.route == "completions" else None
    except files.InputError:
        return None


def requests(
    rows: Sequence[Mapping],
    prompts: Sequence[str | list[int]],
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
    known_stops: Sequence[int] = (),
    served_by: Mapping[str, object] | None = None,
    sampling: Mapping[str, object] | None = None,
    cbt: Prompt | None = None,
) -> list[dict]:
    """Return one request for each row, for `client.complete`.

    Args:
        prompts: Their texts, or their token ids for a server that takes them.
        model: The name by which the server knows the system.
        route: "completions" sends the prompt unchanged, so that an adapter is asked in the form in which it was
            trained, and top_k, which OpenAI's API lacks but vLLM, SGLang and llama.cpp take. "chat" sends the
            instruction as system message and the post, without top_k, for models that were not trained here.
        begun: The prompts already hold the token that begins a text, and the server (vLLM) must not add another.
        stops: Tokens that end a reply besides those that the server knows: a base model's server does not know the
            token that the chat template puts there.
        known_stops: Those that the server knows from the served model, its end of text: where it refuses
            `stop_token_ids`, these alone need not be sent.
        served_by: What `identity` returns; an answer is known by it, and it is not sent.
        sampling: Further fields of each request, such as extra_body.
        cbt: The CBT prompt of the prompted system, for the route "chat"; `prompts` already hold it.
    """
    common = {"served_by": served_by} if served_by else {}
    common |= {"model": model, "max_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
    common |= {"top_p": top_p} if temperature else {}  # greedy decoding does not sample
    more = dict(sampling or {})
    if route == "chat":
        return [common | more | {"id": row["questionID"], "messages": prompt_forms.messages(row, cbt)} for row in rows]
    body = {"top_k": top_k} if temperature else {}  # 0 as well: servers have a default of their own
    body |= {"add_special_tokens": False} if begun else {}
    body |= {"stop_token_ids": list(stops)} if stops else {}
    common |= {"known_stops": list(known_stops)} if stops and known_stops else {}
    body |= more.pop("extra_body", {})
    common |= more | ({"extra_body": body} if body else {})
    return [common | {"id": row["questionID"], "prompt": prompt} for row, prompt in zip(rows, prompts, strict=True)]


def answer(
    rows: Sequence[Mapping],
    prompts: Sequence[str | list[int]],
    system: str,
    *,
    model: str,
    route: str,
    path: str | Path,
    decoding: Mapping[str, object],
    **limits: object,
) -> tuple[list[dict], dict[object, Failure], Counter]:
    """Ask a server, and return the system's answers to the rows, with the keys of `answering.answer`.

    Replies are cleaned. An item that the provider refused, or that found no answer, has the kind of its failure as
    `finish_reason` and an empty reply (`reply_checks.answered` leaves it out). That of a reply says so where its last
    sentence does not end, or where it still holds a thinking tag or control token.

    Args:
        path: The response cache: an interrupted run asks only for what is missing there.
        decoding: What else `requests` takes.
        limits: endpoint, concurrency, price, budget, … of `client.complete`.

    Returns:
        One answer for each row, `tokens` as the server counts them, vLLM including the end of text; why items have
        none; how many replies each kind of surroundings was cleaned off.

    Raises:
        InputError: When not one prompt has a reply.
        EndpointError: When the budget would be exceeded, or asking again cannot help.
    """
    asked = requests(rows, prompts, model, route, **decoding)
    raw, failed = client.complete(asked, cache_path=path, **limits)
    if failed and not raw:
        raise files.InputError(
            f"answers of {system}: none of {len(rows)} prompts has a reply; {next(iter(failed.values()))}"
        )
    completions, removed = cleaning.clean_all(raw)
    given = {completion.id: line(system, completion) for completion in completions}
    lost = {item: empty(system, item, failure) for item, failure in failed.items()}
    return [(given | lost)[row["questionID"]] for row in rows], failed, removed


def ask_all(
    chosen: AnswerSettings,
    test: Sequence[Mapping],
    prompts: Mapping[str, Sequence[str]],
    tokenizer: object,
    cbt: Prompt | None,
    cache: Path,
) -> tuple[list[dict], dict[str, Failure], dict]:
    """Ask a server for the answers of each system that it holds; print what that costs at most, and what was cleaned.

    On the route "completions" it gets token ids if it takes them. Else it is refused when it reads texts otherwise.

    Args:
        chosen: The settings of notebook 05.
        test: The posts.
        prompts: Kind of system -> one prompt for each post.
        tokenizer: Of the backbone; None where it is not on this machine.
        cbt: The CBT prompt of the prompted system.
        cache: The response cache.

    Returns:
        One answer per system and post; why some have none, by what names them; how they were made.

    Raises:
        InputError: When a server reads a prompt otherwise.
    """
    answers, lost, sent, step = [], {}, {}, f"05_answer_generation-{chosen.backbone}"
    place = {"endpoint": chosen.endpoint, "cache_path": cache}
    decoding = chosen.decoding | {"sampling": chosen.sampling}
    for system, model in systems(chosen.served, chosen.backbone, chosen.kinds).items():
        kind, price = kinds.split(system)[1], chosen.price(model)
        ours = kind == kinds.TUNED and not chosen.tuned_model
        adapter = f"{chosen.run}/adapters/{chosen.backbone}" if ours else None
        reads, texts = as_read_by(chosen, kind, test, tokenizer, prompts[kind])
        begun = chat_templates.begins_with_bos(reads, texts[0])
        own = decoding | {"served_by": identity(chosen.endpoint, adapter)}
        own |= {"cbt": cbt if kind == kinds.PROMPTED else None}
        own["stops"] = chat_templates.stops(reads) if chosen.template == prompt_forms.CHAT else []
        own["known_stops"] = [reads.eos_token_id] if own["stops"] else []
        checked = reads if chosen.route == "completions" else None
        if chosen.route == "completions" and model not in sent:
            common = {"served_by": own["served_by"]} | ({"extra_body": {"add_special_tokens": False}} if begun else {})
            limits = chosen.limits | {"cache_path": cache, "price": price}
            sent[model] = server_reading.find_out(model, texts, checked, common, **limits)
            print(f"{files.model_name(model)} gets its prompts as {sent[model]}")
        by_ids = sent.get(model) in server_reading.BY_IDS
        given = [chat_templates.ids(reads, text) for text in texts] if by_ids else texts
        own["begun"] = begun and not by_ids
        asked = requests(test, given, model, chosen.route, **own)
        print(f"{kinds.title(system)}:", budget.in_words(client.missing(asked, **place), price, model))
        with completeness.listing(asked, chosen.run, step, **place):
            rows, failed, removed = answer(
                test,
                given,
                system,
                model=model,
                route=chosen.route,
                path=cache,
                decoding=own,
                price=price,
                **chosen.limits,
            )
        if checked and not by_ids:
            server_reading.check_replies(asked, texts, checked, chosen.endpoint, cache)
        answers += rows
        lost |= {f"{item} ({system})": failure for item, failure in failed.items()}
        print(f"cleaned off the replies: {cleaning.described(removed)}; {len(failed)} posts without a reply")
    return answers, lost, record(chosen, sent)


def line(system: str, completion: Completion) -> dict:
    """Return the row of a cleaned reply."""
    left = cleaning.remains(completion.text)
    unfit = endings.cut_off(completion.text, completion.finish_reason) or (f"holds {left}" if left else None)
    reason = unfit or completion.finish_reason
    own = {"system": system, "questionID": completion.id, "reply": completion.text}
    return own | {"finish_reason": reason, "tokens": completion.completion_tokens}


def empty(system: str, item: object, failure: Failure) -> dict:
    """Return the row of an item without a reply."""
    return {"system": system, "questionID": item, "reply": "", "finish_reason": failure.kind, "tokens": 0}
