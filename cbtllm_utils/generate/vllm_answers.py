"""Answers by vLLM on this machine: which folders it serves, how it is asked, rows like those of a local model.

vLLM gets token ids and returns token ids, so that this package's tokenizer reads every prompt and writes every reply.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from cbtllm_utils import files, models
from cbtllm_utils.data.prompts import Prompt
from cbtllm_utils.finetune import adapters, stock
from cbtllm_utils.generate import VERSION, answering, kinds, prompted, sampling, server, vllm_process
from cbtllm_utils.generate.settings import AnswerSettings
from cbtllm_utils.llm import completeness
from cbtllm_utils.llm.failure import Failure
from cbtllm_utils.models import backbones, chat_templates, devices, fused_qkv

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # that --max-lora-rank takes
PAIR = re.compile(rf"{re.escape(adapters.PREFIX)}(.+)\.lora_[AB]\.weight")  # the names that vLLM reads
TIMEOUT = 7200.0  # seconds for one reply: a server of our own is waited for
MERGED, APPLIED = "merged into the weights", "applied by vLLM to the backbone's weights"


@dataclass(frozen=True)
class Served:
    """One server: the name of its weights, what they are made of, and the kinds of systems that it answers for.

    `lora`: the adapter that it applies for the tuned system.
    """

    name: str
    weights: tuple[str, ...]
    kinds: tuple[str, ...]
    adapter: str | None = None
    lora: Path | None = None


def plan(chosen: AnswerSettings) -> list[Served]:
    """Return the servers that a backbone takes, one after another.

    One answers for all systems where vLLM applies the adapter. It takes none with layers that were trained whole: the
    merged model has a server of its own then.
    """
    base, own = (chosen.model, *chosen.deltas), kinds.TUNED in chosen.answered
    plain = tuple(kind for kind in chosen.answered if kind != kinds.TUNED)
    adapter = f"{chosen.run}/adapters/{chosen.backbone}"
    if own and not chosen.tuned_model and (lora := applicable(chosen, adapter)):
        return [Served("stock", base, (*plain, kinds.TUNED), lora=lora)]
    found = [Served("stock", base, plain)] if plain else []
    if own and chosen.tuned_model:
        return [*found, Served("tuned_model", (chosen.tuned_model,), (kinds.TUNED,))]
    return [*found, Served("merged", base, (kinds.TUNED,), adapter=adapter)] if own else found


def applicable(chosen: AnswerSettings, adapter: str) -> Path | None:
    """Return the folder of an adapter's form for stock classes if vLLM can apply it, else None."""
    folder = adapters.plain_form(adapter)
    if not (folder / adapters.CONFIG).is_file():
        return None
    config = files.read_json(folder / adapters.CONFIG)
    odd = ("modules_to_save", "use_dora", "rank_pattern", "alpha_pattern", "layer_replication")
    if any(config.get(name) for name in odd) or config.get("bias", "none") != "none" or config["r"] > RANKS[-1]:
        return None
    found = [PAIR.fullmatch(name) for name in backbones.tensors(folder, "adapter")]
    there = stock_layers(adapters.outline(chosen.model, chosen.deltas, chosen.run))
    return folder if all(pair and pair[1] in there for pair in found) else None


def stock_layers(model: nn.Module) -> set[str]:
    """Return the names of the layers to which vLLM applies an adapter, as the stock class of a model has them."""
    fused, found = fused_qkv.qkv_name(model), set()
    for name, layer in model.named_modules():
        head, _, last = name.rpartition(".")
        if isinstance(layer, nn.Linear) and last != "lm_head":
            found |= {f"{head}.{letter}_proj" for letter in "qkv"} if last == fused else {name}
    return found


def folder(chosen: AnswerSettings, served: Served) -> Path:
    """Return the folder that is served: a model of a built-in class as it is, else one that `stock.write` made.

    That is runs/<profile>/stock/<backbone> or …/merged/<backbone>, written anew unless made of the same content. One
    that is there in another precision, or that somebody else wrote, stays: the precision is in the name then.
    """
    model, *deltas = served.weights
    if not served.adapter and stock.is_stock(model, deltas, chosen.run):
        return Path(files.local_or_hub(model, chosen.run))
    place, origin = files.path(chosen.run) / served.name / chosen.backbone, source_of(chosen, served)
    if place.exists() and stock.made_of(place).get("precision") != origin["precision"]:
        place = place.with_name(f"{place.name}-{origin['precision']}")
    if stock.made_of(place) != origin:
        stock.write(model, deltas, chosen.run, place, origin["precision"], served.adapter)
        devices.free_memory()
    return place


def source_of(chosen: AnswerSettings, served: Served) -> dict:
    """Return what a server's weights are made of."""
    model, *deltas = served.weights
    return stock.source(model, deltas, chosen.run, devices.precision(chosen.precision), served.adapter)


def arguments(chosen: AnswerSettings, served: Served, place: Path) -> list[str]:
    """Return what vLLM is started with, besides host and port."""
    dtype = str(devices.DTYPES[devices.precision(chosen.precision)]).removeprefix("torch.")
    given = [str(place), "--dtype", dtype, "--tensor-parallel-size", str(chosen.tensor_parallel)]
    # Its tokenizer is not needed, and no default of the model's own generation_config may act that nobody asked for.
    given += ["--skip-tokenizer-init", "--generation-config", "vllm", "--served-model-name", served.name]
    if served.lora:
        rank = files.read_json(served.lora / adapters.CONFIG)["r"]
        rank = next(allowed for allowed in RANKS if allowed >= rank)
        given += ["--enable-lora", "--max-lora-rank", str(rank), "--lora-modules", f"{kinds.TUNED}={served.lora}"]
    return given


def record(chosen: AnswerSettings, running: vllm_process.Running, applied: str | None) -> dict:
    """Return how the replies are made, with the keys of `answering.record`."""
    found = {
        "engine": f"vllm {running.version}",
        "device": running.device,
        "threads": None if running.device == "cuda" else chosen.threads,
        "variables": vllm_process.variables(),
        "precision": devices.precision(chosen.precision),
        "tensor_parallel": chosen.tensor_parallel,
        "options": vllm_process.options(chosen.vllm),
        "adapter_is": applied,
        "batch_size": f"up to {chosen.concurrency}",
        "decoding": chosen.decoding,
    }
    return {name: value for name, value in found.items() if value not in (None, [], {})}


def requests(
    chosen: AnswerSettings,
    rows: Sequence[Mapping],
    prompts: Sequence[str],
    tokenizer: object,
    model: str,
    context: int,
    served_by: Mapping,
) -> list[dict]:
    """Return one request for each row: its token ids, and a seed of its own, of the prompt and the run's seed.

    A reply ends where the model's context does: vLLM refuses to go on where transformers would.
    """
    common = {"served_by": served_by, "model": model, "temperature": chosen.temperature}
    common |= {"top_p": chosen.top_p, "top_k": chosen.top_k} if chosen.temperature else {}
    common |= {"stop_token_ids": chat_templates.stops(tokenizer), "return_token_ids": True}
    found = []
    for row, prompt in zip(rows, prompts, strict=True):
        ids = chat_templates.ids(tokenizer, prompt)
        limit = max(1, min(chosen.max_new_tokens, context - len(ids)))
        own = {"prompt": ids, "max_tokens": limit, "seed": sampling.seed_of(prompt, chosen.seed)}
        found.append(common | {"id": row["questionID"]} | own)
    return found


def ask_all(
    chosen: AnswerSettings,
    test: Sequence[Mapping],
    prompts: Mapping[str, Sequence[str]],
    tokenizer: object,
    cbt: Prompt | None,
    cache: Path,
) -> tuple[list[dict], dict[str, Failure], dict]:
    """Start vLLM for each server of `plan`, ask all that the cache lacks, and stop it.

    Args:
        chosen: The settings of notebook 05.
        test: The posts.
        prompts: Kind of system -> one prompt for each post.
        tokenizer: Of the backbone.
        cbt: Not needed here: the prompts hold it.
        cache: The response cache.

    Returns:
        One answer per system and post with the keys of `answering.answer`; why some have none, by what names them; how
        they were made.
    """
    answers, lost, made = [], {}, {}
    program = vllm_process.command(chosen.vllm)
    for served in plan(chosen):
        place = folder(chosen, served)
        log = cache.with_name(f".{chosen.backbone}.vllm-{served.name}.log")
        with vllm_process.running(program, arguments(chosen, served, place), log, chosen.threads) as running:
            applied = {True: APPLIED, False: MERGED if served.adapter else None}[bool(served.lora)]
            made = record(chosen, running, applied)
            context = running.context or prompted.context(backbones.outline(place))
            known = made | {"weights": source_of(chosen, served), "version": [VERSION, models.VERSION]}
            for kind in served.kinds:
                name = kinds.TUNED if served.lora and kind == kinds.TUNED else served.name
                by = known | {"lora": adapters.acting(served.lora) if name == kinds.TUNED else None}
                own, texts = server.as_read_by(chosen, kind, test, tokenizer, prompts[kind])
                asked = requests(chosen, test, texts, own, name, context, by)
                system = kinds.system(chosen.backbone, kind)
                rows, failed = ask(chosen, system, asked, own, running.endpoint, cache)
                answers += rows
                lost |= {f"{item} ({system})": failure for item, failure in failed.items()}
    return answers, lost, made


def ask(
    chosen: AnswerSettings, system: str, asked: list[dict], tokenizer: object, endpoint: str, cache: Path
) -> tuple[list[dict], dict[object, Failure]]:
    """Return a system's answers, in the order of the requests, and why some have none."""
    limits = {"concurrency": chosen.concurrency, "max_retries": chosen.max_retries, "timeout": TIMEOUT}
    limits["own_key"] = vllm_process.KEY
    step = f"05_answer_generation-{chosen.backbone}"
    found, failed = completeness.ask(asked, chosen.run, step, endpoint=endpoint, cache_path=cache, **limits)
    rows = {completion.id: answering.decode(tokenizer, completion.token_ids) for completion in found}
    given = {item: {"system": system, "questionID": item} | row for item, row in rows.items()}
    lost = {item: server.empty(system, item, failure) for item, failure in failed.items()}
    return [(given | lost)[request["id"]] for request in asked], failed
