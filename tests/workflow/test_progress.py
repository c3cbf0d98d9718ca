"""What the terminal shows of a study: a line per task, what is next, and a sum."""

import io
import re

import pytest
from doit.cmd_base import ModuleTaskLoader
from doit.doit_cmd import DoitMain

from cbtllm_utils import files
from cbtllm_utils.workflow.progress import NotebookProgress, Progress, in_words, without_bar


def studied(folder, tasks):
    """The exit status and what doit's run of these tasks shows."""
    out = io.StringIO()

    def study():
        for name, (actions, needs) in tasks.items():
            yield {
                "name": name,
                "actions": actions,
                "task_dep": [f"study:{n}" for n in needs],
                "uptodate": [name == "old"],
            }

    settings = {
        "dep_file": str(folder / "state"),
        "backend": "json",
        "reporter": Progress,
        "continue": True,
        "verbosity": 0,
    }
    settings["outfile"] = out
    return DoitMain(ModuleTaskLoader({"task_study": study, "DOIT_CONFIG": settings})).run(["run"]), out.getvalue()


def test_what_a_notebook_has_to_tell_is_kept_for_its_end(capsys):
    files.tell("2 left out:\nsee the list")
    files.tell("")
    progress = NotebookProgress("02", 3)
    progress.write("asking:  50%|##  | 1/2\r" + capsys.readouterr().err)
    assert progress.notes == ["note: 2 left out: see the list"]


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_line_per_task_and_a_sum(tmp_path):
    tasks = {"old": (["true"], []), "good": (["true"], []), "bad": (["false"], []), "waits": (["true"], ["bad"])}
    assert studied(tmp_path, {"old": tasks["old"]})[0] == 0
    status, shown = studied(tmp_path, tasks)
    assert status != 0
    lines = re.sub(r"\d+ s", "0 s", shown).splitlines()
    assert lines == [
        "  ▶ good   (next: bad)",
        "[2/4] good: 0 s",
        "  ▶ bad   (next: waits)",
        "[3/4] bad: failed, see the line above",
        "[4/4] waits: not run: what it needs is missing",
        "1 run, 1 up to date, 1 failed, 1 not run in 0 s",
    ]


@pytest.mark.parametrize(("seconds", "said"), [(0.4, "0 s"), (119.4, "119 s"), (150.1, "3 min"), (5400, "90 min")])
def test_a_duration_is_said_in_seconds_and_then_in_minutes(seconds, said):
    assert in_words(seconds) == said


def test_an_error_in_the_graph_is_said():
    out = io.StringIO()
    shown = Progress(out, {})
    shown.initialize({}, [])
    shown.runtime_error("odd")
    shown.cleanup_error("odder")
    shown.complete_run()
    assert out.getvalue() == "error: odd\nerror: odder\nnothing ran in 0 s\n"


def test_what_is_shown_of_a_bar_are_its_numbers_without_warnings():
    progress = NotebookProgress("04_lora_training", 40)
    bar = "  6%|▌         | 147/2420 [00:12<03:01, 12.5it/s]"
    progress.write(f"answering: {bar}\r")
    progress.write("/x/tqdm/auto.py:21: TqdmWarning: IProgress not found. Please update jupyter.\n  from .x import y\n")
    assert without_bar(progress.line) == "answering: 6% 147/2420 [00:12<03:01, 12.5it/s]"
