"""Spreadsheets compute nothing when opened, and workbooks that came back are read within limits."""

import struct
import zipfile

import openpyxl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cbtllm_utils import files, safe_spreadsheets

PART = "xl/worksheets/sheet1.xml"  # the part of the package that holds the first sheet
ROWS = [(1, ("entry", "comment")), (2, ("A", "none")), (4, ("B", 2))]


@pytest.fixture
def workbook(tmp_path):
    book = openpyxl.Workbook()
    book.active.title = "entries"
    for row in (("entry", "comment"), ("A", "none"), (), ("B", 2)):
        book.active.append(row)
    book.save(tmp_path / "form.xlsx")
    return tmp_path / "form.xlsx"


def rewrite(path, change):
    """Rewrite the first sheet within a workbook's package."""
    with zipfile.ZipFile(path) as package:
        content = {name: package.read(name) for name in package.namelist()}
    content[PART] = change(content[PART])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as package:
        for name, text in content.items():
            package.writestr(name, text)


def read(path):
    """Return numbers and first two cells of the rows of a workbook."""
    return [(number, row[:2]) for number, row in safe_spreadsheets.read_sheets(path.read_bytes())["entries"]]


def refused(path):
    """Return the one line that says why a workbook is refused."""
    with pytest.raises(files.InputError) as error:
        safe_spreadsheets.read_sheets(path.read_bytes())
    assert "\n" not in str(error.value) and str(path.parent) not in str(error.value)
    return str(error.value)


FORMULAS = ["=1+1", "+1+1", "-1-1", "@SUM(A1)", "\t=1+1", "-HYPERLINK(1)", "=", "'=1"]


@pytest.mark.parametrize("text", FORMULAS)
def test_what_a_spreadsheet_would_compute_has_an_apostrophe_and_comes_back(text):
    assert safe_spreadsheets.harmless(text) == f"'{text}"
    assert safe_spreadsheets.original(f"'{text}") == text


@pytest.mark.parametrize("value", ["-0.5", "+12", "1e-4", "-3%", "a=1", "–", "中文", "", "it's", -1, None])
def test_other_values_stay_as_they_are(value):
    assert safe_spreadsheets.harmless(value) == value == safe_spreadsheets.original(value)


@pytest.mark.parametrize("text", FORMULAS)
def test_a_text_in_a_workbook_stays_text(tmp_path, text):
    book = openpyxl.Workbook()
    safe_spreadsheets.write_text(book.active["A1"], text)
    book.save(tmp_path / "b.xlsx")
    cell = openpyxl.load_workbook(tmp_path / "b.xlsx").active["A1"]
    assert (cell.value, cell.data_type, cell.quotePrefix) == (text, "s", True)


def test_a_text_too_long_for_a_cell_is_not_cut():
    cell = openpyxl.Workbook().active["A1"]
    safe_spreadsheets.write_text(cell, "回" * 32_767)
    with pytest.raises(files.InputError, match="32768 characters does not fit"):
        safe_spreadsheets.write_text(cell, "回" * 32_768)


def test_rows_are_read_with_their_numbers_and_blank_ones_left_out(workbook):
    assert read(workbook) == ROWS


@pytest.mark.parametrize("value", [None, "x"], ids=["formatted", "filled"])
def test_a_cell_at_the_far_end_changes_nothing(workbook, value):
    """XFD1048576 is the last cell that a sheet can have: 16,384 columns x 1,048,576 rows."""
    book = openpyxl.load_workbook(workbook)
    far = book["entries"]["XFD1048576"]
    far.value, far.font = value, openpyxl.styles.Font(bold=True)
    book.save(workbook)
    assert read(workbook) == ROWS


def test_a_zip_bomb_is_not_unpacked(workbook):
    """100 MB of blanks are 0.1 MB when compressed."""
    rewrite(workbook, lambda text: text + b" " * 100_000_000)
    assert workbook.stat().st_size < 200_000
    assert "unpacks to 100 MB" in refused(workbook)


def test_a_zip_bomb_that_lies_about_its_size_is_refused(workbook):
    rewrite(workbook, lambda text: text + b" " * 100_000_000)
    with zipfile.ZipFile(workbook) as package:
        size = struct.pack("<I", package.getinfo(PART).file_size)
    content = workbook.read_bytes()
    assert content.count(size) == 2, "before the part, and in the list of parts"
    workbook.write_bytes(content.replace(size, struct.pack("<I", 1000)))
    refused(workbook)


def test_xml_entities_neither_multiply_nor_fetch(workbook, tmp_path):
    (tmp_path / "secret").write_text("secret text")
    bomb = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 10))
    content = workbook.read_bytes()
    for entity in (f'<!ENTITY e0 "lol">{bomb}', f'<!ENTITY e9 SYSTEM "{(tmp_path / "secret").as_uri()}">'):
        workbook.write_bytes(content)
        declared = f"<!DOCTYPE worksheet [{entity}]><worksheet".encode()
        rewrite(workbook, lambda text, new=declared: text.replace(b"<worksheet", new, 1).replace(b">2<", b">&e9;<"))
        with zipfile.ZipFile(workbook) as package:
            assert b"DOCTYPE" in package.read(PART) and b"&e9;" in package.read(PART)
        reason = refused(workbook)
        assert "secret text" not in reason and "lollol" not in reason


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damage_anywhere_is_one_line(workbook, data):
    """Bytes of the package, or of the sheet within it, are taken out or overwritten."""
    content, place = workbook.read_bytes(), workbook.with_name("damaged.xlsx")

    def damage(content):
        start = data.draw(st.integers(0, len(content) - 1))
        return content[:start] + data.draw(st.binary(max_size=4)) + content[start + data.draw(st.integers(0, 40)) :]

    place.write_bytes(content if data.draw(st.booleans()) else damage(content))
    if place.read_bytes() == content:
        rewrite(place, damage)
    try:
        assert all(len(rows) <= 4 for rows in safe_spreadsheets.read_sheets(place.read_bytes()).values())
    except files.InputError as error:
        assert "\n" not in str(error) and str(place.parent) not in str(error)


@pytest.mark.parametrize("value, text", [(None, ""), (5.0, "5"), (0.5, "0.5"), (True, "True"), ("=1+1", "=1+1")])
def test_a_cell_is_read_as_a_person_reads_it(value, text):
    assert safe_spreadsheets.cell_text(value) == text
