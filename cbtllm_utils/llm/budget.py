"""The cost of asking: an estimate beforehand, a budget meanwhile."""

from dataclasses import dataclass

from cbtllm_utils import files
from cbtllm_utils.llm.errors import EndpointError

TOKENS_PER_CHARACTER = 1.3  # of Chinese in a provider's tokenizer, for estimates before the first answer
REPLY_TOKENS = 700  # expected of a reply whose request sets no limit


def estimate(requests: list[dict], price: dict | None) -> dict[str, float]:
    """Estimate what requests will take; a reply takes all that its request allows.

    Args:
        requests: As `client.complete` takes them.
        price: {"input": …, "output": …} per million tokens, in any currency; None costs nothing.

    Returns:
        prompt_tokens, completion_tokens and cost.
    """
    prompt = sum(map(characters, requests)) * TOKENS_PER_CHARACTER
    limits = [request.get("max_completion_tokens") or request.get("max_tokens") for request in requests]
    completion = float(sum(limit or REPLY_TOKENS for limit in limits))
    return {"prompt_tokens": prompt, "completion_tokens": completion, "cost": cost_of(prompt, completion, price)}


def in_words(requests: list[dict], price: dict | None, model: str) -> str:
    """Return what requests will cost, as `estimate` has it, or that the model's price is unknown."""
    asked = f"{len(requests):,} request{'s' if len(requests) != 1 else ''} to {files.model_name(model)}"
    if price is None:
        return f"{asked}; no price is given for it in `prices`, so that no cost is counted"
    return f"{asked}, about {estimate(requests, price)['cost']:.2f} to pay"


def check_price(price: dict | None, budget: float | None) -> None:
    """Raise InputError for a budget without a price to count against it."""
    if budget is not None and not price:
        raise files.InputError(
            f"budget {budget:g}: there is no price to count against it; "
            "give the model's (for batches, `<model>, batch`)"
        )


def characters(request: dict) -> int:
    """Return how many characters a request sends, as the messages of a chat or as one prompt."""
    return sum(len(message["content"]) for message in request.get("messages", [])) + len(request.get("prompt", ""))


def cost_of(prompt_tokens: float, completion_tokens: float, price: dict | None) -> float:
    """Return what so many tokens cost; 0 without a price."""
    return (prompt_tokens * price["input"] + completion_tokens * price["output"]) / 1e6 if price else 0.0


@dataclass
class Budget:
    """What was spent, what the requests in flight may still cost, and the most expensive answer of this run."""

    price: dict | None
    limit: float | None
    spent: float = 0.0
    in_flight: float = 0.0
    under_way: int = 0
    dearest: float = 0.0

    @property
    def shown(self) -> dict[str, str]:
        """Return the cost for a progress bar; nothing without a price."""
        return {"cost": f"{self.spent:.2f}"} if self.price else {}

    def reserve(self, cost: float) -> None:
        """Set the cost of a request aside. All in flight may cost as much as the most expensive answer so far.

        Raises:
            EndpointError: When it would exceed the budget.
        """
        expected = max(self.in_flight + cost, (self.under_way + 1) * self.dearest)
        if self.limit is not None and self.spent + expected > self.limit:
            raise EndpointError(
                f"budget {self.limit:g} would be exceeded after {self.spent:.4f}; raise `budget` and run again"
            )
        self.in_flight, self.under_way = self.in_flight + cost, self.under_way + 1

    def settle(self, cost: float, entry: dict | None, billed: bool = False) -> None:
        """Replace the cost that was set aside by what the answer took.

        Args:
            cost: What was set aside.
            entry: The answer as the response cache holds it, or None without a usable answer.
            billed: An answer came that cannot be used; it is paid for as expected.
        """
        self.in_flight, self.under_way = self.in_flight - cost, self.under_way - 1
        if entry:
            taken = cost_of(entry["prompt_tokens"], entry["completion_tokens"], self.price)
            self.spent, self.dearest = self.spent + taken, max(self.dearest, taken)
        elif billed:
            self.spent += cost
