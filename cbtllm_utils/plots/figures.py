"""One style for every figure, and the only place that writes one."""

from pathlib import Path

from IPython.display import Image
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cbtllm_utils import files
from cbtllm_utils.plots import text_layout

# Colors that color-blind readers can tell from each other (Okabe and Ito 2008).
PAPER, HERE, ACCENT, GRAY, GRID = "#767676", "#0072B2", "#D55E00", "#BBBBBB", "#EEEEEE"
PALETTE = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000"]
WIDTH = 6.3  # inches: the width of the paper's text
COMPONENT_COLORS = {  # as in the paper's Figure 4: component -> (bar and label, background)
    "validation": ("#00694C", "#DCF2EA"),
    "key_thought": ("#7A5C00", "#FFF4C2"),
    "challenge": ("#6B3D8A", "#EFE3F6"),
    "strategy": ("#005A92", "#DCEBF8"),
    "encouragement": ("#A6281D", "#FBE1DC"),
}
NEUTRAL = ("#555555", "#F2F2F2")  # text that serves no component, or whose components nobody marked
STYLE = {
    "font.family": text_layout.FONTS,
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
    "text.language": "en",  # left to the locale, a Chinese one would shape other glyphs
    "text.hinting": "no_hinting",  # Glyphs are as wide as `text_layout.advance` says at every resolution.
}


def apply_style() -> None:
    """Set matplotlib to its own defaults, whatever a matplotlibrc says, and then to the project's style and font."""
    text_layout.register_fonts()
    style.use(["default", STYLE])


def canvas(height: float, rows: int = 1, columns: int = 1, **options: object) -> tuple[Figure, object]:
    """Return an empty figure as wide as the text, `height` inches high, and its axes (one, or an array)."""
    apply_style()
    figure = Figure(figsize=(WIDTH, height))
    return figure, figure.subplots(rows, columns, **options)


def save(figure: Figure, run: str | Path, name: str) -> Image:
    """Write a figure to `run`/figures/`name`.{png,pdf} and return it as shown in a notebook.

    The files name neither date nor software, so that the same figure gives the same files.
    """
    folder = files.path(run) / "figures"
    for suffix, metadata in (
        ("png", {"Software": None}),
        ("pdf", {"CreationDate": None, "Creator": None, "Producer": None}),
    ):
        with files.atomic(folder / f"{name}.{suffix}") as temporary:
            figure.savefig(temporary, metadata=metadata)
    return Image(data=(folder / f"{name}.png").read_bytes(), width=int(figure.get_figwidth() * 110))


def note(figure: Figure, conditions: str) -> None:
    """Write the conditions of the numbers below the figure, so that it cannot travel without them."""
    text = "\n".join(text_layout.wrap(conditions, figure.get_figwidth() * 0.97, 7))
    figure.supxlabel(text, fontsize=7, color=PAPER, x=0.01, ha="left", parse_math=False)


def label_bars(axes: Axes, bars: object) -> None:
    """Write each bar's value at its end, as a whole number."""
    axes.bar_label(bars, fmt="%.0f", padding=2, fontsize=7)
