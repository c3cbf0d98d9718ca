"""Exports of a real Label Studio 1.23.0 come back in every format, and as they go wrong with people.

`label_studio/` holds exports of one project: form R1 of `returned_files.sheets`, annotated by two logins through the
API. Login 1 (王芳) gave nine entries, skipped one, gave another and then skipped it, and left a draft. Login 3 (李娜)
gave eight entries, of which one twice, and an incomplete one. A model's prediction is there, too.

`label_studio/blind/` holds exports of the same form as they go wrong, made by somebody who did not know the reader:
`cases.json` says what each is, the three scores that each account gave to each entry ("-" for one that is missing), and
what has to be listed. Incomplete ratings and a table without a scale do not count; of a file that was cut off (no
`ratings`) the whole annotations do.
"""

import csv
import io
import json
import re
from pathlib import Path

import pytest
import returned_files as made

from cbtllm_utils.human import ratings
from cbtllm_utils.human.blinding import SCALES

(R1, R2), KEY = made.sheets()
SEEDS = Path(__file__).parent / "label_studio"
ORDER = [entry.entry for entry in R1.entries]
WANG = dict(list(made.scores(R1, 0).items())[:9])
LI = dict(list(made.scores(R1, 1).items())[:8]) | {ORDER[4]: (0, 0, 0)}
FORMATS = ("tasks.json", "snapshot.json", "min.json", "flat.csv", "tabs.csv")  # a snapshot has people's addresses


def seed(name: str) -> bytes:
    return (SEEDS / name).read_bytes()


def tasks() -> list[dict]:
    return json.loads(seed("tasks.json"))


def rows() -> list[dict]:
    return json.loads(seed("min.json"))


def table() -> list[dict]:
    return list(csv.DictReader(io.StringIO(seed("flat.csv").decode(), newline="")))


def as_csv(found: list[dict], delimiter: str = ",", encoding: str = "utf-8") -> bytes:
    return made.exported([list(found[0]), *(list(row.values()) for row in found)], delimiter, encoding)


def as_json(found: list[dict]) -> bytes:
    return json.dumps(found, ensure_ascii=False).encode()


def read(folder: Path, **contents: bytes) -> ratings.Read:
    return ratings.read(made.lay(folder, {name.replace("_", "."): content for name, content in contents.items()}), KEY)


def scores(found: ratings.Read) -> dict[str, dict]:
    """Return the scores by rater and entry."""
    return {
        rater: {row.entry: tuple(getattr(row, scale) for scale in SCALES) for row in rated.itertuples()}
        for rater, rated in found.ratings.groupby("rater")
    }


def reasons(found: ratings.Read) -> list[str]:
    """Return the beginnings of the reasons why something does not count."""
    return sorted(" ".join(reason.split()[:2]) for reason in found.problems["reason"])


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_both_raters_and_lists_what_was_done_again(tmp_path, name):
    found = read(tmp_path, **{name.replace(".", "_"): seed(name)})
    assert scores(found) == {"R1 王芳": WANG, "R1 李娜": LI}
    marked = found.ratings.set_index(["rater", "entry"])[["harmful", "comment"]]
    assert marked.loc["R1 王芳", ORDER[2]].tolist() == [True, "说“好”, a;b\n第二行"]
    assert marked.loc["R1 李娜", ORDER[3]].tolist() == [False, "=1+1"] and marked["harmful"].sum() == 1
    assert {"annotated again", "helpfulness is"} <= set(reasons(found))
    again = found.problems[found.problems["reason"].str.startswith("annotated again")]
    assert again[["rater", "entry"]].to_numpy().tolist() == [["R1 李娜", ORDER[4]]]
    assert set(found.files["read as"]) == {"rating form, Label Studio"}


def test_what_was_skipped_or_not_submitted_is_listed_with_its_remark(tmp_path):
    found = read(tmp_path, tasks_json=seed("tasks.json"))
    by_entry = found.problems.set_index("entry")["reason"]
    assert by_entry[ORDER[10]].startswith("skipped") and by_entry[ORDER[11]].startswith("a draft")
    assert ORDER[9] in by_entry.index and len(by_entry) == 4, "a skipped task without scores says nothing"
    assert ratings.remarks(found.ratings, found.problems)["entry"].tolist()[:2] == [ORDER[2], ORDER[10]]


def test_one_project_in_all_formats_counts_once(tmp_path):
    found = read(tmp_path, **{name.replace(".", "_"): seed(name) for name in FORMATS})
    assert scores(found) == {"R1 王芳": WANG, "R1 李娜": LI}
    assert found.files["entries counted"].astype(bool).sum() == 2


@pytest.mark.parametrize("name", ["tasks.json", "snapshot.json", "min.json", "flat.csv"])
@pytest.mark.parametrize("part", [0.3, 0.5, 0.8, 0.999])
def test_of_an_export_that_was_cut_off_all_whole_annotations_count(tmp_path, name, part):
    whole = seed(name)
    found = read(tmp_path, **{name.replace(".", "_"): whole[: int(len(whole) * part)]})
    assert scores(found)
    earlier = made.scores(R1, 1)[ORDER[4]]  # where the later annotation is cut off
    for rater, given in scores(found).items():
        sound = [WANG, LI, LI | {ORDER[4]: earlier}]
        assert any(given.items() <= whole.items() for whole in sound), rater
    if name.endswith("json"):
        assert found.problems["reason"].str.contains("cut off").sum() == 1


def test_a_spreadsheet_saved_the_table_again(tmp_path):
    """GBK, semicolons, dates as people write them, numbers with a point, columns gone."""
    found = table()
    for row in found:
        row |= {name: row[name].replace("-", "/")[:16].replace("T", " ") for name in ("created_at", "updated_at")}
        row |= {name: f"{row[name]}.0" if row[name] else "" for name in (*SCALES, "annotator")}
        del row["check"], row["lead_time"]
    again = read(tmp_path, R1_csv=as_csv(found, ";", "gb18030"))
    assert scores(again) == {"R1 王芳": WANG, "R1 李娜": LI}


@pytest.mark.parametrize("kind", ["tasks", "rows", "table"])
def test_an_edited_text_costs_that_entry_of_both(tmp_path, kind):
    if kind == "tasks":
        found = tasks()
        found[0]["data"]["answer"] += "！"
    else:
        found = rows() if kind == "rows" else table()
        for row in found[:2]:
            row["answer"] += "！"
    edited = read(tmp_path, R1_json=as_csv(found) if kind == "table" else as_json(found))
    assert scores(edited) == {"R1 王芳": without(WANG, ORDER[0]), "R1 李娜": without(LI, ORDER[0])}
    assert reasons(edited).count("edited entry:") == 2


def without(given: dict, entry: str) -> dict:
    return {name: row for name, row in given.items() if name != entry}


def test_a_task_that_was_imported_twice_counts_with_what_was_given_last(tmp_path):
    found = tasks()
    twin = json.loads(json.dumps(found[0])) | {"id": 99}
    for annotation in twin["annotations"]:
        annotation |= {"id": annotation["id"] + 100, "updated_at": "2026-12-01T10:00:00.000000Z"}
        annotation["result"][0]["value"]["choices"] = ["1"]
    read_again = read(tmp_path, R1_json=as_json([twin, *found]))
    late = scores(read_again)["R1 王芳"]
    assert late[ORDER[0]] == (1, *WANG[ORDER[0]][1:]) and len(late) == len(WANG)
    assert reasons(read_again).count("annotated again") == 3


def nameless(found: list[dict]) -> list[dict]:
    for task in found:
        for annotation in task["annotations"]:
            annotation["result"] = [one for one in annotation["result"] if one["from_name"] != "name"]
    return found


def test_without_names_a_login_is_a_rater_by_number(tmp_path):
    found = read(tmp_path / "a", R1_json=as_json(nameless(tasks())))
    assert scores(found) == {"R1 user 1": WANG, "R1 user 3": LI}
    both = {"R1_json": as_json(nameless(tasks()))}
    both |= {"snapshot_json": as_json(nameless(json.loads(seed("snapshot.json"))))}
    assert sorted(map(len, scores(read(tmp_path / "b", **both)).values())) == [8, 9], "the same two people"


def two_at_one_login() -> list[dict]:
    """Return tasks that two people annotated one after the other; each gave the name at the first entry."""
    found = tasks()
    for place, task in enumerate(found):
        for one in task["annotations"]:
            if one["completed_by"] == 3:
                one["created_at"] = one["updated_at"] = one["updated_at"].replace("11-30", "12-01")
                named = [{"from_name": "name", "value": {"text": ["李娜"]}}] if place == 0 else []
                one["result"] = one["result"] + named
            one["completed_by"] = 1
    return found


def test_two_people_at_one_login_are_two_raters_and_it_is_said(tmp_path):
    shared = read(tmp_path, R1_json=as_json(two_at_one_login()))
    assert scores(shared) == {"R1 王芳": WANG, "R1 李娜": LI}
    assert shared.files["note"].str.contains("one login of Label Studio gave the names 王芳, 李娜").all()


def test_what_is_corrected_later_at_a_shared_login_stays_its_authors(tmp_path):
    found = two_at_one_login()
    mine = next(one for one in found[3]["annotations"] if one["created_at"].startswith("2026-11-30"))
    mine["updated_at"] = "2026-12-02T10:00:00.000000Z"
    assert scores(read(tmp_path, R1_json=as_json(found))) == {"R1 王芳": WANG, "R1 李娜": LI}


def test_an_annotation_of_a_deleted_account_is_listed_and_nobodys(tmp_path):
    found = tasks()
    for one in found[0]["annotations"]:
        if one["completed_by"] == 3:
            one["completed_by"] = None
            one["result"] = [part for part in one["result"] if part["from_name"] != "name"]
    gone = read(tmp_path, R1_json=as_json(found))
    assert len(scores(gone)) == 2 and ORDER[0] in scores(gone)["R1 王芳"]
    (reason,) = gone.problems.loc[gone.problems["entry"] == ORDER[0], "reason"]
    assert reason.startswith("its account is gone")


def test_what_was_submitted_empty_is_listed(tmp_path):
    found = tasks()
    found[0]["annotations"][0]["result"] = []
    listed = read(tmp_path, R1_json=as_json(found)).problems.set_index("entry")["reason"]
    assert listed[ORDER[0]] == "submitted in Label Studio with nothing chosen"


def of_one(found: list[dict], login: int) -> list[dict]:
    """Return the tasks with one login's annotations, as they are in a Label Studio where that is number 1."""
    for task in found:
        own = [one | {"completed_by": 1} for one in task["annotations"] if one["completed_by"] == login]
        task["annotations"] = own
    return found


def test_two_nameless_people_of_one_number_are_two_raters(tmp_path):
    """Each has a Label Studio, with the names of files that it gives."""
    contents = {
        f"project-1-at-2026-03-0{n}-10-00-{n}f2c9a1b.json": as_json(of_one(nameless(tasks()), n)) for n in (1, 3)
    }
    found = ratings.read(made.lay(tmp_path, contents), KEY)
    assert scores(found) == {"R1 user 1": WANG, "R1 user 1 (2)": LI}
    notes = found.files["note"].tolist()
    assert "user 1" not in notes[0] and "another user 1 gave other scores" in notes[1]


def test_a_nameless_export_of_another_project_is_not_taken_for_the_same_numbers(tmp_path):
    """No entry is in both, so that only the project tells them apart."""
    mine, others = of_one(tasks(), 1)[:5], of_one(nameless(tasks()), 3)[5:]
    for task in others:
        task["project"] = 7
    found = scores(read(tmp_path, one_json=as_json(mine), two_json=as_json(others)))
    assert found["R1 王芳"] == {entry: WANG[entry] for entry in ORDER[:5]} and len(found) == 2


def test_two_logins_with_one_name_and_other_scores_are_two_raters(tmp_path):
    found = tasks()
    for task in found:
        for one in task["annotations"]:
            named = [part for part in one["result"] if part["from_name"] == "name"]
            for part in named:
                part["value"]["text"] = ["Wang Fang"]
    same = read(tmp_path, R1_json=as_json(found))
    assert scores(same) == {"R1 Wang Fang (user 1)": WANG, "R1 Wang Fang (user 3)": LI}
    assert same.files["note"].str.contains("several logins gave the name Wang Fang").all()


def test_no_address_of_an_account_is_in_any_table(tmp_path):
    """A snapshot has numbers beside the addresses; other exports have addresses alone."""
    found = nameless(json.loads(seed("snapshot.json")))
    by_number = read(tmp_path / "a", R1_json=as_json(found))
    assert scores(by_number) == {"R1 user 1": WANG, "R1 user 3": LI}
    for task in found:
        for one in task["annotations"]:
            one["completed_by"] = one["completed_by"]["email"]
    by_address = read(tmp_path / "b", R1_json=as_json(found))
    assert scores(by_address) == {"R1 address 1": WANG, "R1 address 2": LI}
    for one in (by_number, by_address):
        remarks = ratings.remarks(one.ratings, one.problems)
        assert not any("@" in table.to_csv() for table in (one.ratings, one.problems, one.files, remarks))


def test_a_note_says_by_what_a_file_was_given_to_somebody(tmp_path):
    first, second = as_json(tasks()[:6]), as_json(nameless(tasks())[6:])
    by_login = read(tmp_path / "a", first_json=first, second_json=second)
    notes = by_login.files.set_index("file")["note"]
    assert notes["second.json"].str.contains("no name in the form: taken for .*'s by its login").all()
    by_scores = read(tmp_path / "b", first_json=as_json(tasks()), s_csv=as_csv(nameless_rows()))
    assert by_scores.files["note"].str.contains("by its scores").any()
    own = read(tmp_path / "c", R1_json=as_json(nameless(tasks())))
    assert not own.files["note"].str.contains("no name").any()


def nameless_rows() -> list[dict]:
    return [row | {"name": "", "annotator": "9"} for row in table() if row["annotator"] == "1"]


def test_two_projects_of_one_form_are_two_people_where_they_say_who_they_are(tmp_path):
    mine, others = tasks(), tasks()
    for task in mine:
        task["annotations"] = [one for one in task["annotations"] if one["completed_by"] == 1]
    for task in others:
        task["annotations"] = [one | {"completed_by": 1} for one in task["annotations"] if one["completed_by"] == 3]
    found = read(tmp_path, one_json=as_json(mine), two_json=as_json(others))
    assert scores(found) == {"R1 王芳": WANG, "R1 李娜": LI}


def test_a_name_in_one_export_holds_for_the_same_login_in_another(tmp_path):
    """The list was filtered, and each half exported; both names are in the first."""
    found = read(tmp_path, first_json=as_json(tasks()[:6]), second_json=as_json(tasks()[6:]))
    assert scores(found) == {"R1 王芳": WANG, "R1 李娜": LI}


def test_a_nameless_export_of_another_person_with_the_same_number_is_not_taken_for_it(tmp_path):
    """Two people, each with a Label Studio of their own, are both number 1 there; one typed no name."""
    mine, others = tasks(), nameless(tasks())
    for task in mine:
        task["annotations"] = [one for one in task["annotations"] if one["completed_by"] == 1]
    for task in others:
        task["annotations"] = [one | {"completed_by": 1} for one in task["annotations"] if one["completed_by"] == 3]
    found = read(tmp_path, one_json=as_json(mine), two_json=as_json(others))
    assert sorted(map(len, scores(found).values())) == [len(LI), len(WANG)] and scores(found)["R1 王芳"] == WANG


def test_choices_by_their_words_and_two_choices_of_one_scale(tmp_path):
    """The configuration was edited: aliases are gone, and a scale takes several choices."""
    found = tasks()
    first, second = found[0]["annotations"][0]["result"], found[1]["annotations"][0]["result"]
    first[0]["value"]["choices"] = [f"{WANG[ORDER[0]][0]} 完全相关"]
    second[0]["value"]["choices"] = ["1", "2"]
    changed = read(tmp_path, R1_json=as_json(found))
    listed = changed.problems.set_index("entry")["reason"]
    assert listed[ORDER[1]] == "relevance is 1 / 2, expected 0, 1 or 2"
    assert (ORDER[0] in scores(changed)["R1 王芳"]) == (WANG[ORDER[0]][0] == 2)


def test_deleted_tasks_are_missing_entries_and_the_import_itself_says_nothing(tmp_path):
    found = read(tmp_path / "a", R1_json=as_json(tasks()[3:]))
    assert {rater: len(given) for rater, given in scores(found).items()} == {"R1 user 1": 6, "R1 user 3": 5}
    empty = read(tmp_path / "b", R1_json=as_json([{"data": task["data"]} for task in tasks()]))
    assert empty.ratings.empty and empty.files["note"].tolist() == ["nothing is filled in"]


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_another_project_is_refused_by_name(tmp_path, kind):
    row = {"text": "x", "annotator": 1, "annotation_id": 3, "created_at": "", "updated_at": "", "lead_time": 1}
    found = read(tmp_path, R1_json=as_json([row]) if kind == "json" else as_csv([row]))
    assert found.ratings.empty and len(found.problems) == 1
    expected = "from another project" if kind == "json" else "no column relevance"
    assert expected in found.problems["reason"][0]


BLIND = json.loads(seed("blind/cases.json"))


@pytest.mark.parametrize("case", BLIND, ids=[case["file"] for case in BLIND])
def test_exports_by_somebody_else_are_read_as_their_author_says(tmp_path, case):
    found = ratings.read(made.lay(tmp_path, {case["file"]: seed(f"blind/{case['file']}")}), KEY)
    counted = [{(entry, "".join(map(str, given))) for entry, given in own.items()} for own in scores(found).values()]
    problems = [f"{row.entry}: {row.reason}" for row in found.problems.itertuples()]
    listed = "\n".join([*problems, *found.files["note"]])
    assert all(re.search(what, listed) for what in case["listed"]), listed
    if case["ratings"] is not None:
        whole = [{pair for pair in own.items() if "-" not in pair[1]} for own in case["ratings"].values()]
        assert sorted(pair for own in counted for pair in own) == sorted(pair for own in whole for pair in own)
        assert all(any(own <= account for account in whole) for own in counted), "no rater has two accounts' ratings"
        assert len(counted) >= len(whole)
