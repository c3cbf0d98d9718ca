"""One style for every figure: data in, a matplotlib Figure out; only a notebook saves one."""

import functools
import importlib.metadata
from pathlib import Path

import matplotlib
from IPython.display import Image
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cbtllm_utils import files

PAPER, HERE, ACCENT, GREY = "#767676", "#0072B2", "#D55E00", "#BBBBBB"  # Okabe and Ito 2008: safe for colour-blind eyes
SYSTEMS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000"]
WIDTH = 6.3  # inches: the text width of the paper; half of it is one column
STYLE = {
    "font.family": ["Noto Sans CJK SC", "DejaVu Sans"],
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
}


@functools.cache
def font() -> str:
    """The name of the font with Chinese glyphs, registered with matplotlib: the same on every machine."""
    try:
        package = importlib.metadata.files("noto-cjk-sans-otc") or []
    except importlib.metadata.PackageNotFoundError:
        package = []
    for file in package:
        if file.suffix == ".ttc":
            font_manager.fontManager.addfont(str(file.locate()))
            return "Noto Sans CJK SC"
    raise files.InputError("no font with Chinese glyphs: `pip install noto-cjk-sans-otc` (part of requirements.lock)")


def canvas(
    width: float = WIDTH, height: float = 3.0, rows: int = 1, columns: int = 1, **options: object
) -> tuple[Figure, object]:
    """An empty figure in the project's style and its axes (one, or an array). Sizes in inches."""
    font()
    matplotlib.rcParams.update(STYLE)
    figure = Figure(figsize=(width, height))
    return figure, figure.subplots(rows, columns, **options)


def save(figure: Figure, run: str | Path, name: str) -> Image:
    """The picture to show, after it was written to `run`/figures/`name`.{png,pdf}: the same bytes for the same figure."""
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
    figure.supxlabel(conditions, fontsize=7, color=PAPER, x=0.01, ha="left")


def label_bars(axes: Axes, bars: object, format: str = "%.2f") -> None:
    """Write each bar's value at its end."""
    axes.bar_label(bars, fmt=format, padding=2, fontsize=7)
