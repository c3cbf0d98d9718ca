"""Qwen-7B (v1) and Baichuan-7B as built-in classes that keep q, k and v in one linear layer, as their files do."""

from pathlib import Path

import torch
from torch import nn
from transformers import LlamaForCausalLM, Qwen2ForCausalLM
from transformers.models.llama.modeling_llama import LlamaAttention
from transformers.models.phi3.modeling_phi3 import Phi3Attention
from transformers.models.qwen2.modeling_qwen2 import Qwen2Attention


class FusedAttention:
    """A stock attention layer with one projection for q, k and v, under the name that the original files give it.

    The forward is that of Phi-3, which transformers writes for such a layer; it asks for `qkv_proj`.
    """

    forward = Phi3Attention.forward
    qkv_name, bias = "", False

    def __init__(self, config: object, layer_idx: int) -> None:
        super().__init__(config, layer_idx)
        del self.q_proj, self.k_proj, self.v_proj
        self.num_key_value_heads = config.num_key_value_heads
        setattr(self, self.qkv_name, nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=self.bias))

    @property
    def qkv_proj(self) -> nn.Module:
        """The projection, under the name that Phi-3's forward asks for."""
        return getattr(self, self.qkv_name)


class QwenV1Attention(FusedAttention, Qwen2Attention):
    """Attention of Qwen-7B."""

    qkv_name, bias = "c_attn", True


class BaichuanAttention(FusedAttention, LlamaAttention):
    """Attention of Baichuan-7B."""

    qkv_name = "W_pack"


class FusedModel:
    """A stock causal LM with fused attention layers."""

    def __init__(self, config: object) -> None:
        super().__init__(config)
        for index, layer in enumerate(self.model.layers):
            layer.self_attn = self.attention_class(config, index)

    def save_pretrained(self, directory: str | Path, **kwargs: object) -> None:
        """Save under the names of the stock class: AutoModel would silently re-initialize a fused projection."""
        tensors = {}
        for name, tensor in self.state_dict().items():
            head, found, tail = name.partition(f".{self.attention_class.qkv_name}.")
            if found:
                for letter, third in zip("qkv", tensor.chunk(3), strict=True):
                    tensors[f"{head}.{letter}_proj.{tail}"] = third.clone()
            else:
                tensors[name] = tensor
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


def qkv_name(model: nn.Module) -> str | None:
    """Return the name of a model's fused projection, `c_attn` or `W_pack`; None for any other model."""
    return model.attention_class.qkv_name if isinstance(model, FusedModel) else None
