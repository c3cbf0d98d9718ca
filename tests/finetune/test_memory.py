"""What a training will need: memory by hand for models of known size, and the warning where it does not fit."""

import json
from dataclasses import replace

import pytest
from original_files import BAICHUAN, EARLY, FAMILIES, QWEN, delta, write
from tiny import llama

from cbtllm_utils import files, published
from cbtllm_utils.finetune import adapters, memory
from cbtllm_utils.finetune.settings import TrainingSettings
from cbtllm_utils.models import backbones

# Baichuan-7B: a layer's linear weights 4096 · 12,288 + 4096 · 4096 + 3 · 4096 · 11,008 = 202,375,168, in 32 layers
# 6,476,005,376; embeddings and lm_head 2 · 64,000 · 4096 = 524,288,000; norms 65 · 4096 = 266,240.
# W_pack, 4096 → 12,288 at rank 8 in 32 layers: (4096 + 12,288) · 8 · 32 = 4,194,304 trained weights
BAICHUAN_7B = memory.Size(7_000_559_616, 4_194_304, 32, 4096, 11008, 64000, 6_476_005_376)
# LLaMA-2-13B: 40 layers of 4 · 5120² + 3 · 5120 · 13,824 = 317,194,240; embeddings 2 · 32,000 · 5120; norms 81 · 5120
# q and v at rank 8: 40 · 2 · (5120 + 5120) · 8 = 6,553,600
LLAMA_13B = memory.Size(13_015_864_320, 6_553_600, 40, 5120, 13824, 32000, 12_687_769_600)
# LLaMA-2-70B: 68,976,648,192 weights; its linear layers 68,451,041,280; q and v at rank 8 of 80 layers (8 heads of
# values)
LLAMA_70B = memory.Size(68_976_648_192, 16_384_000, 80, 8192, 28672, 32000, 68_451_041_280)
PAPER = TrainingSettings()
PLAIN = TrainingSettings(gradient_checkpointing=False)


def test_memory_by_arithmetic():
    # 7,000,559,616 · 2 bytes = 14.0 GB; 4,194,304 · 16 bytes = 0.067 GB; 4 · 1024 tokens · 64,000 · 10 bytes = 2.62 GB
    table = memory.estimate(BAICHUAN_7B, PAPER, 1024).set_index("what")["GB"]
    assert table["frozen weights"] == pytest.approx(14.001, abs=1e-3)
    assert table["trained weights, gradient, Adam's two moments"] == pytest.approx(0.067, abs=1e-3)
    # 4096 tokens · (32 · 4096 + 8 · 4096 + 3 · 11,008 = 196,864) · 2 bytes = 1.61 GB
    assert table["activations"] == pytest.approx(1.613, abs=1e-3)
    assert table["logits, at most"] == pytest.approx(2.621, abs=1e-3)
    assert table["sum"] == pytest.approx(18.303, abs=2e-3)
    # without recomputing 32 · 4096 · 65,792 · 2 = 17.25 GB instead of 1.61
    whole = memory.estimate(BAICHUAN_7B, PLAIN, 1024).set_index("what")["GB"]
    assert whole["sum"] == pytest.approx(18.303 - 1.613 + 17.247, abs=2e-3)
    device = published.value("text", "GPU memory", "value")
    assert table["sum"] < device < whole["sum"]  # the paper's V100 held it, and would not have without recomputing


def test_weights_in_4_bits_by_arithmetic():
    # 0.5 + 1/64 + 4/(64 · 256) = 0.515869…; 6,476,005,376 · 0.5159 = 3.341 GB; 524,554,240 · 2 = 1.049 GB
    table = memory.estimate(BAICHUAN_7B, TrainingSettings(quantization="nf4"), 1024).set_index("what")["GB"]
    assert table["frozen weights"] == pytest.approx(3.341 + 1.049, abs=2e-3)
    assert abs(memory.NF4 - (0.5 + 1 / 64 + 4 / (64 * 256))) < 1e-4


@pytest.mark.parametrize(
    ("model", "values", "needed"),
    [
        (BAICHUAN_7B, {}, 18.30),  # more than a card of 16 GB has, less than the paper's V100 of 32
        (BAICHUAN_7B, {"quantization": "nf4"}, 8.69),  # 18.30 - 14.00 + 4.39: a card of 16 GB trains in nf4
        (LLAMA_13B, {}, 29.80),  # 26.03 + 0.10 + 4,096 · (40 · 5,120 + 8 · 5,120 + 3 · 13,824) · 2 = 2.35, + 1.31
        (LLAMA_13B, {"quantization": "nf4"}, 10.97),
    ],
)
def test_a_warning_names_the_estimate_where_the_device_has_less(model, values, needed):
    chosen = TrainingSettings(**values)
    assert memory.estimate(model, chosen, 1024)["GB"].iloc[-1] == pytest.approx(needed, abs=0.01)
    assert memory.warning(model, chosen, 1024, memory.Device(40.0, needed + 0.1)) == ""
    said = memory.warning(model, chosen, 1024, memory.Device(40.0, needed - 0.1))
    assert f"at least {needed:.1f} GB" in said and "quantization = nf4" in said


def test_memory_that_this_process_holds_counts_as_free():
    device = memory.device()
    assert 0 < device.free <= device.memory


@pytest.mark.parametrize("family", FAMILIES)
def test_the_size_without_the_weights_is_the_size_with_them(tmp_path, family):
    config, tensors, _ = FAMILIES[family]
    write(tmp_path / "model", config, tensors)
    wanted = TrainingSettings(precision="fp32", rank=2)
    sizes = [
        memory.size(adapters.fresh(model, wanted))
        for model in (adapters.outline("model", [], tmp_path), backbones.load_model(tmp_path / "model"))
    ]
    assert sizes[0] == sizes[1]
    flat = {name: tensor for name, tensor in tensors.items() if tensor.dim() == 2}
    assert sizes[0].weights == sum(tensor.numel() for tensor in tensors.values())
    outside = ("transformer.wte.weight", "model.embed_tokens.weight", "lm_head.weight")
    assert sizes[0].linear == sum(tensor.numel() for name, tensor in flat.items() if name not in outside)


LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 32000, "rms_norm_eps": 1e-5}
CONFIGS = [  # config.json of the published models, as far as it decides on their shapes
    (
        BAICHUAN
        | {"vocab_size": 64000, "hidden_size": 4096, "intermediate_size": 11008}
        | {"num_hidden_layers": 32, "num_attention_heads": 32},
        BAICHUAN_7B,
    ),
    (
        LLAMA | {"hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40, "num_attention_heads": 40},
        LLAMA_13B,
    ),
    (
        LLAMA
        | {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64}
        | {"num_key_value_heads": 8},
        LLAMA_70B,
    ),
]


@pytest.mark.parametrize(("config", "by_hand"), CONFIGS, ids=["7B", "13B", "70B"])
def test_the_size_of_a_large_model_needs_no_weights(tmp_path, config, by_hand):
    (tmp_path / "large").mkdir()
    (tmp_path / "large" / "config.json").write_text(json.dumps(config))
    assert memory.size(adapters.fresh(adapters.outline("large", [], tmp_path), PAPER)) == by_hand


def test_a_layer_trained_whole_counts_as_trained_and_as_frozen():
    """Of the frozen weights nothing changes: the layer's first values stay, and 4 bits still hold all but it."""
    one, two = (
        memory.size(adapters.fresh(llama(), TrainingSettings(**more)))
        for more in ({}, {"modules_to_save": ["lm_head"]})
    )
    assert two == replace(one, trained=one.trained + llama().lm_head.weight.numel())


def test_the_size_of_a_current_model_and_of_one_with_deltas(tmp_path):
    llama().save_pretrained(tmp_path / "current")
    assert memory.size(adapters.outline("current", [], tmp_path)) == memory.size(llama())
    write(tmp_path / "base", EARLY, FAMILIES["llama"][1])
    delta(tmp_path / "delta", 70, 1)
    assert memory.size(adapters.outline("base", ["delta"], tmp_path)).vocabulary == 70
    for config, said in ((QWEN | {"rotary_pct": 0.5}, "no equal"), (BAICHUAN | {"hidden_size": "x"}, "hidden_size")):
        (tmp_path / "base" / "config.json").write_text(json.dumps(config))
        with pytest.raises(files.InputError, match=said):
            adapters.outline("base", [], tmp_path)
