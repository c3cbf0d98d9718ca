"""What this machine computes on and in: the device and the precisions."""

import torch

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
