"""Settings of notebook 04: every value that decides a training, and where its default comes from.

The defaults are what the paper states (§4.3); where it is silent, those of LLaMA-Factory v0.2.2, its tool of 2023.
"""

import importlib.util
import math
from typing import Literal, Self

from pydantic import model_validator

from cbtllm_utils.settings import Number, Settings, ours, stated, tool_default

PUBLISHED = "published"  # as `targets`: the layers that LLaMA-Factory adapted by default
WHERE = {"run", "conditions", "backbone", "model", "deltas", "merge", "logging_steps", "checkpoint_steps", "threads"}
WHERE |= {"tensorboard"}


class TrainingSettings(Settings):
    """What notebook 04 takes."""

    backbone: str = ours("baichuan-7b", "which backbone; names the outputs", min_length=1)
    model: str = ours("backbones/baichuan-7b", "its weights: a folder of the run or the repository, or a hub id")
    deltas: list[str] = ours([], "LoRA deltas to merge into it first, in order: Chinese-Alpaca of the demo takes two")
    merge: bool = ours(False, "also write the backbone with the adapter merged into it: merged/<backbone>")
    logging_steps: int = ours(40, "steps between two points of the loss curve", ge=1)
    checkpoint_steps: int = ours(0, "steps between two checkpoints to resume from; 0 saves only the end", ge=0)
    tensorboard: bool = ours(False, "also log for TensorBoard (an extra): training/tensorboard/<backbone>")

    template: Literal["card", "triad-v0.2.0", "triad-v0.2.1", "chat"] = ours(
        "card", "form of the prompt: the released model's is card"
    )
    rank: int = tool_default(8, "rows of A and columns of B", ge=1)
    alpha: Number = tool_default(32.0, "the adapter's output is multiplied by alpha / rank", gt=0)
    dropout: Number = tool_default(0.1, "share of the adapter's inputs set to zero", ge=0, lt=1)
    targets: Literal["published", "all-linear"] | list[str] = tool_default(
        PUBLISHED, "adapted layers: published (q and v, or the fused c_attn, W_pack), all-linear, or their names"
    )
    modules_to_save: list[Literal["lm_head", "embed_tokens"]] = tool_default(
        [], "layers trained whole beside the adapter"
    )
    learning_rate: Number = stated(5e-5, "learning rate of the first step", gt=0)
    schedule: Literal["cosine", "linear", "constant"] = stated("cosine", "how the learning rate falls")
    epochs: Number = stated(3.0, "passes over the training set", gt=0)
    batch: int = tool_default(4, "examples of one forward pass on one device", ge=1)
    threads: int = ours(
        1, "threads of a CPU; 0 = one for each core: faster for a model that is not tiny, with other last digits", ge=0
    )
    processes: int = ours(1, "GPUs that train together, each in a process of its own", ge=1)
    accumulation: int = stated(4, "batches whose gradients are added up for one step", ge=1)
    cutoff: int = tool_default(1024, "most tokens of an example; prompt and reply lose their ends in proportion", ge=2)
    precision: Literal["auto", "fp32", "fp16", "bf16"] = stated(
        "fp16", "precision of computation; auto is the device's best"
    )
    gradient_checkpointing: bool = tool_default(True, "recompute activations instead of keeping them")
    optimizer: Literal["adamw_torch"] = tool_default("adamw_torch", "transformers' name of the optimizer")
    weight_decay: Number = tool_default(0.0, "weight decay of the optimizer", ge=0)
    warmup_steps: int = tool_default(0, "steps over which the learning rate rises", ge=0)
    max_gradient: Number = tool_default(1.0, "norm to which gradients are clipped", gt=0)
    seed: int = tool_default(42, "seed of the adapter's initial values and of the order of the examples", ge=0)
    quantization: Literal["nf4"] | None = tool_default(None, "nf4 keeps the frozen weights in 4 bits (bitsandbytes)")

    @model_validator(mode="after")
    def check(self) -> Self:
        """Refuse checkpoints between two points of the curve, and TensorBoard where it is not installed.

        The Trainer's checkpoints do not hold the sum of the losses since the last point: after a kill, the next point
        would be a mean over fewer steps than the others.
        """
        if self.checkpoint_steps % self.logging_steps:
            raise ValueError(
                f"checkpoint_steps = {self.checkpoint_steps}: should be a multiple of logging_steps = "
                f"{self.logging_steps}, so that an interrupted training continues its curve"
            )
        if self.tensorboard and not importlib.util.find_spec("tensorboard"):
            raise ValueError(
                "tensorboard = true needs TensorBoard, which is not installed: "
                ".venv/bin/pip install -e '.[tensorboard]' (or tensorboard = false)"
            )
        return self

    @property
    def examples_per_step(self) -> int:
        """Return the number of examples of one optimizer step, over all processes."""
        return self.batch * self.accumulation * self.processes

    def steps(self, examples: int) -> tuple[int, int]:
        """Return the optimizer steps of one epoch and of the whole training.

        The last step of an epoch may hold fewer examples. The paper's: 20,094 examples / (4 × 4) = 1,255.9, so 1,256
        steps per epoch and 3,768 in all.
        """
        epoch = math.ceil(examples / self.examples_per_step)
        return epoch, math.ceil(self.epochs * epoch)

    def hyperparameters(self) -> dict:
        """Return the values that decide what is learned, by name: all but folders, names and logging."""
        return self.model_dump(exclude=WHERE)
