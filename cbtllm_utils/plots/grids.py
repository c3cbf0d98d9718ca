"""Charts of cells, dots and squares in rows and columns: a table in, a matplotlib Figure out, styled by `figures`."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from cbtllm_utils.plots.figures import GREY, HERE, canvas, label_bars, note

STATUSES = ["#009E73", "#E69F00", "#999999", "#56B4E9", "#D55E00", "#F0E442"]  # in the audit's order; grey: no verdict


def heatmap(table: pd.DataFrame, conditions: str, format: str = ".0f", title: str = "") -> Figure:
    """A table as coloured cells with their values; rows and columns named. White is 0: below it red, above it blue."""
    figure, axes = canvas(height=1.4 + 0.3 * len(table))
    values = table.to_numpy(dtype=float)
    most = max(np.nanmax(np.abs(values)), 1e-9)
    signed = np.nanmin(values) < 0
    axes.set_facecolor("#DDDDDD")  # where there is no value
    axes.imshow(values, cmap="RdBu" if signed else "Blues", vmin=-most if signed else 0, vmax=most, aspect="auto")
    axes.set_xticks(range(table.shape[1]), table.columns, rotation=30, ha="right", fontsize=7)
    axes.set_yticks(range(table.shape[0]), table.index, fontsize=7)
    for (y, x), value in np.ndenumerate(values):
        if value == value:
            shade = "white" if abs(value) > 0.6 * most else "black"
            axes.text(x, y, f"{value:{format}}", ha="center", va="center", fontsize=7, color=shade)
    axes.set_title(title)
    note(figure, conditions)
    return figure


def combinations(flags: pd.DataFrame, conditions: str, ylabel: str = "count", most: int = 14) -> Figure:
    """Which columns of a boolean table are true together: a bar of rows a combination, its members as dots below it.

    Each row counts once, in the combination of all that is true in it (an UpSet plot); rows with nothing are left out,
    and combinations beyond the `most` frequent are added up in the last bar.
    """
    found = flags[flags.any(axis=1)].value_counts()
    shown, rest = found.head(most), found.iloc[most:]
    figure, (top, dots) = canvas(height=2.0 + 0.2 * flags.shape[1], rows=2, sharex=True, height_ratios=[1, 1.1])
    label_bars(top, top.bar(range(len(shown)), shown.to_numpy(), color=HERE), "%.0f")
    if len(rest):
        label_bars(top, top.bar([len(shown)], [rest.sum()], color=GREY), "%.0f")
    top.set_ylabel(ylabel)
    top.margins(y=0.15)
    for place, members in enumerate(shown.index):
        held = [y for y, member in enumerate(members) if member]
        dots.plot([place] * len(held), held, "o-", color=HERE, markersize=5, linewidth=1.5)
    dots.set_yticks(range(flags.shape[1]), flags.columns, fontsize=7)
    dots.set_ylim(flags.shape[1] - 0.5, -0.5)
    dots.grid(axis="y", color="#EEEEEE")
    dots.set_xticks([len(shown)] if len(rest) else [], [f"{len(rest)} others"] if len(rest) else [], fontsize=7)
    note(figure, conditions)
    return figure


def statuses(table: pd.DataFrame, order: Sequence[str], conditions: str) -> Figure:
    """One square an item, in a row for each value of the column `table`, coloured and lettered by its `status`.

    The letters are those of `order` (A, B, …), named in the legend: colour is not the only sign. Rows break at 32
    squares.
    """
    across, y, names = 32, 0, {}
    figure, axes = canvas(height=1)
    for name, part in table.groupby("table", sort=False):
        names[y] = name
        for place, status in enumerate(part["status"]):
            number = order.index(status)
            x, below = place % across, y + place // across
            axes.add_patch(Rectangle((x, below), 0.9, 0.9, color=STATUSES[number], alpha=0.35, linewidth=0))
            axes.text(x + 0.45, below + 0.47, "ABCDEFGH"[number], ha="center", va="center", fontsize=7)
        y += (len(part) - 1) // across + 1
    counts = table["status"].value_counts()
    keys = [
        Patch(color=STATUSES[n], alpha=0.35, label=f"{'ABCDEFGH'[n]} {status}: {counts.get(status, 0)}")
        for n, status in enumerate(order)
    ]
    figure.legend(handles=keys, loc="outside upper left", ncols=3, fontsize=7)
    figure.set_figheight(0.75 + 0.185 * y)
    axes.set(xlim=(0, across), ylim=(y, -0.1), xticks=[], aspect="equal")
    axes.set_yticks([place + 0.45 for place in names], names.values())
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    note(figure, conditions)
    return figure
