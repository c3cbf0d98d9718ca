"""What a training's log says: its summary, the losses before and after, the curves."""

import math
from dataclasses import asdict

import pandas as pd

from cbtllm_utils.finetune.settings import Settings
from cbtllm_utils.models.prompt_forms import IGNORED


def summary(rows: list[dict], examples: list[dict], heldout: list[dict], settings: Settings, **more: object) -> dict:
    """The last row of a log, {"summary": …}: settings, items, steps, tokens, held-out loss before and after."""
    losses = [row["heldout_loss"] for row in rows if "heldout_loss" in row]
    counts = {"items": len(examples), "heldout_items": len(heldout), "steps": rows[-1]["step"]}
    counts["reply_tokens"] = sum(label != IGNORED for e in examples for label in e["labels"])
    if losses:
        counts |= {"heldout_loss_before": losses[0], "heldout_loss_after": losses[-1]}
        counts |= {"perplexity_before": math.exp(losses[0]), "perplexity_after": math.exp(losses[-1])}
    return {"summary": more | counts | {"settings": asdict(settings)}}


def ended(log: list[dict], every: int) -> str:
    """How a training ended, in words: its steps, and the last loss logged, where it was long enough for one."""
    logged = [row["loss"] for row in log if "loss" in row]
    last = f", over the last {every} logged {logged[-1]:.3f} nats a token" if logged else ""
    return f"{log[-1]['step']} steps{last}"


def losses(log: list[dict], heldout: list[dict]) -> pd.DataFrame:
    """Before and after training, on the held-out items: loss a reply token, perplexity, loss a character (nats).

    Tokens differ between backbones, characters do not: only the last column compares one backbone with another.
    """
    values = [row["heldout_loss"] for row in log if "heldout_loss" in row]
    kept = [e["reply_tokens"] - e["reply_cut"] for e in heldout]
    characters = sum(e["characters"] * k / e["reply_tokens"] for e, k in zip(heldout, kept, strict=True))
    lines = [
        (when, v, math.exp(v), v * sum(kept) / characters) for when, v in (("before", values[0]), ("after", values[-1]))
    ]
    return pd.DataFrame(lines, columns=["training", "loss a token", "perplexity", "loss a character"])


def curves(log: list[dict]) -> dict[str, pd.Series]:
    """The losses over steps, to draw: of the training items, and held out."""
    names = {"training": "loss", "held out": "heldout_loss"}
    found = {name: {row["step"]: row[key] for row in log if key in row} for name, key in names.items()}
    return {name: pd.Series(values) for name, values in found.items() if values}
