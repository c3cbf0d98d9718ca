"""What the committed demo run claims: LoRA teaches the stand-ins the form of a CBT reply, unknown to them before."""

import pandas as pd
import pytest

from cbtllm_utils import files, profiles

BACKBONES = list(profiles.read("demo")["backbones"])


def table(name):
    return pd.read_csv(files.path(f"figures/demo/{name}.csv"), index_col=0)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_loss_of_held_out_replies_falls_clearly(backbone):
    losses = table(f"training_loss_{backbone}")["loss a token"]
    assert losses["after"] < losses["before"] - 0.3


@pytest.mark.parametrize("backbone", BACKBONES)
def test_hardly_an_untuned_reply_has_five_parts_and_many_a_tuned_one_has(backbone):
    """Wanted is one half of the tuned replies; of models this small a third is what was reached (36 replies each)."""
    five = table("automatic_structure")["all five"]
    assert five[f"{backbone}-untuned"] <= 0.1
    assert five[backbone] >= 0.2


def test_a_third_of_all_tuned_replies_has_five_parts():
    assert table("automatic_structure").loc[BACKBONES, "all five"].mean() >= 0.28
