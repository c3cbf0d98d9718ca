"""How the next token is chosen: temperature, top-k, top-p, and a draw that depends on seed and prompt alone."""

from collections.abc import Sequence

import torch
from transformers.generation.logits_process import (
    LogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from cbtllm_utils import hashing


def random_numbers(prompt: str, steps: int, seed: int) -> list[float]:
    """Return a prompt's own random numbers in [0, 1), one for each token, whatever else is in its batch."""
    return torch.rand(steps, generator=torch.Generator().manual_seed(seed_of(prompt, seed))).tolist()


def seed_of(prompt: str, seed: int) -> int:
    """Return a prompt's own seed of 63 bits."""
    return int(hashing.text(f"{seed} {prompt}"), 16) >> 1


def choose(
    scores: torch.Tensor, numbers: Sequence[float], temperature: float, top_p: float, top_k: int
) -> torch.Tensor:
    """Choose the next token of each row by inverse transform sampling.

    That is the first token, in the vocabulary's order, at which the cumulative probability exceeds the row's random
    number. The distribution is that of `warpers`; but they sort the whole vocabulary at each step, which takes a small
    model longer than all its layers, and here top-p looks at the `top_k` tokens alone.

    Args:
        scores: Logits, rows × vocabulary.
        numbers: One random number for each row.
        temperature: 0 takes the likeliest token.
        top_p: 1 leaves this step out.
        top_k: 0 leaves this step out.

    Returns:
        One token id for each row.
    """
    if temperature == 0:
        return scores.argmax(-1)
    size = scores.shape[1]
    logits, tokens = (scores / temperature).topk(min(top_k or size, size))
    if scores.device.type == "mps":  # which has no numbers of 64 bits
        logits, tokens = logits.cpu(), tokens.cpu()
    probabilities = logits.double().softmax(-1)
    if top_p < 1:  # keep the fewest that together hold top_p: those before which less than that has come
        before = probabilities.cumsum(-1) - probabilities
        probabilities = probabilities.masked_fill(before >= top_p, 0)
    tokens, order = tokens.sort(-1)
    cumulative = probabilities.gather(1, order).cumsum(-1)
    drawn = torch.tensor(numbers, dtype=torch.double, device=tokens.device)[:, None] * cumulative[:, -1:]
    place = torch.searchsorted(cumulative, drawn, right=True).clamp(max=cumulative.shape[1] - 1)
    return tokens.gather(1, place)[:, 0].to(scores.device)


class Draw(LogitsProcessor):
    """Leave each row only the token that `choose` draws for it, so that greedy decoding after it takes that token.

    transformers draws all rows of a batch from one generator: a reply would then depend on its neighbors in the batch.

    Args:
        numbers: For each row its random numbers, one for each new token.
        prompt_length: Tokens of the padded prompts; what comes after them is new.
        decoding: temperature, top_p and top_k.
    """

    def __init__(self, numbers: Sequence[Sequence[float]], prompt_length: int, **decoding: float) -> None:
        self.numbers, self.prompt_length, self.decoding = numbers, prompt_length, decoding

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        step = input_ids.shape[1] - self.prompt_length
        tokens = choose(scores, [row[step] for row in self.numbers], **self.decoding)
        return torch.full_like(scores, -torch.inf).scatter(1, tokens[:, None], 0.0)


def warpers(temperature: float, top_p: float, top_k: int) -> list[LogitsProcessor]:
    """Return transformers' own steps before a token is drawn, without those that change nothing."""
    steps = [TemperatureLogitsWarper(float(temperature))] if temperature != 1 else []
    steps += [TopKLogitsWarper(top_k)] if top_k > 0 else []
    return steps + ([TopPLogitsWarper(top_p)] if top_p < 1 else [])
