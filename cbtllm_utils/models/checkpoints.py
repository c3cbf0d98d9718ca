"""Tensors of a published checkpoint, as its files hold them, and the deltas that are added to them."""

import pickle
import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from cbtllm_utils import files

Tensors = dict[str, torch.Tensor]
UNREADABLE = (SafetensorError, RuntimeError, pickle.UnpicklingError, EOFError, OSError)
UNSUPPORTED = ("fan_in_fan_out", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern")  # none in 2023's deltas


def read_tensors(directory: str | Path, stem: str = "model") -> Tensors:
    """Every tensor of a checkpoint (stem `model`) or an adapter (`adapter_model`) by name, memory-mapped.

    Safetensors are preferred; pickles are read with weights_only, so that no code of theirs runs. Rotary frequencies,
    which early files carry, are left out: they follow from the configuration. InputError when nothing can be read.
    """
    folder, tensors = files.path(directory), {}
    safe = sorted(folder.glob(f"{stem}*.safetensors"))
    pickled = sorted(folder.glob(f"{'pytorch_' if stem == 'model' else ''}{stem}*.bin"))
    if not safe and not pickled:
        raise files.InputError(f"{files.shown(folder)}: no {stem}*.safetensors and no *{stem}*.bin; is it the folder?")
    for file in safe or pickled:
        try:
            tensors |= read_safetensors(file) if safe else read_pickle(file)
        except UNREADABLE as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise files.InputError(
                f"{files.shown(file)}: cannot be read ({reason}); fetch it again, and not as a Git-LFS pointer"
            ) from None
    return {name: tensor for name, tensor in tensors.items() if not name.endswith("rotary_emb.inv_freq")}


def read_safetensors(file: Path) -> Tensors:
    """The tensors of one safetensors file."""
    with safe_open(file, framework="pt") as content:
        return {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 (it is no dict)


def read_pickle(file: Path) -> Tensors:
    """The tensors of one PyTorch pickle; only the zip format of torch ≥ 1.6 can be mapped into memory."""
    content = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    if not isinstance(content, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in content.values()):
        raise RuntimeError("no dictionary of tensors")
    return content


@dataclass(frozen=True)
class Later:
    """A tensor that is made whenever it is read, one at a time; `[...]` and slices as of safetensors' own."""

    shape: torch.Size
    dtype: torch.dtype
    make: Callable[[], torch.Tensor]
    alone: threading.Lock

    def get_shape(self) -> torch.Size:
        """The shape, as transformers asks for it."""
        return self.shape

    def __getitem__(self, where: object) -> torch.Tensor:
        with self.alone:
            whole = self.make()
            part = whole[where]
            return part if part.numel() == whole.numel() else part.clone()  # a view would keep the whole


def added(base: torch.Tensor | Later, a: torch.Tensor, b: torch.Tensor, scale: float) -> torch.Tensor:
    """A tensor and what a LoRA pair adds to it."""
    return base[...].clone().add_((b.float() @ a.float()).mul_(scale))


def merge_delta(tensors: dict[str, torch.Tensor | Later], directory: str | Path) -> dict[str, torch.Tensor | Later]:
    """The tensors after a published delta of Chinese-LLaMA / Chinese-Alpaca has been merged into them.

    A LoRA pair adds B·A·alpha/r, in the base's own half precision as the authors' merge script does
    (ymcui/Chinese-LLaMA-Alpaca, scripts/merge_llama_with_chinese_lora.py); a whole tensor (embeddings and lm_head for
    the larger vocabulary) replaces the base's. InputError when a tensor of the delta finds no partner.

    What changes is computed when it is read: no second copy of the model is ever held, and who reads a part keeps that.
    """
    where = files.shown(directory)
    scale = lora_scale(files.read_json(files.path(directory) / "adapter_config.json"), where)
    delta = {n.removeprefix("base_model.model."): t for n, t in read_tensors(directory, "adapter_model").items()}
    merged, alone = dict(tensors), threading.Lock()
    for name, base in tensors.items():
        stem = name.removesuffix(".weight")
        pair = [f"{stem}.lora_A.weight", f"{stem}.lora_B.weight"]
        if name in delta:
            own = delta.pop(name)
            if own.shape[1:] != base.shape[1:]:
                raise files.InputError(f"{where}: {name} is {shape(own)} where the base holds {shape(base)}")
            merged[name] = Later(own.shape, base.dtype, partial(own.to, base.dtype), alone)
        elif all(part in delta for part in pair):
            a, b = (delta.pop(part) for part in pair)
            if a.shape[0] != b.shape[1] or (b.shape[0], a.shape[1]) != tuple(base.shape):
                raise files.InputError(f"{where}: {stem}: {shape(b)} · {shape(a)} does not add to {shape(base)}")
            merged[name] = Later(base.shape, base.dtype, partial(added, base, a, b, scale), alone)
    if delta:
        raise files.InputError(
            f"{where}: {some(delta)} matches nothing in the base model; is it the delta of this base?"
        )
    return merged


def words(deltas: tuple | list) -> int | None:
    """How many tokens a model knows after these deltas; None when they leave the base's."""
    for directory in reversed(deltas):
        tensors = read_tensors(directory, "adapter_model")
        if found := [t for name, t in tensors.items() if name.endswith("model.embed_tokens.weight")]:
            return len(found[0])
    return None


def lora_scale(config: dict, where: str) -> float:
    """alpha / r of an adapter's configuration; InputError when merging it would need more than that."""
    if not isinstance(config, dict):
        raise files.InputError(f"{where}/adapter_config.json: a {type(config).__name__}, expected an object")
    if unknown := [key for key in UNSUPPORTED if config.get(key)]:
        raise files.InputError(f"{where}/adapter_config.json: {unknown[0]} is set; only plain LoRA is merged here")
    try:
        return config["lora_alpha"] / config["r"]
    except (KeyError, TypeError, ZeroDivisionError):
        raise files.InputError(f"{where}/adapter_config.json: needs the numbers lora_alpha and r") from None


def fit(tensors: dict[str, torch.Tensor | Later], expected: Tensors, where: str) -> None:
    """Nothing, when the tensors are those that a model expects, by name and shape; else InputError that names one."""
    unexpected = [name for name in tensors if name not in expected]
    if missing := [name for name in expected if name not in tensors]:
        instead = f"there is {some(unexpected)} instead" if unexpected else "is a file of the checkpoint missing?"
        raise files.InputError(f"{where}: {some(missing)} is missing; {instead}")
    if unexpected:
        raise files.InputError(f"{where}: {some(unexpected)} is not expected; this is another model or a quantised one")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise files.InputError(
                f"{where}: {name} is {shape(tensor)} where config.json implies {shape(expected[name])}"
            )


def shape(tensor: torch.Tensor | Later) -> str:
    """A tensor's shape as text, 4096×128."""
    return "×".join(map(str, tensor.shape))


def some(names: object) -> str:
    """The first name by alphabet and how many more there are."""
    first, *rest = sorted(names)
    return f"{first} (and {len(rest)} more)" if rest else first
