"""Small models written as the authors of the four backbones published theirs: names, fused layers, configuration."""

import re
from pathlib import Path

import pandas as pd
import torch
from peft import PeftModel
from safetensors.torch import save_file
from transformers import PreTrainedModel

from cbtllm_utils import files
from cbtllm_utils.models import backbones

PADDING = "[PAD]"  # what Chinese-Alpaca adds behind Chinese-LLaMA's vocabulary


def shape(size: dict, vocabulary: int) -> dict:
    """The keys that the configurations of LLaMA and Baichuan-7B share."""
    return size | {
        "vocab_size": vocabulary,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "rms_norm_eps": 1e-6,
        "use_cache": True,
    }


def llama_config(size: dict, vocabulary: int) -> dict:
    """config.json of the early conversions of LLaMA-7B, with the ids that their tokenizer belies."""
    ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": -1}
    more = {"architectures": ["LLaMAForCausalLM"], "model_type": "llama", "max_sequence_length": 2048}
    return shape(size, vocabulary) | ids | more | {"torch_dtype": "float16", "transformers_version": "4.27.0.dev0"}


def baichuan_config(size: dict, vocabulary: int) -> dict:
    """config.json of Baichuan-7B."""
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    more = {"architectures": ["BaiChuanForCausalLM"], "model_type": "baichuan", "max_position_embeddings": 4096}
    code = {"AutoModelForCausalLM": "modeling_baichuan.BaiChuanForCausalLM"}  # named as there, and never run
    return shape(size, vocabulary) | ids | more | {"auto_map": code, "tie_word_embeddings": False}


def qwen_config(size: dict, vocabulary: int) -> dict:
    """config.json of Qwen-7B (v1); its intermediate_size counts w1 and w2 together."""
    return {
        "architectures": ["QWenLMHeadModel"],
        "model_type": "qwen",
        "vocab_size": vocabulary,
        "hidden_size": size["hidden_size"],
        "num_hidden_layers": size["num_hidden_layers"],
        "num_attention_heads": size["num_attention_heads"],
        "intermediate_size": 2 * size["intermediate_size"],
        "kv_channels": size["hidden_size"] // size["num_attention_heads"],
        "layer_norm_epsilon": 1e-6,
        "rotary_emb_base": 10000,
        "rotary_pct": 1.0,
        "seq_length": 2048,
        "max_position_embeddings": 8192,
        "no_bias": True,
        "use_dynamic_ntk": True,
        "use_logn_attn": True,
        "tie_word_embeddings": False,
        "tokenizer_class": "QWenTokenizer",
    }


CONFIGS = {"llama": llama_config, "baichuan": baichuan_config, "qwen": qwen_config}


def fresh(family: str, size: dict, vocabulary: int, seed: int) -> tuple[PreTrainedModel, dict]:
    """An untrained model of a family and its config.json; `backbones` makes it as it makes the published one.

    Input and output embeddings are one matrix while it trains: little text cannot fill two.
    """
    torch.manual_seed(seed)
    content = CONFIGS[family](size, vocabulary)
    original = backbones.FORMATS[family]
    model = original.model_class(original.config(content))
    model.lm_head.weight = model.model.embed_tokens.weight
    return model, content


def tensors(model: PreTrainedModel, family: str) -> dict[str, torch.Tensor]:
    """The model's weights under the names of its family's files, the output embeddings apart from the input's."""
    renames = {new: old for old, new in backbones.FORMATS[family].key_mapping.items()}
    found = {}
    for name, tensor in model.state_dict().items():
        for new, old in renames.items():
            name = name.replace(new, old)
        found[name] = tensor.detach().clone().contiguous()
    return found


def lora_tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What Chinese-LLaMA's adapter_model.bin holds: the LoRA pairs, and embed_tokens and lm_head whole."""
    found = {}
    for name, tensor in model.state_dict().items():
        if ".lora_" in name:
            found[name.replace(".default", "")] = tensor.detach().clone()
        elif name.endswith(("embed_tokens.weight", "lm_head.weight")):
            found[name] = tensor.detach().clone()
    return found


def lora_config(rank: int, alpha: float, targets: list[str]) -> dict:
    """adapter_config.json of Chinese-LLaMA and -Alpaca (peft 0.3.0.dev0)."""
    return {
        "base_model_name_or_path": "llama-7b",
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": alpha,
        "lora_dropout": 0.05,
        "modules_to_save": ["embed_tokens", "lm_head"],
        "peft_type": "LORA",
        "r": rank,
        "target_modules": targets,
        "task_type": "CAUSAL_LM",
    }


def write_pieces(folder: Path, model: bytes, begin: bool, padding: int | None = None) -> None:
    """The tokenizer files of LLaMA's kind: tokenizer.model, tokenizer_config.json, Alpaca's added_tokens.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(model)
    files.write_json(folder / "tokenizer_config.json", {"add_bos_token": begin, "add_eos_token": False})
    if padding is not None:
        files.write_json(folder / "added_tokens.json", {PADDING: padding})


def write_weights(content: dict[str, torch.Tensor], folder: Path, family: str) -> None:
    """The weights in the container of the family: LLaMA and Baichuan came as pickles, LLaMA's in half precision."""
    if family == "qwen":
        save_file(content, folder / "model.safetensors", {"format": "pt"})
    else:
        half = family == "llama"
        torch.save({n: t.half() if half else t for n, t in content.items()}, folder / "pytorch_model.bin")


def write_delta(adapted: PeftModel, folder: Path) -> None:
    """An adapter with its embeddings as adapter_config.json and adapter_model.bin."""
    config = adapted.peft_config["default"]
    files.write_json(
        folder / "adapter_config.json", lora_config(config.r, config.lora_alpha, sorted(config.target_modules))
    )
    torch.save(lora_tensors(adapted), folder / "adapter_model.bin")


def first_layer(folder: str | Path) -> pd.Series:
    """The tensors of a folder's first layer, as "name shape", in alphabetical order: of a model or of a delta."""
    kind = "adapter" if (files.path(folder) / "adapter_config.json").exists() else "model"
    found = backbones.tensors(folder, kind)
    names = sorted(name for name in found if re.search(r"\.(layers|h)\.0\.", name))
    return pd.Series([f"{name.partition('.0.')[2]} {backbones.size(found[name].shape)}" for name in names])
