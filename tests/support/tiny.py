"""A model of two small layers and a tokenizer whose lengths can be counted by hand, for the tests of both its uses."""

import torch
import transformers


class Bytes:
    """One token a byte: 0 pads, 1 ends, 2 begins, byte b is b + 3."""

    bos_token_id, eos_token_id, pad_token_id = 2, 1, 0
    added_tokens_decoder, all_special_ids, all_special_tokens = {}, [], []  # no text spells a token but bytes

    def encode(self, text, add_special_tokens=True):
        return [2] * add_special_tokens + [byte + 3 for byte in text.encode()]

    def decode(self, ids, skip_special_tokens=True):
        return bytes(i - 3 for i in ids if i >= 3).decode(errors="replace")

    def get_vocab(self):
        return {str(i): i for i in range(259)}

    def __len__(self):
        return 259


def llama(seed=0, **values):
    """The same weights for the same seed."""
    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {"bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=259, **sizes | ids | values)).eval()
