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
    with pytest.raises(files.InputError, match="needs a GPU"):
        devices.precision("fp16")


def test_a_precision_that_the_device_lacks_is_refused(monkeypatch):
    monkeypatch.setattr(devices, "precisions", lambda: ("fp16", "fp32"))  # the paper's V100
    assert devices.precision("auto") == "fp16"
    with pytest.raises(files.InputError, match=r"bf16 needs a GPU that computes in it.*use auto, fp16 or fp32 here"):
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
