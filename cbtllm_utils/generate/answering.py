"""Replies of a local model to many prompts (§4.4): by `model.generate` in batches, seeded by prompt, resumable."""

import json
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm
from transformers import GenerationConfig, PreTrainedModel
from transformers.generation.logits_process import LogitsProcessorList

from cbtllm_utils import files, hashing, models, response_cache
from cbtllm_utils.generate import VERSION, sampling
from cbtllm_utils.models import backbones, chat_templates, devices, tokenizers

LIBRARIES = ("transformers", "torch", "peft")  # those that compute a reply


def generate(
    model: PreTrainedModel,
    tokenizer: object,
    prompts: Sequence[str],
    *,
    max_new_tokens: int = 512,
    temperature: float = 0.95,
    top_p: float = 0.7,
    top_k: int = 50,
    seed: int = 42,
    batch_size: int = 8,
) -> list[dict]:
    """Return the replies in the order of the prompts: {"reply", "finish_reason" ("stop" | "length"), "tokens"}.

    The decoding is LLaMA-Factory's of autumn 2023; temperature 0 is greedy, top_k 0 and top_p 1 leave out their step.
    `tokens` does not count the token that ends a reply. Another batch size changes a reply by rounding alone, which in
    16 bits changes words.

    Raises:
        InputError: When a batch does not fit into the memory of the GPU.
    """
    decoding = {"temperature": temperature, "top_p": top_p, "top_k": top_k, "seed": seed}
    options = decoding | {"max_new_tokens": max_new_tokens, "batch_size": batch_size}
    replies = dict(by_batches(model, tokenizer, prompts, set(), **options))
    return [replies[i] for i in range(len(prompts))]


def by_batches(
    model: PreTrainedModel,
    tokenizer: object,
    prompts: Sequence[str],
    done: Collection[int],
    *,
    batch_size: int,
    **options: float,
) -> Iterator[tuple[int, dict]]:
    """Yield (index of the prompt, reply) batch by batch, the longest prompts first: what does not fit shows at once.

    Batches without a prompt that is not `done` are left out. A batch is always made whole: after an interruption its
    replies are those of an uninterrupted run, to the last bit.
    """
    missing = [batch for batch in batches(tokenizer, prompts, batch_size) if not set(batch).issubset(done)]
    total = sum(map(len, missing))
    with tqdm(total=total, desc="answering", file=sys.stderr, mininterval=5, disable=total < 2) as bar:
        for batch in missing:
            chosen = [prompts[i] for i in batch]
            for i, tokens in zip(batch, new_tokens(model, tokenizer, chosen, **options), strict=True):
                yield i, decode(tokenizer, tokens)
            bar.update(len(batch))


def batches(tokenizer: object, prompts: Sequence[str], size: int) -> list[list[int]]:
    """Return the indices of the prompts in batches, the longest prompts first."""
    lengths = [len(chat_templates.ids(tokenizer, prompt)) for prompt in prompts]
    order = sorted(range(len(prompts)), key=lambda i: -lengths[i])
    return [order[start : start + size] for start in range(0, len(order), size)]


@torch.inference_mode()
def new_tokens(
    model: PreTrainedModel,
    tokenizer: object,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    seed: int,
    **decoding: float,
) -> list[list[int]]:
    """Return the tokens that the model adds to each prompt of one batch; after its end a reply is filled with padding.

    Prompts are padded on the left; transformers masks the padding and counts positions without it.
    """
    ids = [chat_templates.ids(tokenizer, prompt) for prompt in prompts]
    length = max(map(len, ids))
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    padded = torch.tensor([[pad] * (length - len(own)) + own for own in ids], device=model.device)
    mask = torch.tensor([[0] * (length - len(own)) + [1] * len(own) for own in ids], device=model.device)
    numbers = [sampling.random_numbers(prompt, max_new_tokens, seed) for prompt in prompts]
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,  # `Draw` samples
        eos_token_id=chat_templates.stops(tokenizer),
        pad_token_id=pad,
    )
    # What is not set here transformers takes from the model's own generation_config, if it has one: Qwen2.5's
    # repetition penalty of 1.05 would act without anybody having asked for it.
    model.generation_config = GenerationConfig()
    draw = LogitsProcessorList([sampling.Draw(numbers, length, **decoding)])
    try:
        output = model.generate(padded, attention_mask=mask, generation_config=config, logits_processor=draw)
    except torch.OutOfMemoryError:
        raise files.InputError(
            f"answering: {len(ids)} prompts of up to {length} tokens with {max_new_tokens} new ones do not fit into "
            "the memory of the GPU; lower batch_size or max_new_tokens"
        ) from None
    return output[:, length:].tolist()


def decode(tokenizer: object, tokens: Sequence[int]) -> dict:
    """Return {"reply", "finish_reason", "tokens"} of new tokens: up to a token that ends a reply, or all of them."""
    stops = set(chat_templates.stops(tokenizer))
    length = next((place for place, token in enumerate(tokens) if token in stops), len(tokens))
    reply = tokenizer.decode(tokens[:length], skip_special_tokens=True).strip()
    return {"reply": reply, "finish_reason": "stop" if length < len(tokens) else "length", "tokens": length}


def answer(
    model: PreTrainedModel,
    tokenizer: object,
    rows: Sequence[Mapping],
    prompts: Sequence[str],
    system: str,
    path: str | Path,
    **decoding: object,
) -> list[dict]:
    """Return a system's answers to the rows: {"system", "questionID", "reply", "finish_reason", "tokens"}, in order.

    Each reply is in the response cache at `path` before the next batch begins; an interrupted run continues there.

    Args:
        decoding: All keyword arguments of `generate`.
    """
    keys, cached = cache_keys(model, tokenizer, prompts, **decoding), response_cache.read(path)
    done = {i for i, key in enumerate(keys) if key in cached}
    with response_cache.appending(path) as file:
        for i, reply in by_batches(model, tokenizer, prompts, done, **decoding):
            if keys[i] not in cached:
                cached[keys[i]] = {"hash": keys[i], "answer": reply}
                response_cache.append(file, cached[keys[i]])
    return [
        {"system": system, "questionID": row["questionID"]} | cached[key]["answer"]
        for row, key in zip(rows, keys, strict=True)
    ]


def cache_keys(
    model: PreTrainedModel, tokenizer: object, prompts: Sequence[str], batch_size: int, **decoding: object
) -> list[str]:
    """Return for each prompt a hash of everything that decides its reply.

    Weights count by their content in memory, deltas and adapter merged, in the precision in which they compute. The
    other prompts of its batch count as well: in 16 bits another company changes a reply by rounding, and a cached reply
    must be the one that a run from nothing would make.
    """
    known_by = {
        "weights": backbones.weights_hash(model),
        "tokenizer": tokenizers.identity(tokenizer),
        "stops": chat_templates.stops(tokenizer),
        "made by": record(model, batch_size, decoding),
        "version": [VERSION, models.VERSION],
    }
    known, keys = json.dumps(known_by, sort_keys=True), {}
    for batch in batches(tokenizer, prompts, batch_size):
        company = hashing.text(json.dumps([prompts[i] for i in batch]))
        keys |= {i: hashing.text(json.dumps([known, company, prompts[i]])) for i in batch}
    return [keys[i] for i in range(len(prompts))]


def record(model: PreTrainedModel, batch_size: int, decoding: Mapping[str, object]) -> dict:
    """Return how a model's replies are made here: engine, device, threads, precision, batch size and decoding."""
    precision = next(name for name, dtype in devices.DTYPES.items() if dtype == model.dtype)
    threads = torch.get_num_threads() if model.device.type == "cpu" else 1
    several = {"threads": threads} if threads > 1 else {}  # which round otherwise than one
    return several | {
        "engine": engine(),
        "device": model.device.type,
        "precision": precision,
        "batch_size": batch_size,
        "decoding": dict(decoding),
    }


def engine() -> str:
    """Return the libraries that compute a reply here, with their versions."""
    return ", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES)


@torch.inference_mode()
def next_tokens(
    model: PreTrainedModel, tokenizer: object, prompt: str, temperature: float, top_p: float, top_k: int
) -> pd.DataFrame:
    """Return the tokens that may follow a prompt, likeliest first: text, probability, and what decoding makes of it."""
    ids = torch.tensor([chat_templates.ids(tokenizer, prompt)], device=model.device)
    scores = model(ids, logits_to_keep=1).logits[:, -1].float()
    warped = LogitsProcessorList(sampling.warpers(temperature, top_p, top_k))(ids, scores)
    probabilities, places = scores.softmax(-1)[0].topk(min(50, scores.shape[1]))
    columns = {
        "token": [tokenizer.decode([i], skip_special_tokens=False) for i in places.tolist()],
        "probability": probabilities.tolist(),
        "after top-k and top-p": warped.softmax(-1)[0, places].tolist(),
    }
    return pd.DataFrame(columns)
