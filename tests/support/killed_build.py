"""Notebook 00's work at the smallest size, as a program: python killed_build.py FOLDER."""

import sys
from pathlib import Path

from cbtllm_utils.demo import backbones
from cbtllm_utils.demo.settings import DemoSettings

SMALLEST = DemoSettings(
    hidden=32,
    inner=48,
    vocabulary=1800,
    wider_vocabulary=3200,
    base_steps=3,
    llama_steps=[3, 3, 3],
    scorer_steps=[2, 2],
    batch=2,
    length=48,
    rank=4,
    seed=1,
)


def known():
    return backbones.corpus("data/sample/psyqa_sample.json", heldout=300, seed=0)


if __name__ == "__main__":
    backbones.build(Path(sys.argv[1]) / "backbones", known(), SMALLEST)
