"""The precision follows the device; weights in 4 bits are read from original files and trained through."""

import importlib.util

import original_files as original
import pytest
import torch
from training_run import losses_of, settings

from cbtllm_utils import files
from cbtllm_utils.finetune import adapters, examples, training
from cbtllm_utils.models import backbones, devices

installed = pytest.mark.skipif(not importlib.util.find_spec("bitsandbytes"), reason="bitsandbytes is not installed")
WIDE = {"hidden_size": 64, "intermediate_size": 128}  # bitsandbytes scales 64 weights of a row together


@pytest.fixture
def wide(monkeypatch):
    """Return the families' configurations and random tensors, with rows of 64 and 128 weights."""
    monkeypatch.setattr(original, "WIDE", 64)
    monkeypatch.setattr(original, "INNER", 128)
    return {
        "qwen": (
            original.QWEN | {"hidden_size": 64, "kv_channels": 16, "intermediate_size": 256},
            original.qwen_tensors(),
        ),
        "baichuan": (original.BAICHUAN | WIDE, original.llama_tensors(fused=True)),
        "llama": (original.EARLY | WIDE, original.llama_tensors(fused=False)),
    }


def four_bits(folder, config, tensors):
    original.write(folder / "backbones", config, tensors)
    return adapters.backbone(str(folder / "backbones"), [], folder, "fp32", "nf4")


@pytest.mark.skipif(torch.cuda.is_available(), reason="about a machine without a GPU")
def test_precision_follows_the_device():
    assert devices.precision("auto") == "fp32"
    with pytest.raises(files.InputError, match="needs an NVIDIA GPU"):
        devices.precision("fp16")


@pytest.mark.parametrize(
    "cuda, mps, chosen",
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_the_device_is_nvidias_else_apples_else_the_cpu(cuda, mps, chosen):
    assert devices.best(cuda=cuda, mps=mps) == chosen


# What builds of torch have kernels for, as their build scripts and users' reports say: 2.8 for CUDA 12.6 and 12.8
# (Whisper-WebUI#653), 2.9 for 12.9 (ComfyUI#16438); from 2.11 on those for 12.8 and later begin at 7.5, those for
# 12.6 stay as they are (pytorch#172352, PR #175253, #190385).
CU126 = ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"]
CU128 = ["sm_70", "sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]
CU129 = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]
CU130 = [*CU129, "compute_120"]


@pytest.mark.parametrize(
    "gpu, capability, built_for, runs",
    [
        ("V100", (7, 0), CU126, True),
        ("V100", (7, 0), CU128, True),
        ("V100", (7, 0), CU129, False),
        ("V100", (7, 0), CU130, False),
        ("P100", (6, 0), CU126, True),
        ("GTX 1080", (6, 1), CU126, True),  # kernels of 6.0 run on 6.1
        ("GTX 1080", (6, 1), CU128, False),
        ("T4", (7, 5), CU130, True),
        ("A40", (8, 6), CU130, True),
        ("L4", (8, 9), CU130, True),
        ("H200", (9, 0), CU126, True),
        ("B200", (10, 0), CU126, False),
        ("RTX 5090", (12, 0), CU126, False),
        ("RTX 5090", (12, 0), CU130, True),
        ("one to come", (13, 0), CU129, False),
        ("one to come", (13, 0), CU130, True),  # compiled from compute_120 where it runs
        ("B200", (10, 0), ["sm_90a"], False),
        ("H200", (9, 0), ["sm_90a"], True),
    ],
)
def test_a_build_of_torch_runs_on_a_gpu_that_it_has_kernels_for(gpu, capability, built_for, runs):
    assert devices.runs_on(capability, built_for) is runs
    assert (devices.no_kernels(gpu, capability, built_for, "2.13.0") == "") is runs


def test_what_mends_it_is_said_on_one_line():
    assert devices.no_kernels("Tesla V100-SXM2-32GB", (7, 0), CU129, "2.13.0+cu130") == (
        "Tesla V100-SXM2-32GB (sm_70): torch 2.13.0+cu130 has no kernels for it, only for sm_75, sm_80, sm_86, sm_90, "
        "sm_100, sm_120; `make setup TORCH=cu126` installs a build that has them, and CUDA_VISIBLE_DEVICES= computes on the CPU"
    )
    assert "TORCH=cu126" not in devices.no_kernels("B200", (10, 0), CU126, "2.13.0+cu126")


def test_a_gpu_without_kernels_stops_before_anything_is_computed(monkeypatch):
    monkeypatch.setattr(devices, "gpu_problem", lambda: "Tesla V100 (sm_70): torch 2.13.0 has no kernels for it")
    with pytest.raises(files.InputError, match="sm_70"):
        devices.device()


def test_a_precision_that_the_device_lacks_is_refused(monkeypatch):
    monkeypatch.setattr(devices, "precisions", lambda: ("fp16", "fp32"))  # the paper's V100
    assert devices.precision("auto") == "fp16"
    with pytest.raises(files.InputError, match=r"bf16 needs a GPU that supports it.*use auto, fp16 or fp32 here"):
        devices.precision("bf16")


@installed
@original.every_family
def test_original_files_are_read_into_4_bits(tmp_path, wide, family):
    from bitsandbytes.functional import dequantize_4bit

    model = four_bits(tmp_path, *wide[family])
    full = dict(backbones.load_model(tmp_path / "backbones", dtype=torch.float32).named_parameters())
    kinds = {
        name.rpartition(".")[2]: type(part).__name__
        for name, part in model.named_modules()
        if "Linear" in type(part).__name__
    }
    assert kinds.pop("lm_head") == "Linear" and set(kinds.values()) == {"Linear4bit"}
    assert {"qwen": "c_attn", "baichuan": "W_pack", "llama": "v_proj"}[family] in kinds
    for name, weight in model.named_parameters():
        if hasattr(weight, "quant_state"):
            off = dequantize_4bit(weight.data, weight.quant_state) - full[name]
            # nearest of the 16 levels of NF4 times the largest of 64 normal weights, in numpy: 0.0912
            assert 0.05 < off.abs().mean() / full[name].abs().mean() < 0.12, name
    assert len(backbones.weights_hash(model)) == 64


@installed
@original.every_family
def test_a_training_lowers_the_loss_and_its_adapter_fits_the_whole_weights(tmp_path, wide, family):
    base = four_bits(tmp_path, *wide[family])
    before = {name: weight.clone() for name, weight in base.named_parameters() if hasattr(weight, "quant_state")}
    wanted = settings(quantization="nf4", dropout=0.0, gradient_checkpointing=True)
    model = adapters.fresh(base, wanted)
    draw = torch.Generator().manual_seed(0)
    ids = [torch.randint(original.WORDS, (20,), generator=draw).tolist() for _ in range(8)]
    rows = examples.dataset({"input_ids": one, "labels": [-100] * 5 + one[5:]} for one in ids)
    losses = losses_of(training.train(model, rows, rows, wanted, tmp_path / "work"))
    assert losses[-1] < losses[0]
    after = {
        name.removeprefix("base_model.model.").replace("base_layer.", ""): weight
        for name, weight in model.named_parameters()
    }
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    model.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    whole = backbones.load_model(tmp_path / "backbones", dtype=torch.float32)
    assert adapters.attach(whole, tmp_path / "adapter").dtype == torch.float32


def test_without_bitsandbytes_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        files.InputError, match=r"quantization = nf4 needs bitsandbytes.*pip install -e '\.\[four-bit\]'"
    ):
        devices.quantization("nf4", torch.float16)
