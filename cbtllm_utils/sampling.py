"""How the next token is chosen: what bends the probabilities, and draws that depend on seed and prompt alone."""

import torch
from transformers.generation.logits_process import (
    LogitsProcessor,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from cbtllm_utils import files


class Draw(LogitsProcessor):
    """Leaves each row the one token that its own random numbers draw, so that a greedy step after it samples.

    A row's numbers depend on the seed and its prompt alone: a reply does not change with the company that it keeps in
    a batch, but for rounding. Inverse transform sampling: the first token, in the vocabulary's order, at which the summed
    probability exceeds u. What is left to draw from is what `warpers` leave; but they sort the whole vocabulary at each
    step, which takes a small model longer than all its layers, and here top-p looks at the `top_k` tokens alone.
    """

    def __init__(
        self, seeds: list[int], steps: int, device: torch.device, temperature: float, top_p: float, top_k: int
    ) -> None:
        numbers = [torch.rand(steps, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        self.numbers, self.step = torch.stack(numbers).double().to(device), 0
        self.temperature, self.top_p, self.top_k = temperature, top_p, top_k

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        size = scores.shape[1]
        likeliest, tokens = (scores / self.temperature).topk(min(self.top_k or size, size))
        chances = likeliest.double().softmax(-1)
        if self.top_p < 1:  # the fewest that together hold top_p: those before which less than that had come
            chances = chances.masked_fill(chances.cumsum(-1) - chances >= self.top_p, 0)
        tokens, order = tokens.sort(-1)
        summed = chances.gather(1, order).cumsum(-1)
        u = self.numbers[:, self.step, None] * summed[:, -1:]
        self.step += 1
        drawn = torch.searchsorted(summed, u, right=True).clamp(max=summed.shape[1] - 1)
        return torch.full_like(scores, -torch.inf).scatter(1, tokens.gather(1, drawn), 0.0)


def decoders(
    prompts: list[str], max_new_tokens: int, temperature: float, top_p: float, top_k: int, seed: int, device: object
) -> LogitsProcessorList:
    """What turns logits into a choice, seeded by prompt; nothing at temperature 0, which is greedy."""
    if temperature == 0:
        return LogitsProcessorList()
    seeds = [int(files.text_hash(f"{seed} {prompt}"), 16) >> 1 for prompt in prompts]  # 63 bits
    return LogitsProcessorList([Draw(seeds, max_new_tokens, device, temperature, top_p, top_k)])


def warpers(temperature: float, top_p: float, top_k: int) -> list[LogitsProcessor]:
    """What bends the probabilities before one is drawn, as transformers does; a step that does nothing is out.

    `Draw` does the same in one go; a test holds them together.
    """
    steps = [TemperatureLogitsWarper(float(temperature))] if temperature != 1 else []
    steps += [TopKLogitsWarper(top_k)] if top_k > 0 else []
    return steps + ([TopPLogitsWarper(top_p)] if top_p < 1 else [])
