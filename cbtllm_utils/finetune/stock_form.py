"""The adapter of a fused layer under the names of the built-in classes, whose q, k and v are separate layers."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from cbtllm_utils import files

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def split(tensors: dict[str, torch.Tensor], fused: str) -> dict[str, torch.Tensor]:
    """Return the adapter's tensors for q, k and v: each has the fused layer's A, and its third of the rows of B.

    B·A stays the same to the last bit; A is stored three times.
    """
    found = {}
    for name, tensor in tensors.items():
        if f".{fused}." not in name:
            found[name] = tensor
            continue
        thirds = tensor.chunk(3) if ".lora_B." in name else [tensor] * 3
        for letter, third in zip("qkv", thirds, strict=True):
            found[name.replace(f".{fused}.", f".{letter}_proj.")] = third.clone()
    return found


def write(folder: Path, fused: str) -> None:
    """Write an adapter's stock form to its subfolder `stock`, which plain peft loads.

    Args:
        folder: An adapter's, of a model whose layer `fused` computes q, k and v together.
    """
    config = files.read_json(folder / CONFIG)
    targets = []  # names of layers, some with their place in the model
    for target in config["target_modules"]:
        place, _, layer = target.rpartition(".")
        prefix = f"{place}." if place else ""
        targets += [f"{prefix}{letter}_proj" for letter in "qkv"] if layer == fused else [target]
    (folder / "stock").mkdir()
    save_file(split(load_file(folder / WEIGHTS), fused), folder / "stock" / WEIGHTS, {"format": "pt"})
    files.write_json(folder / "stock" / CONFIG, config | {"target_modules": sorted(targets)})
