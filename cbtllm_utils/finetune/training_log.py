"""The log of a training: written and shown while it runs, then read for its summary, losses and curves."""

import math
import resource
import sys
import time
from typing import Any

import pandas as pd
import torch
from accelerate.utils import gather_object
from datasets import Dataset
from tqdm import tqdm
from transformers.trainer_callback import TrainerCallback

from cbtllm_utils.finetune.settings import TrainingSettings
from cbtllm_utils.finetune.trainer import heldout_loss


def peak_memory() -> float:
    """Return this process's peak memory in GB: what the GPU allocated, or without one the resident set."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


class Progress(TrainerCallback):
    """A progress bar on stderr, the held-out loss before training and after each epoch, and the cost at the end.

    Args:
        heldout: Held-out examples; without any there is no held-out loss.
        batch: Examples of one forward pass for the held-out loss.
        tokens: Tokens of the training set, for the throughput.
    """

    def __init__(self, heldout: Dataset, batch: int, tokens: int) -> None:
        self.heldout, self.batch, self.tokens, self.start = heldout, batch, tokens, time.monotonic()

    def on_train_begin(self, args: object, state: object, control: object, model: object, **_: object) -> None:
        if float(state.epoch or 0).is_integer() or state.global_step >= state.max_steps:
            self.log_heldout(model, state)  # A resumed run may lack it: a kill came after the checkpoint.
        self.begin = state.global_step
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self.bar = tqdm(
            total=state.max_steps,
            initial=state.global_step,
            desc="training",
            file=sys.stderr,
            mininterval=5,
            disable=not state.is_world_process_zero,
        )
        self.start = time.monotonic()

    def on_step_end(self, args: object, state: object, control: object, **_: object) -> None:
        self.bar.update()
        if state.global_step >= state.max_steps:
            control.should_save = False  # The end is saved after its held-out loss: on_epoch_end.

    def on_log(self, args: object, state: object, control: object, logs: dict, **_: object) -> None:
        if "loss" in logs:
            shown = {"loss": f"{logs['loss']:.3f}", "rate": f"{logs['learning_rate']:.1e}"}
            self.bar.set_postfix(shown | {"peak": f"{peak_memory():.1f} GB"}, refresh=False)

    def on_epoch_end(self, args: object, state: object, control: object, model: object, **_: object) -> None:
        if ended := state.global_step >= state.max_steps:
            self.log_cost(args, state)
        self.log_heldout(model, state)
        control.should_save |= ended

    def log_heldout(self, model: object, state: object) -> None:
        """Add the held-out loss to the log that checkpoints keep, once per step."""
        known = any("heldout_loss" in row for row in state.log_history if row["step"] == state.global_step)
        if len(self.heldout) and not known:
            start = time.monotonic()
            loss = heldout_loss(model, self.heldout, self.batch)
            state.log_history.append({"step": state.global_step, "heldout_loss": loss})
            self.start += time.monotonic() - start  # It does not count as training time.

    def log_cost(self, args: object, state: object) -> None:
        """Add time, throughput and memory of the steps taken now to the log.

        Throughput counts tokens without padding, of all processes; memory is that of the process that had most. They
        vary from run to run and are not part of the results.
        """
        seconds, share = time.monotonic() - self.start, 1 - self.begin / state.max_steps
        throughput = self.tokens * args.num_train_epochs * share / seconds
        peak = max(gather_object([peak_memory()]))
        row = {"seconds": seconds, "tokens_per_second": throughput, "peak_memory_gb": peak}
        state.log_history.append({"step": state.global_step} | row)

    def on_train_end(self, args: object, state: object, control: object, **_: object) -> None:
        self.bar.close()


def summary(
    rows: list[dict], examples: Dataset, heldout: Dataset, settings: TrainingSettings, **more: Any
) -> dict[str, dict]:
    """Return the last row of training/<backbone>.jsonl: settings, counts, held-out loss before and after."""
    counts = {"examples": len(examples), "heldout_examples": len(heldout), "steps": rows[-1]["step"]}
    counts["reply_tokens"] = sum(examples["reply_tokens"]) - sum(examples["reply_cut"])
    if losses := [row["heldout_loss"] for row in rows if "heldout_loss" in row]:
        counts |= {"heldout_loss_before": losses[0], "heldout_loss_after": losses[-1]}
        counts |= {"perplexity_before": math.exp(losses[0]), "perplexity_after": math.exp(losses[-1])}
    return {"summary": more | counts | {"settings": settings.hyperparameters()}}


def losses(log: list[dict], heldout: Dataset) -> pd.DataFrame:
    """Return the held-out losses before and after training: per reply token, perplexity, per character, in nats.

    Tokens differ between backbones, characters do not: only the last column compares one backbone with another.
    """
    values = [row["heldout_loss"] for row in log if "heldout_loss" in row]
    table = heldout.select_columns(["reply_tokens", "reply_cut", "characters"]).to_pandas()
    tokens = table["reply_tokens"] - table["reply_cut"]
    characters = (table["characters"] * tokens / table["reply_tokens"]).sum()
    rows = [
        (when, value, math.exp(value), value * tokens.sum() / characters)
        for when, value in (("before", values[0]), ("after", values[-1]))
    ]
    return pd.DataFrame(rows, columns=["training", "loss per token", "perplexity", "loss per character"])


def curves(log: list[dict]) -> dict[str, pd.Series]:
    """Return the losses over steps, to draw: of the training examples, and held out."""
    names = {"training": "loss", "held out": "heldout_loss"}
    found = {name: {row["step"]: row[key] for row in log if key in row} for name, key in names.items()}
    return {name: pd.Series(values) for name, values in found.items() if values}
