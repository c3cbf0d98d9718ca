"""Replies to many prompts at a time: a row whose reply has ended takes the next prompt (continuous batching)."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from transformers import Cache, GenerationConfig
from transformers.generation.logits_process import LogitsProcessorList

from cbtllm_utils.generate import growing_cache
from cbtllm_utils.generate.sampling import Draw, chosen


@dataclass(frozen=True)
class Asked:
    """A prompt's ids, and its random numbers, one for each token that may come."""

    ids: list[int]
    drawn: list[float]


@dataclass
class Row:
    """A reply that is being written; its prompt begins in column `start` of the cache, what is left of it is masked."""

    place: int
    asked: Asked
    start: int
    tokens: list[int] = field(default_factory=list)
    ended: bool = False


@torch.inference_mode()
def written(
    model: torch.nn.Module, asked: Sequence[Asked], size: int, ends: Sequence[int], pad: int, **choice: float
) -> Iterator[tuple[int, list[int]]]:
    """(place of the prompt, tokens of its reply) as replies end, `size` at a time, the longest prompts first.

    All rows end in the same column of the cache; positions and masks tell them apart. A prompt is never longer than one
    that came before it, so that the columns of a row which ended always hold it. A model that keeps more than plain
    keys and values goes `in_turn`.
    """
    waiting = deque(sorted(range(len(asked)), key=lambda i: (-len(asked[i].ids), i)))
    if not growing_cache.plain(model.config):
        yield from in_turn(model, asked, list(waiting), size, ends, pad, **choice)
        return
    rows: list[Row] = []
    cache = growing_cache.cache()
    while waiting or not all(row.ended for row in rows):
        free = [i for i, row in enumerate(rows) if row.ended]
        if waiting and (free or not rows):
            new = [waiting.popleft() for _ in range(min(len(waiting), len(free) or size))]
            scores = begin(model, cache, [asked[i].ids for i in new], free, pad)
            width = cache.get_seq_length()
            active = [Row(i, asked[i], width - len(asked[i].ids)) for i in new]
            rows = rows or list(active)
            for i, row in zip(free, active, strict=False):
                rows[i] = row
        else:
            rows = tidied(cache, rows)
            active, scores = rows, step(model, cache, rows)
        for row in extended(active, scores, ends, **choice):
            yield row.place, row.tokens


def begin(
    model: torch.nn.Module, cache: Cache, prompts: list[list[int]], free: Sequence[int], pad: int
) -> torch.Tensor:
    """The scores of the tokens after some prompts, which then stand in the cache: alone, or in its free rows."""
    width = max(map(len, prompts))
    ids = torch.tensor([[pad] * (width - len(p)) + p for p in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=model.device)
    own = growing_cache.cache() if free else cache
    places = (mask.cumsum(-1) - 1).clamp(min=0)
    scores = model(ids, attention_mask=mask, position_ids=places, cache=own, use_cache=True, logits_to_keep=1).logits
    if free:
        for layer, new in zip(cache.layers, own.layers, strict=True):
            layer.put(new, free[: len(prompts)])
    return scores[:, -1].float()


def tidied(cache: Cache, rows: list[Row]) -> list[Row]:
    """The rows, without those that ended where they are a quarter; the cache then holds no more than the rest need.

    Each time all that is kept is copied, so that a row or a column is not worth it.
    """
    going = [i for i, row in enumerate(rows) if not row.ended]
    first = min(rows[i].start for i in going)
    if 4 * len(going) > 3 * len(rows) and first < growing_cache.BLOCK:
        return rows
    for layer in cache.layers:
        layer.keep(going, first)
    for i in going:
        rows[i].start -= first
    return [rows[i] for i in going]


def step(model: torch.nn.Module, cache: Cache, rows: list[Row]) -> torch.Tensor:
    """The scores of each row's next token (rows x vocabulary), after its last one went into the cache."""
    width = cache.get_seq_length()
    ids = torch.tensor([[row.tokens[-1]] for row in rows], device=model.device)
    starts = torch.tensor([[row.start] for row in rows], device=model.device)
    unseen = torch.arange(width + 1, device=model.device) < starts
    mask = torch.zeros(unseen.shape, dtype=model.dtype, device=model.device)
    mask = mask.masked_fill(unseen, torch.finfo(model.dtype).min)[:, None, None]
    return (
        model(ids, attention_mask=mask, position_ids=width - starts, cache=cache, use_cache=True).logits[:, -1].float()
    )


def extended(rows: list[Row], scores: torch.Tensor, ends: Sequence[int], **choice: float) -> list[Row]:
    """The rows that end with the token now chosen, be it one of the `ends` or the last that was allowed."""
    drawn = [row.asked.drawn[min(len(row.tokens), len(row.asked.drawn) - 1)] for row in rows]
    finished = []
    for row, token in zip(rows, chosen(scores, drawn, **choice).tolist(), strict=True):
        if not row.ended:
            row.tokens.append(token)
            row.ended = token in ends or len(row.tokens) == len(row.asked.drawn)
            finished += [row] if row.ended else []
    return finished


def in_turn(
    model: torch.nn.Module,
    asked: Sequence[Asked],
    order: list[int],
    size: int,
    ends: Sequence[int],
    pad: int,
    **choice: float,
) -> Iterator[tuple[int, list[int]]]:
    """The same by transformers' `generate`, which keeps a batch together until its last reply has ended."""
    for begin in range(0, len(order), size):
        some = [asked[i] for i in order[begin : begin + size]]
        width = max(len(one.ids) for one in some)
        ids = torch.tensor([[pad] * (width - len(one.ids)) + one.ids for one in some], device=model.device)
        mask = torch.tensor([[0] * (width - len(one.ids)) + [1] * len(one.ids) for one in some], device=model.device)
        config = GenerationConfig(  # said in full: what a checkpoint's own generation_config holds would act unseen
            max_new_tokens=len(some[0].drawn),
            do_sample=False,
            num_beams=1,
            repetition_penalty=1.0,
            no_repeat_ngram_size=0,
            use_cache=True,
            eos_token_id=list(ends),
            pad_token_id=pad,
        )
        steps = LogitsProcessorList([Draw([one.drawn for one in some], **choice)])
        output = model.generate(ids, attention_mask=mask, generation_config=config, logits_processor=steps)
        yield from zip(order[begin : begin + size], output[:, width:].tolist(), strict=True)
