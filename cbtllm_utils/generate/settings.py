"""Settings of notebooks 05 and 08; 08 decodes as 05 did."""

from typing import Any, Literal

from cbtllm_utils.generate.kinds import KINDS
from cbtllm_utils.llm.settings import THINKING_OFF
from cbtllm_utils.settings import Number, Settings, ours, tool_default
from cbtllm_utils.text.settings import ReaderSettings


class AnswerSettings(ReaderSettings):
    """What notebook 05 takes. With an endpoint, a server answers instead of a model on this machine.

    The paper does not say how replies were decoded; its tool's defaults are LLaMA-Factory's of autumn 2023.
    """

    backbone: str = ours("baichuan-7b", "names the outputs", min_length=1)
    model: str = ours(
        "backbones/baichuan-7b", "its weights: a folder of the run or repository, or a hub id", min_length=1
    )
    deltas: list[str] = ours([], "published deltas to merge into it, in order, as in the training")
    template: Literal["card", "triad-v0.2.0", "triad-v0.2.1", "chat"] = ours(
        "card", "form of the prompt; must be that of the training"
    )
    kinds: list[Literal["untuned", "prompted", "tuned"]] = ours(
        list(KINDS), "which systems answer; prompted = untuned, asked with the full CBT prompt", min_length=1
    )
    tuned_model: str | None = ours(
        None, "a model that is already tuned, a folder or a hub id; no adapter is read", min_length=1
    )
    limit: int | None = ours(None, "answer only the first questions; null = all", ge=1)
    served: dict[Literal["untuned", "prompted", "tuned"], str] = ours(
        {}, "with an endpoint: the server's names of those that it answers for; prompted has that of untuned"
    )
    route: Literal["completions", "chat"] = ours(
        "completions", "completions sends the prompt of the training; chat leaves its form to the server"
    )
    sampling: dict[str, Any] = ours({}, f"further fields of a request to a server, beside the decoding; {THINKING_OFF}")
    concurrency: int = ours(32, "requests in flight at a time; a server makes batches of them by itself", ge=1)

    precision: Literal["auto", "fp32", "bf16", "fp16"] = ours("auto", "auto = fp32 on a CPU, bf16 or fp16 on a GPU")
    engine: Literal["transformers", "vllm"] = ours(
        "transformers",
        "the library that generates replies on this machine; vllm is installed in an environment of its own",
    )
    vllm: str = ours("vllm serve", "the command that starts vLLM; vLLM's own options may follow", min_length=1)
    tensor_parallel: int = ours(1, "GPUs among which vLLM divides each layer", ge=1)
    threads: int = ours(
        1, "threads of a CPU; 0 = one for each core: faster for a model that is not tiny, but may change a reply", ge=0
    )
    max_new_tokens: int = ours(700, "most tokens of a reply; the tool's 512 would cut some of the sample's", ge=1)
    temperature: Number = tool_default(0.95, "0 = greedy decoding, which repeats itself more", ge=0)
    top_p: Number = tool_default(
        0.7, "sample from the most likely tokens that together have this probability; 1 = all", gt=0, le=1
    )
    top_k: int = tool_default(50, "sample from this many of the most likely tokens; 0 = all", ge=0)
    batch_size: int = ours(
        8, "prompts at a time; in 16 bits another number rounds differently and changes some replies", ge=1
    )
    filled_readings: str = ours(
        "data/readings", "folder of reading sheets that people filled (notebook 07); it may be absent"
    )
    seed: int = ours(42, "decides a reply's random numbers, together with its prompt", ge=0)

    @property
    def here(self) -> bool:
        """Return whether this process answers by transformers; else vLLM or a server does."""
        return self.endpoint is None and self.engine == "transformers"

    @property
    def answered(self) -> list[str]:
        """Return the kinds of systems that answer, in their order; a server for those that it has."""
        return [kind for kind in KINDS if kind in self.kinds and (self.endpoint is None or kind in self.served)]

    @property
    def decoding(self) -> dict:
        """Return what decides a reply, for a model here and for a server alike."""
        return self.model_dump(include={"max_new_tokens", "temperature", "top_p", "top_k", "seed"})

    @property
    def limits(self) -> dict:
        """Return the keyword arguments of `client.complete` but for the price, which depends on the model."""
        return {"endpoint": self.endpoint} | super().limits()


class CaseSettings(Settings):
    """What notebook 08 takes; how replies are decoded is in the records of notebook 05."""

    backbones: list[str] = ours(
        ["llama-chinese-7b", "alpaca-chinese-7b", "qwen-7b", "baichuan-7b"], "the tuned systems", min_length=1
    )
    untuned: str | None = ours(None, "the backbone that answers without its adapter as well; null = the last one")
    cases: int = ours(2, "posts of the test set to show, besides the paper's", ge=1)
    filled_readings: str = ours(
        "data/readings", "folder of reading sheets that people filled (notebook 07); it may be absent"
    )
