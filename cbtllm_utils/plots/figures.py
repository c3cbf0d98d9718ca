"""One style for every figure: data in, a matplotlib Figure out; only a notebook saves one."""

import functools
import importlib.metadata
import re
import unicodedata
from pathlib import Path

import matplotlib
from IPython.display import Image
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ft2font import LoadFlags

from cbtllm_utils import files

PAPER, HERE, ACCENT, GREY = "#767676", "#0072B2", "#D55E00", "#BBBBBB"  # Okabe and Ito 2008: safe for colour-blind eyes
SYSTEMS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000"]
WIDTH = 6.3  # inches: the text width of the paper; half of it is one column
FONT = "Noto Sans CJK SC"
SECTIONS = {  # the colours of the paper's Figure 4: component -> (bar and label, background)
    "validation": ("#00694C", "#DCF2EA"),
    "key_thought": ("#7A5C00", "#FFF4C2"),
    "challenge": ("#6B3D8A", "#EFE3F6"),
    "strategy": ("#005A92", "#DCEBF8"),
    "encouragement": ("#A6281D", "#FBE1DC"),
}
PLAIN = ("#555555", "#F2F2F2")  # text that serves no component, or whose components nobody marked
STYLE = {
    "font.family": [FONT, "DejaVu Sans"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.unicode_minus": False,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,
    "svg.hashsalt": "cbtllm",
    "text.hinting": "no_hinting",  # glyphs as wide as `advance` says at every resolution
}


@functools.cache
def font() -> str:
    """The name of the font with Chinese glyphs, registered with matplotlib: the same on every machine.

    A system's own copy is set aside: another version would break lines and pixels differently.
    """
    try:
        package = importlib.metadata.files("noto-cjk-sans-otc") or []
    except importlib.metadata.PackageNotFoundError:
        package = []
    for file in package:
        if file.suffix == ".ttc":
            manager = font_manager.fontManager
            manager.ttflist = [entry for entry in manager.ttflist if entry.name != FONT]
            manager.addfont(str(file.locate()))
            return FONT
    raise files.InputError("no font with Chinese glyphs: `pip install noto-cjk-sans-otc` (part of requirements.lock)")


@functools.cache
def advance(character: str) -> float | None:
    """The width of a character in units of the font size; None where neither font of the style has a glyph for it."""
    font()
    for family in STYLE["font.family"]:
        face = font_manager.get_font(font_manager.findfont(family))
        if face.get_char_index(ord(character)):
            face.set_size(100, 72)
            return face.load_char(ord(character), LoadFlags.NO_HINTING).linearHoriAdvance / 65536 / 100
    return None


def drawable(text: str) -> str:
    """The text with a box for every character without a glyph (an emoji, say) and without invisible joiners."""
    kept = (c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cf", "Cc", "Mn"))
    return "".join(c if c in "\n" or advance(c) is not None else " " if c.isspace() else "□" for c in kept)


def width(text: str, size: float) -> float:
    """How many inches a drawable line takes at a font size in points."""
    return sum(advance(character) or 0.0 for character in text) * size / 72


WORD = r"[“‘（《〈【「『(\[]*(?:[!-~\u00a1-\u024f]+|.)[，。！？；：、…”’）》〉】」』—,.!?;:)\]%]*[ \u3000]*"


def wrapped(text: str, inches: float, size: float) -> list[str]:
    """The text in lines that fit a width: Chinese breaks anywhere, Latin between words, and no line begins with a
    closing mark or ends with an opening one. A word longer than a line is cut."""
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
    """The word in pieces that fit a line, of one character at least; trailing space needs no room. One pass."""
    pieces, start, used, end = [], 0, 0.0, len(word.rstrip())
    for place, character in enumerate(word[:end]):
        used += width(character, size)
        if used > inches and place > start:
            pieces.append(word[start:place])
            start, used = place, width(character, size)
    return [*pieces, word[start:]]


def canvas(
    width: float = WIDTH, height: float = 3.0, rows: int = 1, columns: int = 1, **options: object
) -> tuple[Figure, object]:
    """An empty figure in the project's style and its axes (one, or an array). Sizes in inches."""
    font()
    matplotlib.rcParams.update(STYLE)
    figure = Figure(figsize=(width, height))
    return figure, figure.subplots(rows, columns, **options)


def save(figure: Figure, run: str | Path, name: str) -> Image:
    """The picture to show, after it was written to `run`/figures/`name`.{png,pdf}: same figure, same bytes."""
    folder = files.path(run) / "figures"
    for suffix, metadata in (
        ("png", {"Software": None}),
        ("pdf", {"CreationDate": None, "Creator": None, "Producer": None}),
    ):
        with files.atomic(folder / f"{name}.{suffix}") as temporary:
            figure.savefig(temporary, metadata=metadata)
    return Image(data=(folder / f"{name}.png").read_bytes(), width=int(figure.get_figwidth() * 110))


def note(figure: Figure, conditions: str) -> None:
    """Write under which conditions the numbers were made below the figure, so that it cannot travel without them."""
    text = "\n".join(wrapped(conditions, figure.get_figwidth() * 0.97, 7))
    figure.supxlabel(text, fontsize=7, color=PAPER, x=0.01, ha="left", parse_math=False)


def label_bars(axes: Axes, bars: object, format: str = "%.2f") -> None:
    """Write each bar's value at its end."""
    axes.bar_label(bars, fmt=format, padding=2, fontsize=7)
