"""The systems of one backbone: as it came, asked with the full CBT prompt, and tuned; and what they are called."""

import re
from collections.abc import Collection, Sequence

from cbtllm_utils import published

UNTUNED, PROMPTED, TUNED = "untuned", "prompted", "tuned"
KINDS = (UNTUNED, PROMPTED, TUNED)


def system(backbone: str, kind: str) -> str:
    """Return a system's name in files of answers: the tuned one has the backbone's own, others end in their kind."""
    return backbone if kind == TUNED else f"{backbone}-{kind}"


def split(name: str) -> tuple[str, str]:
    """Return (backbone, kind) of a system's name."""
    backbone, _, kind = name.rpartition("-")
    return (backbone, kind) if backbone and kind in (UNTUNED, PROMPTED) else (name, TUNED)


def replicate_of(name: str) -> str:
    """Return a name without its seed: "qwen3-0.6b-seed43" is a replicate of "qwen3-0.6b"; others are their own.

    The name is a backbone's or a system's: "qwen3-0.6b-seed43-untuned" is a replicate of "qwen3-0.6b-untuned".
    """
    backbone, kind = split(name)
    return system(re.sub(published.SEED, "", backbone), kind)


def label(name: str) -> str:
    """Return a system's name in the files of scores: "qwen-7b", "qwen-7b untuned", "qwen-7b prompted"."""
    backbone, kind = split(name)
    return backbone if kind == TUNED else f"{backbone} {kind}"


def title(name: str) -> str:
    """Return how tables and figures call a system: "Qwen-7B, tuned", "Qwen-7B, untuned", "Qwen-7B, prompted".

    Args:
        name: As answers or scores name it. One with other words is a baseline and is returned as it is.
    """
    backbone, kind = split(re.sub(rf" ({UNTUNED}|{PROMPTED})$", r"-\1", name))
    return name if " " in backbone else f"{published.backbone_title(backbone)}, {kind}"


def to_rate(backbones: Sequence[str], answered: Collection[str]) -> list[str]:
    """Return whom people rate by default: each backbone tuned; of a single backbone every system that answered.

    Replicates of a backbone are not rated: raters cannot read everything three times.
    """
    names = [name for name in backbones if name == replicate_of(name)] or list(backbones)
    if len(names) > 1:
        return names
    return [found for kind in KINDS if (found := system(names[0], kind)) in answered] or names
