"""What doit is told: commands, what is out of date, one run of a profile at a time."""

import contextlib
import io
import shlex
import sys

import pytest
from doit.task import Task

from cbtllm_utils import files
from cbtllm_utils.workflow import graph, locks, pipeline


def task(name, profile="demo"):
    return next(task for task in graph.tasks(profile) if task.name == name)


def test_launch_goes_before_the_steps_that_need_a_gpu(monkeypatch):
    monkeypatch.setenv("LAUNCH", "srun --gres=gpu:1 --output=log-%j.txt")
    plain = pipeline.command(task("01_prompt_design"), "demo")
    launched = pipeline.command(task("04_lora_training-qwen-7b"), "demo")
    assert shlex.split(plain)[0] == sys.executable
    asked = Task("t", [launched])
    asked.init_options()
    assert asked.actions[0].expand_action().startswith("srun --gres=gpu:1 --output=log-%j.txt ")
    assert launched.endswith(" -m cbtllm_utils.workflow.run 04_lora_training --profile demo backbone=qwen-7b")


def test_a_second_run_of_a_profile_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "ROOT", tmp_path)
    refused = pytest.raises(files.InputError, match="runs/demo: another run of this profile")
    with locks.whole_run("runs/demo"), refused, locks.whole_run("runs/demo"):
        pass
    with locks.whole_run("runs/demo"):
        pass


def test_a_caller_keeps_the_standard_output_as_it_is(capsys):
    """A StringIO, as a notebook or another program may have, cannot be set to replace characters."""
    with contextlib.redirect_stdout(io.StringIO()):
        assert pipeline.main(["--profile", "nowhere"]) == 1
    assert capsys.readouterr().err.startswith("error: ")
