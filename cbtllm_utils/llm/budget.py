"""What asking costs: an estimate before it, a budget while it lasts, and how many requests a minute may pass."""

import asyncio
import time
from dataclasses import dataclass

from cbtllm_utils import files
from cbtllm_utils.llm.errors import EndpointError

TOKENS_PER_CHARACTER = 1.3  # of Chinese in a provider's tokenizer, for estimates before the first request


def estimate(requests: list[dict], price: dict | None, reply_tokens: int = 700) -> dict[str, float]:
    """Tokens and money that these requests will take: prompt_tokens, completion_tokens, cost (0 without a price).

    `price` is {"input": …, "output": …} for a million tokens, in any currency. A reply takes `reply_tokens`, or as many
    as its request allows at most.
    """
    prompt = sum(map(characters, requests)) * TOKENS_PER_CHARACTER
    completion = float(sum(most_tokens(request) or reply_tokens for request in requests))
    return {"prompt_tokens": prompt, "completion_tokens": completion, "cost": money(prompt, completion, price)}


def check(price: dict | None, budget: float | None) -> None:
    """Nothing, when a budget can be kept; InputError when there is no price to count against it."""
    if budget is not None and not price:
        raise files.InputError(
            f"budget {budget:g}: there is no price to count against it; "
            "give the model's (for batches, `<model>, batch`)"
        )


def characters(request: dict) -> int:
    """How many characters a request asks with, be they messages of a chat or one prompt."""
    return sum(len(message["content"]) for message in request.get("messages", [])) + len(request.get("prompt", ""))


def most_tokens(request: dict) -> int | None:
    """How many tokens a request allows its reply, where it says so."""
    return request.get("max_completion_tokens") or request.get("max_tokens")


def money(prompt_tokens: float, completion_tokens: float, price: dict | None) -> float:
    """What so many tokens cost."""
    return (prompt_tokens * price["input"] + completion_tokens * price["output"]) / 1e6 if price else 0.0


class Limiter:
    """Lets at most so many units a minute pass, evenly; None lets all pass."""

    def __init__(self, per_minute: float | None) -> None:
        self.interval, self.free_at = 60 / per_minute if per_minute else 0.0, 0.0

    async def wait(self, units: float = 1) -> None:
        """Nothing, once so many units may pass."""
        now = time.monotonic()
        start = max(now, self.free_at)
        self.free_at = start + units * self.interval
        if start > now:
            await asyncio.sleep(start - now)


@dataclass
class Purse:
    """What was spent, what the requests in flight may still cost, and how many in a row found no answer."""

    price: dict | None
    budget: float | None
    spent: float = 0.0
    in_flight: float = 0.0
    in_vain: int = 0

    def take(self, cost: float) -> None:
        """Nothing, after the cost was set aside; EndpointError when the budget does not hold it."""
        if self.budget is not None and self.spent + self.in_flight + cost > self.budget:
            raise EndpointError(
                f"budget {self.budget:g} would be exceeded after {self.spent:.4f}; raise `budget` and run again"
            )
        self.in_flight += cost

    def settle(self, cost: float, entry: dict | None, billed: bool = False, refused: bool = False) -> None:
        """Nothing, after what was set aside became what the answer took, or nothing where there was none.

        `billed`: an answer came that is no use; it is paid for as expected. `refused`: this post, by a provider that
        is there: it says nothing about the others.
        """
        self.in_flight -= cost
        if not refused:
            self.in_vain = 0 if entry else self.in_vain + 1
        took = money(entry["prompt_tokens"], entry["completion_tokens"], self.price) if entry else 0.0
        self.spent += cost if billed else took
