"""Nothing that people return is lost or ignored: each file is read, passed over by a rule, or listed with a reason.

The kinds of files come from cases that clinicians and their assistants described without knowing the code.
"""

import itertools
import json

import pytest
import returned_files as made
from hypothesis import given, settings
from hypothesis import strategies as st

from cbtllm_utils.human import blinding, ratings, returned
from cbtllm_utils.human.blinding import SCALES

SHEETS, KEY = made.sheets()
R1, R2 = SHEETS
N = len(R1.entries)


def read(folder, key=KEY) -> ratings.Read:
    """Read as notebook 07 does."""
    return ratings.read_all({str(folder): "person"}, key, folder)


def counted(found: ratings.Read) -> dict[str, int]:
    return found.ratings.groupby("file").size().to_dict()


def given_scores(found: ratings.Read, rater: str) -> dict:
    rows = found.ratings[found.ratings["rater"] == rater]
    return {row["entry"]: tuple(row[scale] for scale in SCALES) for row in rows.to_dict("records")}


def notes(found: ratings.Read) -> dict[str, str]:
    return found.files.groupby("file")["note"].agg("; ".join).to_dict()


# Who is a rater, and which file counts


def test_two_people_on_one_form_are_two_raters(tmp_path):
    """They typed their names: into the page, the workbook, Label Studio; an old form's name is its file's."""
    who = {name: made.scores(R1, i) for i, name in enumerate(("王芳", "李娜", "张伟", "赵 敏"))}
    tasks = json.dumps(made.label_studio(R1, {7: who["张伟"]}, "张伟")).encode()
    contents = {
        "rating-R1-王芳-12-of-12.jsonl": made.page(R1, who["王芳"], name="王芳"),
        "R1.xlsx": made.saved(made.filled(R1, who["李娜"], " 李娜")),
        "project-3-at-2026-03-13-09-21-5f2c9a1b.json": tasks,
        "R1 赵敏.xlsx": made.saved(made.without_name(made.filled(R1, who["赵 敏"]))),
    }
    found = read(made.lay(tmp_path, contents))
    assert found.problems.empty and len(found.ratings) == 4 * N
    assert set(found.ratings["rater"]) == {"R1 王芳", "R1 李娜", "R1 张伟", "R1 赵敏"}
    for name, scores in who.items():
        assert given_scores(found, f"R1 {name.replace(' ', '')}") == scores
    far = ratings.progress(KEY, found.ratings).set_index("rater")["entries left"]
    assert far.to_dict() == dict.fromkeys(found.ratings["rater"], 0) | {"R2": N}


@pytest.mark.parametrize(
    "one, other",
    [
        ("R1 王芳.xlsx", "R1 李娜.xlsx"),
        ("王芳/R1.xlsx", "李娜/R1.xlsx"),
        ("王芳.zip", "李娜.zip"),
        ("rating-R1-12-of-12 Dr. Wang.xlsx", "rating-R1-12-of-12 Dr. Li (final).xlsx"),
    ],
)
def test_forms_without_a_name_are_told_apart_by_what_their_files_are_called(tmp_path, one, other):
    contents = {}
    for name, who in ((one, 0), (other, 1)):
        content = made.saved(made.without_name(made.filled(R1, made.scores(R1, who))))
        contents[name] = made.packed({"R1.xlsx": content}) if name.endswith("zip") else content
    found = read(made.lay(tmp_path, contents))
    assert found.ratings["rater"].nunique() == 2 and len(found.ratings) == 2 * N


@pytest.mark.parametrize(
    "later",
    [
        "R1 (1).xlsx",
        "R1 - 副本.xlsx",
        "副本R1.xlsx",
        "Copy of R1.xlsx",
        "R1_终稿.xlsx",
        "R1 final v2.xlsx",
        "R1-2026-03-13.xlsx",
    ],
)
def test_a_form_without_a_name_is_one_rater_and_its_latest_complete_file_counts(tmp_path, later):
    older, newer = made.scores(R1, 0), made.scores(R1, 1)
    contents = {"R1.xlsx": made.filled(R1, older), later: made.filled(R1, newer)}
    found = read(made.lay(tmp_path, {name: made.saved(book) for name, book in contents.items()}))
    assert counted(found) == {later: N} and given_scores(found, "R1") == newer
    assert notes(found)["R1.xlsx"] == f"superseded by {later}, the latest complete file of this person"


def test_a_half_saved_file_gives_way_to_the_complete_one_whatever_their_dates(tmp_path):
    """Reconsidered entries counted as neither."""
    whole = made.scores(R1)
    half = {code: (2, 2, 2) for code in list(whole)[:7]}
    contents = {"rating-R1-12-of-12.jsonl": made.page(R1, whole), "rating-R1-7-of-12.jsonl": made.page(R1, half)}
    found = read(made.lay(tmp_path, contents))
    assert given_scores(found, "R1") == whole and found.problems.empty
    assert "superseded by rating-R1-12-of-12.jsonl" in notes(found)["rating-R1-7-of-12.jsonl"]


def test_of_two_halves_the_later_counts_and_the_earlier_fills_its_gaps(tmp_path):
    whole = made.scores(R1)
    first = {code: (0, 0, 0) for code in list(whole)[:5]}
    second = {code: (1, 1, 1) for code in list(whole)[3:9]}
    found = read(
        made.lay(tmp_path, {"a.jsonl": made.page(R1, first, name="W"), "b.jsonl": made.page(R1, second, name="w ")})
    )
    assert given_scores(found, "R1 W") == first | second
    assert "3 entries that it lacks count" in notes(found)["a.jsonl"]


def test_a_page_knows_itself_when_it_was_saved(tmp_path):
    """Mails and downloads change a file's time."""
    early, late = made.scores(R1, 0), made.scores(R1, 1)
    contents = {
        "a.jsonl": made.page(R1, late, name="W", saved="2026-03-14T10:00:00.000Z"),
        "b.jsonl": made.page(R1, early, name="W", saved="2026-03-13T10:00:00.000Z"),
    }
    assert given_scores(read(made.lay(tmp_path, contents)), "R1 W") == late


def test_a_remark_in_a_superseded_file_is_still_among_the_remarks(tmp_path):
    scores = made.scores(R1)
    code = R1.entries[0].entry
    rows = made.page(R1, {code: (0, 0, 0)}).replace(b'"harmful": false', '"harmful": true, "comment": "伤人"'.encode())
    found = read(made.lay(tmp_path, {"R1.jsonl": rows, "R1 final.jsonl": made.page(R1, scores)}))
    said = ratings.remarks(found.ratings, found.problems)
    assert said[["entry", "comment", "harmful"]].to_numpy().tolist() == [[code, "伤人", True]]


def test_the_same_bytes_count_once_whatever_they_are_called(tmp_path):
    content = made.saved(made.filled(R1, made.scores(R1)))
    contents = {"王芳.xlsx": content, "李娜.xlsx": content, "all.zip": made.packed({"R1.xlsx": content})}
    found = read(made.lay(tmp_path, contents))
    assert len(found.ratings) == N and found.ratings["rater"].nunique() == 1
    assert sum("says the same as" in note for note in notes(found).values()) == 2
    assert notes(found)["all.zip"] == "passed over: a zip archive of 1 file, which are listed one by one"


def test_forms_of_an_earlier_run_are_read_by_their_own_key(tmp_path):
    """`repeats` changed between two runs: R1 of the first is another form and another rater than R1 of the second."""
    posts = [{"questionID": n, "question": f"问题{n}", "description": ""} for n in range(6)]
    answers = [{"system": s, "questionID": n, "reply": f"回复{n}{s}"} for n in range(6) for s in "ab"]
    drawn = blinding.sample(posts, answers, ["a", "b"], 6, 42)
    (old,), before = blinding.make_sheets(drawn, 1, 0, 42)
    (new,), after = blinding.make_sheets(drawn, 1, 3, 42)
    blinding.save_key(before, tmp_path / "key.csv")
    key = blinding.save_key(after, tmp_path / "key.csv")
    contents = {"R1.jsonl": made.page(old, made.scores(old, 0)), "R1 (1).jsonl": made.page(new, made.scores(new, 1))}
    found = read(made.lay(tmp_path / "filled", contents), key)
    assert found.ratings.groupby("rater").size().to_dict() == {f"R1 (form {old.form[:4]})": 12, "R1": 15}
    assert found.problems.empty
    assert ratings.progress(key, found.ratings)["entries left"].eq(0).all()


def test_several_people_in_one_label_studio_project_are_several_raters(tmp_path):
    by = {3: made.scores(R1, 0), "li@example.org": made.scores(R1, 1)}
    found = read(made.lay(tmp_path, {"export.json": json.dumps(made.label_studio(R1, by)).encode()}))
    assert set(found.ratings["rater"]) == {"R1 user 3", "R1 address 1"} and len(found.ratings) == 2 * N


def test_a_name_given_once_in_a_flat_export_of_label_studio_holds_for_all_of_that_user(tmp_path):
    scores = made.scores(R1)
    rows = [
        {"form": R1.form, "rater": "R1", "entry": e.entry, "check": e.check, "annotator": 3}
        | dict(zip(SCALES, scores[e.entry], strict=True))
        for e in R1.entries
    ]
    rows[2]["name"] = "张伟"
    found = read(made.lay(tmp_path, {"export.json": json.dumps(rows).encode()}))
    assert given_scores(found, "R1 张伟") == scores


def test_a_flag_that_was_added_later_counts(tmp_path):
    """The scores are the same in both files."""
    early = made.page(R1, made.scores(R1), name="W", saved="2026-03-13T10:00:00.000Z")
    late = early.replace(b"03-13", b"03-14").replace(b'"harmful": false', b'"harmful": true', 1)
    found = read(made.lay(tmp_path, {"R1.jsonl": early, "R1 (1).jsonl": late}))
    assert counted(found) == {"R1 (1).jsonl": N} and found.ratings["harmful"].sum() == 1


def test_people_of_one_name_may_tell_themselves_apart_in_brackets(tmp_path):
    names = ("张伟（大）", "张伟（小）")
    found = read(
        made.lay(tmp_path, {f"{i}.jsonl": made.page(R1, made.scores(R1, i), name=n) for i, n in enumerate(names)})
    )
    assert found.ratings.groupby("rater").size().to_dict() == {"R1 张伟(大)": N, "R1 张伟(小)": N}


def test_a_draft_without_a_name_is_that_of_the_form_with_the_same_scores(tmp_path):
    contents = {"whole.jsonl": made.page(R1, made.scores(R1), name="W")}
    contents["draft.jsonl"] = made.page(R1, made.scores(R1, entries=6))
    assert counted(read(made.lay(tmp_path, contents))) == {"whole.jsonl": N}


def test_a_form_without_a_name_beside_one_with_a_name_is_one_more_rater_and_says_so(tmp_path):
    contents = {"a.jsonl": made.page(R1, made.scores(R1), name="W"), "R1.jsonl": made.page(R1, made.scores(R1, 1))}
    found = read(made.lay(tmp_path, contents))
    assert set(found.ratings["rater"]) == {"R1", "R1 W"}
    assert notes(found)["R1.jsonl"] == "no name in the form: counted as one more rater"


def test_a_slip_in_the_latest_form_brings_no_older_scores_back(tmp_path):
    book = made.filled(R1, made.scores(R1), "W")
    book["entries"]["G4"] = "高"
    contents = {"a.jsonl": made.page(R1, made.scores(R1, 1), name="W", saved="2026-03-01T10:00:00.000Z")}
    found = read(made.lay(tmp_path, contents | {"R1.xlsx": made.saved(book)}))
    assert counted(found) == {"R1.xlsx": N - 1}
    assert found.problems["reason"].tolist() == ["relevance is 高, expected 0, 1 or 2"]


def test_an_entry_edited_in_the_latest_form_counts_from_the_same_persons_form_before(tmp_path):
    """A slip in the latest form is that person's last word; scores for another text are no word on this one."""
    first, before, last = (made.scores(R1, i) for i in range(3))
    book = made.filled(R1, last, "W")
    entry, other = book["entries"]["B4"].value, book["entries"]["B5"].value
    book["entries"]["F4"], book["entries"]["G5"] = "another reply", "高"
    contents = {
        "a.jsonl": made.page(R1, first, name="W", saved="2026-03-01T10:00:00.000Z"),
        "b.jsonl": made.page(R1, before, name="w", saved="2026-03-02T10:00:00.000Z"),
        "c.jsonl": made.page(R1, made.scores(R1), name="V", saved="2026-03-03T10:00:00.000Z"),
        "R1.xlsx": made.saved(book),
    }
    found = read(made.lay(tmp_path, contents))
    expected = {code: given for code, given in last.items() if code != other} | {entry: before[entry]}
    assert given_scores(found, "R1 W") == expected and len(given_scores(found, "R1 V")) == N
    assert notes(found)["b.jsonl"].endswith("; 1 entries whose text was edited there count")
    assert notes(found)["a.jsonl"] == "superseded by R1.xlsx, the latest complete file of this person"
    assert dict(zip(found.problems["entry"], found.problems["reason"].str.partition(":")[0], strict=True)) == {
        entry: "edited entry",
        other: "relevance is 高, expected 0, 1 or 2",
    }


@pytest.mark.parametrize("cells", [{"E1": "姓名：王 芳"}, {"E1": "Name: 王 芳"}, {"E1": "姓名", "G1": "王 芳"}])
def test_a_name_is_read_behind_its_label_and_a_cell_beside_its_place(tmp_path, cells):
    book = made.filled(R1, made.scores(R1))
    for cell, text in cells.items():
        book["entries"][cell] = text
    assert set(read(made.lay(tmp_path, {"R1.xlsx": made.saved(book)})).ratings["rater"]) == {"R1 王 芳"}


def test_a_copied_sheet_is_not_counted_twice_in_the_table_of_files(tmp_path):
    book = made.filled(R1, made.scores(R1))
    book.copy_worksheet(book["entries"])
    found = read(made.lay(tmp_path, {"R1.xlsx": made.saved(book)}))
    assert sorted(found.files["entries counted"]) == [0, N] and len(found.ratings) == N


def test_another_project_of_label_studio_is_said_to_be_one(tmp_path):
    tasks = [{"id": 1, "data": {"text": "x"}, "annotations": []}]
    found = read(made.lay(tmp_path, {"export.json": json.dumps(tasks).encode()}))
    assert "an export of Label Studio from another project" in found.problems["reason"][0]


@pytest.mark.parametrize("title, people", [("李娜", 2), ("Sheet1", 1), ("工作表1", 1), ("entries (2)", 1)])
def test_a_workbook_may_have_a_sheet_for_each_person(tmp_path, title, people):
    book = made.filled(R1, made.scores(R1))
    table = book.copy_worksheet(book["entries"])
    table.title = title
    for row in table.iter_rows(min_row=4):
        row[6].value, row[7].value, row[8].value = made.scores(R1, 1)[row[1].value]
    found = read(made.lay(tmp_path, {"R1.xlsx": made.saved(book)}))
    assert len(found.ratings) == people * N and found.ratings["rater"].nunique() == people


def test_the_same_scores_under_two_names_count_and_are_noted(tmp_path):
    """A name misspelled, or a second person who went on in the first one's browser."""
    scores = made.scores(R1)
    contents = {f"{i}.jsonl": made.page(R1, scores, name=name) for i, name in enumerate(("王芳", "王方"))}
    contents["2.jsonl"] = made.page(R1, made.scores(R1, 1), name="李娜")
    found = read(made.lay(tmp_path, contents))
    assert found.ratings["rater"].nunique() == 3
    assert notes(found)["1.jsonl"] == "nearly the same scores as 王芳 in 0.jsonl: one person? both count"
    assert notes(found)["0.jsonl"] == notes(found)["2.jsonl"] == ""


def test_the_last_annotation_of_a_user_counts_wherever_it_is_in_the_export(tmp_path):
    early, late = (made.label_studio(R1, {3: made.scores(R1, who)}) for who in (0, 1))
    for day, tasks in ((13, early), (14, late)):
        for task in tasks:
            task["annotations"][0]["updated_at"] = f"2026-03-{day}T10:00:00.000000Z"
    for task, newer in zip(early, late, strict=True):
        task["annotations"].insert(0, newer["annotations"][0])
    found = read(made.lay(tmp_path, {"export.json": json.dumps(early).encode()}))
    assert given_scores(found, "R1") == made.scores(R1, 1)


# What is read


def moved(book):
    """Rows sorted and one deleted, notes beside and below them, columns inserted, the guide gone, the sheet renamed."""
    table = book["entries"]
    del book["guide"]
    table.title = "Sheet1"
    table.delete_rows(forms_row(3))
    rows = sorted(([cell.value for cell in row] for row in table.iter_rows(min_row=4)), key=lambda row: row[1])
    for place, row in enumerate(rows, 4):
        for column, value in enumerate(row, 1):
            table.cell(place, column).value = value
    table.insert_cols(7)
    table["G2"] = "笔记"
    table["G5"] = "很好"
    table.append([])
    table.append(["合计", *[None] * 6, 12, 13, 11])
    table.insert_rows(1, 2)
    book.create_sheet("Sheet2")["A1"] = "note to self"
    return book


def forms_row(entry: int) -> int:
    return 3 + entry


def table_of(sheet, who: int = 0) -> list[list[str]]:
    return made.grid(made.filled(sheet, made.scores(sheet, who)))


def only(rows: list[list[str]], *columns: int) -> list[list[str]]:
    return [[row[i] for i in columns] for row in rows]


FILES = {
    "R1.XLSX": lambda: made.saved(made.filled(R1, made.scores(R1))),
    "R1.xlsx.xlsx": lambda: made.saved(made.filled(R1, made.scores(R1))),
    "R1": lambda: made.saved(made.filled(R1, made.scores(R1))),
    "a b/c d/R1 .xlsx": lambda: made.saved(made.filled(R1, made.scores(R1))),
    "R1.jsonl.txt": lambda: made.page(R1, made.scores(R1)),
    "R1.JSONL": lambda: b"\xef\xbb\xbf" + made.page(R1, made.scores(R1)).replace(b"\n", b"\r\n"),
    "R1.json": lambda: made.page(R1, made.scores(R1)).decode().encode("utf-16"),
    "array.json": lambda: b"[" + b",".join(made.page(R1, made.scores(R1)).split(b"\n")[:-1]) + b"]",
    "comma.csv": lambda: made.exported(table_of(R1)),
    "semicolon.csv": lambda: made.exported(table_of(R1), ";", "utf-8-sig"),
    "tab.txt": lambda: made.exported(table_of(R1), "\t", "utf-16"),
    "gbk.csv": lambda: made.exported(table_of(R1), ",", "gbk"),
    "old mac.tsv": lambda: made.exported(table_of(R1), "\t", "gb18030", "\r"),
    "no names.csv": lambda: made.exported([row for i, row in enumerate(table_of(R1)) if i != 1]),
    "no form.csv": lambda: made.exported(table_of(R1)[1:]),
    "form typed over.csv": lambda: made.exported([["form", "王芳的表"], *table_of(R1)[1:]]),
    "no texts.csv": lambda: made.exported(only(table_of(R1), 0, 1, 6, 7, 8)),
    "json-min.json": lambda: json.dumps(
        [
            {"form": R1.form, "rater": "R1", "entry": e.entry, "check": e.check, "annotator": 3}
            | dict(zip(SCALES, map(str, made.scores(R1)[e.entry]), strict=True))
            for e in R1.entries
        ]
    ).encode(),
}


def test_names_typed_over_the_number_of_the_form_are_names(tmp_path):
    """Two people each got R1 and wrote their names into the cell where it said R1."""
    contents = {}
    for file, name, who in (("R1.xlsx", "陈静", 0), ("R1 (1).xlsx", "陈静\u3000", 0), ("R1 (2).xlsx", "周明", 1)):
        book = made.without_name(made.filled(R1, made.scores(R1, who)))
        book["entries"]["D1"] = name
        contents[file] = made.saved(book)
    found = read(made.lay(tmp_path, contents))
    assert found.ratings.groupby("rater").size().to_dict() == {"R1 陈静": N, "R1 周明": N}


def test_equal_cells_that_a_program_merged_are_not_edited(tmp_path):
    """Of merged cells the first alone holds the text; a text that is not there for another reason is an edited one."""
    head, names, titles, *rows = table_of(R1)
    rows.sort(key=lambda row: row[3:5])
    merged = [rows[0]]
    for above, row in itertools.pairwise(rows):
        merged.append([*row[:3], *("" if row[i] == above[i] else row[i] for i in (3, 4, 5)), *row[6:]])
    assert sum(row[4] == "" for row in merged), "some posts have a neighbor with the same text"
    found = read(made.lay(tmp_path, {"R1.csv": made.exported([head, names, titles, *merged])}))
    assert given_scores(found, "R1") == made.scores(R1) and found.problems.empty
    merged[0][5] = ""
    found = read(made.lay(tmp_path, {"R1.csv": made.exported([head, names, titles, *merged])}))
    assert "edited entry: its text is not the form's" in set(found.problems["reason"])


@pytest.mark.parametrize("name", FILES)
def test_a_form_is_read_whatever_a_program_or_a_person_made_of_it(tmp_path, name):
    found = read(made.lay(tmp_path, {name: FILES[name]()}))
    assert given_scores(found, "R1") == made.scores(R1) and found.problems.empty
    assert found.files[["file", "rater", "entries read", "entries counted"]].to_numpy().tolist() == [[name, "R1", N, N]]


def test_rows_columns_and_sheets_may_be_moved_and_a_sum_is_no_rating(tmp_path):
    book = moved(made.filled(R1, made.scores(R1)))
    found = read(made.lay(tmp_path, {"R1.xlsx": made.saved(book)}))
    left = {code: scores for code, scores in made.scores(R1).items() if code != R1.entries[2].entry}
    assert given_scores(found, "R1") == left
    assert found.problems["reason"].tolist() == ["scores without an entry code: a sum, or the code was deleted"]


@pytest.mark.parametrize(
    "cell, score",
    [
        *((value, 2) for value in (2, 2.0, "2", "２", " 2 ", "2\u00a0", "2.0", "2分", "2 分", "２分", "2\u200b", "②")),
        *(
            (value, 1)
            for value in ("部分相关", "1 部分相关", "1=部分相关", "1（部分相关）", "Partly relevant", "1分，部分相关")
        ),
        *(
            (value, None)
            for value in (3, -1, 1.5, "1-2", "1/2", "1，2", "2?", "2+", "l", "O", "高", "见评语", True, "=1+1", "2,0")
        ),
        *((value, None) for value in ("完全遵循", "11", "二", "0.5", "⅔", "#N/A")),
    ],
)
def test_a_score_is_certain_or_is_listed(tmp_path, cell, score):
    book = made.filled(R1, made.scores(R1))
    book["entries"]["G4"] = cell
    found = read(made.lay(tmp_path, {"R1.xlsx": made.saved(book)}))
    code = R1.entries[0].entry
    expected = made.scores(R1) | ({code: (score, *made.scores(R1)[code][1:])} if score is not None else {})
    if score is None:
        del expected[code]
    assert given_scores(found, "R1") == expected
    assert found.problems[["line", "entry"]].to_numpy().tolist() == ([] if score is not None else [[4, code]])


def test_codes_that_a_spreadsheet_made_numbers_are_the_same_codes(tmp_path):
    """A click on the green triangle makes 2787 a number; opening a CSV makes 23E4 230000."""
    codes = ["2787", "23E4", "9999", *[e.entry for e in R1.entries[3:]]]
    entries = [
        blinding.Entry(c, e.question, e.description, e.answer, e.check, e.risk)
        for c, e in zip(codes, R1.entries, strict=True)
    ]
    sheet = blinding.Sheet(R1.form, "R1", tuple(entries))
    key = KEY[KEY["form"] == R1.form].assign(entry=codes)
    book = made.filled(sheet, made.scores(sheet))
    book["entries"]["B4"], book["entries"]["B5"], book["entries"]["B6"] = 2787, 230000.0, "9999 "
    book["entries"]["B7"] = f" {codes[3].lower()}"
    found = read(made.lay(tmp_path, {"R1.xlsx": made.saved(book)}), key)
    assert given_scores(found, "R1") == made.scores(sheet) and found.problems.empty


def test_what_gbk_cannot_hold_costs_no_rating_and_is_noted(tmp_path):
    rows = table_of(R1)
    lost = next(row for row in rows if row[1] == R1.entries[1].entry)
    lost[5] = lost[5].replace("“", "😀", 1)
    found = read(made.lay(tmp_path, {"R1.csv": made.exported(rows, ",", "gbk")}))
    assert len(found.ratings) == N and f"the texts of {R1.entries[1].entry} cannot be checked" in notes(found)["R1.csv"]


def test_a_file_that_breaks_off_counts_as_far_as_it_goes(tmp_path):
    content = made.page(R1, made.scores(R1))
    found = read(made.lay(tmp_path, {"R1.jsonl": content[: len(content) * 2 // 3]}))
    assert 4 <= len(found.ratings) < N
    assert found.problems["reason"].tolist() == [
        f"line {len(found.ratings) + 2}: not JSON: the file was cut off or edited"
    ]


# What is not read


JPEG = b"\xff\xd8\xff\xe0" + bytes(99)
LISTED = {  # content, and what the reason says
    "R1.xls": (lambda: made.XLS, "Excel before 2007 (.xls); open it and save it as .xlsx"),
    "locked.xlsx": (lambda: made.PASSWORD, "a file with a password; open it and save it as .xlsx without one"),
    "R1.ods": (
        lambda: made.packed({"mimetype": b"application/vnd.oasis.opendocument.spreadsheet"}),
        "LibreOffice (.ods)",
    ),
    "R1.numbers": (lambda: made.packed({"Index/Document.iwa": b"x"}), "Apple's Numbers"),
    "R1.xlsb": (lambda: made.packed({"xl/workbook.bin": b"x"}), ".xlsb"),
    "R1.docx": (lambda: made.packed({"word/document.xml": b"x"}), "a Word document"),
    "scan.pdf": (lambda: b"%PDF-1.7", "a PDF"),
    "photo.jpg": (lambda: JPEG, "a picture"),
    "IMG_0001.xlsx": (lambda: JPEG, "a picture"),
    "nothing.xlsx": (lambda: b"", "empty; ask for it again"),
    "half.xlsx": (lambda: made.saved(made.filled(R1, {}))[:-99], "damaged, or cut off"),
    "R1.rar": (lambda: b"Rar!\x1a\x07", "unpack it here"),
    "mail.eml": (lambda: b"From: a@b.c\nSubject: R1\n", "an e-mail; save its attachments here"),
    "R1.html": (lambda: b'<!doctype html><button id="begin">', "the page itself"),
    "label_studio.xml": (lambda: b"<View></View>", "configuration"),
    "notes.txt": (lambda: "王老师周五交".encode(), "no column relevance"),
    "key.csv": (lambda: KEY.to_csv(index=False).encode(), "the key to the codes"),
    "form.csv": (lambda: b"questionID,evidence,risk\n1,,none\n", "it belongs into data/annotations"),
    "zip in zip.zip": (lambda: made.packed({"a.zip": made.packed({"b": b"x"})}), "an archive in an archive"),
    "noise.bin": (lambda: bytes(range(256)), "neither a form nor a text"),
}
PASSED = {
    "~$R1.xlsx": "lock file of Excel or WPS",
    ".~lock.R1.xlsx#": "lock file of LibreOffice or WPS",
    "._R1.xlsx": "macOS's notes on another file",
    ".DS_Store": "macOS's notes on the folder",
    "below/Thumbs.db": "Windows' notes on the folder",
    "desktop.ini": "Windows' notes on the folder",
    "__MACOSX/R1.xlsx": "macOS's notes on an archive",
}


def test_what_cannot_be_read_has_a_reason_and_what_is_passed_over_a_rule(tmp_path):
    contents = {"R2.xlsx": made.saved(made.filled(R2, made.scores(R2)))}
    contents |= {name: content() for name, (content, _) in LISTED.items()} | dict.fromkeys(PASSED, b"x")
    folder = made.lay(tmp_path / "filled", contents)
    (folder / "gone.xlsx").symlink_to(folder / "nowhere")
    (folder / "loop").symlink_to(folder)
    found = read(folder)
    assert counted(found) == {"R2.xlsx": N}
    shown = notes(found)
    for name, (_, reason) in LISTED.items():
        assert any(reason in note for file, note in shown.items() if file.startswith(name)), name
        assert any(
            found.problems.loc[found.problems["file"].str.startswith(name), "reason"].str.contains(reason, regex=False)
        ), name
    for name, rule in PASSED.items():
        assert shown[name] == f"passed over: {rule}" and name not in set(found.problems["file"])
    assert "a link to a file that is not there" in shown["gone.xlsx"]
    laid = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}
    assert laid <= set(found.files["file"]), "nothing is ignored in silence"


def test_a_form_that_nobody_filled_is_listed(tmp_path):
    contents = {"R1.xlsx": made.saved(made.filled(R1, {})), "R2.jsonl": made.page(R2, {})}
    found = read(made.lay(tmp_path, contents))
    assert found.ratings.empty and set(notes(found).values()) == {"nothing is filled in"}


def test_an_archive_is_opened_with_its_names_in_gbk_and_never_unpacks_much(tmp_path):
    content = made.packed({"XX/R1.xlsx": made.saved(made.filled(R1, made.scores(R1)))})
    named = content.replace(b"XX/", "王".encode("gbk") + b"/")
    contents = {"a.zip": named, "bomb.zip": made.packed({}), "cut.zip": named[:2000]}
    found = read(made.lay(tmp_path, contents))
    assert counted(found) == {"a.zip/王/R1.xlsx": N} and "damaged" in notes(found)["cut.zip"]
    import zipfile

    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("R2.csv", b" " * (returned.LARGEST + 1))
    assert "which no form does" in notes(read(tmp_path))["bomb.zip"]


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(["", "PK\x03\x04", "[", "{", "form,entry\n", "\ufeff"]))
def test_no_content_stops_the_others(tmp_path_factory, content, start):
    folder = tmp_path_factory.mktemp("filled")
    contents = {"R1.xlsx": start.encode() + content, "R2.jsonl": made.page(R2, made.scores(R2))}
    found = read(made.lay(folder, contents))
    assert counted(found) == {"R2.jsonl": N} and "R1.xlsx" in set(found.files["file"])


@pytest.mark.parametrize(
    "name, hint",
    [
        ("R1.xlsx", ""),
        ("R1 (1).xlsx", ""),
        ("rating-R1-46-of-46.jsonl.txt", ""),
        ("副本R1 终稿 2026-03-13.xlsx", ""),
        ("评分表.zip/R1.xlsx", ""),
        ("R1_王芳_最终版.xlsx", "王芳"),
        ("王芳/R1 - 副本 (2).xlsx", "王芳"),
        ("R1-Dr. Anna Li v2 (conflicted copy 2026-01-01).xlsx", "Dr Anna Li"),
        ("form 2.xlsx", "2"),
        ("R1（已完成）3月13日.xlsx", ""),
        ("R1（王芳）0313.xlsx", "王芳"),
        ("新建 Microsoft Excel 工作表 (2).xlsx", ""),
    ],
)
def test_what_a_files_name_says_about_whose_it_is(name, hint):
    assert returned.name_hint(name, ("R1",)) == hint
