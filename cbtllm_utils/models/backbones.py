"""Load backbones: the four of CBT-LLM from their original files, and any current causal LM; no remote code is run.

Qwen-7B (v1) and Baichuan-7B are read into the built-in Qwen2 and LLaMA classes, which compute the same function. Their
q, k and v stay one layer under its original name (`c_attn`, `W_pack`): one LoRA pair adapts all three together, as in
2023; split projections would be another model with more parameters. Chinese-LLaMA and Chinese-Alpaca are LLaMA with the
published LoRA deltas merged into it.
"""

import contextlib
import hashlib
import json
import pickle
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from peft import PeftConfig, PeftModel, set_peft_model_state_dict
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
)
from transformers.modeling_utils import load_state_dict

from cbtllm_utils import files
from cbtllm_utils.models import fused_qkv

# What configurations and classes of models raise for a size that is a text, a negative number or 0 …
IMPOSSIBLE = (TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError, StrictDataclassError)
# … and what readers of weights raise for damaged files.
UNREADABLE = (SafetensorError, pickle.UnpicklingError, EOFError, OSError, LookupError)
WEIGHTS = {  # a folder's weight files, the kind that transformers and peft prefer first
    "model": ("model*.safetensors", "pytorch_model*.bin"),
    "adapter": ("adapter_model.safetensors", "adapter_model.bin"),
}
# Qwen's feed-forward is c_proj(w1(x) · silu(w2(x))): w2 is the gate, w1 the "up" (modeling_qwen.py, QWenMLP).
QWEN_KEYS = {
    "transformer.wte.": "model.embed_tokens.",
    "transformer.ln_f.": "model.norm.",
    "transformer.h.": "model.layers.",
    ".ln_1.": ".input_layernorm.",
    ".ln_2.": ".post_attention_layernorm.",
    ".attn.c_attn.": ".self_attn.c_attn.",
    ".attn.c_proj.": ".self_attn.o_proj.",
    ".mlp.w1.": ".mlp.up_proj.",
    ".mlp.w2.": ".mlp.gate_proj.",
    ".mlp.c_proj.": ".mlp.down_proj.",
}


def qwen_config(c: dict) -> Qwen2Config:
    """Return the Qwen2 configuration that computes what a Qwen (v1) configuration describes.

    Log-n attention and dynamic NTK act only beyond seq_length (modeling_qwen.py): the context ends there.
    """
    if c["rotary_pct"] != 1 or not c["no_bias"] or c["kv_channels"] * c["num_attention_heads"] != c["hidden_size"]:
        raise files.InputError("rotary_pct ≠ 1, biases or other head sizes have no equal in the built-in classes")
    return Qwen2Config(
        vocab_size=c["vocab_size"],
        hidden_size=c["hidden_size"],
        intermediate_size=c["intermediate_size"] // 2,  # Qwen's config counts w1 and w2 together.
        num_hidden_layers=c["num_hidden_layers"],
        num_attention_heads=c["num_attention_heads"],
        num_key_value_heads=c["num_attention_heads"],
        max_position_embeddings=c["seq_length"],
        rms_norm_eps=c["layer_norm_epsilon"],
        rope_theta=float(c["rotary_emb_base"]),
        tie_word_embeddings=False,
    )


def llama_config(c: dict) -> LlamaConfig:
    """Return the LLaMA configuration of an early conversion or of Baichuan-7B, with the special ids of its tokenizer.

    Early conversions say bos 0, eos 1, pad -1 (or 0) and max_sequence_length; their tokenizer says <s> = 1, </s> = 2.
    """
    return LlamaConfig(
        vocab_size=c["vocab_size"],
        hidden_size=c["hidden_size"],
        intermediate_size=c["intermediate_size"],
        num_hidden_layers=c["num_hidden_layers"],
        num_attention_heads=c["num_attention_heads"],
        max_position_embeddings=c.get("max_position_embeddings", c.get("max_sequence_length", 2048)),
        rms_norm_eps=c["rms_norm_eps"],
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=None,
        tie_word_embeddings=False,
    )


def baichuan_config(c: dict) -> LlamaConfig:
    """Return the LLaMA configuration of Baichuan-7B.

    Raises:
        InputError: For its relatives, which compute something else.
    """
    if c.get("architectures") != ["BaiChuanForCausalLM"]:
        raise files.InputError(
            f"{c.get('architectures')} is not Baichuan-7B (BaiChuanForCausalLM): Baichuan2 normalizes its lm_head "
            "and the 13B models use ALiBi, which are not read here"
        )
    return llama_config(c)


@dataclass(frozen=True)
class Format:
    """How original files of 2023 are read: the class, its configuration from theirs, and names there → names here."""

    model_class: type[PreTrainedModel]
    config: Callable[[dict], PreTrainedConfig]
    key_mapping: dict[str, str] = field(default_factory=dict)


FORMATS = {  # by config.json's model_type
    "qwen": Format(fused_qkv.QwenV1ForCausalLM, qwen_config, QWEN_KEYS),
    "baichuan": Format(fused_qkv.BaichuanForCausalLM, baichuan_config),
    "llama": Format(LlamaForCausalLM, llama_config),
}


def original_format(raw: dict) -> Format | None:
    """Return the format of original files with this config.json, or None for a current model."""
    kind = str(raw.get("model_type"))
    if kind == "llama" and raw.get("architectures") != ["LLaMAForCausalLM"]:  # the class's name in early 2023
        return None
    return FORMATS.get(kind)


def load_model(path: str | Path, deltas: tuple | list = (), **kwargs: object) -> PreTrainedModel:
    """Return the causal LM in a directory, in evaluation mode, with LoRA deltas merged into it.

    Args:
        path: The directory, with config.json and weights. Pickled weights are read with `weights_only`.
        deltas: Directories in peft's layout, merged in this order in the precision of the weights' own files, as
            Chinese-LLaMA's authors do (ymcui/Chinese-LLaMA-Alpaca, scripts/merge_llama_with_chinese_lora.py).
        kwargs: For `from_pretrained`: dtype= (by default the weights' own), quantization_config=, device_map=.

    Raises:
        InputError: When files and configuration do not fit each other, naming the tensor, or describe a relative of a
            format that only looks alike.
    """
    if not deltas:
        return load_base(path, **kwargs)
    dtype = kwargs.pop("dtype", None)
    model = load_base(path)
    for delta in deltas:
        model = merge_delta(model, delta)
    if kwargs:  # Quantization rounds weights as they are loaded: those that are merged already.
        merged = {"config": model.config, "state_dict": model.state_dict(), "dtype": dtype or model.dtype}
        return type(model).from_pretrained(None, **merged, **kwargs)
    if dtype:  # not model.to(dtype), which would round the rotary frequencies as well
        for weight in model.parameters():
            weight.data = weight.data.to(dtype)
        model.config.dtype = dtype
    return model


def load_base(path: str | Path, **kwargs: object) -> PreTrainedModel:
    """Return the causal LM in a directory; raise InputError naming a tensor that is missing or does not fit."""
    where, folder = files.shown(path), files.path(path)
    original, config = configuration(path)
    build = original.model_class if original else AutoModelForCausalLM
    if original:
        # Without generation_config.json, whose sampling values would otherwise be the model's defaults.
        kwargs |= {"config": config, "generation_config": GenerationConfig.from_model_config(config)}
        kwargs |= {"key_mapping": original.key_mapping or None}
    options = {"trust_remote_code": False, "output_loading_info": True, "ignore_mismatched_sizes": True}
    try:
        model, info = build.from_pretrained(folder, **options, **kwargs)
    except (*IMPOSSIBLE, *UNREADABLE) as error:
        raise unreadable(path, "model", error) from None
    missing, unexpected = info["missing_keys"], info["unexpected_keys"] if original else ()
    if missing:
        instead = f"there is {first_of(unexpected)} instead" if unexpected else "is a file of the checkpoint missing?"
        raise files.InputError(f"{where}: {first_of(missing)} is missing; {instead}")
    if unexpected:
        raise files.InputError(
            f"{where}: {first_of(unexpected)} is not expected; is this another or a quantized model?"
        )
    if info["mismatched_keys"]:
        name, found, expected = min(info["mismatched_keys"])
        raise files.InputError(f"{where}: {name} is {size(found)} where config.json implies {size(expected)}")
    model.name_or_path = model.config.name_or_path = ""  # peft's cards and saved configurations would show a folder
    return model


def merge_delta(model: PreTrainedModel, directory: str | Path) -> PreTrainedModel:
    """Return the model with a LoRA delta merged into its weights, and with the delta's embeddings where it has any.

    Raises:
        InputError: When a tensor of the delta has no place in the model or is missing, naming it.
    """
    where, folder = files.shown(directory), files.path(directory)
    files.read_json(folder / "adapter_config.json")  # peft would look for a missing one on the hub
    weights = tensors(directory, "adapter", device="cpu")
    # Layers trained whole are put in place first: as peft's modules_to_save each would be in memory three times.
    whole = {name.removeprefix("base_model.model."): weights.pop(name) for name in [*weights] if ".lora_" not in name}
    try:
        for name, tensor in whole.items():
            if name.endswith("embed_tokens.weight") and len(tensor) != model.config.vocab_size:
                model.resize_token_embeddings(len(tensor), mean_resizing=False)
        with quiet():
            config = PeftConfig.from_pretrained(str(folder))
            lacking = [
                layer for layer in config.modules_to_save or () if not any(f"{layer}." in name for name in whole)
            ]
            config.modules_to_save = None
            unexpected = model.load_state_dict(whole, strict=False).unexpected_keys
            adapted = PeftModel(model, config)
        missing, unplaced = set_peft_model_state_dict(adapted, weights)
    except IMPOSSIBLE as error:
        raise files.InputError(f"{where}: {one_line(error)}; is it the delta of this base?") from None
    missing = [*lacking, *(name for name in missing if ".lora_" in name)]  # peft lists the base's tensors, too
    if unexpected := [*unexpected, *unplaced]:
        raise files.InputError(f"{where}: {first_of(unexpected)} matches nothing in the base; is it its delta?")
    if missing:
        raise files.InputError(f"{where}: {first_of(missing)} is missing; is it the delta of this base?")
    del whole, weights
    return adapted.merge_and_unload().requires_grad_(True)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence what peft asks of transformers 5 by an old name, and that it ignores settings of peft 0.2."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".is_gradient_checkpointing. is deprecated", category=FutureWarning)
        warnings.filterwarnings("ignore", message="Unexpected keyword arguments")
        yield


def outline(path: str | Path, deltas: tuple | list = ()) -> PreTrainedModel:
    """Return what `load_model` would, without weights: on the meta device, so that its size can be computed."""
    original, config = configuration(path)
    for delta in deltas:
        for name, tensor in tensors(delta, "adapter").items():
            if name.endswith(".embed_tokens.weight"):
                config.vocab_size = len(tensor)
    try:
        with torch.device("meta"):
            if original:
                return original.model_class(config)
            return AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except IMPOSSIBLE as error:
        raise files.InputError(f"{files.shown(path)}: {one_line(error)}") from None


def configuration(path: str | Path) -> tuple[Format | None, PreTrainedConfig]:
    """Return the format of the files in a directory (None for a current model) and the configuration."""
    where, raw = files.shown(path), files.read_json(files.path(path) / "config.json")
    if not isinstance(raw, dict):
        raise files.InputError(f"{where}/config.json: a {type(raw).__name__}, expected an object")
    original = original_format(raw)
    try:
        if original:
            return original, original.config(raw)
        return None, AutoConfig.from_pretrained(files.path(path), trust_remote_code=False)
    except KeyError as error:
        raise files.InputError(f"{where}: {error} is missing from config.json") from None
    except (*IMPOSSIBLE, *UNREADABLE) as error:
        raise files.InputError(f"{where}: {one_line(error)}") from None


def tensors(path: str | Path, kind: str = "model", device: str = "meta") -> dict[str, torch.Tensor]:
    """Return the tensors in a directory ("model" or "adapter") by their names in its files.

    On the device "meta" they have shapes and no values; on "cpu" they are mapped from the files.
    """
    found = {}
    for file in weight_files(path, kind):
        try:
            found |= load_state_dict(file, map_location=device)
        except (*IMPOSSIBLE, *UNREADABLE) as error:
            raise unreadable(path, kind, error) from None
    if not found:
        names = [file.name for file in weight_files(path, kind)]
        reason = f"its {' and '.join(names)} hold no tensors" if names else ""
        raise unreadable(path, kind, FileNotFoundError(reason))
    return found


def weight_files(path: str | Path, kind: str) -> list[Path]:
    """Return the weight files in a directory, sorted; only safetensors where there are any."""
    found = (sorted(files.path(path).glob(pattern)) for pattern in WEIGHTS[kind])
    return next((names for names in found if names), [])


def unreadable(path: str | Path, kind: str, error: Exception) -> files.InputError:
    """Return the error to raise for a directory that could not be read: it names the first damaged file, if one is."""
    where, found = files.shown(path), weight_files(path, kind)
    if not found:
        return files.InputError(f"{where}: no {' and no '.join(WEIGHTS[kind])}; is it the folder?")
    for file in found:
        try:
            load_state_dict(file, map_location="meta")
        except (*IMPOSSIBLE, *UNREADABLE) as reason:
            advice = "fetch it again, and not as a Git-LFS pointer"
            return files.InputError(f"{where}/{file.name}: cannot be read ({one_line(reason)}); {advice}")
    return files.InputError(f"{where}: {one_line(error)}".replace(str(files.path(path)), where))


def weights_hash(model: nn.Module) -> str:
    """Return the SHA-256 of a model in memory: its configuration, and names, types and values of its weights.

    Seven billion weights take half a minute. Where the model's files are does not count.
    """
    config = model.config.to_diff_dict()
    known = {name: value for name, value in config.items() if name not in ("_name_or_path", "transformers_version")}
    digest = hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


def lora_targets(model: nn.Module) -> list[str]:
    """Return the layers that LLaMA-Factory adapted by default in autumn 2023: q and v, or the one for q, k and v.

    Raises:
        InputError: For a family that names them otherwise; peft's "all-linear" adapts every linear layer.
    """
    names = {name.rpartition(".")[2] for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    for targets in (["q_proj", "v_proj"], ["c_attn"], ["W_pack"], ["qkv_proj"], ["query_key_value"]):
        if names.issuperset(targets):
            return targets
    raise files.InputError(f"no known attention projection among {sorted(names)}; name the layers to adapt")


def size(shape: torch.Size) -> str:
    """Return a tensor's shape as text, 4096×128."""
    return "×".join(map(str, shape))


def first_of(names: object) -> str:
    """Return the first name by alphabet and how many more there are."""
    first, *rest = sorted(names)
    return f"{first} (and {len(rest)} more)" if rest else first


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
