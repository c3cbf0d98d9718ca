"""Notebooks 07 and 03 with people and models: forms go out, some come back, and every table says who filled them."""

import json

import openpyxl
import pandas as pd
import pytest
import returned_files
from provider import bad, good

from cbtllm_utils import files
from cbtllm_utils.data.psyqa import Question
from cbtllm_utils.human import annotation, blinding, reading_sheets
from cbtllm_utils.workflow import run

SYSTEMS = ["alpaca-chinese-7b", "baichuan-7b", "reference"]
TITLES = ["Alpaca-Chinese-7B, tuned", "Baichuan-7B, tuned", "data set's own reply"]


def test_forms_filled_by_people_and_models_become_tables_that_distinguish_them(server, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    sample = files.read_json("data/sample/psyqa_sample.json")[:6]
    posts = [post | {"reply": "参考回复", "risk": place < 2} for place, post in enumerate(sample)]
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
    options |= {"filled_readings": str(tmp_path / "read")}
    drawn = blinding.sample(posts, answers, SYSTEMS, 4, 42)
    (r1, r2), _ = blinding.make_sheets(drawn, 2, 2, 42)  # the notebook's seed
    (earlier,), key = blinding.make_sheets(drawn, 1, 0, 42)  # handed out before `repeats` changed
    blinding.save_key(key, tmp_path / "run/ratings/key.csv")
    ones = {e.entry: (1, 1, 1) for e in (*r1.entries, *r2.entries, *earlier.entries)}
    half = {e.entry: (2, 2, 2) for e in r1.entries[:5]}
    contents = {
        "rating-R1-王芳-14-of-14.jsonl": returned_files.page(r1, ones, name="王芳"),
        "rating-R1-王芳-5-of-14.jsonl": returned_files.page(r1, half, name="王芳"),
        "from mail/R1.xlsx": returned_files.saved(returned_files.filled(r1, ones, "李娜")),
        "R2.csv": returned_files.exported(
            returned_files.grid(returned_files.filled(r2, {e.entry: (1, 1, 1) for e in r2.entries[:10]})), ";", "gbk"
        ),
        "R1 (1).jsonl": returned_files.page(earlier, ones),
        "~$R1.xlsx": b"lock",
        "photo.jpg": b"\xff\xd8\xff",
    }
    returned_files.lay(tmp_path / "filled", contents)
    (one, other), _ = blinding.make_sheets(reading_sheets.draw(posts, answers, 60, 42), 2, 0, 42, called="reader")
    given = {e.entry: 2 for e in one.entries}, {e.entry: 0 for e in other.entries if e.answer == "b的回复"}
    contents = {"1.jsonl": reading_page(one, given[0], "王芳"), "2.jsonl": reading_page(other, given[1], "李娜")}
    returned_files.lay(tmp_path / "read", contents)
    with pytest.raises(files.InputError, match=r"1 of 14 requests have no answer \(m-rater\.zh, .*down\), more than"):
        run.run_notebook("07_human_evaluation", "ci", max_retries=0, **options)
    assert len(pd.read_csv(tmp_path / "run/missing/07_human_evaluation.csv")) == 1
    server.script = lambda body, call: good(body, f"<think>\n{{严}}\n</think>\n\n{json.dumps(says)}<|im_end|>")
    run.run_notebook("07_human_evaluation", "ci", **options)
    assert len(server.asked) == 4 * 3 + 2 + 1, "the missing one is asked again, and no other"

    def table(name: str) -> pd.DataFrame:
        return pd.read_csv(tmp_path / f"run/tables/{name}.csv")

    means = table("rating_means")
    assert set(means["kind of rater"]) == {"person", "language model"} and set(means["system"]) == set(TITLES)
    assert means["kind of rater"].iloc[0] == "person", "people come first"
    by_models = means[means["kind of rater"] == "language model"].groupby("scale")["mean"].first()
    assert by_models.to_dict() == {"helpfulness": 1, "relevance": 2, "structure": 1}
    assert means["conditions"][0].startswith(
        "here rated by 4 people and 1 language model; partial forms: R2 10 of 14; "
    )
    listed = table("rating_files").set_index("file")
    counted = listed["entries counted"].dropna().astype(int).to_dict()
    assert counted == {
        **{"rating-R1-王芳-14-of-14.jsonl": 14, "rating-R1-王芳-5-of-14.jsonl": 0, "from mail/R1.xlsx": 14},
        **{"R2.csv": 10, "R1 (1).jsonl": 12, "m-rater.zh.jsonl": 14},
    }
    assert "superseded by rating-R1-王芳-14-of-14.jsonl" in listed.loc["rating-R1-王芳-5-of-14.jsonl", "note"]
    assert listed.loc["~$R1.xlsx", "note"] == "passed over: lock file of Excel or WPS"
    raters = set(table("rater_means").query("`kind of rater` == 'person'")["rater"])
    assert raters == {"R1 王芳", "R1 李娜", "R2", f"R1 (form {earlier.form[:4]})"}
    assert table("rating_problems")["file"].tolist() == ["photo.jpg"] and len(table("rater_models_people")) == 3
    assert len(table("rating_tests")) == 2 * 3 * 3, "kinds x pairs x scales"
    assert set(table("rater_consistency")["kind of rater"]) >= {"language model"}
    remarks = pd.read_csv(tmp_path / "run/ratings/remarks.csv")
    assert set(remarks["kind"]) == {"language model"} and set(remarks["comment"]) == {"'=1+1"}
    human = pd.read_csv(tmp_path / "run/scores/human.csv")
    assert set(human["kind"]) == {"person", "language model"}
    pages = [path.name for path in (tmp_path / "run/readings/forms").glob("*.html")]
    assert sorted(pages) == ["reader1.html", "reader2.html"]
    read = table("readings").set_index("system")
    counts = ["replies to flagged posts", "read by a person", "adequate", "harmful", "readers disagree"]
    assert read.loc[TITLES[0], counts].tolist() == [2, 2, 2, 0, 0]
    assert read.loc[TITLES[1], counts].tolist() == [2, 2, 0, 2, 2] and len(table("reading_disagreements")) == 2
    assert table("reading_files")["entries counted"].tolist() == [6, 2] and table("reading_problems").empty
    assert len(pd.read_csv(tmp_path / "run/readings/remarks.csv")) == 2


def reading_page(sheet: blinding.Sheet, given: dict[str, int], name: str) -> bytes:
    """Return what the page of a reading sheet saves."""
    head = {"form": sheet.form, "rater": sheet.rater, "name": name, "kind": "person", "entries": len(sheet.entries)}
    rows = [{"entry": e.entry, "check": e.check, "verdict": given[e.entry]} for e in sheet.entries if e.entry in given]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in (head, *rows)).encode()


def test_no_form_goes_out_before_its_key_is_on_disk(tmp_path):
    """A folder stands where the key should be written: the notebook ends there, as a full disk or a kill would."""
    sample = files.read_json("data/sample/psyqa_sample.json")[:3]
    posts = [post | {"reply": "参考回复", "risk": False} for post in sample]
    files.write_jsonl(tmp_path / "cbt_qa/test.jsonl", posts)
    answers = [{"system": "a", "questionID": p["questionID"], "reply": "回复"} for p in posts]
    files.write_jsonl(tmp_path / "answers/a.jsonl", answers)
    (tmp_path / "ratings/key.csv").mkdir(parents=True)
    with pytest.raises(files.InputError, match=r"key\.csv"):
        run.run_notebook("07_human_evaluation", "ci", run=str(tmp_path), backbones=["a"], ratings=None)
    assert [place.name for place in (tmp_path / "ratings").iterdir()] == ["key.csv"]


def test_annotations_by_people_take_the_place_of_the_bundled_ones(tmp_path):
    recorded = {row["questionID"]: row for row in files.read_jsonl("data/sample/recorded_replies.jsonl")}
    posts = [post for post in files.read_json("data/sample/psyqa_sample.json") if post["questionID"] in recorded][:40]
    items = [
        post | {"reply": "".join(text for _, text in recorded[post["questionID"]]["sections"]), "topic": None}
        for post in posts
    ]
    files.write_jsonl(tmp_path / "run/cbt_qa/cbt_qa.jsonl", items)
    asked = [Question(p["questionID"], p["question"], p["description"]) for p in posts]

    def form(name: str, entries: int) -> bytes:
        book = openpyxl.load_workbook(annotation.write_form(asked, tmp_path / "form.xlsx"))
        sheet = book["posts"]
        sheet["C1"] = name
        for row, post in enumerate(asked[:entries], annotation.FIRST):
            sheet.cell(row, 4).value, sheet.cell(row, 17).value = "✓", f"“{post.question}”"
            sheet.cell(row, 18).value = "None"
        return returned_files.saved(book)

    contents = {"form.xlsx": form("王芳", 40), "form (1).xlsx": form("王芳", 7), "sub/FORM.XLSX": form("李娜", 30)}
    returned_files.lay(tmp_path / "filled", contents | {"~$form.xlsx": b"lock", "R1.jsonl": b'{"form": "x"}\n'})
    options = {"run": str(tmp_path / "run"), "filled": str(tmp_path / "filled"), "annotations": None}
    run.run_notebook("03_distortion_analysis", "ci", **options)
    listed = pd.read_csv(tmp_path / "run/tables/annotation_files.csv").set_index("file")
    counted = listed["entries counted"].dropna().astype(int).to_dict()
    assert counted == {"form (1).xlsx": 0, "form.xlsx": 40, "sub/FORM.XLSX": 30}
    assert set(listed["rater"].dropna()) == {"王芳", "李娜"} and "data/ratings" in listed.loc["R1.jsonl", "note"]
    assert pd.read_csv(tmp_path / "run/tables/table3_recognition.csv")["items"].eq(30).all()
