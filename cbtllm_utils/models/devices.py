"""What this machine computes on and in: the device, the precisions, frozen weights in 4 bits."""

import importlib.util

import torch
from transformers import BitsAndBytesConfig

from cbtllm_utils import files

BITS = {"fp32": 32, "fp16": 16, "bf16": 16}
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def device() -> torch.device:
    """Return the GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def precisions() -> tuple[str, ...]:
    """Return the precisions that this machine computes in natively, the best first; the paper's V100 has no bf16."""
    if not torch.cuda.is_available():
        return ("fp32", "bf16")  # fp16 on a CPU is slow, and its gradients underflow.
    return ("bf16", "fp16", "fp32") if torch.cuda.is_bf16_supported(including_emulation=False) else ("fp16", "fp32")


def precision(wanted: str) -> str:
    """Return the precision to use here: as wanted; for "auto" bf16 or fp16 on a GPU and fp32 on a CPU.

    Raises:
        InputError: For a precision that this machine does not compute in.
    """
    here = precisions()
    if wanted in BITS and wanted not in here:
        needed = "a GPU" if wanted == "fp16" else "a GPU that computes in it (of 2020 or later)"
        raise files.InputError(f"precision = {wanted} needs {needed}; use auto, {' or '.join(sorted(here))} here")
    return here[0] if wanted == "auto" else wanted


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
    """Keep the model's 4-bit layers from being repacked for inference when it is evaluated on a CPU; return it.

    bitsandbytes does that permanently on a CPU with AVX512-BF16, and no gradient flows through a repacked layer.
    """
    for layer in model.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False
    return model
