"""Every problem of a filled form is named by file, line and rater; no problem counts, and nothing sound is lost."""

import json
from pathlib import Path

import pandas as pd
import pytest

from cbtllm_utils.human import blinding, ratings

SYSTEMS = ["alpaca-chinese-7b", "baichuan-7b"]
FORMULA = '=HYPERLINK("http://x","点我")'


@pytest.fixture
def made() -> tuple[list[blinding.Sheet], pd.DataFrame]:
    posts = [{"questionID": n, "question": f"{FORMULA}{n}", "description": f"描述{n}"} for n in (1, 2)]
    answers = [{"system": s, "questionID": p["questionID"], "reply": f"+回复 {s[0]}"} for s in SYSTEMS for p in posts]
    return blinding.make_sheets(blinding.sample(posts, answers, SYSTEMS, 2, 1), raters=2, repeats=1, seed=1)


def rows(sheet: blinding.Sheet, **changes: object) -> list[dict]:
    """Return a sheet filled with 2, 1, 0 throughout; `changes` go to its second entry, line 3 of the file."""
    filled = [
        {"entry": e.entry, "check": e.check, "relevance": 2, "structure": 1, "helpfulness": 0} for e in sheet.entries
    ]
    filled[1] |= changes
    return filled


def saved(folder: Path, sheet: blinding.Sheet, filled: list[dict], name: str = "R1.jsonl", **head: str) -> Path:
    lines = [{"form": sheet.form, "rater": sheet.rater, "kind": "person"} | head, *filled]
    path = folder / name
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return path


def test_a_sound_form_is_read_whole_and_unblinded(made, tmp_path):
    sheets, key = made
    found, problems = ratings.read(saved(tmp_path, sheets[0], rows(sheets[0])), key)
    assert problems.empty and len(found) == 5 and found["repeat"].sum() == 1
    assert found[list(blinding.SCALES)].to_numpy().tolist() == [[2, 1, 0]] * 5
    expected = key[key["form"] == sheets[0].form][["entry", "questionID", "system"]]
    assert found[["entry", "questionID", "system"]].to_numpy().tolist() == expected.to_numpy().tolist()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"structure": None}, "structure is missing"),
        ({"structure": ""}, "structure is missing"),
        ({"relevance": 3}, "relevance is 3, expected 0, 1 or 2"),
        ({"relevance": -1}, "relevance is -1, expected 0, 1 or 2"),
        ({"helpfulness": 1.5}, "helpfulness is 1.5, expected 0, 1 or 2"),
        ({"helpfulness": "高"}, "helpfulness is 高, expected 0, 1 or 2"),
        ({"relevance": True}, "relevance is True, expected 0, 1 or 2"),
        ({"entry": "AAAA"}, "unknown entry: this form has no such code"),
        ({"entry": None}, "unknown entry: this form has no such code"),
        ({"check": "0" * 16}, "edited entry: its text is not the form's"),
        ({"check": None}, "edited entry: its text is not the form's"),
        ({"form": "0" * 16}, "unknown form: the key does not list it"),
        ({"kind": "robot"}, "kind is robot, expected person or language model"),
    ],
)
def test_a_problem_is_named_and_costs_one_entry(made, tmp_path, changes, reason):
    sheets, key = made
    found, problems = ratings.read(saved(tmp_path, sheets[0], rows(sheets[0], **changes)), key)
    assert len(found) == 4 and len(problems) == 1
    problem = problems.iloc[0]
    assert (problem["file"], problem["line"], problem["rater"]) == ("R1.jsonl", 3, "R1")
    assert problem["reason"].startswith(reason)


def test_entries_left_out_are_not_a_problem(made, tmp_path):
    sheets, key = made
    blank = dict.fromkeys(blinding.SCALES)
    found, problems = ratings.read(saved(tmp_path, sheets[0], rows(sheets[0], **blank)[:3]), key)
    assert len(found) == 2 and problems.empty


def test_entries_rated_twice(made, tmp_path):
    """The same form is saved twice: line 3 with different scores does not count, the other four count once."""
    sheets, key = made
    saved(tmp_path, sheets[0], rows(sheets[0]), "a.jsonl")
    saved(tmp_path, sheets[0], rows(sheets[0], relevance=0), "b.jsonl")
    saved(tmp_path, sheets[1], rows(sheets[1]), "other.jsonl")
    found, problems = ratings.read(tmp_path, key)
    assert found["rater"].value_counts().to_dict() == {"R1": 4, "R2": 5}
    equal = problems[problems["reason"].str.startswith("rated twice with the same scores")]
    unequal = problems[problems["reason"].str.startswith("rated twice with different scores")]
    assert len(equal) == 4 and set(equal["file"]) == {"b.jsonl"}
    assert unequal[["file", "line", "rater"]].to_numpy().tolist() == [["a.jsonl", 3, "R1"], ["b.jsonl", 3, "R1"]]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.jsonl", "", "its first line should name form and rater"),
        ("deep.json", "[" * 200_000, "not a filled form"),
        ("wide.csv", "[" * 200_000, "not a filled form"),
        ("list.jsonl", "[1]\n[2]\n", "line 1: a list, expected an object"),
        ("broken.jsonl", '{"form": "x"}\n{"entry', "line 2: not JSON"),
        ("text.xlsx", "not a zip", "not a zip file"),
        ("tasks.json", "{}\n1", ""),
        ("other.csv", "a,b\n1,2\n", "no column rater, relevance, structure, helpfulness"),
        ("half.csv", "rater,relevance,helpfulness\n1,2,2\n", "no column structure"),
        ("bytes.csv", "\udcff", "utf-8"),
    ],
)
def test_a_file_that_is_not_a_form_is_named_and_the_others_count(made, tmp_path, name, content, reason):
    sheets, key = made
    saved(tmp_path, sheets[0], rows(sheets[0]), "R1.jsonl")
    (tmp_path / name).write_text(content, encoding="utf-8", errors="surrogateescape")
    found, problems = ratings.read(tmp_path, key)
    assert len(found) == 5 and problems["file"].tolist() == [name]
    assert problems["reason"][0].startswith("not a filled form: ") and reason in problems["reason"][0]


def test_a_csv_that_names_systems_needs_no_key(tmp_path):
    path = tmp_path / "r.csv"
    lines = ["rater,questionID,system,relevance,structure,helpfulness,harmful,repeat,kind", "1,7,a,2,1,0,0,False,"]
    lines += [
        "1,8,a,2,1,0,1,,person",
        "1,9,a,2,2,,,,",
        ",7,b,2,2,2,,,",
        "1,,b,2,2,2,,,",
        "1,7,,2,2,2,,,",
        "1,10,b,,,,,,",
    ]
    path.write_text("\n".join(lines), encoding="utf-8-sig")  # as spreadsheet programs save it
    found, problems = ratings.read(path, kind="language model")
    assert found[["questionID", "kind", "harmful", "repeat"]].to_numpy().tolist() == [
        [7, "language model", False, False],
        [8, "person", True, False],
    ]
    reasons = ["helpfulness is missing", "rater is missing", "questionID is missing", "system is missing"]
    assert problems[["line", "reason"]].to_numpy().tolist() == [[n, r] for n, r in enumerate(reasons, 4)]


def test_the_bundled_ratings_are_whole():
    found, problems = ratings.read("data/sample/ratings.csv", kind="language model")
    assert problems.empty and len(found) == 5 * 40 * 2
    assert found.groupby(["rater", "system"]).size().eq(40).all()


def test_a_path_that_does_not_exist_has_no_ratings(tmp_path):
    found, problems = ratings.read(tmp_path / "filled")
    assert found.empty and problems.empty and list(found.columns) == ratings.FIELDS


def test_people_and_models_are_read_separately_and_a_partial_form_counts_with_what_is_rated(made, tmp_path):
    sheets, key = made
    (tmp_path / "filled").mkdir()
    saved(tmp_path / "filled", sheets[0], rows(sheets[0], structure=None)[:3])
    places = {"data/sample/ratings.csv": "language model", "filled": "person", "absent": "person", None: "person"}
    found, problems = ratings.read_all(places, key, tmp_path)
    assert found["kind"].value_counts().to_dict() == {"language model": 400, "person": 2}
    assert problems[["file", "line", "rater"]].to_numpy().tolist() == [["R1.jsonl", 3, "R1"]]
    far = ratings.progress(key, found)
    assert far[["rater", "entries", "rated", "left"]].to_numpy().tolist() == [["R1", 5, 2, 3], ["R2", 5, 0, 5]]
    assert ratings.partial_forms(far) == "partial forms: R1 2 of 5" and ratings.partial_forms(far.assign(left=0)) == ""
    none, problems = ratings.read_all({"absent": "person"}, key, tmp_path)
    assert none.empty and problems.empty and ratings.progress(key, none)["rated"].sum() == 0


def test_remarks_begin_with_harm_and_leave_out_entries_without_a_remark(made, tmp_path):
    sheets, key = made
    filled = rows(sheets[0], comment=FORMULA, harmful=False)
    filled[3] |= {"harmful": True}
    filled[4] |= dict.fromkeys(blinding.SCALES) | {"harmful": True, "comment": "不敢评"}
    found, problems = ratings.read(saved(tmp_path, sheets[0], filled), key)
    said = ratings.remarks(found, problems)
    assert said[["harmful", "comment", "line"]].to_numpy().tolist() == [
        *([True, "", 5], [True, "不敢评", 6], [False, FORMULA, 3])
    ]
    assert len(found) == 4 and problems["reason"].str.startswith("a flag or a comment without scores").tolist() == [
        True
    ]
    assert said["system"].notna().tolist() == [True, False, True] and said["entry"].notna().all()
    bundled, problems = ratings.read("data/sample/ratings.csv", kind="language model")
    assert ratings.remarks(bundled, problems).empty, "nobody was asked about harm there"


def test_a_rating_given_in_two_places_counts_once(tmp_path):
    line = "rater,questionID,system,relevance,structure,helpfulness\n1,7,a,2,1,0\n"
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(line, encoding="utf-8")
    found, problems = ratings.read_all({"a.csv": "person", "b.csv": "person"}, pd.DataFrame(columns=["form"]), tmp_path)
    assert len(found) == 1 and problems["file"].tolist() == ["b.csv"]


def test_ratings_are_found_in_the_run_or_in_the_repository(tmp_path):
    assert ratings.find("data/sample/ratings.csv", tmp_path).is_file()
    (tmp_path / "ratings").mkdir()
    assert ratings.find("ratings", tmp_path) == tmp_path / "ratings"
    assert ratings.find("ratings/filled", tmp_path) == tmp_path / "ratings" / "filled"
