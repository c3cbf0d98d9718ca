"""Notebook 07 with people and models: forms go out, some come back, and every table says who rated."""

import json
from pathlib import Path

import pandas as pd
import pytest
from provider import bad, good

from cbtllm_utils import files
from cbtllm_utils.human import blinding
from cbtllm_utils.workflow import run

SYSTEMS = ["alpaca-chinese-7b", "baichuan-7b", "reference"]


def test_forms_filled_by_people_and_models_become_tables_that_distinguish_them(server, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    posts = [post | {"reply": "参考回复"} for post in files.read_json("data/sample/psyqa_sample.json")[:6]]
    answers = [
        {"system": s, "questionID": p["questionID"], "reply": f"{s[0]}的回复"} for s in SYSTEMS[:2] for p in posts
    ]
    for system in SYSTEMS[:2]:
        files.write_jsonl(tmp_path / f"run/answers/{system}.jsonl", [a for a in answers if a["system"] == system])
    files.write_jsonl(tmp_path / "run/cbt_qa/test.jsonl", posts)
    says = {"comment": "=1+1", "relevance": 2, "structure": 1, "helpfulness": 1, "harmful": True}
    server.script = lambda body, call: good(body, json.dumps(says)) if call != 3 else bad(500, "down")
    endpoint = f"http://127.0.0.1:{server.server_port}/v1"
    options = {"run": str(tmp_path / "run"), "backbones": SYSTEMS[:2], "systems": SYSTEMS, "items": 4, "repeats": 2}
    options |= {"endpoint": endpoint, "models": ["m"], "filled": str(tmp_path / "filled"), "ratings": None}
    sheets, _ = blinding.make_sheets(blinding.sample(posts, answers, SYSTEMS, 4, 42), 2, 2, 42)  # the notebook's seed
    fill(tmp_path, sheets[0], 14)
    fill(tmp_path, sheets[1], 10)  # This rater stopped early.
    with pytest.raises(files.InputError, match=r"1 of 14 requests have no answer \(m-rater\.zh, .*down\), more than"):
        run.run_notebook("07_human_evaluation", "ci", max_retries=0, **options)
    assert len(pd.read_csv(tmp_path / "run/missing/07_human_evaluation.csv")) == 1
    server.script = lambda body, call: good(body, f"<think>\n{{严}}\n</think>\n\n{json.dumps(says)}<|im_end|>")
    run.run_notebook("07_human_evaluation", "ci", **options)
    assert len(server.asked) == 4 * 3 + 2 + 1, "the missing one is asked again, and no other"

    def table(name: str) -> pd.DataFrame:
        return pd.read_csv(tmp_path / f"run/tables/{name}.csv")

    means = table("rating_means")
    assert set(means["kind of rater"]) == {"person", "language model"} and set(means["system"]) == set(SYSTEMS)
    by_models = means[means["kind of rater"] == "language model"].groupby("scale")["mean"].first()
    assert by_models.to_dict() == {"helpfulness": 1, "relevance": 2, "structure": 1}
    assert means["conditions"][0].startswith(
        "here rated by 2 people and 1 language model; partial forms: R2 10 of 14; "
    )
    assert len(table("rating_problems")) == 0 and len(table("rater_models_people")) == 3
    assert len(table("rating_tests")) == 2 * 3 * 3, "kinds x pairs x scales"
    assert set(table("rater_consistency")["kind of rater"]) >= {"language model"}
    remarks = pd.read_csv(tmp_path / "run/ratings/remarks.csv")
    assert set(remarks["kind"]) == {"language model"} and set(remarks["comment"]) == {"'=1+1"}
    human = pd.read_csv(tmp_path / "run/scores/human.csv")
    assert set(human["kind"]) == {"person", "language model"}


def test_no_form_goes_out_before_its_key_is_on_disk(tmp_path):
    """A folder stands where the key should be written: the notebook ends there, as a full disk or a kill would."""
    posts = [post | {"reply": "参考回复"} for post in files.read_json("data/sample/psyqa_sample.json")[:3]]
    files.write_jsonl(tmp_path / "cbt_qa/test.jsonl", posts)
    answers = [{"system": "a", "questionID": p["questionID"], "reply": "回复"} for p in posts]
    files.write_jsonl(tmp_path / "answers/a.jsonl", answers)
    (tmp_path / "ratings/key.csv").mkdir(parents=True)
    with pytest.raises(files.InputError, match=r"key\.csv"):
        run.run_notebook("07_human_evaluation", "ci", run=str(tmp_path), backbones=["a"], ratings=None)
    assert [place.name for place in (tmp_path / "ratings").iterdir()] == ["key.csv"]


def fill(folder: Path, sheet: blinding.Sheet, entries: int) -> None:
    """Put a person's form into the folder of filled forms, with so many entries rated."""
    lines = [{"form": sheet.form, "rater": sheet.rater, "kind": "person"}]
    lines += [{"entry": e.entry, "check": e.check} | dict.fromkeys(blinding.SCALES, 1) for e in sheet.entries[:entries]]
    files.write_jsonl(folder / f"filled/{sheet.rater}.jsonl", lines)
