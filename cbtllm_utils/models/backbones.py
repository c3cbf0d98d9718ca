"""The four backbones of CBT-LLM from their original files, and any current causal LM, without remote code.

Qwen-7B (v1) and Baichuan-7B are read into the built-in Qwen2 and LLaMA classes, which compute the same function. Their
q, k and v stay one fused layer under its original name (`c_attn`, `W_pack`): one LoRA pair adapts all three together,
as in 2023; split projections would be another model with more parameters. Chinese-LLaMA and Chinese-Alpaca are merged
from LLaMA and the published deltas.
"""

import hashlib
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen2Config

from cbtllm_utils import files
from cbtllm_utils.models import checkpoints, fused_qkv

# Qwen's feed-forward is c_proj(w1(x) · silu(w2(x))): w2 is the gate, w1 the "up" (modeling_qwen.py, QWenMLP).
QWEN_NAMES = dict(
    pair.split("=")
    for pair in """
    transformer.wte.=model.embed_tokens. transformer.ln_f.=model.norm. transformer.h.=model.layers.
    .ln_1.=.input_layernorm. .ln_2.=.post_attention_layernorm. .attn.c_attn.=.self_attn.c_attn.
    .attn.c_proj.=.self_attn.o_proj. .mlp.w1.=.mlp.up_proj. .mlp.w2.=.mlp.gate_proj. .mlp.c_proj.=.mlp.down_proj.
    """.split()
)


def qwen_config(c: dict) -> Qwen2Config:
    """The Qwen2 configuration that computes what a Qwen (v1) configuration describes.

    Log-n attention and dynamic NTK act only beyond seq_length (modeling_qwen.py): the context stops there.
    """
    if c["rotary_pct"] != 1 or not c["no_bias"] or c["kv_channels"] * c["num_attention_heads"] != c["hidden_size"]:
        raise files.InputError("rotary_pct ≠ 1, biases or other head sizes have no equal in the built-in classes")
    return Qwen2Config(
        vocab_size=c["vocab_size"],
        hidden_size=c["hidden_size"],
        intermediate_size=c["intermediate_size"] // 2,  # Qwen's config counts w1 and w2 together
        num_hidden_layers=c["num_hidden_layers"],
        num_attention_heads=c["num_attention_heads"],
        num_key_value_heads=c["num_attention_heads"],
        max_position_embeddings=c["seq_length"],
        rms_norm_eps=c["layer_norm_epsilon"],
        rope_theta=float(c["rotary_emb_base"]),
        tie_word_embeddings=False,
    )


def llama_config(c: dict) -> LlamaConfig:
    """The LLaMA configuration of an early conversion or of Baichuan-7B, whose special ids follow its tokenizer.

    Early conversions say bos 0, eos 1, pad -1 (or 0) and max_sequence_length; their tokenizer says <s> = 1, </s> = 2.
    """
    keys = (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "rms_norm_eps",
    )
    positions = c.get("max_position_embeddings", c.get("max_sequence_length", 2048))
    return LlamaConfig(
        **{key: c[key] for key in keys},
        num_key_value_heads=c.get("num_key_value_heads", c["num_attention_heads"]),
        max_position_embeddings=positions,
        rope_theta=float(c.get("rope_theta", 10000.0)),
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=None,
        tie_word_embeddings=False,
    )


def baichuan_config(c: dict) -> LlamaConfig:
    """The LLaMA configuration of Baichuan-7B; InputError for its relatives, which compute something else."""
    if c.get("architectures") != ["BaiChuanForCausalLM"]:
        raise files.InputError(
            f"{c.get('architectures')} is not Baichuan-7B (BaiChuanForCausalLM): Baichuan2 normalises its lm_head "
            "and the 13B models use ALiBi, which are not read here"
        )
    return llama_config(c)


# what classes of models raise when a configuration holds a text, a negative number or 0 where a size should stand
WRONG = (TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError, StrictDataclassError)
ORIGINALS = {  # config.json's model_type -> class, its configuration, names in the file -> names here
    "qwen": (fused_qkv.QwenV1ForCausalLM, qwen_config, QWEN_NAMES),
    "baichuan": (fused_qkv.BaichuanForCausalLM, baichuan_config, {}),
    "llama": (LlamaForCausalLM, llama_config, {}),
}


def described(path: str | Path, deltas: tuple | list = ()) -> tuple[str | None, dict]:
    """What a directory holds: a key of ORIGINALS, or None for a current model; and its config.json."""
    where, raw = files.shown(path), files.read_json(files.path(path) / "config.json")
    if not isinstance(raw, dict):
        raise files.InputError(f"{where}/config.json: a {type(raw).__name__}, expected an object")
    kind = str(raw.get("model_type"))
    early = kind == "llama" and (deltas or raw.get("architectures") == ["LLaMAForCausalLM"])
    if kind in ("qwen", "baichuan") or early:
        return kind, raw
    if deltas:
        raise files.InputError(f"{where}: deltas are merged into LLaMA only, and this is {kind}")
    return None, raw


def load_model(path: str | Path, deltas: tuple | list = (), **kwargs: object) -> PreTrainedModel:
    """The causal LM in a directory, in evaluation mode, with the deltas merged in their order.

    `kwargs` go to from_pretrained (dtype=, device_map=, distributed_config=). InputError that names the tensor or the
    reason when the files and the configuration do not fit each other, or describe a relative that only looks alike.
    """
    kind, raw = described(path, deltas)
    if kind is None:
        return current_model(path, **kwargs)
    made, _, renames = ORIGINALS[kind]
    tensors = checkpoints.read_tensors(path)
    for delta in deltas:
        tensors = checkpoints.merge_delta(tensors, delta)
    for old, new in renames.items():
        tensors = {name.replace(old, new): tensor for name, tensor in tensors.items()}
    empty = hollow(kind, raw, checkpoints.words(deltas), files.shown(path))
    checkpoints.fit(tensors, empty.state_dict(), files.shown(path))
    settings = {"dtype": next(iter(tensors.values())).dtype} | kwargs
    return made.from_pretrained(None, config=empty.config, state_dict=tensors, **settings)


def hollow(kind: str, raw: dict, words: int | None, where: str) -> PreTrainedModel:
    """The model that config.json describes, without weights (on the meta device); `words` tokens instead of its own."""
    made, configure, _ = ORIGINALS[kind]
    try:
        config = configure(raw | ({"vocab_size": words} if words else {}))
        with torch.device("meta"):
            return made(config)
    except KeyError as error:
        raise files.InputError(f"{where}: {error} is missing from config.json") from None
    except (*WRONG, files.InputError) as error:
        raise files.InputError(f"{where}: {' '.join(str(error).split())[:300]}") from None


def outline(path: str | Path, deltas: tuple | list = ()) -> PreTrainedModel:
    """What `load_model` would load, by its shapes alone: on the meta device, no weight is read."""
    kind, raw = described(path, deltas)
    where = files.shown(path)
    if kind:
        return hollow(kind, raw, checkpoints.words(deltas), where)
    try:
        with torch.device("meta"):
            config = AutoConfig.from_pretrained(files.path(path), trust_remote_code=False)
            return AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except (*WRONG, *checkpoints.UNREADABLE) as error:
        raise files.InputError(f"{where}: {' '.join(str(error).split())[:300]}") from None


def current_model(path: str | Path, **kwargs: object) -> PreTrainedModel:
    """A causal LM of any family built into transformers; InputError when a tensor is missing or has another shape."""
    where, settings = files.shown(path), {"trust_remote_code": False, "output_loading_info": True} | kwargs
    try:
        model, info = AutoModelForCausalLM.from_pretrained(files.path(path), **settings)
    except (*WRONG, *checkpoints.UNREADABLE) as error:
        raise files.InputError(f"{where}: {' '.join(str(error).split())[:300]}") from None
    for what in ("missing_keys", "mismatched_keys"):
        if names := info.get(what):
            raise files.InputError(f"{where}: {checkpoints.some(map(str, names))}: {what.replace('_', ' ')}")
    return model


def weights_hash(model: torch.nn.Module) -> str:
    """The hash of a model's weights as they are in memory: names, types, values. Seven billion take half a minute."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


def lora_targets(model: nn.Module) -> list[str]:
    """The layers that LLaMA-Factory adapted by default in autumn 2023: q and v, or the layer that q, k and v share.

    InputError for a family that names them otherwise; peft's "all-linear" is the way to adapt every linear layer.
    """
    names = {name.rpartition(".")[2] for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    for targets in (["q_proj", "v_proj"], ["c_attn"], ["W_pack"], ["qkv_proj"], ["query_key_value"]):
        if names.issuperset(targets):
            return targets
    raise files.InputError(f"no attention projection that is known among {sorted(names)}; name the layers to adapt")
