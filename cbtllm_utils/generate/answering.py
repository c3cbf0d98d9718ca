"""Replies of a model to many prompts (§4.4): batched, seeded by item, stopped at their end, resumable."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import pandas as pd
import psutil
import torch
from tqdm import tqdm
from transformers.generation.logits_process import LogitsProcessorList

from cbtllm_utils import files, hashing, response_cache
from cbtllm_utils.generate import batching, growing_cache, sampling
from cbtllm_utils.models import chat_templates


def ends(tokenizer: object) -> tuple[list[int], int]:
    """The tokens that end a reply and the one that pads; a tokenizer without padding pads with its end of text."""
    pad = tokenizer.pad_token_id
    return chat_templates.stops(tokenizer), tokenizer.eos_token_id if pad is None else pad


def fitting(model: torch.nn.Module, tokens: int, share: float = 0.6, most: int = 128) -> int:
    """How many rows of so many tokens fit into a share of the free memory of the model's device, 1 to `most`.

    Each token keeps a key and a value in each layer: LLaMA-7B in 16 bits takes 2 x 32 x 4,096 x 2 bytes = 0.5 MB a
    token, a row of 1,000 tokens 0.5 GB; the cache has room for two blocks more. The rest is for activations; what is
    too much all the same halves the batch.
    """
    config, weight = model.config, next(model.parameters())
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    room = tokens + 2 * growing_cache.BLOCK
    row = 2 * config.num_hidden_layers * heads * size * weight.element_size() * room
    free = torch.cuda.mem_get_info()[0] if weight.is_cuda else psutil.virtual_memory().available
    return max(1, min(most, int(free * share / row)))


def finished(tokenizer: object, tokens: list[int]) -> dict:
    """{"reply", "finish_reason", "tokens"} of what was generated: up to a token that ends it, or all when none came."""
    end = set(chat_templates.stops(tokenizer))
    length = next((place for place, token in enumerate(tokens) if token in end), len(tokens))
    reply = tokenizer.decode(tokens[:length], skip_special_tokens=True).strip()
    return {"reply": reply, "finish_reason": "stop" if length < len(tokens) else "length", "tokens": length}


def stream(
    model: torch.nn.Module,
    tokenizer: object,
    prompts: list[str],
    *,
    batch_size: int,
    max_new_tokens: int,
    seed: int,
    **choice: float,
) -> Iterator[tuple[int, dict]]:
    """(place of the prompt, reply) as replies come, the longest prompts first: what does not fit shows at once.

    Out of memory halves the batch, and what was not finished begins anew; InputError when a single prompt does not fit.
    """
    asked = [
        batching.Asked(chat_templates.ids(tokenizer, p), sampling.numbers(p, max_new_tokens, seed)) for p in prompts
    ]
    waiting = dict(enumerate(asked))
    with tqdm(total=len(prompts), desc="answering", file=sys.stderr, mininterval=5) as bar:
        while waiting:
            places, size = list(waiting), min(batch_size, len(waiting))
            try:
                for i, tokens in batching.written(model, list(waiting.values()), size, *ends(tokenizer), **choice):
                    del waiting[places[i]]
                    bar.update()
                    yield places[i], finished(tokenizer, tokens)
            except (RuntimeError, MemoryError) as error:
                if not no_memory(error):
                    raise
                if size == 1:
                    first = max(waiting, key=lambda i: len(asked[i].ids))
                    raise files.InputError(
                        f"answering: one prompt of {len(prompts[first])} characters does not fit into memory; "
                        "lower max_new_tokens or take a larger device"
                    ) from None
                batch_size = size // 2
                bar.write(f"out of memory: on with batches of {batch_size}", file=sys.stderr)
            torch.cuda.empty_cache()  # here, since the error that is gone held what the model had in memory


def no_memory(error: Exception) -> bool:
    """Whether a device has no room: torch has an error of its own for a GPU, and a sentence for the processor."""
    kinds = (torch.OutOfMemoryError, MemoryError)
    return isinstance(error, kinds) or "DefaultCPUAllocator: can't allocate memory" in str(error)


def generate(
    model: torch.nn.Module,
    tokenizer: object,
    prompts: list[str],
    *,
    max_new_tokens: int = 512,
    temperature: float = 0.95,
    top_p: float = 0.7,
    top_k: int = 50,
    seed: int = 42,
    batch_size: int = 8,
) -> list[dict]:
    """The replies in the order of the prompts: {"reply", "finish_reason" ("stop" | "length"), "tokens"}.

    The values are LLaMA-Factory's of autumn 2023; temperature 0 is greedy, top_k 0 and top_p 1 leave out their step.
    `tokens` counts the reply's own, without the end of text. Batches change a reply by rounding alone.
    """
    choice = {"temperature": temperature, "top_p": top_p, "top_k": top_k, "seed": seed}
    options = {"batch_size": batch_size, "max_new_tokens": max_new_tokens}
    replies = dict(stream(model, tokenizer, prompts, **options, **choice))
    return [replies[i] for i in range(len(prompts))]


def answer(
    model: torch.nn.Module,
    tokenizer: object,
    rows: list[Mapping],
    prompts: list[str],
    system: str,
    path: Path,
    key: str,
    tick: Callable[[], None] | None = None,
    **decoding: object,
) -> list[dict]:
    """The system's answers to the rows: {"system", "questionID", "reply", "finish_reason", "tokens"}, in their order.

    Each reply goes to the journal at `path` when it comes; a run that was broken off asks only for the rest. `key`
    names what the replies depend on besides prompt and decoding: model and adapter, by their hashes. `tick` is called
    after each new reply.
    """
    own, done = marks(system, prompts, key, **decoding), response_cache.read(path)
    missing = [i for i, mark in enumerate(own) if mark not in done]
    with response_cache.appending(path) as file:
        for place, reply in stream(model, tokenizer, [prompts[i] for i in missing], **decoding):
            entry = {"hash": own[missing[place]], "answer": reply}
            response_cache.append(file, entry)
            done[entry["hash"]] = entry
            if tick:
                tick()
    return [
        {"system": system, "questionID": row["questionID"]} | done[mark]["answer"]
        for row, mark in zip(rows, own, strict=True)
    ]


def marks(system: str, prompts: Iterable[str], key: str, **decoding: object) -> list[str]:
    """What the journal knows each reply by: a hash of all that decides it; how many are made at a time does not."""
    settings = {name: value for name, value in decoding.items() if name != "batch_size"}
    return [hashing.text(json.dumps([system, key, settings, prompt], sort_keys=True)) for prompt in prompts]


@torch.inference_mode()
def next_tokens(
    model: torch.nn.Module, tokenizer: object, prompt: str, temperature: float, top_p: float, top_k: int
) -> pd.DataFrame:
    """The tokens that may follow a prompt, likeliest first: text, probability, and that which decoding makes of it."""
    ids = torch.tensor([chat_templates.ids(tokenizer, prompt)], device=model.device)
    scores = model(ids, logits_to_keep=1).logits[:, -1].float()
    bent = LogitsProcessorList(sampling.warpers(temperature, top_p, top_k))(ids, scores)
    chances, places = scores.softmax(-1)[0].topk(min(50, scores.shape[1]))
    texts = [tokenizer.decode([i], skip_special_tokens=False) for i in places.tolist()]
    after = bent.softmax(-1)[0, places]
    columns = {"token": texts, "probability": chances.tolist(), "after top-k and top-p": after.tolist()}
    return pd.DataFrame(columns)
