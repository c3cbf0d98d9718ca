"""Text of known size for figures: one font with Chinese glyphs, and lines broken where Chinese and Latin may break.

Matplotlib neither breaks Chinese lines nor says beforehand how much room a text takes.
"""

import functools
import importlib.metadata
import re
import unicodedata
from dataclasses import replace

import matplotlib
from matplotlib import font_manager
from matplotlib.ft2font import LoadFlags

CHINESE_FONT = "Noto Sans CJK SC"
FONTS = [CHINESE_FONT, "DejaVu Sans"]
OPENING, CLOSING = "“‘（《〈【「『([⟨", "，。！？；：、…”’）》〉】」』—,.!?;:)]%⟩"
UNDECODABLE = "⟨?⟩"  # how U+FFFD is shown, the sign for bytes that are not a character
UNDECODABLE_MEANS = f"{UNDECODABLE}: bytes of a reply that are not a character"
# A run of Latin letters and no-break spaces or one other character, with the marks that must stay on its line.
WORD = rf"[{re.escape(OPENING)}]*(?:[!-~\u00a0-\u024f]+|.)[{re.escape(CLOSING)}]*[ \u3000]*"


@functools.cache
def register_fonts() -> None:
    """Register the packaged font with Chinese glyphs with matplotlib, and of its own fonts the packaged ones alone.

    Copies that are installed elsewhere are set aside: another version would break lines and pixels differently.
    """
    manager, packaged = font_manager.fontManager, matplotlib.get_data_path()
    manager.ttflist = [font for font in manager.ttflist if font.name not in FONTS or font.fname.startswith(packaged)]
    (font,) = (file for file in importlib.metadata.files("noto-cjk-sans-otc") if file.suffix == ".ttc")
    manager.addfont(str(font.locate()))
    # It has one weight, which bold text is drawn in as well: said here, matplotlib does not warn of it.
    manager.ttflist += [replace(font, weight=700) for font in manager.ttflist if font.name == CHINESE_FONT]


@functools.cache
def advance(character: str) -> float | None:
    """Return the width of a character in units of the font size, or None where no font has a glyph for it."""
    register_fonts()
    for family in FONTS:
        face = font_manager.get_font(font_manager.findfont(family))
        if face.get_char_index(ord(character)):
            face.set_size(100, 72)
            return face.load_char(ord(character), LoadFlags.NO_HINTING).linearHoriAdvance / 65536 / 100
    return None


def drawable(text: str) -> str:
    """Return the text without invisible characters and with a sign for every character that cannot be drawn.

    The sign is UNDECODABLE for bytes that are not a character, and a box for a character without a glyph (an emoji).
    """

    def replaced(character: str) -> str:
        if character == "\ufffd":
            return UNDECODABLE
        if character == "\n" or advance(character) is not None:
            return character
        return " " if character.isspace() else "□"

    visible = (c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cf", "Cc", "Mn"))
    return "".join(replaced(c) for c in visible)


def width(text: str, size: float) -> float:
    """Return how many inches a drawable line takes at a font size in points."""
    return sum(advance(character) or 0.0 for character in text) * size / 72


def wrap(text: str, inches: float, size: float) -> list[str]:
    """Return the text as lines that fit a width.

    Chinese breaks anywhere, Latin between words. No line begins with a closing mark or ends with an opening one. A word
    longer than a line is cut.
    """
    lines = []
    for paragraph in drawable(text).split("\n"):
        line = ""
        for word in re.findall(WORD, paragraph):
            if line and width((line + word).rstrip(), size) > inches:
                lines.append(line.rstrip())
                line = ""
            *whole, word = cut(word, inches, size)
            lines += whole
            line += word
        lines.append(line.rstrip())
    return lines


def cut(word: str, inches: float, size: float) -> list[str]:
    """Return the word in pieces that fit a line, of at least one character each; trailing space takes no room."""
    pieces, start, used, end = [], 0, 0.0, len(word.rstrip())
    for place, character in enumerate(word[:end]):
        used += width(character, size)
        if used > inches and place > start:
            pieces.append(word[start:place])
            start, used = place, width(character, size)
    return [*pieces, word[start:]]
