"""Small random checkpoints in the files of LLaMA, Qwen-7B and Baichuan-7B, and what their original code computes."""

import json

import pytest
import torch
from safetensors.torch import save_file

from cbtllm_utils.models import backbones

WIDE, HEADS, LAYERS, INNER, WORDS = 32, 4, 2, 48, 60
IDS = torch.tensor([[3, 17, 5, 59, 0, 8, 8, 21]])

QWEN = dict(architectures=["QWenLMHeadModel"], model_type="qwen", vocab_size=WORDS, hidden_size=WIDE, kv_channels=8)
QWEN |= dict(intermediate_size=2 * INNER, num_hidden_layers=LAYERS, num_attention_heads=HEADS, seq_length=64)
QWEN |= dict(layer_norm_epsilon=1e-6, rotary_emb_base=10000, rotary_pct=1.0, no_bias=True, use_logn_attn=True)
LLAMA = dict(vocab_size=WORDS, hidden_size=WIDE, intermediate_size=INNER, num_hidden_layers=LAYERS)
LLAMA |= dict(num_attention_heads=HEADS, rms_norm_eps=1e-6, max_sequence_length=64, hidden_act="silu")
EARLY = LLAMA | dict(
    architectures=["LLaMAForCausalLM"], model_type="llama", bos_token_id=0, eos_token_id=1, pad_token_id=-1
)
BAICHUAN = LLAMA | dict(architectures=["BaiChuanForCausalLM"], model_type="baichuan", max_position_embeddings=64)


def random_tensors(shapes: dict, seed: int = 0) -> dict:
    draw = torch.Generator().manual_seed(seed)
    return {n: torch.randn(s, generator=draw) * (0.3 if len(s) == 2 else 1.0) for n, s in shapes.items()}


def qwen_tensors() -> dict:
    shapes = {"transformer.wte.weight": (WORDS, WIDE), "transformer.ln_f.weight": (WIDE,)}
    shapes |= {"lm_head.weight": (WORDS, WIDE)}
    for h in (f"transformer.h.{i}" for i in range(LAYERS)):
        shapes |= {f"{h}.ln_1.weight": (WIDE,), f"{h}.ln_2.weight": (WIDE,)}
        shapes |= {f"{h}.attn.c_attn.weight": (3 * WIDE, WIDE), f"{h}.attn.c_attn.bias": (3 * WIDE,)}
        shapes |= {f"{h}.attn.c_proj.weight": (WIDE, WIDE), f"{h}.mlp.c_proj.weight": (WIDE, INNER)}
        shapes |= {f"{h}.mlp.{w}.weight": (INNER, WIDE) for w in ("w1", "w2")}
    return random_tensors(shapes)


def llama_tensors(fused: bool) -> dict:
    shapes = {"model.embed_tokens.weight": (WORDS, WIDE), "model.norm.weight": (WIDE,)}
    shapes |= {"lm_head.weight": (WORDS, WIDE)}
    for h in (f"model.layers.{i}" for i in range(LAYERS)):
        shapes |= {f"{h}.{n}_layernorm.weight": (WIDE,) for n in ("input", "post_attention")}
        shapes |= {f"{h}.self_attn.W_pack.weight": (3 * WIDE, WIDE)} if fused else {}
        shapes |= {} if fused else {f"{h}.self_attn.{p}_proj.weight": (WIDE, WIDE) for p in "qkv"}
        shapes |= {f"{h}.self_attn.o_proj.weight": (WIDE, WIDE), f"{h}.mlp.down_proj.weight": (WIDE, INNER)}
        shapes |= {f"{h}.mlp.{n}_proj.weight": (INNER, WIDE) for n in ("gate", "up")}
    return random_tensors(shapes)


def norm(x, weight):
    return x * (x.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt() * weight


def rotate(x):  # batch × length × heads × size: each of the first half turns with its partner in the second
    half = x.shape[-1] // 2
    angle = torch.arange(x.shape[1])[:, None] * 10000 ** (-torch.arange(half) / half)
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def attend(q, k, v):
    q, k, v = (t.unflatten(-1, (HEADS, -1)) for t in (q, k, v))
    scores = torch.einsum("bihd,bjhd->bhij", rotate(q), rotate(k)) / (WIDE // HEADS) ** 0.5
    scores = scores.masked_fill(torch.ones(scores.shape[-2:]).triu(1).bool(), float("-inf"))
    return torch.einsum("bhij,bjhd->bihd", scores.softmax(-1), v).flatten(2)


def silu(x):
    return x / (1 + torch.exp(-x))


def qwen_logits(t, ids):
    """Compute modeling_qwen.py by hand: c_attn splits into q, k, v; the MLP is c_proj(w1 · silu(w2))."""
    x = t["transformer.wte.weight"][ids]
    for i in range(LAYERS):
        w = {n.removeprefix(f"transformer.h.{i}."): v for n, v in t.items() if n.startswith(f"transformer.h.{i}.")}
        mixed = norm(x, w["ln_1.weight"]) @ w["attn.c_attn.weight"].T + w["attn.c_attn.bias"]
        x = x + attend(*mixed.split(WIDE, -1)) @ w["attn.c_proj.weight"].T
        y = norm(x, w["ln_2.weight"])
        x = x + ((y @ w["mlp.w1.weight"].T) * silu(y @ w["mlp.w2.weight"].T)) @ w["mlp.c_proj.weight"].T
    return norm(x, t["transformer.ln_f.weight"]) @ t["lm_head.weight"].T


def llama_logits(t, ids):
    """Compute modeling_llama.py or modeling_baichuan.py by hand; W_pack splits into q, k, v."""
    x = t["model.embed_tokens.weight"][ids]
    for i in range(LAYERS):
        w = {n.removeprefix(f"model.layers.{i}."): v for n, v in t.items() if n.startswith(f"model.layers.{i}.")}
        y = norm(x, w["input_layernorm.weight"])
        if "self_attn.W_pack.weight" in w:
            q, k, v = (y @ w["self_attn.W_pack.weight"].T).split(WIDE, -1)
        else:
            q, k, v = (y @ w[f"self_attn.{p}_proj.weight"].T for p in "qkv")
        x = x + attend(q, k, v) @ w["self_attn.o_proj.weight"].T
        y = norm(x, w["post_attention_layernorm.weight"])
        x = x + (silu(y @ w["mlp.gate_proj.weight"].T) * (y @ w["mlp.up_proj.weight"].T)) @ w["mlp.down_proj.weight"].T
    return norm(x, t["model.norm.weight"]) @ t["lm_head.weight"].T


FAMILIES = {
    "qwen": (QWEN, qwen_tensors(), qwen_logits),
    "baichuan": (BAICHUAN, llama_tensors(fused=True), llama_logits),
    "llama": (EARLY, llama_tensors(fused=False), llama_logits),
}
every_family = pytest.mark.parametrize("family", FAMILIES)


def write(folder, config, tensors, safe=False):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if safe:
        save_file({n: t.contiguous() for n, t in tensors.items()}, folder / "model.safetensors")
    else:  # in two files and an index, as published
        names, index = sorted(tensors), {}
        for number, chosen in enumerate((names[::2], names[1::2]), 1):
            file = f"pytorch_model-0000{number}-of-00002.bin"
            torch.save({n: tensors[n] for n in chosen}, folder / file)
            index |= dict.fromkeys(chosen, file)
        content = {"metadata": {"total_size": 0}, "weight_map": index}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(content))
    return folder


def loaded(folder, family):
    """Load a model of random weights from the family's original files."""
    return backbones.load_model(write(folder, *FAMILIES[family][:2]), dtype=torch.float32)


def logits(model, ids=IDS):
    with torch.no_grad():
        return model(input_ids=ids).logits


TARGETS = ["q_proj", "v_proj", "k_proj", "o_proj", "gate_proj", "down_proj", "up_proj"]
DELTA = {  # adapter_config.json of Chinese-LLaMA-LoRA-7B (peft 0.3.0.dev0), but for r and lora_alpha
    "base_model_name_or_path": "decapoda-research/llama-7b-hf",
    "bias": "none",
    "enable_lora": None,
    "fan_in_fan_out": False,
    "inference_mode": True,
    "lora_dropout": 0.05,
    "merge_weights": False,
    "modules_to_save": ["embed_tokens", "lm_head"],
    "peft_type": "LORA",
    "target_modules": TARGETS,
    "task_type": "CAUSAL_LM",
}


def delta(folder, words, seed, rank=2, **extra):
    """Write a delta as published, LoRA pairs of every projection, embeddings and lm_head for more tokens."""
    shapes = {"model.embed_tokens.weight": (words, WIDE), "lm_head.weight": (words, WIDE)}
    for name, tensor in FAMILIES["llama"][1].items():
        if "_proj" in name:
            stem = name.removesuffix(".weight")
            shapes |= {
                f"{stem}.lora_A.weight": (rank, tensor.shape[1]),
                f"{stem}.lora_B.weight": (tensor.shape[0], rank),
            }
    tensors = random_tensors(shapes, seed)
    folder.mkdir(exist_ok=True)
    config = DELTA | {"r": rank, "lora_alpha": 3 * rank} | extra
    (folder / "adapter_config.json").write_text(json.dumps(config))
    write_delta(folder, tensors)
    return folder, tensors


def write_delta(folder, tensors):
    torch.save({f"base_model.model.{n}": t for n, t in tensors.items()}, folder / "adapter_model.bin")
