"""What the committed demo run claims: LoRA teaches the tiny models the form of a CBT reply, which they lacked."""

import re

import pandas as pd
import pytest

from cbtllm_utils import files
from cbtllm_utils.generate import kinds
from cbtllm_utils.workflow import profiles

BACKBONES = list(profiles.read("demo")["backbones"])


def table(name):
    return pd.read_csv(files.path(f"figures/demo/{name}.csv"), index_col=0)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_loss_of_held_out_replies_falls_clearly(backbone):
    losses = table(f"training_loss_{backbone}")["loss per token"]
    assert losses["after"] < losses["before"] - 0.3


@pytest.mark.parametrize("backbone", BACKBONES)
def test_hardly_an_untuned_reply_has_five_components_and_half_of_the_tuned_ones_have(backbone):
    """Of 36 replies each: one more or less is .03, and another seed moves a share by about .1."""
    five = table("automatic_structure")["all five"].str.extract(r"^(\d+) of (\d+)").astype(int)
    share = five[0] / five[1]
    assert share[kinds.title(f"{backbone}-untuned")] <= 0.1
    assert share[kinds.title(backbone)] >= 0.5


def test_no_folder_of_whoever_ran_it_is_in_the_released_copies():
    for place in [*files.path("rendered").glob("*.ipynb"), *files.path("figures/demo").glob("*.csv")]:
        assert not re.search(r"PosixPath|/home/|/Users/|/work/|/tmp/", place.read_text(encoding="utf-8")), place.name


def test_tables_to_read_hold_no_code_names():
    """But for settings of a training, which a reader types; tables to compute with (CSV) keep the names."""
    for place in files.path("figures/demo").glob("*.md"):
        rows = [line for line in place.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
        read = rows[:1] if place.name.startswith("training_settings") else rows
        assert not re.search(r"(?<![\w/.])[a-z]+_[a-z_]+(?![\w.]*[/.]\w)", "\n".join(read)), place.name
