"""An estimate, by arithmetic, of the memory that a training needs, made before the weights are read.

It warns and never stops a run. Measured on a CPU, as the peak of all live tensors of a step, it is off by up to 8 %
over targets, dropout, precisions and recomputation; a GPU may differ more (tests/finetune/test_memory.py).
"""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import psutil
import torch

from cbtllm_utils.finetune.settings import TrainingSettings
from cbtllm_utils.models.devices import BITS

# A weight in bitsandbytes' nf4: 4 bits, for each block of 64 weights a constant of 8 bits, and for each 256 of these
# one of 32 (double quantization): 0.5 + 1 / 64 + 4 / (64 × 256) = 0.5159 bytes. Other weights keep their precision.
NF4 = 0.5159
OFF = 0.15  # by how much of itself the estimate may be off
CUDA = 1.0  # GB on a GPU for CUDA itself and what the allocator cannot use
MASK = {"cuda": 1, "cpu": 4}  # bytes for each value that dropout lets through or not


@dataclass(frozen=True)
class Size:
    """What decides a model's memory, as numbers of weights, layers, units and tokens."""

    weights: int
    trained: int  # weights of the adapter, and of layers trained whole beside it
    layers: int
    hidden: int
    inner: int
    vocabulary: int
    adapted: int = 0  # inputs of all layers with an adapter, for one token
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
    adapted = sum(layer.in_features for layer in model.modules() if hasattr(layer, "lora_A"))
    return Size(linear + others, trained, c.num_hidden_layers, c.hidden_size, inner, c.vocab_size, adapted, linear)


def estimate(
    model: Size, settings: TrainingSettings, tokens: int, replies: int | None = None, device: str = "cuda"
) -> pd.DataFrame:
    """Return the memory of one process: columns what, arithmetic, GB; the last row is the sum.

    Args:
        tokens: Tokens of the longest example.
        replies: Tokens of the longest reply, for which alone logits are computed; by default `tokens`.
        device: "cuda" or "cpu".
    """
    width = BITS[settings.precision] // 8
    rows = settings.batch * min(tokens, settings.cutoff)
    kept, layer = activations(model, settings, rows, MASK[device])
    predicted = settings.batch * min(tokens if replies is None else replies, settings.cutoff)
    steps = {  # whichever is larger: the other's memory is free again
        "logits and their gradient": (
            f"{predicted:,} tokens × {model.vocabulary:,} × ({width} + 3 × 4) bytes",
            predicted * model.vocabulary * (width + 12),
        ),
        "backward pass of one layer": (
            f"{layer:,} + {rows:,} tokens × 4 × {model.inner:,} × 4 bytes",
            layer + rows * 16 * model.inner,
        ),
    }
    largest = max(steps, key=lambda name: steps[name][1])
    copies = 0 if width == 4 else width  # autocast's
    lines = [
        ("frozen weights", *frozen(model, settings)),
        (
            "trained weights, gradient, Adam's two moments",
            f"{model.trained:,} × (4 × 4 + {copies}) bytes",
            model.trained * (16 + copies),
        ),
        ("activations", *kept),
        (largest, *steps[largest]),
    ]
    lines.append((f"sum, ± {OFF:.0%}", "", sum(line[2] for line in lines)))
    table = [(what, arithmetic, number / 1e9) for what, arithmetic, number in lines]
    return pd.DataFrame(table, columns=["what", "arithmetic", "GB"])


def frozen(model: Size, settings: TrainingSettings) -> tuple[str, float]:
    """Return the memory of the frozen weights: arithmetic and bytes."""
    width = BITS[settings.precision] // 8
    if settings.quantization is None:
        return f"{model.weights:,} × {width} bytes", model.weights * width
    rest = model.weights - model.linear
    return f"{model.linear:,} × {NF4} + {rest:,} × {width} bytes", model.linear * NF4 + rest * width


def activations(model: Size, settings: TrainingSettings, rows: int, mask: int) -> tuple[tuple[str, int], int]:
    """Return what is kept for the backward pass (arithmetic and bytes), and the bytes of one layer in full.

    A layer of frozen weights keeps both inputs of its norms in 32 bits; q, k, v and what attention returns; the gate,
    its activation and "up". Each adapter keeps its input: autocast makes a copy of its own for each, in 32 bits q, k
    and v share one unless dropout has changed it. Dropout keeps what it let through.
    """
    width = BITS[settings.precision] // 8
    plain = 2 * 4 * model.hidden + width * (4 * model.hidden + 3 * model.inner)
    inputs = model.adapted // model.layers * width
    if settings.dropout:
        inputs += model.adapted // model.layers * mask
    elif width == 4:
        inputs //= 2
    layer = rows * (plain + inputs)
    if settings.gradient_checkpointing:  # one hidden state per layer; a layer in full is made again when it is needed
        text = f"{model.layers} × {rows:,} tokens × {model.hidden:,} values × {width} bytes"
        return (text, model.layers * rows * model.hidden * width), layer
    return (f"{model.layers} × {rows:,} tokens × ({plain:,} + {inputs:,}) bytes", model.layers * layer), 0


class Device(NamedTuple):
    """A GPU, of which each of several processes has one, or this machine's main memory."""

    memory: float  # GB
    free: float  # GB, including what this process already holds
    kind: str = "cuda"


def device() -> Device:
    """Return what trains: the GPU, or without one this machine's main memory."""
    if not torch.cuda.is_available():
        return host()
    (free, memory), held = torch.cuda.mem_get_info(), torch.cuda.memory_reserved()
    return Device(memory / 1e9, (free + held) / 1e9)


def host(root: Path = Path("/"), environment: Mapping[str, str] = os.environ) -> Device:
    """Return the main memory that this process may use: of the machine, its control groups (containers) and its job."""
    machine, held = psutil.virtual_memory(), psutil.Process().memory_info().rss
    limits = [(machine.total, machine.available)]
    for more in (control_groups(root), slurm(environment)):
        with contextlib.suppress(OSError, ValueError):  # A limit that cannot be read stops nothing.
            limits += more
    memory, free = (min(column) for column in zip(*limits, strict=True))
    return Device(memory / 1e9, min(memory, free + held) / 1e9, "cpu")


def control_groups(root: Path) -> Iterator[tuple[int, int]]:
    """Yield (limit, what is free of it) of each control group that holds this process (cgroups(7), versions 1 and 2).

    A container may see the host's path in /proc/self/cgroup and its own group at the top: all folders between count.
    Files that are cached and not in use make room for others.
    """
    own = root / "proc/self/cgroup"
    versions = {"": ("memory.max", "memory.current", "inactive_file")}
    versions["memory"] = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    for line in own.read_text().splitlines() if own.exists() else ():
        _, controller, place = line.split(":", 2)
        if controller in versions:
            top, (limit, used, cached) = root / "sys/fs/cgroup" / controller, versions[controller]
            folder = top / place.strip("/")
            for group in (folder, *(above for above in folder.parents if above.is_relative_to(top))):
                text = (group / limit).read_text().strip() if (group / limit).is_file() else "max"
                if text != "max":
                    stat = dict(entry.split() for entry in (group / "memory.stat").read_text().splitlines())
                    free = int(text) - int((group / used).read_text()) + int(stat.get(cached, 0))
                    yield int(text), max(free, 0)


def slurm(environment: Mapping[str, str]) -> Iterator[tuple[int, int]]:
    """Yield the limit of a Slurm job on this machine, in its environment in MiB: of a node, or for each CPU or GPU.

    The first that is there counts; 0 is all of the machine.
    """
    for one, number in (("NODE", ""), ("CPU", "SLURM_CPUS_ON_NODE"), ("GPU", "SLURM_GPUS_ON_NODE")):
        if wanted := int(environment.get(f"SLURM_MEM_PER_{one}", 0)):
            limit = wanted * int(environment.get(number, 1)) << 20
            yield limit, limit
            return


def warning(
    model: Size, settings: TrainingSettings, tokens: int, on: Device, main: Device, replies: int | None = None
) -> str:
    """Return a warning where the estimate, at its most, does not fit, else "".

    Args:
        on: What trains.
        main: Main memory, through which the weights come to a GPU.
    """
    needed = estimate(model, settings, tokens, replies, on.kind)["GB"].iloc[-1]
    least, most = needed * (1 - OFF), needed * (1 + OFF) + CUDA * (on.kind == "cuda")
    said = ""
    if most > on.free:
        said = (
            f"warning: this training needs about {needed:.1f} GB of memory (between {least:.1f} and {most:.1f}), and "
            f"{on.free:.1f} of {on.memory:.1f} GB are free. It needs less with gradient_checkpointing = true, a smaller "
            "batch (and more accumulation), quantization = nf4, or a smaller cutoff\n"
        )
    weights = model.weights * BITS[settings.precision] / 8e9
    if on.kind == "cuda" and weights > main.free:
        said += (
            f"warning: the weights, {weights:.1f} GB, are read through main memory, of which {main.free:.1f} GB are free "
            "here (the limits of a container or job count); ask for more\n"
        )
    return said
