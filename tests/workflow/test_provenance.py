"""The provenance says what a run came from, and nothing about who ran it where."""

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

from cbtllm_utils import files, hashing
from cbtllm_utils.llm import completeness
from cbtllm_utils.llm.failure import UNANSWERED, Failure
from cbtllm_utils.workflow import graph, provenance
from cbtllm_utils.workflow.steps import STEPS


def test_versions_and_machine_name_no_person_and_no_place():
    facts = provenance.machine() | provenance.versions()
    assert str(files.ROOT) not in str(facts) and os.environ.get("USER", "?") not in facts.values()
    assert facts["transformers"].startswith("5.")


def test_a_step_with_requests_that_found_no_answer_is_out_of_date(tmp_path, monkeypatch):
    """Also where its profile allows them: the pipeline asks again, until the list is gone."""
    monkeypatch.setattr(files, "ROOT", tmp_path)
    task = graph.Task(STEPS[2], None, {}, (), ())
    provenance.record("runs/x", "x", task.name, {"parameters": {}, "seconds": 1.0, "peak_memory_mib": 1})
    assert provenance.recorded(task, "runs/x") and provenance.complete(task, "runs/x")
    lost = {7: Failure(UNANSWERED, "APITimeoutError: late")}
    completeness.require(lost, 10, 0.1, "runs/x", task.name)
    assert provenance.recorded(task, "runs/x") and not provenance.complete(task, "runs/x")
    provenance.forget("runs/x", task.name)
    assert provenance.complete(task, "runs/x") and not provenance.recorded(task, "runs/x"), "until it has run again"


def test_a_step_is_known_by_the_files_that_its_own_processes_wrote(tmp_path, monkeypatch):
    """Not by those of a step that runs beside it: the loss of these would train a backbone again."""
    run = tmp_path / "run"
    for step in ("03", "04"):
        monkeypatch.setenv(files.WRITTEN, str(tmp_path / step))
        files.write_text(run / "tables" / f"{step} losses.csv", "x")
        files.write_text(run / "training" / ".state" / f"{step}.json", "x")
        files.write_text(run / "half" / step, "x").unlink()
        files.write_text(tmp_path / "elsewhere" / step, "x")
    assert provenance.below(run, (tmp_path / "04").read_text().split("\0")) == ["tables/04 losses.csv"]


def test_steps_that_end_at_once_are_all_in_the_provenance(tmp_path):
    """And steps that begin meanwhile, whose records go, disturb none of them."""
    entry, names = {"parameters": {}, "seconds": 1.0, "peak_memory_mib": 2}, [f"0{i}_x" for i in range(8)]
    (tmp_path / "records").mkdir()
    (tmp_path / "empty").write_text("{}")
    with ThreadPoolExecutor(9) as pool:
        done = [pool.submit(provenance.record, tmp_path, "demo", name, entry) for name in names]
        while not all(one.done() for one in done):
            for i in range(50):
                (tmp_path / f"records/{i}.json").hardlink_to(tmp_path / "empty")
            for i in range(50):
                provenance.forget(tmp_path, str(i))
        assert [one.result() for one in done] == [None] * 8
    assert files.read_json(tmp_path / "provenance.json")["notebooks"].keys() >= set(names)


def test_a_record_holds_parameters_and_inputs_without_a_users_folders(tmp_path):
    place = tmp_path / "alice" / "PsyQA.json"
    files.write_text(place, "[]")
    parameters = {"questions": str(place), "deltas": [str(place)], "seed": 1, "prices": {"m": {"date": str(place)}}}
    provenance.record(
        tmp_path / "run", "demo", "01_x", {"parameters": parameters, "seconds": 1.0, "peak_memory_mib": 2}
    )
    text = (tmp_path / "run" / "provenance.json").read_text(encoding="utf-8")
    assert "alice" not in text and str(tmp_path) not in text
    found = files.read_json(tmp_path / "run" / "provenance.json")
    assert found["notebooks"]["01_x"]["parameters"]["questions"] == "PsyQA.json"
    assert found["inputs"] == {"PsyQA.json": hashing.sha256(place)}


def test_the_revision_is_that_of_this_folder(monkeypatch, tmp_path):
    """A git hook sets GIT_DIR; a home that is under version control lies above."""
    before = provenance.revision()
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / ".git"))
    assert provenance.revision() == before
    (tmp_path / "project").mkdir()
    monkeypatch.setattr(files, "ROOT", tmp_path / "project")
    assert provenance.revision() is None
