"""What every notebook takes that asks a provider; its settings class inherits from `ProviderSettings`."""

from typing import Annotated, NotRequired

from pydantic import BeforeValidator, Field
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from cbtllm_utils.settings import Number, Settings, as_number, ours

THINKING_OFF = (
    "thinking is switched off by {extra_body: {chat_template_kwargs: {enable_thinking: false}}} (vLLM, SGLang), "
    "{extra_body: {enable_thinking: false}} (DashScope), {extra_body: {thinking: {type: disabled}}} (Zhipu, DeepSeek)"
)
Rate = Annotated[float, Field(gt=0), BeforeValidator(as_number)]
Amount = Annotated[float, Field(ge=0), BeforeValidator(as_number)]


class Price(TypedDict):
    """What a million tokens cost, in any currency, and the day of the price list as text."""

    input: Amount
    output: Amount
    date: NotRequired[str]


class ProviderSettings(Settings):
    """Where a model is asked, how fast, and for how much. The class of a notebook adds which model, and its sampling.

    `prices` has one entry for each model, and one under "<model>, batch" where the Batch API has another price.
    """

    endpoint: str | None = ours(None, "who is asked: openai, a base URL, or replay: and a recording; null = nobody")
    concurrency: int = ours(8, "requests in flight at a time", ge=1)
    requests_per_minute: Rate | None = ours(None, "the provider's limit; null = no limit")
    tokens_per_minute: Rate | None = ours(None, "the provider's limit; null = no limit")
    max_retries: int = ours(6, "further tries of a request after temporary errors", ge=0)
    timeout: Rate = ours(
        120.0, "seconds for an answer before it is asked for again; grows up to 8 times for a server that is slower"
    )
    prices: dict[str, Price] = ours({}, "price per million tokens of each model, {model: {input, output}}")
    budget: Amount | None = ours(
        None, "in the currency of `prices`; asking stops before it is exceeded; null = no budget"
    )

    allowed_missing: Number = ours(
        0.0,
        "share of requests that may stay without an answer; above it the step fails, and a rerun asks again",
        ge=0,
        le=1,
    )

    def price(self, model: str, batch: bool = False) -> Price | None:
        """Return the price of a model, or None when `prices` does not have it."""
        return self.prices.get(f"{model}, batch" if batch else model)

    def limits(self) -> dict[str, float | None]:
        """Return what `client.complete` takes of these, besides the endpoint and the price."""
        names = ("concurrency", "requests_per_minute", "tokens_per_minute", "budget", "max_retries", "timeout")
        return {name: getattr(self, name) for name in names}
