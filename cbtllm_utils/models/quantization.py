"""Frozen weights in 4 bits (QLoRA, arXiv 2305.14314), by bitsandbytes where it is installed."""

import importlib.util

import torch
from transformers import BitsAndBytesConfig

from cbtllm_utils import files

KINDS = (None, "nf4")


def check(kind: str | None) -> None:
    """Nothing, when weights can be kept in `kind` here; InputError for an unknown one and without bitsandbytes."""
    if kind not in KINDS:
        raise files.InputError(f"quantization = {kind!r}: expected null or nf4")
    if kind and not importlib.util.find_spec("bitsandbytes"):
        raise files.InputError(
            f"quantization = {kind} needs bitsandbytes, which is not installed: "
            ".venv/bin/pip install -e '.[four-bit]' (or quantization = null)"
        )


def options(kind: str | None, dtype: torch.dtype) -> dict:
    """What `backbones.load_model` takes to keep every linear layer but the last in `kind`; nothing for None.

    `dtype` is what the layers compute in. They are rounded as they are read, fused layers of original files too.
    InputError as of `check`.
    """
    check(kind)
    if kind is None:
        return {}
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=kind,
        bnb_4bit_use_double_quant=True,  # the scale of each 64 weights in 8 bits: 4.13 bits a weight instead of 4.5
        bnb_4bit_compute_dtype=dtype,
    )
    return {"quantization_config": config}


def differentiable(model: torch.nn.Module) -> torch.nn.Module:
    """The model, whose layers in 4 bits will not be repacked for inference when it is evaluated on a processor.

    bitsandbytes does that where there is AVX512-BF16, for good, and no gradient goes through the repacked layer.
    """
    for layer in model.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False
    return model
