"""Notebook 00's work at the smallest size, as a program: python killed_build.py FOLDER."""

import sys
from pathlib import Path

from cbtllm_utils.demo import backbones, texts

NAMES = ("llama-7b", "chinese-llama-lora-7b", "chinese-alpaca-lora-7b", "qwen-7b", "baichuan-7b")
SIZE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
MORE = {"batch": 2, "length": 48, "learning_rate": 1e-2, "rank": 4, "seed": 1}
SCALE = backbones.Scale(SIZE, 1800, 3200, dict.fromkeys(NAMES, 3), **MORE)


def known():
    return texts.corpus("data/sample/psyqa_sample.json", heldout=300, seed=0)


if __name__ == "__main__":
    backbones.build(Path(sys.argv[1]) / "backbones", known(), SCALE, (2, 2), processes=2)
