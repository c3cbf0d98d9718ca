"""Charts that notebooks draw: a table in, a matplotlib Figure out, with the conditions below it.

A published value is always gray, ours blue. The ends of an interval are the columns `low` and `high`.
"""

import itertools
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from cbtllm_utils.plots.figures import ACCENT, GRAY, GRID, HERE, PALETTE, canvas, label_bars, note

# Legends are outside the axes: inside, their marks could cover a value or be taken for one.
ABOVE_AXES = {"ncols": 2, "loc": "lower left", "bbox_to_anchor": (0, 1), "fontsize": 7}
ABOVE_FIGURE = {"loc": "outside upper left", "fontsize": 7}
MARKS = {  # of systems
    "here": {"fmt": "s"},
    "tuned": {"fmt": "o"},
    "prompted": {"fmt": "^", "markerfacecolor": "white"},
    "untuned": {"fmt": "o", "markerfacecolor": "white"},
    "baseline": {"fmt": "D", "markerfacecolor": "white"},
}
STATUS_COLORS = ["#009E73", "#E69F00", "#999999", "#56B4E9", "#D55E00", "#F0E442"]  # gray is "not comparable"
LETTERS = "ABCDEFGH"


def beside(table: pd.DataFrame, conditions: str, xlabel: str = "") -> Figure:
    """Draw horizontal bars of a table with the columns row, paper and here: the published value above ours."""
    place = np.arange(len(table))
    figure, axes = canvas(height=0.8 + 0.42 * len(table))
    label_bars(axes, axes.barh(place - 0.2, table["paper"], 0.38, color=GRAY, label="paper"))
    label_bars(axes, axes.barh(place + 0.2, table["here"], 0.38, color=HERE, label="here"))
    axes.set_yticks(place, table["row"])
    axes.invert_yaxis()
    axes.set_xlabel(xlabel)
    axes.margins(x=0.12)
    axes.legend(**ABOVE_AXES)
    note(figure, conditions)
    return figure


def draw_intervals(axes: Axes, table: pd.DataFrame, place: np.ndarray, **look: object) -> ErrorbarContainer:
    """Draw the column `value` of a table as points with their intervals and return them."""
    # Rounding can put a value a hair beyond its own interval, and matplotlib refuses negative lengths.
    lengths = np.abs(np.vstack([table["value"] - table["low"], table["high"] - table["value"]]))
    return axes.errorbar(table["value"], place, xerr=lengths, color=HERE, capsize=2, **look)


def intervals(table: pd.DataFrame, conditions: str, xlabel: str = "") -> Figure:
    """Draw points with 95% intervals.

    Args:
        table: Columns row, value, the interval and n, which is shown beside the row's name.
        conditions: Under which conditions the numbers were made.
        xlabel: What the values are.
    """
    place = np.arange(len(table))
    figure, axes = canvas(height=0.9 + 0.28 * len(table))
    draw_intervals(axes, table, place, fmt="o", markersize=4, label="here, 95% CI")
    axes.set_yticks(place, table["row"] + " (n = " + table["n"].astype(str) + ")")
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.set_xlabel(xlabel)
    axes.grid(axis="x", color=GRID)
    axes.legend(**ABOVE_AXES)
    note(figure, conditions)
    return figure


def panels(table: pd.DataFrame, by: str, conditions: str, limits: tuple[float, float] | None = None) -> Figure:
    """Draw points with 95% intervals in one panel for each value of the column `by`; panels share the rows' names.

    Args:
        table: Columns row, value, the interval, `by`, and perhaps `mark`: tuned, prompted, untuned or baseline,
            each with its own mark.
        by: The column that names the panel.
        conditions: Under which conditions the numbers were made.
        limits: The ends of a scale that all panels share; without them each panel shows its own range.
    """
    names, rows = list(table[by].unique()), list(table["row"].unique())
    table = table if "mark" in table else table.assign(mark="here")
    marks = sorted(set(table["mark"]), key=list(MARKS).index)
    figure, grid = canvas(height=1.2 + 0.24 * len(rows), columns=len(names), sharey=True, squeeze=False)
    for axes, name in zip(grid[0], names, strict=True):
        drawn = []
        for mark in marks:
            found = table[(table[by] == name) & (table["mark"] == mark)].set_index("row").reindex(rows)
            drawn.append(draw_intervals(axes, found, np.arange(len(rows)), markersize=3.5, **MARKS[mark]))
        axes.set_title(name, fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(color=GRID)
        if limits:
            edge = 0.05 * (limits[1] - limits[0])  # room for a point at the end of the scale
            axes.set_xlim(limits[0] - edge, limits[1] + edge)
    figure.legend(drawn, [f"{mark}, 95% CI" for mark in marks], ncols=len(marks), **ABOVE_FIGURE)
    grid[0, 0].set_yticks(np.arange(len(rows)), rows)
    grid[0, 0].set_ylim(len(rows) - 0.5, -0.5)
    note(figure, conditions)
    return figure


def training(curves: Mapping[str, Mapping[str, pd.Series]], conditions: str) -> Figure:
    """Draw the losses of trainings (`training_log.curves` of each): one color per training, held-out losses dotted."""
    figure, axes = canvas(height=2.9)
    styles = {"training": {"linewidth": 1.2}, "held out": {"linewidth": 1.2, "marker": "o", "linestyle": ":"}}
    keys = []
    for (name, losses), color in zip(curves.items(), itertools.cycle(PALETTE)):
        for kind, series in losses.items():
            axes.plot(series.index, series.to_numpy(), color=color, markersize=4, **styles[kind])
        keys.append(Line2D([], [], color=color, linewidth=4, label=name))
    for kind, style in styles.items():
        if any(kind in losses for losses in curves.values()):
            label = f"{kind.replace(' ', '-')} examples"
            keys.append(Line2D([], [], color="black", markersize=4, label=label, **style))
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats per reply token)")
    axes.grid(color=GRID)
    figure.legend(handles=keys, ncols=3, **ABOVE_FIGURE)
    note(figure, conditions)
    return figure


def histograms(
    values: Mapping[str, pd.Series], conditions: str, xlabel: str = "", ylabel: str = "", bins: int = 24
) -> Figure:
    """Draw one histogram per series, side by side, with its size and its mean as a dashed line."""
    figure, grid = canvas(height=2.4, columns=len(values), squeeze=False)
    for axes, (name, series) in zip(grid[0], values.items(), strict=True):
        mean = series.mean()
        axes.hist(series, bins=bins, color=HERE)
        axes.axvline(mean, color=ACCENT, linestyle="--", linewidth=1.4)
        decimals = 1 if mean >= 10 else 3
        axes.set_title(f"{name}, n = {len(series):,}\nmean {mean:.{decimals}f} (dashed)", fontsize=8)
        axes.set_xlabel(xlabel)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    grid[0, 0].set_ylabel(ylabel)
    note(figure, conditions)
    return figure


def shares(table: pd.DataFrame, conditions: str, xlabel: str = "share") -> Figure:
    """Draw one stacked bar per row; columns are scores in rising order, darker for higher; each row sums to 1."""
    figure, axes = canvas(height=1.0 + 0.3 * len(table))
    left, blues = np.zeros(len(table)), matplotlib.colormaps["Blues"](np.linspace(0.25, 0.95, table.shape[1]))
    for name, color in zip(table.columns, blues, strict=True):
        axes.barh(range(len(table)), table[name], left=left, color=color, edgecolor="white", label=str(name))
        left += table[name].to_numpy()
    axes.set_yticks(range(len(table)), table.index)
    axes.invert_yaxis()
    axes.set_xlabel(xlabel)
    axes.legend(**ABOVE_AXES | {"ncols": len(table.columns)})
    note(figure, conditions)
    return figure


def heatmap(table: pd.DataFrame, conditions: str, format: str = ".0f", title: str = "") -> Figure:
    """Draw a table as colored cells with their values. White is 0, blue above and red below it, gray no value."""
    figure, axes = canvas(height=1.4 + 0.3 * len(table))
    values = table.to_numpy(dtype=float)
    most = max(np.nanmax(np.abs(values)), 1e-9)
    signed = np.nanmin(values) < 0
    axes.set_facecolor("#DDDDDD")
    axes.imshow(values, cmap="RdBu" if signed else "Blues", vmin=-most if signed else 0, vmax=most, aspect="auto")
    axes.set_xticks(range(table.shape[1]), table.columns, rotation=30, ha="right", fontsize=7)
    axes.set_yticks(range(table.shape[0]), table.index, fontsize=7)
    for (y, x), value in np.ndenumerate(values):
        if not np.isnan(value):
            color = "white" if abs(value) > 0.6 * most else "black"
            axes.text(x, y, f"{value:{format}}", ha="center", va="center", fontsize=7, color=color)
    axes.set_title(title)
    note(figure, conditions)
    return figure


def combinations(flags: pd.DataFrame, conditions: str, ylabel: str = "count", most: int = 14) -> Figure:
    """Draw which columns of a boolean table are true together (an UpSet plot).

    Each row of the table counts once, in the combination of all that is true in it: a bar, with its members as dots
    below. Rows where nothing is true are left out; combinations beyond the `most` frequent share the last bar.
    """
    found = flags[flags.any(axis=1)].value_counts()
    shown, rest = found.head(most), found.iloc[most:]
    figure, (bars, dots) = canvas(height=2.2 + 0.2 * flags.shape[1], rows=2, sharex=True, height_ratios=[1, 1.1])
    label_bars(bars, bars.bar(range(len(shown)), shown.to_numpy(), color=HERE))
    if len(rest):
        label_bars(bars, bars.bar([len(shown)], [rest.sum()], color=GRAY))
    bars.set_title(f"{found.sum():,} of {len(flags):,} {ylabel}", fontsize=8)
    bars.set_ylabel(ylabel)
    bars.margins(y=0.15)
    for place, members in enumerate(shown.index):
        true = [y for y, member in enumerate(members) if member]
        dots.plot([place] * len(true), true, "o-", color=HERE, markersize=5, linewidth=1.5)
    dots.set_yticks(range(flags.shape[1]), flags.columns, fontsize=7)
    dots.set_ylim(flags.shape[1] - 0.5, -0.5)
    dots.grid(axis="y", color=GRID)
    others = f"{len(rest)} other" if len(rest) == 1 else f"{len(rest)} others"
    dots.set_xticks([len(shown)] if len(rest) else [], [others] if len(rest) else [], fontsize=7)
    note(figure, conditions)
    return figure


def statuses(table: pd.DataFrame, order: Sequence[str], conditions: str) -> Figure:
    """Draw one square per row of a table, on one line for each value of its column `table`.

    A square has the color and the letter of its `status`: color is not the only sign. The letters are those of `order`
    (A, B, …), named in the legend. Lines break at 32 squares.
    """
    across, y, names = 32, 0, {}
    figure, axes = canvas(height=1)
    for name, found in table.groupby("table", sort=False):
        names[y] = name
        for place, status in enumerate(found["status"]):
            number = order.index(status)
            x, below = place % across, y + place // across
            axes.add_patch(Rectangle((x, below), 0.9, 0.9, color=STATUS_COLORS[number], alpha=0.35, linewidth=0))
            axes.text(x + 0.45, below + 0.47, LETTERS[number], ha="center", va="center", fontsize=7)
        y += (len(found) - 1) // across + 1
    counts = table["status"].value_counts()
    keys = []
    for letter, color, status in zip(LETTERS, STATUS_COLORS, order, strict=False):
        keys.append(Patch(color=color, alpha=0.35, label=f"{letter} {status}: {counts.get(status, 0)}"))
    figure.legend(handles=keys, ncols=3, **ABOVE_FIGURE)
    figure.set_figheight(0.75 + 0.185 * y)
    axes.set(xlim=(0, across), ylim=(y, -0.1), xticks=[], aspect="equal")
    axes.set_yticks([place + 0.45 for place in names], names.values())
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    note(figure, conditions)
    return figure
