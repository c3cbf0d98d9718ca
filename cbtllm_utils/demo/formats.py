"""Write small models and vocabularies as the authors of the four backbones published theirs."""

import base64
import io
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import sentencepiece
import torch
from peft import PeftModel
from safetensors.torch import save_file
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedModel
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from cbtllm_utils import files
from cbtllm_utils.models import backbones

PADDING = "[PAD]"  # what Chinese-Alpaca adds after Chinese-LLaMA's vocabulary


def shared_config(size: dict, vocabulary: int) -> dict:
    """Return the keys that the configurations of LLaMA and Baichuan-7B share."""
    return size | {
        "vocab_size": vocabulary,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "rms_norm_eps": 1e-6,
        "use_cache": True,
    }


def llama_config(size: dict, vocabulary: int) -> dict:
    """Return config.json of the early conversions of LLaMA-7B, whose special ids contradict their tokenizer."""
    ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": -1}
    more = {"architectures": ["LLaMAForCausalLM"], "model_type": "llama", "max_sequence_length": 2048}
    versions = {"torch_dtype": "float16", "transformers_version": "4.27.0.dev0"}
    return shared_config(size, vocabulary) | ids | more | versions


def baichuan_config(size: dict, vocabulary: int) -> dict:
    """Return config.json of Baichuan-7B."""
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    more = {"architectures": ["BaiChuanForCausalLM"], "model_type": "baichuan", "max_position_embeddings": 4096}
    code = {"AutoModelForCausalLM": "modeling_baichuan.BaiChuanForCausalLM"}  # as published; never run
    return shared_config(size, vocabulary) | ids | more | {"auto_map": code, "tie_word_embeddings": False}


def qwen_config(size: dict, vocabulary: int) -> dict:
    """Return config.json of Qwen-7B (v1); its intermediate_size counts w1 and w2 together."""
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


def delta_config(rank: int, alpha: float, targets: list[str]) -> dict:
    """Return adapter_config.json of Chinese-LLaMA and -Alpaca (peft 0.3.0.dev0)."""
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


def fresh(family: str, size: dict, vocabulary: int, seed: int) -> tuple[PreTrainedModel, dict]:
    """Return an untrained model of a family, of the class that reads the published files, and its config.json.

    Input and output embeddings are one matrix while it trains: little text cannot fill two.
    """
    torch.manual_seed(seed)
    content = CONFIGS[family](size, vocabulary)
    original = backbones.FORMATS[family]
    model = original.model_class(original.config(content))
    model.lm_head.weight = model.model.embed_tokens.weight
    return model, content


def write_weights(model: PreTrainedModel, folder: Path, family: str) -> None:
    """Write a model's weights as the family's authors did: LLaMA and Baichuan as pickles, LLaMA's in half precision."""
    found = {}
    for name, tensor in model.state_dict().items():
        for theirs, ours in backbones.FORMATS[family].key_mapping.items():
            name = name.replace(ours, theirs)
        found[name] = (tensor.half() if family == "llama" else tensor).detach().clone().contiguous()
    if family == "qwen":
        save_file(found, folder / "model.safetensors", {"format": "pt"})
    else:
        torch.save(found, folder / "pytorch_model.bin")


def write_delta(adapted: PeftModel, folder: Path) -> None:
    """Write an adapter as Chinese-LLaMA's: the LoRA pairs, and embed_tokens and lm_head whole."""
    config = adapted.peft_config["default"]
    content = delta_config(config.r, config.lora_alpha, sorted(config.target_modules))
    files.write_json(folder / "adapter_config.json", content)
    found = {}
    for name, tensor in adapted.state_dict().items():
        if ".lora_" in name:
            found[name.replace(".default", "")] = tensor.detach().clone()
        elif name.endswith(("embed_tokens.weight", "lm_head.weight")):
            found[name] = tensor.detach().clone()
    torch.save(found, folder / "adapter_model.bin")


def write_pieces(folder: Path, model: bytes, begin: bool, padding: int | None = None) -> None:
    """Write the tokenizer files of LLaMA's kind; `begin` puts <s> first, `padding` is the id of Alpaca's [PAD]."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(model)
    files.write_json(folder / "tokenizer_config.json", {"add_bos_token": begin, "add_eos_token": False})
    if padding is not None:
        files.write_json(folder / "added_tokens.json", {PADDING: padding})


def first_layer(folder: str | Path) -> pd.Series:
    """Return the tensors of a folder's first layer, of a model or a delta, as "name shape" in alphabetical order."""
    kind = "adapter" if (files.path(folder) / "adapter_config.json").exists() else "model"
    found = backbones.tensors(folder, kind)
    names = sorted(name for name in found if re.search(r"\.(layers|h)\.0\.", name))
    return pd.Series([f"{name.partition('.0.')[2]} {backbones.size(found[name].shape)}" for name in names])


def pieces(texts: Sequence[str], size: int, coverage: float, prefix_space: bool) -> bytes:
    """Return a `tokenizer.model` of byte pairs, with bytes for rare characters, as LLaMA's and Baichuan's.

    Args:
        texts: What it is learned from; the same texts give the same file.
        size: Its number of pieces; fewer where the texts hold too few pairs.
        coverage: The share of the texts' characters that get a piece of their own, 0.98 to 1.
        prefix_space: Whether a space is put before a text, as LLaMA does and Baichuan does not.

    Raises:
        InputError: When `size` is too small for the characters.
    """
    made, lines = io.BytesIO(), (line for text in texts for line in text.split("\n") if line)
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=lines,
            model_writer=made,
            model_type="bpe",
            vocab_size=size,
            character_coverage=coverage,
            byte_fallback=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=prefix_space,
            minloglevel=2,
            num_threads=1,
        )
    except RuntimeError as error:
        reason = str(error).rpartition("] ")[2] or str(error)  # Sometimes the broken condition is all it says.
        raise files.InputError(f"a vocabulary of {size} pieces cannot be learned from these texts: {reason}") from None
    return made.getvalue()


def added_pieces(base: bytes, larger: bytes) -> bytes:
    """Return the base `tokenizer.model`, followed by the pieces that only the larger one has, with score 0.

    Chinese-LLaMA's was made so (ymcui/Chinese-LLaMA-Alpaca, scripts/merge_tokenizer/merge_tokenizers.py).
    """
    model, other = (sentencepiece_model_pb2.ModelProto() for _ in range(2))
    model.ParseFromString(base)
    other.ParseFromString(larger)
    held = {piece.piece for piece in model.pieces}
    for piece in other.pieces:
        if piece.piece not in held:
            model.pieces.add(piece=piece.piece, score=0.0)
    return model.SerializeToString()


def ranks(texts: Sequence[str], size: int, coverage: float) -> bytes:
    """Return a `qwen.tiktoken` of `size` tokens: byte-level byte-pair encoding, `base64 rank` on each line.

    First the 256 bytes, then whole characters that make up `coverage` of the texts, each after its leading bytes, then
    words. Learned from bytes, so small a vocabulary would hold frequent halves of neighbors instead of characters.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated")
    without_rare = str.maketrans(dict.fromkeys(rare(texts, coverage), "\n"))
    trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False)
    tokenizer.train_from_iterator((text.translate(without_rare) for text in texts), trainer)
    found = [bytes([byte]) for byte in range(256)]
    for piece, _ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]):
        token = piece.encode()
        found += [token[:end] for end in range(2, len(token))] if len(piece) == 1 else []
        found.append(token)
    tokens = list(dict.fromkeys(found))[:size]
    return b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(tokens))


def rare(texts: Sequence[str], coverage: float) -> list[str]:
    """Return the characters that remain without the most frequent ones, which make up this share of the texts."""
    counts = Counter("".join(texts)).most_common()
    enough = coverage * sum(count for _, count in counts)
    sums = itertools.accumulate(count for _, count in counts)
    return [character for (character, _), upto in zip(counts, sums, strict=True) if upto > enough]
