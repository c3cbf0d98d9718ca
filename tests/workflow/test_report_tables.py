"""Tables of the report: what pandas writes, in a form to read on a phone, by keyboard and on paper."""

import pandas as pd
import pytest
from bs4 import BeautifulSoup

from cbtllm_utils.plots import tables
from cbtllm_utils.workflow import report_tables

NUMBERS = pd.DataFrame(
    {"system": ["甲", "乙"], "BLEU": [0.25, -0.5], "95% CI low": [0.1, 0.2], "95% CI high": [0.3, 0.4]}
)
TEXTS = pd.DataFrame({"verdict": ["no"], "claim": ["Replies adhere strictly to the structure of CBT."], "n": [5]})


def tidied(frame, caption="A title (demo scale)"):
    shown = tables.show(frame, caption)
    return BeautifulSoup(
        report_tables.tidy(shown.to_html() if hasattr(shown, "to_html") else shown.data), "html.parser"
    )


def test_numbers_and_their_headers_are_aligned_alike():
    found = tidied(NUMBERS)
    head, *rows = ([cell.get("class") for cell in row.find_all(["th", "td"])] for row in found.find_all("tr"))
    assert head == rows[0] == rows[1] == [None, ["n"], ["n"]]
    assert [cell["scope"] for cell in found.find_all("th")] == ["col", "col", "col", "row", "row"]


@pytest.mark.parametrize(
    "text",
    "0.25 -1.2 22,327 0.05–0.15 -0.1 to 0.2 54.4% < 0.0001 1e-06 – 3 of 12".replace(" to ", "_to_")
    .replace("< ", "<_")
    .replace(" of ", "_of_")
    .split(),
)
def test_what_counts_as_a_number(text):
    assert report_tables.NUMBER.fullmatch(text.replace("_", " "))


@pytest.mark.parametrize("text", ["Qwen-7B", "7B", "a 3", "1 2", "notebook 06", "2023-11-06b"])
def test_what_does_not(text):
    assert not report_tables.NUMBER.fullmatch(text)


def test_a_table_of_texts_has_a_label_in_each_cell_and_one_of_numbers_scrolls_by_keyboard():
    texts, numbers = tidied(TEXTS), tidied(NUMBERS)
    assert texts.table["class"] == ["cards"] and numbers.table["class"] == ["matrix"]
    assert [cell["data-label"] for cell in texts.find_all("td")] == ["verdict", "claim", "n"]
    region = numbers.find(role="region")
    assert (region["tabindex"], region["aria-label"], region.table.name) == ("0", "A title", "table")
    assert numbers.figcaption.text == "A title (demo scale)"


def test_an_empty_table_is_a_sentence():
    empty = "<table><caption>Ratings out of range</caption><thead><tr><th>a</th></tr></thead><tbody></tbody></table>"
    assert report_tables.tidy(empty) == '<p class="empty">Ratings out of range: none.</p>'


def test_names_of_the_index_join_the_header_and_headers_of_two_levels_stay():
    frame = NUMBERS.drop(columns="system").set_axis(pd.Index(["a", "b"], name="system")).rename_axis(columns="metric")
    head = BeautifulSoup(report_tables.tidy(frame.to_html()), "html.parser").thead
    assert [[cell.text for cell in row.find_all(["th", "td"])] for row in head.find_all("tr")] == [
        ["system", *frame.columns]
    ]
    two = pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("paper", "BLEU"), ("here", "BLEU")]))
    assert len(BeautifulSoup(report_tables.tidy(two.to_html()), "html.parser").thead.find_all("tr")) == 2


def test_cells_that_span_rows_keep_their_columns():
    index = pd.MultiIndex.from_product([["a", "b"], ["x", "y"]], names=["from", "system"])
    found = BeautifulSoup(report_tables.tidy(pd.DataFrame({"score": range(4)}, index=index).to_html()), "html.parser")
    assert [cell.text for cell in found.find_all(class_="n")] == ["score", *"0123"]
    assert [cell.text for cell in found.find_all("th", scope="row")] == ["a", "b"]


def test_sortable_and_long_tables_are_folded():
    frame = pd.DataFrame({"number": range(9)})
    shown = tables.show(frame, "The audit (demo)").set_table_attributes('class="sortable"').to_html()
    found = BeautifulSoup(report_tables.tidy(shown), "html.parser")
    assert found.summary.text == "The audit: 9 rows" and found.details.table["class"] == ["matrix", "sortable"]
    assert tidied(NUMBERS).details is None
    assert tidied(pd.concat([NUMBERS] * 13)).summary.text == "A title: 26 rows"
    assert tidied(pd.concat([TEXTS] * 13)).summary.text == "A title: 13 rows"
    head = pd.DataFrame({"": ["reads", "writes", "takes"], "what": ["a", "b", "a minute"]})
    assert tidied(head, "").summary.text == "Files and time"


@pytest.mark.parametrize(
    ("rows", "shown"),
    [
        (
            [["Characters", "Statistics", 21.6], ["Share", "Statistics", 54.4]],
            [["", "paper"], ["Characters", "21.6"], ["Share", "54.4"]],
        ),
        (
            [["Quality", "Recall", 0.93], ["Quality", "Accuracy", 0.69]],
            [["", "paper"], ["Recall", "0.93"], ["Accuracy", "0.69"]],
        ),
    ],
)
def test_a_table_of_the_paper_loses_the_name_that_all_its_rows_share(rows, shown):
    """Tables 1 and 3 of the paper have one column of numbers, and one row."""
    html = pd.DataFrame(rows, columns=["row", "column", "paper"]).to_html(index=False)
    soup = BeautifulSoup(report_tables.tidy(html), "html.parser")
    assert [[cell.text for cell in row.find_all(["th", "td"])] for row in soup.find_all("tr")] == shown


def test_headings_go_one_level_down_and_leave_none_out():
    found = BeautifulSoup(report_tables.tidy("<h1>a</h1><h3>b</h3><h3>c</h3><h2>d</h2>"), "html.parser")
    assert [(tag.name, tag.text) for tag in found.find_all(True)] == [
        ("h2", "a"),
        ("h3", "b"),
        ("h3", "c"),
        ("h3", "d"),
    ]


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        '<img src="x" onerror="alert(1)">',
        "<iframe src='https://example.org/alert'></iframe>",
        '<a href=" JavaScript:alert(1)">x</a>',
        "<style>@import 'https://example.org/alert'</style>",
        "<form action='https://example.org/alert'><button>x</button></form>",
        "<table><tr><td onclick='alert(1)'>x</td></tr></table>",
    ],
)
def test_nothing_of_a_notebook_runs(hostile):
    assert "alert" not in report_tables.tidy(f"<p>before</p>{hostile}").lower()


def test_text_that_looks_like_markup_stays_text():
    frame = pd.DataFrame({"reply": ["<script>alert(1)</script>"]})
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in report_tables.tidy(tables.show(frame, "t").to_html())


def test_of_a_long_caption_all_but_the_title_and_a_warning_can_be_folded():
    said = "(the scores cannot be compared: other posts, other models; demo scale: invented posts, tiny models, n = 36)"
    shown = report_tables.tidy(f"<table><caption>Table 4 {said}</caption><tr><td>x</td></tr></table>")
    fold = BeautifulSoup(shown, "html.parser").figcaption.details
    assert fold.summary.get_text() == "Table 4: the scores cannot be compared" and fold.has_attr("open")
    assert fold.span.get_text() == "(other posts, other models; demo scale: invented posts, tiny models, n = 36)"


def test_a_long_signature_breaks_between_its_parts():
    signature = "bleu|jury:2.3.1|tok:sacrebleu-2.6.0-zh|items:36"
    shown = report_tables.tidy(f"<table><tr><td>1</td><td>{signature}</td><td>a/b</td></tr></table>")
    cell = BeautifulSoup(shown, "html.parser").find_all("td")[-2]
    assert cell.get_text() == signature and len(cell.find_all("wbr")) == 3
    assert str(cell).count("</wbr>") == 0


def test_a_table_shown_twice_is_folded_the_second_time():
    seen: set[str] = set()
    body = report_tables.tidy(tables.show(NUMBERS, "A title").to_html())
    assert "<details" not in report_tables.fold_repeats(body, seen)
    assert "A title: shown above</summary>" in report_tables.fold_repeats(body, seen)


def test_long_outputs_and_replies_beyond_three_are_folded():
    found = BeautifulSoup(report_tables.tidy("<pre>" + "line\n" * 50 + "</pre><pre>line</pre>"), "html.parser")
    assert [pre.parent.name for pre in found.find_all("pre")] == ["details", "[document]"]
    replies = "".join(f"<section>{number}</section>" for number in range(5))
    found = BeautifulSoup(report_tables.tidy(f'<div class="replies">{replies}</div>'), "html.parser")
    assert [group.text for group in found.find_all("div", class_="replies")] == ["012", "34"]
    assert found.summary.text == "2 more replies"


def test_an_interval_and_the_name_of_a_backbone_stay_on_one_line():
    frame = pd.DataFrame({"system": ["Alpaca-Chinese-7B, tuned"], "found": ["9 of 72 (7–22 %)"]})
    found = BeautifulSoup(report_tables.tidy(frame.to_html(index=False)), "html.parser")
    assert [span.text for span in found.find_all("span")] == ["Alpaca-Chinese-7B", "9 of 72", "(7–22 %)"]
    assert [cell.text for cell in found.find_all(class_="n")] == ["found", "9 of 72 (7–22 %)"]
