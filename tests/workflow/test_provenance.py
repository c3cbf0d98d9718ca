"""The provenance says what a run came from, and nothing about who ran it where."""

import os

from cbtllm_utils import files, hashing
from cbtllm_utils.workflow import provenance


def test_versions_and_machine_name_no_person_and_no_place():
    facts = provenance.machine() | provenance.versions()
    assert str(files.ROOT) not in str(facts) and os.environ.get("USER", "?") not in facts.values()
    assert facts["transformers"].startswith("5.")


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
