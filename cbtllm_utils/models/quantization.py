"""Keep frozen weights in 4 bits (QLoRA, arXiv 2305.14314), by bitsandbytes where it is installed."""

import importlib.util

import torch
from transformers import BitsAndBytesConfig

from cbtllm_utils import files

KINDS = (None, "nf4")


def check(kind: str | None) -> None:
    """Raise InputError for an unknown kind of quantization, and where bitsandbytes is missing."""
    if kind not in KINDS:
        raise files.InputError(f"quantization = {kind!r}: expected null or nf4")
    if kind and not importlib.util.find_spec("bitsandbytes"):
        raise files.InputError(
            f"quantization = {kind} needs bitsandbytes, which is not installed: "
            ".venv/bin/pip install -e '.[four-bit]' (or quantization = null)"
        )


def options(kind: str | None, dtype: torch.dtype) -> dict:
    """Return what `load_model` takes to round every linear layer but the last as it is read; empty for None.

    Args:
        kind: None or "nf4".
        dtype: What the layers compute in.
    """
    check(kind)
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
