"""One notebook from the command line, as a user runs it: a real process, a real kernel."""

import os
import re
import signal
import subprocess
import sys
import time

import nbformat
import psutil
import pytest

from cbtllm_utils import files
from cbtllm_utils.workflow import profiles, run


def start(*words, **options):
    command = [sys.executable, "-m", "cbtllm_utils.workflow.run", *map(str, words)]
    return subprocess.Popen(
        command, cwd=files.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def ended(process):
    out, err = process.communicate(timeout=120)
    lines = (line for line in err.splitlines(True) if not re.match(r" +\w+: cell ", line))  # how far it is, when slow
    return process.returncode, out, "".join(lines)


@pytest.mark.parametrize(
    "words, message",
    [
        (["01_prompt_desing"], "unknown notebook '01_prompt_desing'; did you mean 01_prompt_design?"),
        (["01_prompt_design", "--profile", "demmo"], "unknown profile 'demmo'; did you mean demo?"),
        (["04_lora_training", "backbone=qwen"], "unknown backbone 'qwen'; did you mean qwen-7b?"),
        (["04_lora_training", "rnak=8"], "unknown parameter 'rnak'; did you mean rank?"),
        (["04_lora_training", "seed=042"], '04_lora_training: seed = "042": should be a valid integer'),
        (["09_paper_audit", "pairs=six"], '09_paper_audit: pairs = "six": should be a valid integer'),
        (["04_lora_training", "rank"], "write name=value"),
        (["04_lora_training", "rank=[1"], "the value is not YAML"),
        (["01_prompt_design", "backbone=qwen-7b"], "does not take a backbone"),
    ],
)
def test_a_wrong_word_ends_with_one_line(words, message):
    status, out, err = ended(start(*words))
    assert status == 1 and out == ""
    assert err.startswith("error: ") and message in err and err.count("\n") == 1


def test_a_cell_that_raises_is_named_and_its_notebook_kept(tmp_path):
    status, _, err = ended(start("01_prompt_design", f"run={tmp_path}", "prompt=params/prompts/none.md"))
    assert status == 1 and err.count("\n") == 1
    assert err.startswith("error: 01_prompt_design: cell ") and "none.md" in err
    names = [file.name for file in (tmp_path / "notebooks").iterdir()]
    assert names == ["01_prompt_design.failed.ipynb"]
    executed = nbformat.read(tmp_path / "notebooks" / names[0], 4)
    assert any(output.output_type == "error" for c in executed.cells for output in c.get("outputs", []))


@pytest.mark.parametrize("notebook", ["00_demo_backbones", "01_prompt_design", "02_dataset_generation"])
def test_dialogues_in_place_of_posts_are_one_line_with_their_path(tmp_path, notebook):
    """The terminal shows the whole path, the notebook its last part alone."""
    files.write_json(tmp_path / "data.json", [{"dialog": ["你好"]}])
    status, _, err = ended(start(notebook, f"run={tmp_path}", f"questions={tmp_path}/data.json"))
    said = (
        "data.json: not posts of PsyQA, none of 1 records can be used (record 0: no field question; its fields: dialog)"
    )
    assert status == 1 and err.count("\n") == 1 and f": InputError: {tmp_path}/{said}; data/psyqa/README.md" in err
    kept = (tmp_path / f"notebooks/{notebook}.failed.ipynb").read_text(encoding="utf-8")
    assert f"InputError: {said}" in kept.replace("\\u001b[31m", "").replace("\\u001b[39m", "")


def test_a_notebook_that_failed_counts_as_out_of_date(tmp_path):
    """Its outputs may be of two runs: the record of the last whole one no longer stands for them."""
    record = files.write_json(tmp_path / "records" / "01_prompt_design.json", {"parameters": {}})
    assert ended(start("01_prompt_design", f"run={tmp_path}", "prompt=params/prompts/none.md"))[0] == 1
    assert not record.exists()


def test_an_interrupt_takes_the_kernel_along_while_it_starts(tmp_path):
    process = start("01_prompt_design", f"run={tmp_path}", start_new_session=True)
    me = psutil.Process(process.pid)
    deadline = time.monotonic() + 60
    while not (kernels := me.children(recursive=True)) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    os.kill(process.pid, signal.SIGINT)
    code, _, err = ended(process)
    assert code == 130 and "interrupted" in err and err.count("\n") == 1
    assert not any(kernel.is_running() and kernel.status() != psutil.STATUS_ZOMBIE for kernel in kernels)
    assert not (tmp_path / "notebooks" / "01_prompt_design.ipynb").exists()


@pytest.mark.parametrize(
    "status, peak, words",
    [
        (-signal.SIGTERM, 0, "the kernel was stopped from outside (SIGTERM)"),
        (-signal.SIGSEGV, 0, "the kernel crashed (SIGSEGV) in a library's compiled code"),
        (-40, 0, "the kernel was stopped from outside (signal 40)"),
        (3, 0, "the kernel's process ended itself (exit status 3)"),
        (-signal.SIGKILL, 10**15, "the kernel was killed (SIGKILL), most likely out of memory: "),
        (-signal.SIGKILL, 10**6, "the kernel was killed (SIGKILL), by somebody, or because memory suddenly ran out"),
    ],
)
def test_a_dead_kernel_is_described_by_how_it_ended(status, peak, words):
    """No machine that runs this has a petabyte, or a megabyte, of memory."""
    assert run.why_dead(status, peak).startswith(words)


def test_values_are_yaml():
    assert run.parsed(["a=1", "b=1e-4", "c=[x, y]", "d=null", "e=2.0e-4"]) == {
        **{"a": 1, "b": 1e-4, "c": ["x", "y"], "d": None, "e": 2e-4}
    }


def test_a_number_without_a_point_reaches_the_notebook_as_a_number():
    given = run.parsed(["learning_rate=5e-3", "seed=42"])
    parameters = profiles.parameters(profiles.read("ci"), "runs/ci", "04_lora_training", "qwen-7b", **given)
    assert (profiles.flat(parameters)["learning_rate"], profiles.flat(parameters)["seed"]) == (0.005, 42)


def test_every_parameter_is_listed_with_its_meaning():
    status, out, err = ended(start("09_paper_audit", "--list"))
    assert status == 0 and err == ""
    assert "pairs = 6   # sample posts whose reply and forum answer show how jury computes chrF (our choice)" in out
