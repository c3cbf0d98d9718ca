"""Boxes of wrapped text, placed in inches and drawn as one picture that is as high as its text needs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cbtllm_utils.plots.figures import PAPER, STYLE, WIDTH, drawable, font, wrapped

SIZE, SMALL = 6.5, 5.8  # points: text and labels
LEADING = 1.42  # line height in units of the font size: Chinese needs air
PAD, GAP, BAR, MARGIN = 0.05, 0.06, 0.035, 0.02  # inches
CHARACTERS, LINES = 20_000, 400  # of one block: 51 inches; a picture holds 65,535 pixels, 327 inches
WHITE = (PAPER, "#FFFFFF")


@dataclass(frozen=True)
class Block:
    """A box of wrapped lines under a label, placed in inches from the picture's upper left corner."""

    x: float
    y: float
    wide: float
    label: tuple[str, ...]
    lines: tuple[str, ...]
    colours: tuple[str, str] = WHITE
    frame: bool = False
    bare: float = 0.0  # height of a box drawn around other blocks

    @property
    def height(self) -> float:
        text = (len(self.label) * SMALL + len(self.lines) * SIZE) * LEADING / 72
        return self.bare or text + 2 * PAD

    @property
    def bottom(self) -> float:
        return self.y + self.height


def block(x: float, y: float, wide: float, label: str, text: str, **look: object) -> Block:
    """A block whose label and text are wrapped to its width; either may be empty."""
    inner = wide - 2 * PAD - BAR
    lines = [fitting(part.strip(), inner, size) for part, size in ((label, SMALL), (text, SIZE))]
    return Block(x, y, wide, *lines, **look)


def fitting(text: str, inches: float, size: float) -> tuple[str, ...]:
    """The text in lines; of one that no picture could hold the beginning, and how much there is beyond."""
    lines = wrapped(text[:CHARACTERS], inches, size) if text else []
    if len(text) > CHARACTERS or len(lines) > LINES:
        lines = [*lines[:LINES], f"[…] {len(text):,} characters in all"]
    return tuple(lines)


def bottom(blocks: Iterable[Block]) -> float:
    """Where the lowest block ends."""
    return max((b.bottom for b in blocks), default=0.0)


def draw(blocks: Sequence[Block], conditions: str, arrows: Iterable[tuple] = ()) -> Figure:
    """The blocks, arrows ((x, y) to (x, y), inches) and the conditions as a Figure of the text width."""
    font()
    matplotlib.rcParams.update(STYLE)
    closing = block(0, bottom(blocks) + GAP, WIDTH, conditions, "")
    figure = Figure(figsize=(WIDTH + 2 * MARGIN, closing.bottom + 2 * MARGIN))
    figure.set_layout_engine("none")  # every place is computed here
    sides = {"xlim": (-MARGIN, WIDTH + MARGIN), "ylim": (closing.bottom + MARGIN, -MARGIN)}
    axes = figure.add_axes((0, 0, 1, 1), **sides)
    axes.axis("off")
    for each in (*blocks, closing):
        paint(axes, each)
    for start, end in arrows:
        axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": PAPER, "shrinkA": 0, "shrinkB": 0})
    return figure


def paint(axes: Axes, each: Block) -> None:
    """One block on the axes: background, bar at the left, label and lines."""
    dark, light = each.colours
    edge = dark if each.frame else "none"
    axes.add_patch(Rectangle((each.x, each.y), each.wide, each.height, facecolor=light, edgecolor=edge, linewidth=0.6))
    if each.colours != WHITE:
        axes.add_patch(Rectangle((each.x, each.y), BAR, each.height, facecolor=dark, edgecolor="none"))
    y = each.y + PAD
    for lines, size, colour in ((each.label, SMALL, dark), (each.lines, SIZE, "black")):
        for line in lines:
            y += size * LEADING / 72
            place = (each.x + BAR + PAD, y - size * 0.36 / 72)  # the baseline stands above the line's lower edge
            axes.text(*place, drawable(line), fontsize=size, color=colour, va="baseline", parse_math=False)


def right(box: Block) -> tuple[float, float]:
    """The middle of a box's right edge."""
    return box.x + box.wide, box.y + box.height / 2


def left(box: Block) -> tuple[float, float]:
    """The middle of a box's left edge."""
    return box.x, box.y + box.height / 2
