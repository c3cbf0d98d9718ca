"""One font on every machine, and Chinese lines broken where Chinese lines may break."""

import dataclasses

import matplotlib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import font_manager

from cbtllm_utils import files
from cbtllm_utils.plots import text_layout


def test_the_fonts_are_the_packages_own_on_every_machine(tmp_path):
    """Copies of other versions come first in the list of a user who installed them."""
    latin = next(font for font in font_manager.fontManager.ttflist if font.name == "DejaVu Sans")
    others = [dataclasses.replace(latin, name=name, fname=str(tmp_path / "other.ttf")) for name in text_layout.FONTS]
    font_manager.fontManager.ttflist[:0] = others
    text_layout.register_fonts.cache_clear()
    text_layout.register_fonts()
    assert "noto_cjk_sans_otc" in font_manager.findfont(text_layout.CHINESE_FONT)
    assert font_manager.findfont("DejaVu Sans").startswith(matplotlib.get_data_path())


@pytest.mark.parametrize(("character", "width"), [("中", 1.0), ("，", 1.0), ("é", 0.563), ("🫠", None)])
def test_advance_is_the_width_of_a_glyph_in_ems(character, width):
    found = text_layout.advance(character)
    assert found == (width if width is None else pytest.approx(width, abs=0.02))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("好的🫠。", "好的□。"),
        ("说\ufffd。", "说⟨?⟩。"),
        ("a\tb\r\n", "a b\n"),
        ("x\u200b\u200dy\ufe0f", "xy"),
        ("〈问题〉“……”", "〈问题〉“……”"),
    ],
)
def test_what_cannot_be_drawn_is_a_box_or_left_out(text, shown):
    assert text_layout.drawable(text) == shown


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
    assert text_layout.wrap(text, ems * 7 / 72 + 1e-4, 7) == lines


@pytest.mark.parametrize("inches", [0.4, 1.0, 2.0])
def test_no_character_is_lost_and_no_line_is_too_wide(inches):
    text = files.read_json("data/published/figure4_case.json")["reply_zh"] + "x" * 99
    lines = text_layout.wrap(text, inches, 6)
    assert "".join(lines) == text.replace("\n", "")
    assert all(text_layout.width(line, 6) <= inches + 1e-9 for line in lines)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60), st.floats(0.3, 3))
def test_any_text_is_wrapped_whole(text, inches):
    lines = text_layout.wrap(text, inches, 6)
    assert "".join("".join(lines).split()) == "".join(text_layout.drawable(text).split())
    assert all(text_layout.width(line, 6) <= inches or len(line.rstrip()) <= 1 for line in lines)


@pytest.mark.parametrize("text", ["x" * 100_000, "。" * 100_000, "“" * 100_000, "https://x.org/?" + "a=b&" * 20_000])
def test_a_word_without_end_is_cut_and_whole(text):
    assert "".join(text_layout.wrap(text, 3, 6)) == text


@pytest.mark.parametrize("weight", [400, "bold"])
def test_a_text_of_any_weight_is_drawn_without_a_warning(weight, caplog):
    text_layout.register_fonts()
    properties = font_manager.FontProperties(family=text_layout.CHINESE_FONT, weight=weight)
    assert "noto_cjk_sans_otc" in font_manager.findfont(properties) and caplog.messages == []
