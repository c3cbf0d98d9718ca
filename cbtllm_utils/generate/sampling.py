"""How the next token is chosen: what bends the probabilities, and draws that depend on seed and prompt alone."""

from collections.abc import Sequence

import torch
from transformers.generation.logits_process import (
    LogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from cbtllm_utils import hashing


def numbers(prompt: str, steps: int, seed: int) -> list[float]:
    """The random numbers of a prompt, one a token: they depend on it and on the seed, not on its company in a batch."""
    own = int(hashing.text(f"{seed} {prompt}"), 16) >> 1  # 63 bits
    return torch.rand(steps, generator=torch.Generator().manual_seed(own)).tolist()


def chosen(scores: torch.Tensor, drawn: Sequence[float], temperature: float, top_p: float, top_k: int) -> torch.Tensor:
    """The next token of each row (rows x vocabulary), by its random number; at temperature 0 the likeliest.

    Inverse transform sampling: the first token, in the vocabulary's order, at which the summed probability exceeds the
    number. What is left to draw from is what `warpers` leave; but they sort the whole vocabulary at each step, which
    takes a small model longer than all its layers, and here top-p looks at the `top_k` tokens alone.
    """
    if temperature == 0:
        return scores.argmax(-1)
    size = scores.shape[1]
    likeliest, tokens = (scores / temperature).topk(min(top_k or size, size))
    chances = likeliest.double().softmax(-1)
    if top_p < 1:  # the fewest that together hold top_p: those before which less than that had come
        chances = chances.masked_fill(chances.cumsum(-1) - chances >= top_p, 0)
    tokens, order = tokens.sort(-1)
    summed = chances.gather(1, order).cumsum(-1)
    u = torch.tensor(drawn, dtype=torch.double, device=scores.device)[:, None] * summed[:, -1:]
    place = torch.searchsorted(summed, u, right=True).clamp(max=summed.shape[1] - 1)
    return tokens.gather(1, place)[:, 0]


class Draw(LogitsProcessor):
    """Leaves each row the one token that is `chosen`, so that transformers' greedy step after it samples as we do."""

    def __init__(self, drawn: Sequence[Sequence[float]], **choice: float) -> None:
        self.drawn, self.choice = zip(*drawn, strict=True), choice  # by step

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        tokens = chosen(scores, next(self.drawn), **self.choice)
        return torch.full_like(scores, -torch.inf).scatter(1, tokens[:, None], 0.0)


def warpers(temperature: float, top_p: float, top_k: int) -> list[LogitsProcessor]:
    """What bends the probabilities before one is drawn, as transformers does; a step that does nothing is out.

    `chosen` does the same in one go; a test holds them together.
    """
    steps = [TemperatureLogitsWarper(float(temperature))] if temperature != 1 else []
    steps += [TopKLogitsWarper(top_k)] if top_k > 0 else []
    return steps + ([TopPLogitsWarper(top_p)] if top_p < 1 else [])
