"""What a training will need, told before it starts: its memory by arithmetic, what would make it fit, and its pace."""

import itertools
import re
import time
from dataclasses import asdict, dataclass
from types import SimpleNamespace

import pandas as pd
import psutil
import torch

from cbtllm_utils import files
from cbtllm_utils.finetune.settings import Settings
from cbtllm_utils.finetune.trainer import collate
from cbtllm_utils.models import devices
from cbtllm_utils.models.devices import BITS, DTYPES

# A weight in bitsandbytes' nf4: 4 bits, for each block of 64 weights a constant of 8 bits, and for each 256 of these
# one of 32 (double quantisation): 0.5 + 1 / 64 + 4 / (64 × 256) = 0.5159 bytes. The rest keeps its precision.
NF4 = 0.5159


@dataclass(frozen=True)
class Size:
    """What of a model decides on the memory that it takes: numbers of weights, layers, units and tokens known."""

    weights: int
    trained: int  # weights of the adapter, and those trained whole beside it
    layers: int
    hidden: int
    inner: int
    vocabulary: int
    linear: int = 0  # those of the weights that 4 bits can hold: linear layers but for the one before the logits


def size(model: torch.nn.Module) -> Size:
    """The size of a model with an adapter, or of one without (trained: 0); weights need not be there (meta device)."""
    own = re.compile(r"lora_|modules_to_save")  # what training adds
    head = model.get_output_embeddings()
    head = getattr(head, "original_module", head)
    modules = [layer for name, layer in model.named_modules() if not own.search(name) and layer is not head]
    layers = [layer for layer in modules if isinstance(layer, torch.nn.Linear)]
    linear = sum(layer.in_features * layer.out_features for layer in layers)  # 4 bits are packed: numel would be half
    seen = {id(layer.weight) for layer in layers}
    trained = sum(p.numel() for name, p in model.named_parameters() if own.search(name))
    others = sum(p.numel() for name, p in model.named_parameters() if not own.search(name) and id(p) not in seen)
    c = model.config.get_text_config()
    inner = getattr(c, "intermediate_size", None) or 4 * c.hidden_size
    return Size(linear + others, trained, c.num_hidden_layers, c.hidden_size, inner, c.vocab_size, linear)


def memory(model: Size, settings: Settings, tokens: int) -> pd.DataFrame:
    """An estimate by arithmetic of a training's memory: columns part, arithmetic, GB; the last row is the sum.

    `tokens`: the longest example. Leaves out what attention needs beyond its flash form, fragmentation and the
    framework itself (about 1 GB on a GPU): a lower bound, meant to tell what fits from what cannot.
    """
    width = BITS[settings.precision] // 8
    rows, t = settings.batch * min(tokens, settings.cutoff), "tokens"
    frozen, held = whole(model, settings)
    layer = 8 * model.hidden + 3 * model.inner  # inputs kept for the backward pass: norms, q, k, v, o, gate, up, down
    kept = f"{model.layers} × {rows:,} {t} × {layer:,} values × {width}"
    activations = model.layers * rows * layer * width
    if settings.gradient_checkpointing:  # one hidden state a layer, and one layer at a time in full
        kept = f"{rows:,} {t} × ({model.layers} × {model.hidden:,} + {layer:,}) values × {width}"
        activations = rows * (model.layers * model.hidden + layer) * width
    if settings.sharded:  # each process holds its share of the frozen weights, and the layer that is computed
        one = model.linear * width / model.layers
        frozen, held = f"({frozen}) / {settings.processes} + a layer's", held / settings.processes + one
    logits = f"{rows:,} {t} × {model.vocabulary:,} × ({width} + 4 + 4)"  # as computed, in fp32, their gradient
    parts = [
        ("frozen weights", frozen, held),
        ("trained weights, gradient, Adam's two moments", f"{model.trained:,} × 4 × 4 bytes", model.trained * 16),
        ("activations", kept, activations),
        ("logits, at most", logits, rows * model.vocabulary * (width + 8)),
    ]
    total = sum(part[2] for part in parts)
    return pd.DataFrame(
        [(name, text, value / 1e9) for name, text, value in (*parts, ("sum", "", total))],
        columns=["part", "arithmetic", "GB"],
    )


def whole(model: Size, settings: Settings) -> tuple[str, float]:
    """The frozen weights of a process that shares them with none: the arithmetic, and bytes."""
    width = BITS[settings.precision] // 8
    if not settings.quantization:
        return f"{model.weights:,} × {width} bytes", model.weights * width
    rest = model.weights - model.linear
    return f"{model.linear:,} × {NF4} + {rest:,} × {width} bytes", model.linear * NF4 + rest * width


@dataclass(frozen=True)
class Device:
    """What a training runs on: a GPU, as each of several processes has one, or the machine that they all share."""

    memory: float  # GB
    room: float  # GB of these that can be had
    precisions: tuple[str, ...]  # that it computes in
    shared: bool  # by all processes


def here() -> Device:
    """This machine's device; what the process that asks holds already counts as room."""
    if gpu := torch.cuda.is_available():
        (free, memory), held = torch.cuda.mem_get_info(), torch.cuda.memory_reserved()
    else:
        free, memory = psutil.virtual_memory().available, psutil.virtual_memory().total
        held = psutil.Process().memory_info().rss
    return Device(memory / 1e9, (free + held) / 1e9, devices.precisions(), not gpu)


def total(model: Size, settings: Settings, tokens: int, shared: bool = False) -> float:
    """What a training needs of its device, in GB: the sum of `memory`, times the processes where these share the
    device, and then also the weights of the notebook that starts them, which reads none when they are shared out."""
    each = float(memory(model, settings, tokens)["GB"].iloc[-1])
    if not shared or settings.processes == 1:
        return each
    return settings.processes * each + (0.0 if settings.sharded else whole(model, settings)[1] / 1e9)


def savings(settings: Settings, tokens: int, precisions: tuple[str, ...]) -> list[list[dict]]:
    """What may be changed to save memory: for each means its values, the mildest first, as changes of settings.

    A smaller batch is made up for by more accumulation: the items of a step, and with them the training, stay the same.
    """
    items = settings.batch * settings.accumulation
    smaller = [batch for batch in range(settings.batch - 1, 0, -1) if items % batch == 0]
    half = [name for name in ("bf16", "fp16") if name in precisions][:1]
    means = [
        [{"gradient_checkpointing": True}] if not settings.gradient_checkpointing else [],
        [{"batch": batch, "accumulation": items // batch} for batch in smaller],
        [{"precision": name} for name in half if BITS[settings.precision] == 32],
        [{"quantization": "nf4"}] if not settings.quantization and not settings.sharded else [],
        [{"cutoff": cutoff} for cutoff in (768, 512, 384) if cutoff < min(tokens, settings.cutoff)],
    ]
    return [values for values in means if values]


def remedies(model: Size, settings: Settings, tokens: int, device: Device) -> pd.DataFrame:
    """The fewest and mildest changes of settings that bring the estimate within the device's room: columns change, GB.

    One row a set of changes that suffices; where one change does, sets of two are left out. Empty where none suffices.
    """
    means, found = savings(settings, tokens, device.precisions), []
    for number in range(1, len(means) + 1):
        for chosen in itertools.combinations(means, number):
            for values in itertools.product(*chosen):
                change = {key: value for part in values for key, value in part.items()}
                needed = total(model, SimpleNamespace(**asdict(settings) | change), tokens, device.shared)
                if needed <= device.room:
                    text = ", ".join(f"{key} = {str(value).lower()}" for key, value in change.items())
                    found.append((text, needed))
                    break
        if found:
            break
    return pd.DataFrame(found, columns=["change", "GB"])


def check(model: Size, settings: Settings, tokens: int, device: Device) -> None:
    """Nothing, when the estimate is within the device's room; else InputError with what would make the training fit."""
    if (needed := total(model, settings, tokens, device.shared)) <= device.room:
        return
    ways = remedies(model, settings, tokens, device)
    advice = "; or ".join(f"{change} ({gb:.1f} GB)" for change, gb in ways.itertuples(index=False))
    several = f" for {settings.processes} processes" if device.shared and settings.processes > 1 else ""
    raise files.InputError(
        f"this training needs at least {needed:.1f} GB of memory{several}, and {device.room:.1f} of the device's "
        f"{device.memory:.1f} GB can be had. It would fit with {advice}"
        if advice
        else f"this training needs at least {needed:.1f} GB of memory{several} where {device.room:.1f} GB can be had, "
        "and neither gradient_checkpointing, a batch of 1, 4 bits nor a shorter cutoff changes that: take a smaller "
        "model or a larger device"
    )


def pace(model: torch.nn.Module, examples: list[dict], settings: Settings) -> float:
    """Examples a second to expect of the training on one device: a batch of middling length, forward and back, timed.

    The second time counts: the first touches memory and picks kernels. What a step does besides (clipping, the
    optimizer, the log) and padding are left out: a small model's training took 1.2 times as long. No gradient is kept,
    and no random number is used up.
    """
    ordered = sorted(examples, key=lambda example: len(example["input_ids"]))
    middle = max((len(ordered) - settings.batch) // 2, 0)
    batch = collate(ordered[middle : middle + settings.batch])
    where, learnt = next(model.parameters()).device, [p for p in model.parameters() if p.requires_grad]
    inputs = {name: batch[name].to(where) for name in ("input_ids", "labels")}
    with torch.random.fork_rng(), torch.autocast(where.type, DTYPES[settings.precision], BITS[settings.precision] < 32):
        model.train()
        if settings.gradient_checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False})
        for _ in range(2):
            begin = time.perf_counter()
            loss = model(**inputs, logits_to_keep=batch["logits_to_keep"]).loss
            float(torch.autograd.grad(loss, learnt)[0].sum())  # a GPU works on unless a number is waited for
            seconds = time.perf_counter() - begin
        if settings.gradient_checkpointing:
            model.activation_checkpointing_disable()
        model.eval()
    return len(inputs["input_ids"]) / seconds
