"""Settings of notebook 00."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from cbtllm_utils.settings import Number, Settings, ours

Steps = Annotated[int, Field(ge=1)]
LLAMA, CHINESE, ALPACA = "llama-7b", "chinese-llama-lora-7b", "chinese-alpaca-lora-7b"
QWEN, BAICHUAN = "qwen-7b", "baichuan-7b"


class DemoSettings(Settings):
    """What notebook 00 takes."""

    questions: str = ours(
        "data/sample/psyqa_sample.json", "file of posts, each with a forum answer; the sample has 360"
    )
    heldout: int = ours(24, "held-out posts, to measure what was learned: 24 × 340 characters", ge=1)
    hidden: int = ours(128, "units of a layer: 4,096 / 128 = 32 times narrower than a 7B model", ge=1)
    layers: int = ours(
        2,
        "layers: 32 / 2 = 16 times fewer than a 7B model; four learn as much from so little text, in twice the time",
        ge=1,
    )
    heads: int = ours(
        2, "attention heads, of 64 units each; with four heads attention takes a quarter of the time", ge=1
    )
    inner: int = ours(344, "feed-forward units: 128 × 8 / 3 = 341, as LLaMA counts, up to a multiple of 8", ge=1)
    vocabulary: int = ours(1600, "tokens of LLaMA: 256 bytes, frequent characters, few words", ge=1)
    wider_vocabulary: int = ours(
        2600, "tokens of Qwen and Baichuan, and about those of Chinese-LLaMA (the original has 1.6 times LLaMA's)", ge=1
    )
    base_steps: int = ours(
        300,
        "training steps of Qwen and Baichuan: 300 × 1,024 tokens are 3 epochs; after more, tuning changes them less",
        ge=1,
    )
    llama_steps: list[Steps] = ours(
        [250, 300, 150],
        "training steps of LLaMA, of Chinese-LLaMA's delta, of Chinese-Alpaca's",
        min_length=3,
        max_length=3,
    )
    batch: int = ours(4, "texts per step", ge=1)
    length: int = ours(256, "tokens per text: 4 × 256 = 1,024 tokens per step", ge=2)
    learning_rate: Number = ours(
        1e-2,
        "learning rate of the pretraining of the tiny models: 33 times that of LLaMA, 3e-04, since they take few steps",
        gt=0,
        le=1,
    )
    rank: int = ours(32, "LoRA rank of the two deltas; the published ones have 8, trained on 20 GB of text", ge=1)
    scorer_steps: list[Steps] = ours(
        [600, 120],
        "training steps of the encoder for BERTScore, and of the BLEURT on top of it",
        min_length=2,
        max_length=2,
    )
    processes: int = ours(2, "trainings side by side, each on one core", ge=1)
    seed: int = ours(0, "seed of the initial weights and of the order of texts", ge=0)

    @model_validator(mode="after")
    def heads_divide_hidden(self) -> Self:
        if self.hidden % (2 * self.heads):
            raise ValueError(f"hidden = {self.hidden} must be an even multiple of heads = {self.heads}")
        return self

    @property
    def size(self) -> dict[str, int]:
        """The keys of a LLaMA configuration that say how large a model is."""
        return {
            "hidden_size": self.hidden,
            "intermediate_size": self.inner,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
        }

    @property
    def steps(self) -> dict[str, int]:
        """Training steps by folder."""
        names = (LLAMA, CHINESE, ALPACA, QWEN, BAICHUAN)
        return dict(zip(names, [*self.llama_steps, self.base_steps, self.base_steps], strict=True))
