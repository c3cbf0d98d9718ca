"""The whole study at the smallest scale, from a command line, as the README says."""

import os
import re
import shutil
import subprocess
import sys

import own_configuration
import pandas as pd
import pytest

import cbtllm_utils
from cbtllm_utils import files
from cbtllm_utils.workflow import graph, run, verify

RUN = files.path("runs/ci")
TABLES = [name for step in graph.STEPS for name in step.writes if name.endswith(".csv") and "{" not in name]


def reproduce():
    command = [sys.executable, "-m", "cbtllm_utils.workflow.pipeline", "--profile", "ci", "--jobs", "2"]
    return subprocess.run(command, cwd=files.ROOT, capture_output=True, text=True, timeout=900)


@pytest.fixture(scope="module")
def ran():
    shutil.rmtree(RUN, ignore_errors=True)
    done = reproduce()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def test_everything_that_the_graph_promises_is_there(ran):
    for task in graph.tasks("ci"):
        for name in task.writes:
            assert (RUN / name).exists(), f"{task.name} did not write {name}"
    assert (RUN / "report.html").stat().st_size > 100_000


def test_the_terminal_says_which_notebook_and_what_is_next(ran):
    out = ran.stdout
    assert "▶ 00_demo_backbones   (next: " in out
    assert re.search(r"\[\d+/18\] 09_paper_audit: \d+ s", out)
    assert re.search(r"18 run in \d+ (s|min)\nTo read: runs/ci/report.html", out)


def test_a_second_time_nothing_runs(ran):
    done = reproduce()
    assert done.returncode == 0 and "18 up to date" in done.stdout and " run in" not in done.stdout.replace("18 up", "")


@pytest.mark.parametrize("name", TABLES)
def test_tables_say_under_which_conditions_they_were_made(ran, name):
    if name not in ("cbt_qa/dropped.csv", "ratings/key.csv"):  # a list of what is not there; the key to the forms
        table = pd.read_csv(RUN / name)
        assert len(table) and table["conditions"].notna().all()


def test_nothing_of_this_machine_or_person_is_in_the_results(ran):
    for place in [*RUN.rglob("*.csv"), *RUN.rglob("*.md"), RUN / "provenance.json", RUN / "report.html"]:
        assert str(files.ROOT) not in place.read_text(encoding="utf-8"), place.name


def test_the_report_fetches_nothing(ran):
    page = (RUN / "report.html").read_text()
    assert not re.search(r"""(?:src|href)=["']https?://[^"']+\.(?:js|css|woff2?|png)""", page)
    assert page.count("<script") == 1, "the one that sorts tables"
    assert "12356" in page, "where to find help"


def test_no_half_written_file_is_left(ran):
    kept = {place.name for place in (RUN / "training").glob(".*-*")} | {
        p.name for p in (RUN / "answers").glob(".*.responses")
    }
    assert [p.name for p in RUN.rglob(".*-*") if p.name not in kept] == []


@pytest.mark.parametrize("step", ["03_distortion_analysis", "04_lora_training-qwen-7b"])
def test_plain_papermill_with_the_written_parameters_does_what_the_runner_does(ran, tmp_path, step):
    """From another folder, without the runner's environment, from the same inputs."""
    copy, made = tmp_path / "run", tmp_path / "out.ipynb"
    shutil.copytree(RUN, copy, ignore=shutil.ignore_patterns("notebooks", "tables", "training", "scores", "adapters"))
    if step != "04_lora_training-qwen-7b":
        shutil.copytree(RUN / "adapters", copy / "adapters")
    command = [
        sys.executable,
        "-m",
        "papermill",
        str(files.path(f"notebooks/{step.partition('-')[0]}.ipynb")),
        str(made),
    ]
    command += ["-f", str(RUN / f"parameters/{step}.yaml"), "-p", "run", str(copy), "-k", "python3"]
    (tmp_path / "matplotlibrc").write_text(own_configuration.MATPLOTLIBRC)
    foreign = {n: v for n, v in own_configuration.VARIABLES.items() if not n.startswith("PYTHON")}
    bare = {name: value for name, value in os.environ.items() if name not in cbtllm_utils.ENVIRONMENT} | foreign
    done = subprocess.run(command, cwd=tmp_path, env=bare, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    found = verify.compare(copy / "tables", RUN / "tables", 1e-9)
    assert {name: lines for name, lines in found.items() if lines not in ([], ["missing in the run"])} == {}
    assert [lines for lines in found.values()].count([]) >= 2


@pytest.mark.parametrize(
    "step, parameter, text, said",
    [
        ("03_distortion_analysis", "annotations", "id,label\n1,sad\n", "no column annotator, labels, questionID; its "),
        (
            *("03_distortion_analysis", "annotations", "questionID,annotator,labels\n5,A,\n5,B,\n"),
            "none of the 1 posts that it judges is in this data set",
        ),
        ("07_human_evaluation", "ratings", "user,stars\nanna,5\n", "not a filled form: "),
        ("07_human_evaluation", "ratings", None, "no such file"),
    ],
)
def test_judgments_of_another_project_are_one_line(ran, tmp_path, step, parameter, text, said):
    copy, place = tmp_path / "run", tmp_path / "given.csv"
    shutil.copytree(RUN, copy, ignore=shutil.ignore_patterns("notebooks", "adapters", "backbones", "training"))
    if text:
        place.write_text(text)
    with pytest.raises(files.InputError) as error:
        run.run_notebook(step, "ci", run=str(copy), **{parameter: str(place)})
    assert f": InputError: {place}: {said}" in str(error.value) and str(error.value).isprintable()


def test_the_users_own_configuration_changes_no_result(ran, tmp_path):
    """Trained and answered where each file and variable of the user would change something: the same bytes."""
    copy, outputs = tmp_path / "run", ("adapters", "answers", "figures", "tables", "training")
    shutil.copytree(RUN, copy, ignore=shutil.ignore_patterns("notebooks", "records", *outputs))
    env = own_configuration.environment(tmp_path)
    for notebook in ("04_lora_training", "05_answer_generation"):
        command = [sys.executable, "-m", "cbtllm_utils.workflow.run", notebook, "--profile", "ci"]
        command += ["backbone=qwen-7b", f"run={copy}"]
        done = subprocess.run(command, cwd=files.ROOT, env=env, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr[-3000:]
    made = [place.relative_to(copy) for name in outputs for place in (copy / name).rglob("[!.]*") if place.is_file()]
    visible = [name for name in made if not any(part.startswith(".") for part in name.parts)]
    assert len(visible) > 10 and not any((tmp_path / "home/.ipython").rglob("*.sqlite"))
    differing = [str(name) for name in visible if (copy / name).read_bytes() != (RUN / name).read_bytes()]
    live = "training/live/qwen-7b.jsonl"  # says how fast it went; the losses in it are results
    losses = [
        [{name: row.get(name) for name in ("step", "loss", "heldout_loss")} for row in files.read_jsonl(run / live)]
        for run in (copy, RUN)
    ]
    assert set(differing) <= {live} and losses[0] == losses[1]


def test_a_run_under_the_users_own_configuration_is_up_to_date(ran, tmp_path):
    """One notebook is made to run again: its lines reach a terminal in GBK, its figures are the same."""
    figure, env = RUN / "figures/prompt_compliance.png", own_configuration.environment(tmp_path)
    before = figure.read_bytes()
    (RUN / "records/01_prompt_design.json").unlink()
    (tmp_path / "doit.cfg").write_text("[GLOBAL]\nreporter = nobody\n")
    command = [sys.executable, "-m", "cbtllm_utils.workflow.pipeline", "--profile", "ci", "--jobs", "2"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, timeout=600)
    out, err = done.stdout.decode("gbk"), done.stderr.decode("gbk", "replace")
    assert done.returncode == 0, out + err
    assert "? 01_prompt_design" in out and "\n2 run, 16 up to date in " in out, out
    assert figure.read_bytes() == before


def test_a_backbone_that_the_paper_lacks_goes_through_evaluation_and_audit(ran, tmp_path):
    """As in the profile modern: its scores are in the tables, without a published counterpart."""
    copy = tmp_path / "run"
    shutil.copytree(RUN, copy, ignore=shutil.ignore_patterns("notebooks", "training"))
    (copy / "training").mkdir()
    for folder in ("answers", "training"):
        text = (RUN / folder / "qwen-7b.jsonl").read_text(encoding="utf-8").replace("qwen-7b", "qwen3-8b")
        (copy / folder / "qwen3-8b.jsonl").write_text(text, encoding="utf-8")
    run.run_notebook("06_automatic_evaluation", "ci", run=str(copy), backbones=["qwen3-8b"])
    run.run_notebook("09_paper_audit", "ci", run=str(copy))
    table = pd.read_csv(copy / "tables/table4_automatic_evaluation.csv")
    assert table["system"].tolist()[4:] == ["Qwen3-8B, tuned", "nearest training reply", "random training reply"]
    assert table["from"].tolist()[:4] == ["paper"] * 4 and "paper" not in table["from"].tolist()[4:]
    assert table.loc[4, "BLEU":"BERTSCORE"].notna().all()


def test_the_case_study_shows_the_very_replies_that_are_scored(ran):
    """In 16 bits another company in a batch would give other words: nothing of the test set is answered twice."""
    answers = {
        (row["system"], row["questionID"]): row
        for place in (RUN / "answers").glob("*.jsonl")
        for row in files.read_jsonl(place)
    }
    shown = files.read_jsonl(RUN / "case_study" / "replies.jsonl")
    both = [
        (row, answers[row["system"], row["questionID"]])
        for row in shown
        if (row["system"], row["questionID"]) in answers
    ]
    assert len(both) == 4 + 2, "one test post: four tuned systems, one of them also untuned and prompted"
    assert all(row | answer == row for row, answer in both)
    for task in graph.tasks("ci"):
        if task.backbone and task.step.notebook.startswith("05"):
            made = files.read_json(RUN / "answers" / f"{task.backbone}.json")
            assert (
                made["engine"].startswith("transformers ") and made["batch_size"] == 8 and made["precision"] == "fp32"
            )
