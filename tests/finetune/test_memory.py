"""What a training will need: memory by hand for models of known size, the changes that make it fit, and its pace."""

import json
import time
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import torch
from test_backbones import BAICHUAN, EARLY, FAMILIES, QWEN, delta, write
from tiny import Bytes, llama

from cbtllm_utils import files, published
from cbtllm_utils.finetune import adapters, memory
from cbtllm_utils.finetune import settings as recipe
from cbtllm_utils.models import backbones, prompt_forms

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
PAPER = recipe.Settings()
PLAIN = replace(PAPER, gradient_checkpointing=False)


def test_memory_by_arithmetic():
    # 7,000,559,616 · 2 bytes = 14.0 GB; 4,194,304 · 16 bytes = 0.067 GB; 4 · 1024 tokens · 64,000 · 10 bytes = 2.62 GB
    table = memory.memory(BAICHUAN_7B, PAPER, 1024).set_index("part")["GB"]
    assert table["frozen weights"] == pytest.approx(14.001, abs=1e-3)
    assert table["trained weights, gradient, Adam's two moments"] == pytest.approx(0.067, abs=1e-3)
    # 4096 tokens · (32 · 4096 + 8 · 4096 + 3 · 11,008 = 196,864) · 2 bytes = 1.61 GB
    assert table["activations"] == pytest.approx(1.613, abs=1e-3)
    assert table["logits, at most"] == pytest.approx(2.621, abs=1e-3)
    assert table["sum"] == pytest.approx(18.303, abs=2e-3)
    # without recomputing 32 · 4096 · 65,792 · 2 = 17.25 GB instead of 1.61
    whole = memory.memory(BAICHUAN_7B, PLAIN, 1024).set_index("part")["GB"]
    assert whole["sum"] == pytest.approx(18.303 - 1.613 + 17.247, abs=2e-3)
    device = published.value("text", "GPU memory", "value")
    assert table["sum"] < device < whole["sum"]  # the paper's V100 held it, and would not have without recomputing


def test_weights_in_4_bits_by_arithmetic():
    # 0.5 + 1/64 + 4/(64 · 256) = 0.515869…; 6,476,005,376 · 0.5159 = 3.341 GB; 524,554,240 · 2 = 1.049 GB
    quantised = SimpleNamespace(**asdict(PAPER) | {"quantization": "nf4"})
    table = memory.memory(BAICHUAN_7B, quantised, 1024).set_index("part")["GB"]
    assert table["frozen weights"] == pytest.approx(3.341 + 1.049, abs=2e-3)
    assert abs(memory.NF4 - (0.5 + 1 / 64 + 4 / (64 * 256))) < 1e-4


def test_processes_that_share_out_the_weights_hold_a_part_each():
    four = SimpleNamespace(**asdict(PAPER) | {"sharded": True, "processes": 4})
    table = memory.memory(BAICHUAN_7B, four, 1024).set_index("part")["GB"]
    # and the layer that is being computed: 202,375,168 · 2 bytes
    assert table["frozen weights"] == pytest.approx(14.001 / 4 + 0.405, abs=1e-3)
    assert table["activations"] == pytest.approx(1.613, abs=1e-3)  # each has a batch of its own


def gpu(room, precisions=("bf16", "fp16", "fp32")):
    return memory.Device(room + 0.5, room, precisions, shared=False)


def test_each_gpu_holds_one_process_and_a_machine_without_holds_them_all():
    four = replace(PAPER, sharded=True, processes=4)  # 3.91 + 0.07 + 1.61 + 2.62 = 8.21 GB in each
    assert memory.total(BAICHUAN_7B, four, 1024) == pytest.approx(8.21, abs=0.01)
    assert memory.total(BAICHUAN_7B, four, 1024, shared=True) == pytest.approx(4 * 8.21, abs=0.04)
    memory.check(BAICHUAN_7B, four, 1024, gpu(8.5))
    # each with its own 18.30 GB, and the notebook that starts them with 14.00
    whole = replace(PAPER, processes=4)
    assert memory.total(BAICHUAN_7B, whole, 1024) == pytest.approx(18.30, abs=0.01)
    assert memory.total(BAICHUAN_7B, whole, 1024, shared=True) == pytest.approx(4 * 18.30 + 14.00, abs=0.04)
    with pytest.raises(files.InputError, match=r"at least 87\.2 GB of memory for 4 processes, and 64\.0 of the"):
        memory.check(BAICHUAN_7B, whole, 1024, memory.Device(64.0, 64.0, ("fp32", "bf16"), shared=True))
    with pytest.raises(files.InputError, match="smaller model"):
        memory.check(BAICHUAN_7B, four, 1024, gpu(3.9))  # 4 bits, which cannot be shared out, are not proposed


@pytest.mark.parametrize(
    ("precisions", "proposed"),
    [(("bf16", "fp16", "fp32"), "bf16"), (("fp16", "fp32"), "fp16"), (("fp32", "bf16"), "bf16")],
    ids=["newer", "V100", "processor"],
)
def test_only_a_precision_that_the_device_computes_in_is_proposed(precisions, proposed):
    changes = [c for means in memory.savings(replace(PAPER, precision="fp32"), 1024, precisions) for c in means]
    assert [c for c in changes if "precision" in c] == [{"precision": proposed}]
    assert not any("precision" in c for means in memory.savings(PAPER, 1024, precisions) for c in means)
    with pytest.raises(files.InputError, match=rf"precision = {proposed} \("):  # 28.0 GB of weights in fp32
        memory.check(BAICHUAN_7B, replace(PAPER, precision="fp32"), 1024, gpu(20.0, precisions))


@pytest.mark.parametrize(
    ("model", "settings", "room", "expected"),
    [
        (  # 33.94 GB where there are 32
            BAICHUAN_7B,
            PLAIN,
            32.0,
            [
                ("gradient_checkpointing = true", 18.30),
                ("batch = 2, accumulation = 8", 24.00),  # 14.07 + half of 17.25 + 2.62
                ("quantization = nf4", 24.32),  # 33.94 - 14.00 + 4.39
                ("cutoff = 768", 28.97),  # 14.07 + three quarters of 19.87
            ],
        ),
        (  # 18.30 GB on a card of 16: batch 2 takes 16.19, cutoff 384 takes 15.66 of the 15.6 that are free
            BAICHUAN_7B,
            PAPER,
            15.6,
            [("batch = 1, accumulation = 16", 15.13), ("quantization = nf4", 8.69)],
        ),
        (  # 4.39 + 0.07 and half of a quarter of 4.23
            BAICHUAN_7B,
            PAPER,
            5.1,
            [("batch = 1, accumulation = 16, quantization = nf4, cutoff = 512", 4.99)],
        ),
        (LLAMA_13B, PAPER, 24.0, [("quantization = nf4", 10.97)]),  # its weights alone are 26 GB: 6.55 + 0.66 + 3.77
        (LLAMA_70B, PAPER, 24.0, []),  # 35 GB in 4 bits
    ],
)
def test_the_fewest_changes_that_make_it_fit(model, settings, room, expected):
    assert memory.total(model, settings, 1024) > room
    table = memory.remedies(model, settings, 1024, gpu(room))
    assert table["change"].tolist() == [change for change, _ in expected]
    assert table["GB"].tolist() == pytest.approx([needed for _, needed in expected], abs=0.01)


def test_a_training_that_cannot_fit_says_what_would():
    memory.check(BAICHUAN_7B, PAPER, 1024, gpu(32.0))
    said = r"at least 33\.9 GB .* 32\.0 .* fit with gradient_checkpointing = true \(18\.3 GB\); or batch = 2"
    with pytest.raises(files.InputError, match=said):
        memory.check(BAICHUAN_7B, PLAIN, 1024, gpu(32.0))
    with pytest.raises(files.InputError, match=r"quantization = nf4 \(11\.0 GB\)$"):
        memory.check(LLAMA_13B, PAPER, 1024, gpu(24.0))
    with pytest.raises(files.InputError, match="smaller model or a larger device"):
        memory.check(LLAMA_70B, PAPER, 1024, gpu(24.0))


def test_a_smaller_batch_leaves_the_items_of_a_step():
    changes = [c for means in memory.savings(replace(PLAIN, batch=6, accumulation=2), 300, ("fp32",)) for c in means]
    batches = [c for c in changes if "batch" in c]
    assert batches == [{"batch": b, "accumulation": 12 // b} for b in (4, 3, 2, 1)]
    assert not any("cutoff" in c for c in changes)  # no example is longer than 384


def test_there_is_room_for_what_is_already_there():
    device = memory.here()
    assert 0 < device.room <= device.memory and device.shared is not torch.cuda.is_available()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_size_without_the_weights_is_the_size_with_them(tmp_path, family):
    config, tensors, _ = FAMILIES[family]
    write(tmp_path / "model", config, tensors)
    wanted = replace(PAPER, precision="fp32", rank=2)
    sizes = [
        memory.size(adapters.fresh(model, wanted, "x"))
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
    assert memory.size(adapters.fresh(adapters.outline("large", [], tmp_path), PAPER, "x")) == by_hand


def test_a_layer_trained_whole_counts_as_trained_and_as_frozen():
    """Of the frozen weights nothing changes: the layer's first values stay, and 4 bits still hold all but it."""
    one, two = (
        memory.size(adapters.fresh(llama(), replace(PLAIN, **more), "x"))
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


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
@pytest.mark.parametrize(
    "settings",
    [replace(PLAIN, batch=2, precision="fp32"), replace(PAPER, batch=2, targets="all-linear", precision="bf16")],
)
def test_the_pace_is_measured_and_leaves_no_trace(settings):
    rows = [
        {"questionID": i, "question": "怎么办", "description": "我" * i, "reply": "你好。" * i} for i in range(1, 9)
    ]
    examples = prompt_forms.encode(rows, Bytes(), "card", 1024)
    model = adapters.fresh(llama(), settings, "x").eval()
    state, weights = torch.get_rng_state(), backbones.weights_hash(model)
    begin = time.perf_counter()
    pace = memory.pace(model, examples, settings)
    assert pace > 2 / (time.perf_counter() - begin)  # two batches of two took longer than one of them
    assert torch.equal(torch.get_rng_state(), state) and all(p.grad is None for p in model.parameters())
    assert backbones.weights_hash(model) == weights and not model.training
    assert not model.get_base_model().is_activation_checkpointing
    assert memory.pace(model, examples[:1], settings) > 0
