"""What the terminal shows of a study: a line per task, what is next, and a sum."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from doit.cmd_base import ModuleTaskLoader
from doit.doit_cmd import DoitMain
from tqdm import tqdm

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


# Every piece that four cells wrote to stderr under transformers 5.24, datasets 5.2, torch 2.13 and tqdm 4.70, with a
# warning of each while a bar was open; the last is that of notebook 04.
CAPTURED = [json.loads(line) for line in (Path(__file__).parent / "captured_stderr.jsonl").read_text().splitlines()]


def shown(pieces):
    """What the terminal shows behind the notebook's name after each of these pieces."""
    progress = NotebookProgress("04_lora_training", 40)
    for piece in pieces:
        progress.write(piece)
        yield without_bar(progress.line)


def test_what_libraries_say_does_not_take_the_place_of_the_bar():
    found = list(shown(CAPTURED))
    assert any("[transformers] `use_cache=True` is incompatible" in piece for piece in CAPTURED)
    for piece, before, after in zip(CAPTURED[1:], found, found[1:], strict=False):
        numbers = re.search(r"\d+(/\d+|it) \[.*\]", " ".join(piece.split()))
        assert after.endswith(numbers.group()) if numbers else after == before, piece
    assert found[-1].startswith("training: 100% 162/162 [") and ", loss=5.500, " in found[-1]


def test_pieces_may_be_cut_anywhere():
    text = "".join(CAPTURED)
    whole = [line for line in shown(CAPTURED) if line]
    cut = [line for line in shown(text[i : i + 7] for i in range(0, len(text), 7)) if line]
    assert set(cut) == set(whole)


@pytest.mark.parametrize("line", ["1" * 20_000, "1 " * 10_000, "1:1|" * 5_000, "1 [0:00<" * 2_000, "1.1/" * 5_000])
def test_a_long_line_that_is_no_bar_does_not_hold_up_the_runner(line):
    """In another process, which can be ended: a regular expression cannot be."""
    code = f"from cbtllm_utils.workflow.progress import BAR; raise SystemExit(BAR.match({line!r}) is not None)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_a_line_without_an_end_is_not_kept_whole():
    progress = NotebookProgress("04", 3)
    for _ in range(100):
        progress.write("1" * 1000)
    progress.write("\ranswering:  50%|##  | 2/4 [00:01<00:01, 2.0it/s]")
    assert progress.line.startswith("answering") and len(progress.open) < 2000


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({"ascii": True}, "answering: 50% 2/4 ["),
        ({"colour": "green"}, "answering: 50% 2/4 ["),
        ({"position": 1}, "answering: 50% 2/4 ["),
        (
            {"unit": "B", "unit_scale": True, "total": 2_700_000_000, "initial": 1_350_000_000},
            "answering: 50% 1.35G/2.70G [",
        ),
        ({"total": None}, "answering: 2it ["),
    ],
)
def test_bars_as_tqdm_draws_them_elsewhere(written, said):
    """With Windows' characters and ends of lines, in color, below another bar, in bytes, without an end."""
    out = io.StringIO()
    with tqdm(**{"desc": "answering", "total": 4, "initial": 2, "file": out} | written):
        drawn = out.getvalue()
    last = list(shown([drawn, "WARNING: slow disk\r\n", "Fetching (a file) of 2 [the hub]\r\n"]))[-1]
    assert last.startswith(said)
