"""One style for every figure, and the only place that writes one."""

import contextlib
import io
import locale
from collections.abc import Iterator
from pathlib import Path

from IPython.display import Image
from matplotlib import colors, style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image as Picture

from cbtllm_utils import files
from cbtllm_utils.plots import svg, text_layout
from cbtllm_utils.plots.svg import DARK_INK, FAINT, INK, LINE, ON_WASH

# Colors that color-blind readers can tell from each other (Okabe and Ito 2008).
HERE, ACCENT, GRAY = "#0072B2", "#D55E00", "#BBBBBB"
WIDTH = 4.9  # inches: at 72 pixels an inch, the width of a phone's column
SMALL = 9  # points: the smallest type of a chart, to be read there
COMPONENT_COLORS = {  # as in the paper's Figure 4: component -> (bar and label, background)
    "validation": ("#00694C", "#DCF2EA"),
    "key_thought": ("#7A5C00", "#FFF4C2"),
    "challenge": ("#6B3D8A", "#EFE3F6"),
    "strategy": ("#005A92", "#DCEBF8"),
    "encouragement": ("#A6281D", "#FBE1DC"),
}
NEUTRAL = ("#555555", "#F2F2F2")  # text that serves no component, or whose components nobody marked
_panels = (*COMPONENT_COLORS.values(), NEUTRAL)
IN_THE_DARK = {ON_WASH: DARK_INK}  # color as drawn -> on a dark page, as in plots/pages.py
IN_THE_DARK |= {bar.lower(): svg.pale(bar) for bar, _ in _panels}
IN_THE_DARK |= {wash.lower(): svg.dark_wash(bar) for bar, wash in _panels}
STYLE = {
    "font.family": text_layout.FONTS,
    "font.size": 10,
    "axes.labelsize": SMALL,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.unicode_minus": False,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": LINE,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "figure.dpi": 150,
    "savefig.dpi": "figure",
    "pdf.fonttype": 42,
    "svg.fonttype": "none",  # text that a reader can search and select
    "svg.hashsalt": "cbtllm",
    "text.language": "en",  # left to the locale, a Chinese one would shape other glyphs
    "text.hinting": "no_hinting",  # Glyphs are as wide as `text_layout.advance` says at every resolution.
}


def apply_style() -> None:
    """Set matplotlib to its own defaults, whatever a matplotlibrc says, and then to the project's style and font."""
    text_layout.register_fonts()
    style.use(["default", STYLE])


def canvas(height: float, rows: int = 1, columns: int = 1, **options: object) -> tuple[Figure, object]:
    """Return an empty chart, `height` inches high, and its axes (one, or an array)."""
    apply_style()
    figure = Figure(figsize=(WIDTH, height))
    return figure, figure.subplots(rows, columns, **options)


def save(figure: Figure, run: str | Path, name: str) -> Image:
    """Write a figure to `run`/figures/`name`.{png,pdf,svg} and return it as shown in a notebook.

    The files contain neither a date nor the name of the software, so the same figure gives the same files. The
    figure's label, which every chart sets, describes it to readers who cannot see it.
    """
    folder = files.path(run) / "figures"
    alt = figure.get_label() or name.replace("_", " ")
    png = smaller(drawn(figure, "png", {"Software": None}))
    pdf = drawn(figure, "pdf", {"CreationDate": None, "Creator": None, "Producer": None})
    vector = drawn(figure, "svg", {"Date": None, "Creator": None}, transparent=True)
    pictures = {"png": png, "pdf": pdf, "svg": svg.inlinable(vector, name, alt, IN_THE_DARK).encode()}
    for suffix, picture in pictures.items():
        with files.atomic(folder / f"{name}.{suffix}") as temporary:
            temporary.write_bytes(picture)
    return Image(data=png, width=round(figure.get_figwidth() * 110), metadata={"figure": name, "alt": alt})


def drawn(figure: Figure, suffix: str, metadata: dict[str, None], transparent: bool = False) -> bytes:
    """Return a figure as the bytes of a file of this kind."""
    found = io.BytesIO()
    with plain_locale():
        figure.savefig(found, format=suffix, metadata=metadata, transparent=transparent)
    return found.getvalue()


@contextlib.contextmanager
def plain_locale() -> Iterator[None]:
    """Draw in the locale C: matplotlib shapes a text of several lines in the locale's language, not in the text's."""
    before = locale.setlocale(locale.LC_CTYPE)
    locale.setlocale(locale.LC_CTYPE, "C")
    try:
        yield
    finally:
        locale.setlocale(locale.LC_CTYPE, before)


def smaller(picture: bytes, colors: int = 128) -> bytes:
    """Return a PNG with at most so many colors: figures look the same at a third of the size."""
    found = io.BytesIO()
    with Picture.open(io.BytesIO(picture)) as image:
        reduced = image.convert("RGB").quantize(colors, Picture.Quantize.MEDIANCUT, dither=Picture.Dither.NONE)
        reduced.save(found, "PNG", optimize=True)
    return min(picture, found.getvalue(), key=len)


def note(figure: Figure, conditions: str) -> None:
    """Write the conditions of the numbers below the figure, so that it cannot travel without them."""
    text = "\n".join(text_layout.wrap(conditions, figure.get_figwidth() * 0.97, SMALL))
    figure.supxlabel(text, fontsize=SMALL, color=FAINT, x=0.01, ha="left", parse_math=False)


def label_bars(axes: Axes, bars: object, beyond: object = None) -> None:
    """Write each bar's value at its end, or beyond the end of its interval, as a whole number."""
    bars.errorbar = beyond or bars.errorbar  # where matplotlib looks for it
    axes.bar_label(bars, fmt="%.0f", padding=2, fontsize=SMALL)


def text_on(color: object) -> str:
    """Return black or white, whichever has the higher contrast (WCAG 2.1) with a background color."""
    light = luminance(color)
    return "#000000" if (light + 0.05) / 0.05 > 1.05 / (light + 0.05) else "#ffffff"


def luminance(color: object) -> float:
    """Return the relative luminance of a color as WCAG 2.1 defines it: 0 for black, 1 for white."""
    parts = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in colors.to_rgb(color)]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]
