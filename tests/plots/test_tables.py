"""Tables survive the way to CSV, Markdown and LaTeX, with their conditions and without losing a character."""

import csv
import io

import pandas as pd
import pytest

from cbtllm_utils import safe_spreadsheets
from cbtllm_utils.data.prompts import COMPONENTS
from cbtllm_utils.plots import tables
from cbtllm_utils.text import distortions

NASTY = pd.DataFrame(
    {"system": ["a|b", "50% & _x_", "中文\n行"], "score": [0.123456, float("nan"), 2.0], "n": [1, 2, 3]}
)


@pytest.fixture
def saved(tmp_path):
    style = tables.save(NASTY, tmp_path, "demo", "Table 0. A_b", "demo: 5% <b>", decimals=2)
    return tmp_path / "tables", style


def test_csv_keeps_full_numbers_and_the_conditions(saved):
    back = pd.read_csv(saved[0] / "demo.csv")
    assert back["system"].tolist() == NASTY["system"].tolist()
    assert back["score"][0] == 0.123456 and back["conditions"].eq("demo: 5% <b>").all()


@pytest.mark.parametrize(
    ("text", "written"),
    [
        *[(text, f"'{text}") for text in ("=1+1", "+1+1", "-1-1", "@SUM(A1)", "\t=1+1", "-HYPERLINK(1)", "=")],
        *[(text, text) for text in ("-0.5", "+12", "a=1", "–", "中文", "")],
        ("'=1", "''=1"),
    ],
)
def test_a_text_that_begins_like_a_formula_stays_text_in_the_csv(tmp_path, text, written):
    tables.save(pd.DataFrame({"comment": [text], "n": [-1]}), tmp_path, "t", "T", "c")
    back = pd.read_csv(tmp_path / "tables" / "t.csv", dtype=str, keep_default_na=False)
    assert back["comment"].tolist() == [written] and back["n"].tolist() == ["-1"]
    assert back["comment"].map(safe_spreadsheets.original).tolist() == [text]


def test_markdown_keeps_one_row_a_line_and_bars_inside_cells(saved):
    lines = (saved[0] / "demo.md").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "**Table 0. A_b**" and lines[-1] == "*demo: 5% <b>*"
    assert lines[2:][:5] == [
        *("| system | score | n |", "|---|---:|---:|", "| a\\|b | 0.12 | 1 |"),
        *("| 50% & _x_ | – | 2 |", "| 中文 行 | 2.00 | 3 |"),
    ]


def test_latex_escapes_every_special_character(saved):
    text = (saved[0] / "demo.tex").read_text(encoding="utf-8")
    assert r"50\% \& \_x\_ & – & 2 \\" in text and r"\caption{Table 0. A\_b (demo: 5\% <b>)}" in text
    assert text.count(r"\\") == 4 and r"\begin{tabular}{lrr}" in text


@pytest.mark.parametrize(
    ("given", "expected"),
    [("a_b", r"a\_b"), ("{x}", r"\{x\}"), ("~^\\", r"\textasciitilde{}\textasciicircum{}\textbackslash{}")],
)
def test_escape(given, expected):
    assert tables.escape(given) == expected


def test_the_display_escapes_markup_and_is_the_same_each_time(saved, tmp_path):
    again = tables.save(NASTY.assign(system="<script>"), tmp_path, "demo", "T", "c").to_html()
    assert "&lt;script&gt;" in again and "<script>" not in again
    assert again == tables.save(NASTY.assign(system="<script>"), tmp_path, "demo", "T", "c").to_html()


def test_a_named_index_becomes_a_column_and_a_nameless_one_goes(tmp_path):
    frame = pd.DataFrame({"x": [1]}, index=["r"])
    tables.save(frame, tmp_path, "plain", "T", "c")
    tables.save(frame.rename_axis("row"), tmp_path, "named", "T", "c")
    assert pd.read_csv(io.StringIO((tmp_path / "tables/plain.csv").read_text())).columns.tolist() == ["x", "conditions"]
    assert pd.read_csv(tmp_path / "tables/named.csv").columns.tolist() == ["row", "x", "conditions"]


@pytest.mark.parametrize(
    ("decimals", "expected"),
    [
        (1, [["1", "3", "x", "22327", "True"], ["–", "4", "–", "0.5", "False"]]),
        (2, [["1.00", "3", "x", "22327", "True"], ["–", "4", "–", "0.50", "False"]]),
    ],
)
def test_fractions_are_rounded_and_counts_and_words_are_not(decimals, expected):
    frame = pd.DataFrame({"a": [1.0, None], "b": [3, 4], "c": ["x", None], "d": [22327.0, 0.5], "e": [True, False]})
    text, numbers = tables.to_text(frame, decimals)
    assert text.to_numpy().tolist() == expected and numbers == ["a", "b", "d"]


NAN = float("nan")


def test_a_count_that_may_be_missing_has_no_decimals():
    frame = pd.DataFrame({"items": [5.0, NAN], "mean": [2.0, 1.5], "share": [1.0, 0.0], "first": [-2.0, 0.0]})
    text, _ = tables.to_text(frame)
    assert text.to_numpy().tolist() == [["5", "2.0000", "1.0000", "-2"], ["–", "1.5000", "0.0000", "0"]]


def test_code_names_are_words_to_read_and_codes_to_compute_with(tmp_path):
    frame = pd.DataFrame(
        {"key_thought": ["all_or_nothing, overgeneralization"], "kind": ["self_harm"], "path": ["a_b"]}
    )
    shown = tables.save(frame, tmp_path, "t", "T", "c").to_html()
    lines = (tmp_path / "tables/t.md").read_text(encoding="utf-8").splitlines()
    assert lines[2:5:2] == [
        "| key thought | kind | path |",
        "| all-or-nothing thinking, overgeneralization | self-harm | a_b |",
    ]
    assert "key thought" in shown and "all_or" not in shown
    back = pd.read_csv(tmp_path / "tables/t.csv")
    assert back.loc[0, ["key_thought", "kind"]].tolist() == ["all_or_nothing, overgeneralization", "self_harm"]


def test_the_words_for_code_names_are_those_of_components_and_taxonomy():
    """The names are copied, so that an edit of the taxonomy does not make every notebook stale."""
    classes = distortions.taxonomy().set_index("label")["english"]
    known = {name: name.replace("_", " ") for name in COMPONENTS} | classes.to_dict()
    assert {name: words for name, words in known.items() if "_" in name} == tables.WORDS


def test_a_table_without_rows_is_a_sentence(tmp_path):
    frame = pd.DataFrame({"line": pd.Series(dtype=int), "low": pd.Series(dtype=float)})
    shown = tables.save(frame, tmp_path, "none", "Entries left out", "demo", empty="Every entry was <counted>.")
    assert shown.data == "<p>Every entry was &lt;counted&gt;.</p>"
    markdown = (tmp_path / "tables/none.md").read_text(encoding="utf-8")
    assert markdown == "**Entries left out**\n\nEvery entry was &lt;counted>.\n\n*demo*\n"
    assert (tmp_path / "tables/none.csv").read_text().split() == ["line,low,conditions"]
    assert tables.save(frame, tmp_path, "none", "Entries left out", "demo").data == "<p>Entries left out: none.</p>"


INTERVALS = pd.DataFrame(
    {"row": list("abcd"), "95% CI low": [0.05341, -0.5, NAN, 0.25], "95% CI high": [0.0649, 0.25, NAN, NAN], "n": 4}
)


def test_an_interval_is_one_column_to_read_and_two_to_compute_with(tmp_path):
    style = tables.save(INTERVALS, tmp_path, "t", "T", "c", decimals=3)
    back = pd.read_csv(tmp_path / "tables/t.csv")
    assert back.columns.tolist() == ["row", "95% CI low", "95% CI high", "n", "conditions"]
    assert back["95% CI high"][0] == 0.0649
    markdown, latex = ((tmp_path / f"tables/t.{end}").read_text(encoding="utf-8") for end in ("md", "tex"))
    assert "| row | 95% CI | n |\n|---|---:|---:|\n| a | 0.053–0.065 | 4 |" in markdown
    assert "| b | -0.500 to 0.250 | 4 |" in markdown, "a dash beside a minus sign would be hard to read"
    assert "| c | – | 4 |" in markdown and "| d | 0.250 to – | 4 |" in markdown
    assert r"row & 95\% CI & n \\" in latex and r"\begin{tabular}{lrr}" in latex
    assert "0.053–0.065" in style.to_html() and "high" not in style.to_html()


def test_a_low_and_a_high_that_are_no_pair_stay(tmp_path):
    frame = pd.DataFrame({"bar": 1, "bar low": 2, "bar high": 3, "tea low": 4, "allow": 5}, index=[0])
    assert tables.to_text(frame)[0].columns.tolist() == list(frame.columns)


HOSTILE = ["=1+1", "@SUM(1)", "+cmd|' /C calc'!A0", "-1+x", "\t=1", "\r=1"]
HARMLESS = ["-0.5", "+3.2", "1e-4", "-1,234.5", "-5%", "–", "-", "", "a=b", "灾难化"]


def test_a_spreadsheet_computes_nothing_and_numbers_stay_numbers(tmp_path):
    table = pd.DataFrame({"=name": [*HOSTILE, *HARMLESS], "n": range(len(HOSTILE + HARMLESS))})
    table["id"] = pd.Series([1, None, "=x", *range(3, len(table))], dtype=object)
    tables.save(table, tmp_path, "demo", "T", "=conditions")
    with (tmp_path / "tables" / "demo.csv").open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["'=name", "n", "id", "conditions"] and {row[3] for row in rows} == {"'=conditions"}
    assert [row[0] for row in rows] == [f"'{text}".replace("\r", "\n") for text in HOSTILE] + HARMLESS
    assert [row[2] for row in rows[:5]] == ["1", "", "'=x", "3", "4"], "no id becomes 1.0"


def test_no_form_of_a_table_holds_markup_or_codes_for_a_terminal(tmp_path):
    evil = "<script>x</script>[a](javascript:b)\x1b[2J\u202e\x00"
    style = tables.save(pd.DataFrame({evil: [evil], "[b]": ["[1em]"]}), tmp_path, "demo", "T <b>", "c")
    markdown, latex = ((tmp_path / "tables" / f"demo.{end}").read_text(encoding="utf-8") for end in ("md", "tex"))
    assert "<script" not in style.to_html() + markdown and "T &lt;b&gt; (c)" in style.to_html()
    for text in (markdown, latex):
        assert all(line.isprintable() for line in text.splitlines())
    assert "](" not in markdown and "{[}1em]" in latex
    assert tables.inert("< 0.3 [inferred]") == "< 0.3 [inferred]"


def test_a_small_p_is_never_printed_as_zero(tmp_path):
    table = pd.DataFrame({"p": [1e-5, 0.04], "difference": [0.0, 0.5]})
    style = tables.save(table, tmp_path, "small", "Small", "made up")
    assert "| < 0.0001 | 0.0000 |" in (tmp_path / "tables/small.md").read_text() and "&lt; 0.0001" in style.to_html()
    assert pd.read_csv(tmp_path / "tables/small.csv")["p"][0] == 1e-5


def test_tables_that_are_read_as_files_are_written_and_listed(tmp_path):
    one, two = pd.DataFrame({"x": [1, 2]}), pd.DataFrame({"y": []})
    shown = tables.save_all({"one": ("First", one), "two": ("Second", two)}, tmp_path, "test").to_html()
    assert all((tmp_path / f"tables/{name}.{end}").is_file() for name in ("one", "two") for end in ("csv", "md", "tex"))
    found = pd.read_html(io.StringIO(shown))[0]
    assert found.values.tolist() == [["First", 2, "tables/one.csv"], ["Second", 0, "tables/two.csv"]]


def test_two_tables_of_a_page_have_their_own_alignment():
    one, other = (
        tables.show(pd.DataFrame({"a": [value]}), caption).to_html() for value, caption in ((1, "x"), ("b", "y"))
    )
    assert "text-align: right" in one and "text-align: left" in other
    assert one.split('id="')[1].split('"')[0] not in other
