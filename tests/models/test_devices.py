import pytest
import torch

from cbtllm_utils import files
from cbtllm_utils.models import devices


@pytest.mark.skipif(torch.cuda.is_available(), reason="about a machine without a GPU")
def test_precision_follows_the_device():
    assert devices.precision("auto") == "fp32"
    with pytest.raises(files.InputError, match="needs a GPU"):
        devices.precision("fp16")


def test_a_precision_that_the_device_lacks_is_refused(monkeypatch):
    monkeypatch.setattr(devices, "precisions", lambda: ("fp16", "fp32"))  # the paper's V100
    assert devices.precision("auto") == "fp16"
    with pytest.raises(files.InputError, match=r"bf16 needs a GPU that computes in it.*use auto, fp16 or fp32 here"):
        devices.precision("bf16")
