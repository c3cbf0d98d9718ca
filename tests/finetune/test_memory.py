"""What a training will need: memory by hand for models of known size, and the warning where it does not fit."""

import json
from dataclasses import replace

import peak_memory
import psutil
import pytest
import torch
import transformers
from original_files import BAICHUAN, EARLY, FAMILIES, QWEN, delta, write
from tiny import llama

from cbtllm_utils import files, published
from cbtllm_utils.finetune import adapters, memory, trainer
from cbtllm_utils.finetune.settings import TrainingSettings
from cbtllm_utils.models import backbones, devices, fused_qkv

# Baichuan-7B: a layer's linear weights 4096 · 12,288 + 4096 · 4096 + 3 · 4096 · 11,008 = 202,375,168, in 32 layers
# 6,476,005,376; embeddings and lm_head 2 · 64,000 · 4096 = 524,288,000; norms 65 · 4096 = 266,240.
# W_pack, 4096 → 12,288 at rank 8 in 32 layers: (4096 + 12,288) · 8 · 32 = 4,194,304 trained weights, 32 · 4096 inputs
BAICHUAN_7B = memory.Size(7_000_559_616, 4_194_304, 32, 4096, 11008, 64000, 131_072, 6_476_005_376)
# LLaMA-2-13B: 40 layers of 4 · 5120² + 3 · 5120 · 13,824 = 317,194,240; embeddings 2 · 32,000 · 5120; norms 81 · 5120
# q and v at rank 8: 40 · 2 · (5120 + 5120) · 8 = 6,553,600; their inputs 40 · 2 · 5120
LLAMA_13B = memory.Size(13_015_864_320, 6_553_600, 40, 5120, 13824, 32000, 409_600, 12_687_769_600)
# LLaMA-2-70B: 68,976,648,192 weights; its linear layers 68,451,041,280; q and v at rank 8 of 80 layers (8 heads of
# values)
LLAMA_70B = memory.Size(68_976_648_192, 16_384_000, 80, 8192, 28672, 32000, 1_310_720, 68_451_041_280)
PAPER = TrainingSettings()
PLAIN = TrainingSettings(gradient_checkpointing=False)
ROOMY = memory.Device(1000.0, 1000.0, "cpu")


def sizes(*arguments):
    table = memory.estimate(*arguments).set_index("what")["GB"]
    return table.rename({table.index[-1]: "sum"})


def test_memory_by_arithmetic():
    # 7,000,559,616 · 2 bytes = 14.0 GB; 4,194,304 · 18 bytes = 0.075 GB; 4 · 1024 tokens · 64,000 · 14 bytes = 3.67 GB
    table = sizes(BAICHUAN_7B, PAPER, 1024)
    assert table["frozen weights"] == pytest.approx(14.001, abs=1e-3)
    assert table["trained weights, gradient, Adam's two moments"] == pytest.approx(0.0755, abs=1e-3)
    # 32 layers · 4096 tokens · 4096 · 2 bytes = 1.074 GB
    assert table["activations"] == pytest.approx(1.074, abs=1e-3)
    assert table["logits and their gradient"] == pytest.approx(3.670, abs=1e-3)
    assert table["sum"] == pytest.approx(18.820, abs=2e-3)
    # without recomputing, a token of a layer: norms 8 · 4096, attention and gate 2 · (4 · 4096 + 3 · 11,008),
    # W_pack's input 2 · 4096 and the mask of dropout 4096: 143,872 bytes; · 4096 tokens · 32 layers = 18.858 GB
    whole = sizes(BAICHUAN_7B, PLAIN, 1024)
    assert whole["sum"] == pytest.approx(18.820 - 1.074 + 18.858, abs=2e-3)
    device = published.value("text", "GPU memory", "value")
    assert table["sum"] < device < whole["sum"]  # the paper's V100 held it, and would not have without recomputing


def test_only_replies_have_logits():
    # 4 · 600 tokens · 64,000 · 14 bytes = 2.150 GB
    assert sizes(BAICHUAN_7B, PAPER, 1024, 600)["logits and their gradient"] == pytest.approx(2.150, abs=1e-3)


def test_weights_in_4_bits_by_arithmetic():
    # 0.5 + 1/64 + 4/(64 · 256) = 0.515869…; 6,476,005,376 · 0.5159 = 3.341 GB; 524,554,240 · 2 = 1.049 GB
    table = sizes(BAICHUAN_7B, TrainingSettings(quantization="nf4"), 1024)
    assert table["frozen weights"] == pytest.approx(3.341 + 1.049, abs=2e-3)
    assert abs(memory.NF4 - (0.5 + 1 / 64 + 4 / (64 * 256))) < 1e-4


SMALL = {"hidden_size": 128, "intermediate_size": 344, "num_hidden_layers": 4, "num_attention_heads": 4}
TOKENS, REPLY, WORDS = 256, 160, 2000


def small(family, precision):
    config = {"vocab_size": WORDS, "tie_word_embeddings": False, "use_cache": False} | SMALL
    if family == "fused":
        model = fused_qkv.QwenV1ForCausalLM(transformers.Qwen2Config(**config, num_key_value_heads=4))
    else:
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config))
    return model.to(devices.DTYPES[precision])


def step_of(model, settings):
    """Return a function that takes one step of training as the Trainer does, and the optimizer."""
    if settings.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    ids = torch.arange(TOKENS) % WORDS
    labels = torch.where(ids < TOKENS - REPLY, -100, ids)
    batch = trainer.collate([{"input_ids": ids, "labels": labels}] * settings.batch)
    del batch["question_ids"]
    optimizer = torch.optim.AdamW(weight for weight in model.parameters() if weight.requires_grad)
    half = settings.precision != "fp32"

    def step():
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)

    return step, optimizer


@pytest.mark.parametrize("recomputed", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize(
    ("family", "targets", "whole"),
    [("split", "published", []), ("split", "all-linear", []), ("fused", "published", ["lm_head"])],
)
def test_the_estimate_is_the_peak_of_a_real_step(family, targets, whole, dropout, precision, recomputed):
    """Before it left out what adapters keep, it was between 0.54 and 1.24 times the peak."""
    chosen = TrainingSettings(
        targets=targets,
        modules_to_save=whole,
        dropout=dropout,
        precision=precision,
        gradient_checkpointing=recomputed,
        batch=2,
    )
    model = adapters.fresh(small(family, precision), chosen).train()
    step, optimizer = step_of(model, chosen)
    step()  # From here on there are gradients and moments.
    held = [*model.parameters(), *model.buffers(), *(w.grad for w in model.parameters() if w.grad is not None)]
    held += [m for state in optimizer.state.values() for m in state.values() if isinstance(m, torch.Tensor)]
    with peak_memory.Peak(held) as counted:
        step()
    estimated = memory.estimate(memory.size(model), chosen, TOKENS, REPLY, "cpu")["GB"].iloc[-1] * 1e9
    assert estimated == pytest.approx(counted.peak, rel=memory.OFF)


@pytest.mark.parametrize(
    ("model", "values", "needed"),
    [
        (BAICHUAN_7B, {}, 18.82),  # more than a card of 16 GB has, less than the paper's V100 of 32
        (BAICHUAN_7B, {"quantization": "nf4"}, 9.21),  # 18.82 - 14.00 + 4.39: a card of 16 GB trains in nf4
        (LLAMA_13B, {}, 29.66),  # 26.03 + 0.12 + 40 · 4,096 · 5,120 · 2 = 1.68, + 4,096 · 32,000 · 14 = 1.84
        (LLAMA_13B, {"quantization": "nf4"}, 10.83),
    ],
)
def test_a_warning_names_the_estimate_and_its_range_where_the_device_has_less(model, values, needed):
    chosen = TrainingSettings(**values)
    assert sizes(model, chosen, 1024)["sum"] == pytest.approx(needed, abs=0.01)
    least, most = 0.85 * needed, 1.15 * needed + 1  # 1 GB for CUDA
    assert memory.warning(model, chosen, 1024, memory.Device(40.0, most + 0.1), ROOMY) == ""
    said = memory.warning(model, chosen, 1024, memory.Device(40.0, most - 0.1), ROOMY)
    assert f"about {needed:.1f} GB of memory (between {least:.1f} and {most:.1f})" in said
    assert "quantization = nf4" in said and said.count("\n") == 1


def test_weights_that_do_not_pass_through_main_memory_are_a_warning():
    """A container of 8 GB around a GPU of 80: the kernel ends the process that reads 14 GB."""
    said = memory.warning(BAICHUAN_7B, PAPER, 1024, memory.Device(80.0, 79.0), memory.Device(8.0, 7.5, "cpu"))
    assert said.startswith("warning: the weights, 14.0 GB, are read through main memory, of which 7.5 GB are free")


def group(folder, **values):
    """Write the files of a control group as the kernel shows them (cgroups(7))."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        (folder / name.replace("__", ".")).write_text(f"{value}\n")


def version_2(root):
    """In a container: a path of the host's in /proc, the own group at the top."""
    group(root / "proc/self", cgroup="0::/docker/abc")
    stat = "anon 1000000000\ninactive_file 500000000"
    group(root / "sys/fs/cgroup", memory__max=4 * 10**9, memory__current=2 * 10**9, memory__stat=stat)


def version_2_job(root):
    """Slurm's: the step has no limit of its own, the job has."""
    group(root / "proc/self", cgroup="0::/slurm/job_7/step_0")
    group(root / "sys/fs/cgroup/slurm/job_7/step_0", memory__max="max", memory__current=0, memory__stat="anon 0")
    stat = "anon 1500000000\ninactive_file 0"
    group(root / "sys/fs/cgroup/slurm/job_7", memory__max=4 * 10**9, memory__current=1.5e9, memory__stat=stat)
    (root / "sys/fs/cgroup/slurm/job_7/memory.current").write_text("1500000000\n")


def version_1(root):
    group(root / "proc/self", cgroup="4:memory:/box\n3:cpuset:/\n0::/")
    unlimited = 9223372036854771712
    stat = "cache 1\ntotal_inactive_file 500000000"
    top = {"memory__limit_in_bytes": unlimited, "memory__usage_in_bytes": 9 * 10**9, "memory__stat": stat}
    group(root / "sys/fs/cgroup/memory", **top)
    own = {"memory__limit_in_bytes": 4 * 10**9, "memory__usage_in_bytes": 2 * 10**9, "memory__stat": stat}
    group(root / "sys/fs/cgroup/memory/box", **own)


@pytest.mark.parametrize("limit", [version_2, version_2_job, version_1])
def test_the_limit_of_a_container_counts(tmp_path, limit):
    """4 GB, of which 2 are used and 0.5 of these are cached files; what this process holds counts as free."""
    limit(tmp_path)
    held = psutil.Process().memory_info().rss / 1e9
    found = memory.host(tmp_path, {})
    assert found.memory == 4.0 and found.kind == "cpu"
    assert found.free == pytest.approx(min(2.5 + held, 4.0), abs=0.1)


def test_a_limit_that_cannot_be_read_stops_nothing(tmp_path):
    version_2(tmp_path)
    (tmp_path / "sys/fs/cgroup/memory.stat").unlink()
    assert memory.host(tmp_path, {}).memory == psutil.virtual_memory().total / 1e9


@pytest.mark.parametrize(
    ("environment", "memory_gib"),
    [
        ({"SLURM_MEM_PER_NODE": "2048"}, 2),
        ({"SLURM_MEM_PER_CPU": "512", "SLURM_CPUS_ON_NODE": "4"}, 2),
        ({"SLURM_MEM_PER_GPU": "1024", "SLURM_GPUS_ON_NODE": "2"}, 2),
        ({"SLURM_MEM_PER_NODE": "much"}, psutil.virtual_memory().total / 2**30),
        ({"SLURM_MEM_PER_NODE": "0"}, psutil.virtual_memory().total / 2**30),  # 0: all of the machine
        ({}, psutil.virtual_memory().total / 2**30),
    ],
)
def test_the_limit_of_a_slurm_job_counts(tmp_path, environment, memory_gib):
    assert memory.host(tmp_path, environment).memory == pytest.approx(memory_gib * 2**30 / 1e9)


def test_memory_that_this_process_holds_counts_as_free():
    device = memory.device()
    assert 0 < device.free <= device.memory <= psutil.virtual_memory().total / 1e9


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
