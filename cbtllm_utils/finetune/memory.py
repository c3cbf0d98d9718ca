"""An estimate, by arithmetic, of the memory that a training needs, made before the weights are read."""

import re
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd
import psutil
import torch

from cbtllm_utils.finetune.settings import TrainingSettings
from cbtllm_utils.models.devices import BITS

# A weight in bitsandbytes' nf4: 4 bits, for each block of 64 weights a constant of 8 bits, and for each 256 of these
# one of 32 (double quantization): 0.5 + 1 / 64 + 4 / (64 × 256) = 0.5159 bytes. Other weights keep their precision.
NF4 = 0.5159


@dataclass(frozen=True)
class Size:
    """What decides on a model's memory, as numbers of weights, layers, units and tokens."""

    weights: int
    trained: int  # weights of the adapter, and of layers trained whole beside it
    layers: int
    hidden: int
    inner: int
    vocabulary: int
    linear: int = 0  # those of `weights` that 4 bits can hold: linear layers but for the one before the logits


def size(model: torch.nn.Module) -> Size:
    """Return the size of a model with an adapter, or of one without (trained: 0); it may be on the meta device."""
    added = re.compile(r"lora_|modules_to_save")
    head = model.get_output_embeddings()
    head = getattr(head, "original_module", head)
    modules = [layer for name, layer in model.named_modules() if not added.search(name) and layer is not head]
    layers = [layer for layer in modules if isinstance(layer, torch.nn.Linear)]
    linear = sum(layer.in_features * layer.out_features for layer in layers)  # numel of packed 4 bits would be half
    counted = {id(layer.weight) for layer in layers}
    trained = sum(p.numel() for name, p in model.named_parameters() if added.search(name))
    others = sum(p.numel() for name, p in model.named_parameters() if not added.search(name) and id(p) not in counted)
    c = model.config.get_text_config()
    inner = getattr(c, "intermediate_size", None) or 4 * c.hidden_size
    return Size(linear + others, trained, c.num_hidden_layers, c.hidden_size, inner, c.vocab_size, linear)


def estimate(model: Size, settings: TrainingSettings, tokens: int) -> pd.DataFrame:
    """Return the memory of one process: columns what, arithmetic, GB; the last row is the sum.

    A lower bound: it leaves out what attention needs beyond its flash form, fragmentation and the framework itself
    (about 1 GB on a GPU).

    Args:
        tokens: Tokens of the longest example.
    """
    width = BITS[settings.precision] // 8
    frozen = f"{model.weights:,} × {width} bytes", model.weights * width
    if settings.quantization:
        rest = model.weights - model.linear
        text = f"{model.linear:,} × {NF4} + {rest:,} × {width} bytes"
        frozen = text, model.linear * NF4 + rest * width
    rows = settings.batch * min(tokens, settings.cutoff)
    layer = 8 * model.hidden + 3 * model.inner  # inputs kept for the backward pass: norms, q, k, v, o, gate, up, down
    activations = f"{model.layers} × {rows:,} tokens × {layer:,} values × {width}", model.layers * rows * layer * width
    if settings.gradient_checkpointing:  # one hidden state per layer, and one layer at a time in full
        text = f"{rows:,} tokens × ({model.layers} × {model.hidden:,} + {layer:,}) values × {width}"
        activations = text, rows * (model.layers * model.hidden + layer) * width
    logits = f"{rows:,} tokens × {model.vocabulary:,} × ({width} + 4 + 4)"  # as computed, in fp32, their gradient
    lines = [
        ("frozen weights", *frozen),
        ("trained weights, gradient, Adam's two moments", f"{model.trained:,} × 4 × 4 bytes", model.trained * 16),
        ("activations", *activations),
        ("logits, at most", logits, rows * model.vocabulary * (width + 8)),
    ]
    lines.append(("sum", "", sum(line[2] for line in lines)))
    table = [(what, arithmetic, number / 1e9) for what, arithmetic, number in lines]
    return pd.DataFrame(table, columns=["what", "arithmetic", "GB"])


class Device(NamedTuple):
    """A GPU, of which each of several processes has one, or this machine."""

    memory: float  # GB
    free: float  # GB, including what this process already holds


def device() -> Device:
    if torch.cuda.is_available():
        (free, memory), held = torch.cuda.mem_get_info(), torch.cuda.memory_reserved()
    else:
        free, memory = psutil.virtual_memory().available, psutil.virtual_memory().total
        held = psutil.Process().memory_info().rss
    return Device(memory / 1e9, (free + held) / 1e9)


def warning(model: Size, settings: TrainingSettings, tokens: int, on: Device) -> str:
    """Return a warning that names the estimate where the device has less, else ""."""
    needed = estimate(model, settings, tokens)["GB"].iloc[-1]
    if needed <= on.free:
        return ""
    return (
        f"warning: this training needs at least {needed:.1f} GB of memory, and {on.free:.1f} of {on.memory:.1f} GB are "
        "free. It needs less with gradient_checkpointing = true, a smaller batch (and more accumulation), "
        "quantization = nf4, or a smaller cutoff"
    )
