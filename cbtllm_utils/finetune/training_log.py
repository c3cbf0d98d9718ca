"""What the log of a training says: its summary, losses before and after, loss curves."""

import math
from typing import Any

import pandas as pd
from datasets import Dataset

from cbtllm_utils.finetune import examples as tokenized
from cbtllm_utils.finetune.settings import TrainingSettings


def summary(
    rows: list[dict], examples: Dataset, heldout: Dataset, settings: TrainingSettings, **more: Any
) -> dict[str, dict]:
    """Return the last row of a log, {"summary": …}: settings, counts, held-out loss before and after."""
    counts = {"examples": len(examples), "heldout_examples": len(heldout), "steps": rows[-1]["step"]}
    counts["reply_tokens"] = tokenized.reply_tokens(examples)
    if losses := [row["heldout_loss"] for row in rows if "heldout_loss" in row]:
        counts |= {"heldout_loss_before": losses[0], "heldout_loss_after": losses[-1]}
        counts |= {"perplexity_before": math.exp(losses[0]), "perplexity_after": math.exp(losses[-1])}
    return {"summary": more | counts | {"settings": settings.hyperparameters()}}


def ended(log: list[dict], every: int) -> str:
    """Return how a training ended, in words: its steps, and the last loss logged if it was long enough for one."""
    logged = [row["loss"] for row in log if "loss" in row]
    last = f", mean loss of the last {every} logged steps {logged[-1]:.3f} nats per token" if logged else ""
    return f"{log[-1]['step']} steps{last}"


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
