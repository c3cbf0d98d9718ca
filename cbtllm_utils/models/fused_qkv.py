"""Qwen-7B (v1) and Baichuan-7B as built-in classes whose q, k and v stay the one fused layer that their files hold."""

from pathlib import Path

import torch
from torch import nn
from transformers import LlamaForCausalLM, Qwen2ForCausalLM
from transformers.models.llama.modeling_llama import LlamaAttention
from transformers.models.qwen2.modeling_qwen2 import Qwen2Attention


class FusedAttention:
    """An attention layer whose q, k and v come from one linear layer; the stock forward asks for q, then k, then v."""

    fused, bias = "", False

    def __init__(self, config: object, layer_idx: int) -> None:
        super().__init__(config, layer_idx)
        del self.q_proj, self.k_proj, self.v_proj
        setattr(self, self.fused, nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=self.bias))

    def q_proj(self, hidden: torch.Tensor) -> torch.Tensor:
        """Queries, batch × length × hidden size; keys and values wait for the two calls that follow."""
        query, *self._waiting = getattr(self, self.fused)(hidden).chunk(3, dim=-1)
        return query

    def k_proj(self, hidden: torch.Tensor) -> torch.Tensor:
        """Keys and then, as `v_proj`, values of the same input."""
        return self._waiting.pop(0)

    v_proj = k_proj


class QwenV1Attention(FusedAttention, Qwen2Attention):
    """Attention of Qwen-7B."""

    fused, bias = "c_attn", True


class BaichuanAttention(FusedAttention, LlamaAttention):
    """Attention of Baichuan-7B."""

    fused = "W_pack"


class FusedModel:
    """A stock causal LM with fused attention layers."""

    def __init__(self, config: object) -> None:
        super().__init__(config)
        for index, layer in enumerate(self.model.layers):
            layer.self_attn = self.attention_class(config, index)

    def save_pretrained(self, directory: str | Path, **kwargs: object) -> None:
        """Save under the stock class's names: AutoModel would re-initialise a fused projection without a word."""
        tensors = {}
        for name, tensor in self.state_dict().items():
            head, found, tail = name.partition(f".{self.attention_class.fused}.")
            parts = zip("qkv", tensor.chunk(3), strict=True) if found else ()
            tensors |= {f"{head}.{p}_proj.{tail}": part.clone() for p, part in parts} if found else {name: tensor}
        with torch.device("meta"):
            stock = self.stock_class(self.config)
        stock.load_state_dict(tensors, assign=True)
        stock.generation_config = self.generation_config
        stock.save_pretrained(directory, **kwargs)


class QwenV1ForCausalLM(FusedModel, Qwen2ForCausalLM):
    """Qwen-7B (and 1.8B, 14B) of 2023."""

    attention_class, stock_class = QwenV1Attention, Qwen2ForCausalLM


class BaichuanForCausalLM(FusedModel, LlamaForCausalLM):
    """Baichuan-7B."""

    attention_class, stock_class = BaichuanAttention, LlamaForCausalLM
