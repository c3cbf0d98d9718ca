"""Settings of a training beside the paper's and LLaMA-Factory's."""

import csv
import importlib.util
import subprocess
import sys
from typing import get_args

import pytest
from training_run import settings

from cbtllm_utils import files, published
from cbtllm_utils.finetune import llama_factory
from cbtllm_utils.finetune.settings import TrainingSettings
from cbtllm_utils.models import prompt_forms
from cbtllm_utils.settings import STATED, TOOL


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"precision": "int4"}, r"precision = \"int4\": should be 'auto', 'fp32', 'fp16' or 'bf16'"),
        ({"rank": 0}, "rank = 0: should be greater than or equal to 1"),
        ({"processes": 0}, "processes = 0: should be greater than or equal to 1"),
        ({"dropout": 1.0}, "dropout = 1.0: should be less than 1"),
        ({"modules_to_save": ["lm_head", "lm_haed"]}, r"\"lm_haed\": should be 'lm_head' or 'embed_tokens'"),
        ({"packing": True}, "unknown parameter 'packing'"),
        ({"checkpoint_steps": 250, "logging_steps": 40}, "steps = 250: should be a multiple of logging_steps = 40"),
        ({"tensorboard": True}, r"tensorboard = true needs TensorBoard.*pip install -e '\.\[tensorboard\]'"),
    ],
)
def test_values_that_cannot_be_used(values, message, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)  # nothing that may be missing is here
    with pytest.raises(files.InputError, match=message):
        settings(**values)


def test_the_forms_of_prompt_are_those_that_there_are():
    assert get_args(TrainingSettings.model_fields["template"].annotation) == (*prompt_forms.FORMS, "chat")


def test_the_settings_are_light_to_import():
    heavy = "import cbtllm_utils.finetune.settings, sys; print([m for m in ('torch', 'pandas') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", heavy], cwd=files.ROOT, capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_the_papers_steps():
    train = published.value("text", "items", "value") * published.value("text", "train share", "value") / 100
    for same in ({}, {"accumulation": 1, "processes": 4}):  # 4 · 4 examples per step, or 4 on each of 4 GPUs
        chosen = TrainingSettings(**same)
        assert chosen.examples_per_step == 16
        assert chosen.steps(round(train)) == (1256, 3768)  # 22,327 · 0.9 = 20,094; / 16 = 1,255.9


def test_a_default_is_what_its_source_says():
    """Of the paper: its number as transcribed. Of its tool: the table of LLaMA-Factory's defaults."""
    rows = {row["setting"]: row for row in csv.DictReader(llama_factory.DEFAULTS.read_text().splitlines())}
    assert rows.keys() - {"batch_order"} == TrainingSettings().hyperparameters().keys()
    table = llama_factory.settings_table(TrainingSettings()).set_index("setting")
    for row in TrainingSettings.documentation():
        if row["name"] in rows and row["source"] == STATED:
            assert table.loc[row["name"], "why"] == "as the paper says"
        elif row["name"] in rows and row["source"] == TOOL and row["name"] != "targets":
            assert table.loc[row["name"], "here"] == rows[row["name"]]["default"]


def test_the_settings_are_compared_with_the_papers():
    table = llama_factory.settings_table(TrainingSettings()).set_index("setting")
    assert table.loc["learning_rate", "paper says"] == "5e-05" and table.loc["rank", "paper says"] == "–"
    assert not table["why"].str.startswith("set").any()  # the defaults deviate from neither …
    assert table.loc["batch_order", ["LLaMA-Factory default", "here"]].tolist() == [
        "random",
        "grouped by length",
    ]  # … but
    assert "not the tool's default" in table.loc["batch_order", "why"]
    deviating = llama_factory.settings_table(settings()).set_index("setting")["why"]
    assert deviating["rank"].startswith("set for this run")
