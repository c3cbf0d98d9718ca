"""Filled forms that mean harm or are damaged: read within bounds, nothing of them is followed, every fault is named."""

import json
import re
import struct
import time
import zipfile

import openpyxl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cbtllm_utils import files, workbooks
from cbtllm_utils.data.psyqa import Question
from cbtllm_utils.human import annotation, blinding, forms, ratings

POSTS = [Question(1, "我总是失败", "考砸一次，这辈子就完了。")]
SHEET = "xl/worksheets/sheet2.xml"  # the form's second sheet holds what is filled


def drawn(question="问题", description="描述", reply="回复"):
    """A sheet of two entries, of one post and two systems."""
    post = {"questionID": 1, "question": question, "description": description}
    answers = [{"system": system, "questionID": 1, "reply": f"回{reply}"} for system in ("a", "b")]
    return blinding.sheets(blinding.sample([post], answers, ["a", "b"], 1, 1), raters=1, repeats=0, seed=1)


def rating_form(folder):
    made, key = drawn()
    return next(p for p in forms.write(made, folder / "forms") if p.suffix == ".xlsx"), key


def read_both(place):
    """What each reader says of a workbook that is no sound form of its kind: one line."""
    with pytest.raises(files.InputError) as error:
        annotation.read(place, POSTS, "R1")
    found, problems = ratings.collect(place, drawn()[1])
    assert found.empty and len(problems) == 1
    reasons = [str(error.value), problems["reason"][0]]
    assert not [reason for reason in reasons if "\n" in reason or str(place.parent) in reason]
    return reasons


@pytest.fixture
def annotated(tmp_path):
    path = annotation.form(POSTS, tmp_path / "form.xlsx", "R1")
    book = openpyxl.load_workbook(path)
    head = [cell.value for cell in book["posts"][1]]
    for name, value in (("labeling", "x"), ("evidence", "我总是失败"), ("risk", "none")):
        book["posts"].cell(2, head.index(name) + 1).value = value
    book.save(path)
    return path


def changed(path, change, name=SHEET):
    """The workbook with one of its parts rewritten."""
    with zipfile.ZipFile(path) as parts:
        content = {part: parts.read(part) for part in parts.namelist()}
    content[name] = change(content[name])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for part, text in content.items():
            out.writestr(part, text)
    return path


@pytest.mark.parametrize("value", [None, "x"], ids=["blank", "filled"])
def test_a_cell_at_the_far_end_costs_seconds_and_changes_nothing(annotated, tmp_path, value):
    """XFD1048576 is the last cell that a sheet can have: 16,384 columns x 1,048,576 lines."""
    key = rating_form(tmp_path)[1]
    for path, sheet in ((annotated, "posts"), (tmp_path / "forms" / "R1.xlsx", "entries")):
        book = openpyxl.load_workbook(path)
        far = book[sheet]["XFD1048576"]
        far.value, far.font = value, openpyxl.styles.Font(bold=True)
        if sheet == "entries":
            for row in (4, 5):
                for column in "GHI":
                    book[sheet][f"{column}{row}"] = 2
        book.save(path)
    start = time.process_time()
    assert len(annotation.read(annotated, POSTS, "R1")[0]) == 1
    assert len(ratings.collect(tmp_path / "forms" / "R1.xlsx", key)[0]) == 2
    assert time.process_time() - start < 20


def test_a_bomb_is_not_unpacked(annotated):
    """100 MB of blanks pack to 0.1 MB."""
    changed(annotated, lambda text: text + b" " * 100_000_000)
    assert annotated.stat().st_size < 200_000
    assert all("unpacks to 100 MB" in reason for reason in read_both(annotated))


def test_a_bomb_that_lies_about_its_size_is_read_as_far_as_it_says(annotated):
    whole = changed(annotated, lambda text: text + b" " * 100_000_000).read_bytes()
    with zipfile.ZipFile(annotated) as parts:
        size = struct.pack("<I", parts.getinfo(SHEET).file_size)
    assert whole.count(size) == 2, "before the part, and in the list of parts"
    annotated.write_bytes(whole.replace(size, struct.pack("<I", 1000)))
    read_both(annotated)


def test_entities_neither_multiply_nor_fetch(annotated, tmp_path):
    (tmp_path / "secret").write_text("geheim")
    bomb = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 10))
    for entity in (f'<!ENTITY e0 "lol">{bomb}', f'<!ENTITY e9 SYSTEM "{(tmp_path / "secret").as_uri()}">'):
        place = tmp_path / "hostile.xlsx"
        place.write_bytes(annotated.read_bytes())
        written = f"<!DOCTYPE worksheet [{entity}]><worksheet".encode(), b">none<"
        changed(place, lambda text, new=written: text.replace(b"<worksheet", new[0], 1).replace(new[1], b">&e9;<"))
        with zipfile.ZipFile(place) as parts:
            assert b"DOCTYPE" in parts.read(SHEET) and b"&e9;" in parts.read(SHEET)
        start = time.process_time()
        assert not any("geheim" in reason or "lollol" in reason for reason in read_both(place))
        assert time.process_time() - start < 5


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damage_anywhere_is_one_line(annotated, data):
    """Bytes of the package, or of the sheet within it, taken out or written over."""
    whole, place = annotated.read_bytes(), annotated.with_name("damaged.xlsx")

    def damage(content):
        start = data.draw(st.integers(0, len(content) - 1))
        return content[:start] + data.draw(st.binary(max_size=4)) + content[start + data.draw(st.integers(0, 40)) :]

    place.write_bytes(whole if data.draw(st.booleans()) else damage(whole))
    if place.read_bytes() == whole:
        changed(place, damage)
    try:
        good, problems = annotation.read(place, POSTS, "R1")
    except files.InputError as error:
        assert str(error).startswith("damaged.xlsx: no ") and "\n" not in str(error)
    else:
        assert len(good) + len(problems) <= 1
    assert ratings.collect(place, drawn()[1])[0].empty


hostile = st.text(st.characters(exclude_categories=()), max_size=30) | st.sampled_from(
    [
        "=HYPERLINK(1)",
        "</script><script>",
        "<!--",
        "\x1b[2J\x00",
        "\ud83d",
        "\u202eabc",
        "]]>&lt;",
        "\r\n",
        "_x000D_",
        "𝔄\u2028",
    ]
)


@settings(max_examples=40, deadline=None)
@given(hostile, hostile, hostile)
def test_a_form_holds_any_text_as_text_and_knows_it_when_it_comes_back(tmp_path_factory, question, description, reply):
    folder = tmp_path_factory.mktemp("forms")
    made, key = drawn(question, description, reply)
    page, tasks, book, _ = forms.write(made, folder / "forms")
    sheet = openpyxl.load_workbook(book)
    for row in (4, 5):
        for column in "GHI":
            sheet["entries"][f"{column}{row}"] = 1
    assert not any(cell.data_type == "f" for line in sheet["entries"] for cell in line)
    sheet.save(folder / "filled.xlsx")
    choices = [{"from_name": name, "value": {"choices": ["1"]}} for name in blinding.SCALES]
    done = [task | {"annotations": [{"result": choices}]} for task in json.loads(tasks.read_text(encoding="utf-8"))]
    (folder / "filled.json").write_text(json.dumps(done))
    for name in ("filled.xlsx", "filled.json"):
        found, problems = ratings.collect(folder / name, key)
        assert problems.empty and len(found) == 2, problems["reason"].tolist()
    data = re.search(r'<script type="application/json"[^>]*>(.*?)</script>', page.read_text(encoding="utf-8"), re.S)[1]
    assert "<" not in data and [e["answer"] for e in json.loads(data)["entries"]] == [e.answer for e in made[0].entries]


@pytest.mark.parametrize("value, text", [(None, ""), (5.0, "5"), (0.5, "0.5"), (True, "True"), ("=1+1", "=1+1")])
def test_a_cell_is_read_as_a_person_reads_it(value, text):
    assert workbooks.text(value) == text


def test_a_sheet_that_is_not_there_is_named(annotated):
    with pytest.raises(files.InputError, match="KeyError: 'Worksheet entries does not exist"):
        workbooks.lines(annotated, "entries")
