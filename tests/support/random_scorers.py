"""An encoder and a BLEURT with random weights that numpy draws, so that no library's version changes them."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

from cbtllm_utils import files

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
CHARACTERS = (
    "我能理解你现在的感受这听起来很不容易提到完了像是灾难化思维把一次考试失误看成整个人生试着写下三件今天做到事"
)
CONFIG = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
CONFIG |= {"intermediate_size": 32, "max_position_embeddings": 16, "type_vocab_size": 2, "layer_norm_eps": 1e-12}


def write(folder: Path) -> dict:
    """Write `encoder` and `bleurt`, which read 16 tokens; return both folders and BLEURT's model as `head`."""
    config = BertConfig(num_labels=1, **CONFIG)
    head = BertForSequenceClassification(config).eval()
    draw = np.random.default_rng(1)
    state = {
        name: torch.tensor(draw.normal("LayerNorm.weight" in name, 0.5, tuple(value.shape)), dtype=torch.float32)
        for name, value in sorted(head.state_dict().items())
        if value.is_floating_point()
    }
    head.load_state_dict(state, strict=False)
    for name in ("encoder", "bleurt"):
        place = folder / name
        place.mkdir()
        entries = [*SPECIAL, *dict.fromkeys(CHARACTERS)][: CONFIG["vocab_size"]]
        (place / "vocab.txt").write_text("\n".join(entries), encoding="utf-8")
        BertTokenizer(vocab=str(place / "vocab.txt"), model_max_length=16).save_pretrained(place)
    encoder = {name.removeprefix("bert."): value for name, value in state.items() if name.startswith("bert.")}
    save_file(encoder, folder / "encoder" / "model.safetensors", metadata={"format": "pt"})
    files.write_json(folder / "encoder/config.json", CONFIG | {"model_type": "bert"})
    renamed = {name.replace("bert.", "bleurt.", 1): value for name, value in state.items()}
    torch.save(renamed, folder / "bleurt" / "pytorch_model.bin")
    files.write_json(folder / "bleurt/config.json", CONFIG | {"model_type": "bleurt"})
    return {"encoder": folder / "encoder", "bleurt": folder / "bleurt", "head": head}
