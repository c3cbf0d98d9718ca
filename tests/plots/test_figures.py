"""One style, one font, the same bytes; and Chinese lines broken where Chinese lines may break."""

import time

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import font_manager

from cbtllm_utils import files
from cbtllm_utils.plots import charts, figures


def test_the_font_is_the_packages_own_on_every_machine():
    assert figures.font() == "Noto Sans CJK SC"
    assert "noto_cjk_sans_otc" in font_manager.findfont(figures.font())


@pytest.mark.parametrize(("character", "width"), [("中", 1.0), ("，", 1.0), ("é", 0.563), ("🫠", None)])
def test_advance_is_the_width_of_a_glyph_in_ems(character, width):
    found = figures.advance(character)
    assert found == (width if width is None else pytest.approx(width, abs=0.02))


@pytest.mark.parametrize(
    ("text", "shown"),
    [("好的🫠。", "好的□。"), ("a\tb\r\n", "a b\n"), ("x\u200b\u200dy\ufe0f", "xy"), ("〈问题〉“……”", "〈问题〉“……”")],
)
def test_what_cannot_be_drawn_is_a_box_or_nothing(text, shown):
    assert figures.drawable(text) == shown


@pytest.mark.parametrize(
    ("text", "ems", "lines"),
    [
        ("一二三四五", 2, ["一二", "三四", "五"]),
        ("一二，三四", 2, ["一", "二，", "三四"]),  # no line begins with a closing mark
        ("一二“三四”", 3, ["一二", "“三", "四”"]),  # none ends with an opening one
        ("a word or", 2.5, ["a", "word", "or"]),
        ("一\n\n二", 5, ["一", "", "二"]),
        ("", 5, [""]),
    ],
)
def test_lines_break_where_they_may(text, ems, lines):
    assert figures.wrapped(text, ems * 7 / 72 + 1e-4, 7) == lines


@pytest.mark.parametrize("inches", [0.4, 1.0, 2.0])
def test_nothing_is_lost_and_no_line_is_too_wide(inches):
    text = files.read_json("data/published/figure4_case.json")["reply_zh"] + "x" * 99
    lines = figures.wrapped(text, inches, 6)
    assert "".join(lines) == text.replace("\n", "")
    assert all(figures.width(line, 6) <= inches + 1e-9 for line in lines)


def test_a_saved_figure_has_the_same_bytes_again_and_no_date(tmp_path):
    frame = pd.DataFrame({"row": ["灾难化", "x"], "paper": [1.0, 2.0], "here": [2.0, 1.0]})
    for place in ("one", "two"):
        shown = figures.save(charts.beside(frame, "条件 $ & conditions"), tmp_path / place, "chart")
    for suffix in ("png", "pdf"):
        one, two = ((tmp_path / place / "figures" / f"chart.{suffix}").read_bytes() for place in ("one", "two"))
        assert one == two and b"CreationDate" not in one
    assert shown.data.startswith(b"\x89PNG")


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60), st.floats(0.3, 3))
def test_any_text_is_wrapped_whole(text, inches):
    lines = figures.wrapped(text, inches, 6)
    assert "".join("".join(lines).split()) == "".join(figures.drawable(text).split())
    assert all(figures.width(line, 6) <= inches or len(line.rstrip()) <= 1 for line in lines)


@pytest.mark.parametrize("text", ["x" * 100_000, "。" * 100_000, "“" * 100_000, "https://x.org/?" + "a=b&" * 20_000])
def test_a_word_without_end_takes_one_pass(text):
    start = time.monotonic()
    assert "".join(figures.wrapped(text, 3, 6)) == text
    assert time.monotonic() - start < 5
