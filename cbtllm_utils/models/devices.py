"""The device of this machine, the precisions that it supports, and frozen weights in 4 bits."""

import gc
import importlib.util
import os
from collections.abc import Sequence

import torch
from transformers import BitsAndBytesConfig

from cbtllm_utils import files

BITS = {"fp32": 32, "fp16": 16, "bf16": 16}
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def best(cuda: bool, mps: bool) -> str:
    """Return the name of the device to compute on: an NVIDIA GPU, else Apple's, else the CPU."""
    return "cuda" if cuda else "mps" if mps else "cpu"


def device() -> torch.device:
    """Return the device to compute on here.

    Raises:
        InputError: For a GPU that this build of torch has no kernels for: it would fail at its first computation.
    """
    if wrong := gpu_problem():
        raise files.InputError(wrong)
    return torch.device(best(torch.cuda.is_available(), torch.backends.mps.is_available()))


def use_threads(number: int) -> None:
    """Set the number of CPU threads; 0 = one for each core that this process may use.

    The package starts with one: another number adds in another order, which changes the last digits.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()  # macOS has no first
    torch.set_num_threads(number or cores or 1)


def runs_on(capability: tuple[int, int], built_for: Sequence[str]) -> bool:
    """Return whether a build of torch runs on a GPU of this compute capability.

    Args:
        capability: (7, 0) is a V100.
        built_for: As `torch.cuda.get_arch_list()` names them: kernels of sm_80 run on 8.0, 8.6 and 8.9, those of
            sm_90a on 9.0 alone; compute_90 is compiled on the machine for 9.0 and all later ones.
    """
    for kind, _, number in (name.partition("_") for name in built_for):
        digits, exact = number.rstrip("af"), number.endswith("a")
        target = int(digits[:-1]), int(digits[-1])
        same_generation = target[0] == capability[0] and target <= capability
        if target == capability or (not exact and (same_generation if kind == "sm" else target <= capability)):
            return True
    return False


def no_kernels(gpu: str, capability: tuple[int, int], built_for: Sequence[str], version: str) -> str:
    """Return on one line what to do about a GPU that a build of torch does not support; "" if it does."""
    if runs_on(capability, built_for):
        return ""
    # Builds for CUDA 12.6 have kernels from 5.0 to 9.0; those for 12.8 and later begin at 7.5 (pytorch#172352).
    mend = "`make setup TORCH=cu126` installs a build that has them"
    if capability >= (7, 5):
        mend = "install a build that has them: https://pytorch.org/get-started/locally"
    own = f"sm_{capability[0]}{capability[1]}"
    return f"{gpu} ({own}): torch {version} has no kernels for it, only for {', '.join(built_for)}; {mend}, and CUDA_VISIBLE_DEVICES= computes on the CPU"


def gpu_problem() -> str:
    """Return on one line why torch cannot use this machine's GPU; "" if it can, or without a GPU."""
    if not torch.cuda.is_available() or torch.version.hip:  # AMD's names of kernels follow other rules
        return ""
    gpu, capability = torch.cuda.get_device_name(), torch.cuda.get_device_capability()
    return no_kernels(gpu, capability, torch.cuda.get_arch_list(), torch.__version__)


def precisions() -> tuple[str, ...]:
    """Return the precisions that this machine supports natively, best first; the paper's V100 lacks bf16."""
    if not torch.cuda.is_available():
        # fp16 on a CPU is slow, and its gradients underflow. Apple's GPUs have 16 bits, but training in them is young
        # and was not tried here; 32 bits of a model below a billion weights fit into 16 GB.
        return ("fp32", "bf16")
    return ("bf16", "fp16", "fp32") if torch.cuda.is_bf16_supported(including_emulation=False) else ("fp16", "fp32")


def precision(wanted: str) -> str:
    """Return the precision to use here: as wanted; for "auto" bf16 or fp16 on an NVIDIA GPU, else fp32.

    Raises:
        InputError: For a precision that this machine does not support.
    """
    here = precisions()
    if wanted in BITS and wanted not in here:
        needed = "an NVIDIA GPU" if wanted == "fp16" else "a GPU that supports it (2020 or later)"
        raise files.InputError(f"precision = {wanted} needs {needed}; use auto, {' or '.join(sorted(here))} here")
    return here[0] if wanted == "auto" else wanted


def free_memory() -> None:
    """Free the memory of unreferenced models, including the GPU's, for the next one."""
    gc.collect()
    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()


def check_quantization(kind: str | None) -> None:
    """Raise InputError when weights are to be kept in 4 bits and bitsandbytes is missing."""
    if kind and not importlib.util.find_spec("bitsandbytes"):
        raise files.InputError(
            f"quantization = {kind} needs bitsandbytes, which is not installed: "
            ".venv/bin/pip install -e '.[four-bit]' (or quantization = null)"
        )


def quantization(kind: str | None, dtype: torch.dtype) -> dict:
    """Return what `load_model` takes to keep weights in 4 bits (QLoRA, arXiv 2305.14314); empty for None.

    Every linear layer but the last is rounded as it is read, and computes in `dtype`.
    """
    check_quantization(kind)
    if kind is None:
        return {}
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=kind,
        bnb_4bit_use_double_quant=True,  # 8-bit scales for each 64 weights: 4.13 instead of 4.5 bits per weight
        bnb_4bit_compute_dtype=dtype,
    )
    return {"quantization_config": config}


def differentiable(model: torch.nn.Module) -> torch.nn.Module:
    """Keep 4-bit layers from being repacked for inference when the model is evaluated on a CPU; return the model.

    bitsandbytes does that permanently on a CPU with AVX512-BF16, and no gradient flows through a repacked layer.
    """
    for layer in model.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False
    return model
