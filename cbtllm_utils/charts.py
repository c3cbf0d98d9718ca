"""Charts that several notebooks draw: a table in, a matplotlib Figure out, in the style of `figures`."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from cbtllm_utils.figures import GREY, HERE, PAPER, SYSTEMS, canvas, label_bars, note

STATUSES = ["#009E73", "#E69F00", "#999999", "#56B4E9", "#D55E00", "#F0E442"]  # in the audit's order; grey: no verdict


def beside(table: pd.DataFrame, conditions: str, xlabel: str = "", format: str = "%.0f") -> Figure:
    """Horizontal bars of a table with the columns row, paper and here: the published value above ours."""
    place = np.arange(len(table))
    figure, axes = canvas(height=0.8 + 0.42 * len(table))
    label_bars(axes, axes.barh(place - 0.2, table["paper"], 0.38, color=GREY, label="paper"), format)
    label_bars(axes, axes.barh(place + 0.2, table["here"], 0.38, color=HERE, label="here"), format)
    axes.set_yticks(place, table["row"])
    axes.invert_yaxis()
    axes.set_xlabel(xlabel)
    axes.margins(x=0.12)
    axes.legend(loc="lower right")
    note(figure, conditions)
    return figure


def intervals(table: pd.DataFrame, conditions: str, xlabel: str = "") -> Figure:
    """Points with intervals: columns row, value, low, high, and perhaps `paper`, drawn as a hollow diamond."""
    place = np.arange(len(table))
    figure, axes = canvas(height=0.9 + 0.28 * len(table))
    spread = np.abs(np.vstack([table["value"] - table["low"], table["high"] - table["value"]]))
    axes.errorbar(table["value"], place, xerr=spread, fmt="o", color=HERE, capsize=2, markersize=4, label="here, 95 %")
    if "paper" in table:
        axes.plot(table["paper"], place, "D", color=PAPER, markerfacecolor="none", markersize=5, label="paper")
    axes.set_yticks(place, table["row"])
    axes.invert_yaxis()
    axes.set_xlabel(xlabel)
    axes.grid(axis="x", color="#EEEEEE")
    axes.legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 1), fontsize=7)  # inside, its sample looks like a value
    note(figure, conditions)
    return figure


def panels(table: pd.DataFrame, by: str, conditions: str, limits: tuple[float, float] | None = None) -> Figure:
    """`intervals` side by side, one panel for each value of the column `by`, sharing the rows' names.

    `limits`: the ends of a scale that all panels share; without them each panel shows its own range.
    """
    names = list(table[by].unique())
    rows = list(table["row"].unique())
    figure, grid = canvas(height=1.0 + 0.24 * len(rows), columns=len(names), sharey=True, squeeze=False)
    for axes, name in zip(grid[0], names, strict=True):
        part = table[table[by] == name].set_index("row").reindex(rows)
        spread = np.abs(np.vstack([part["value"] - part["low"], part["high"] - part["value"]]))
        axes.errorbar(part["value"], np.arange(len(rows)), xerr=spread, fmt="o", color=HERE, capsize=2, markersize=3)
        axes.set_title(name, fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(axis="x", color="#EEEEEE")
        if limits:
            edge = 0.05 * (limits[1] - limits[0])  # room for a point at the end of the scale
            axes.set_xlim(limits[0] - edge, limits[1] + edge)
    grid[0, 0].set_yticks(np.arange(len(rows)), rows)
    grid[0, 0].set_ylim(len(rows) - 0.5, -0.5)
    note(figure, conditions)
    return figure


def lines(curves: Mapping[str, pd.Series], conditions: str, xlabel: str = "", ylabel: str = "") -> Figure:
    """One line a series over its index, named in the legend."""
    figure, axes = canvas(height=2.6)
    for (name, series), color in zip(curves.items(), SYSTEMS, strict=False):
        axes.plot(series.index, series.to_numpy(), color=color, linewidth=1.4, label=name)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.grid(color="#EEEEEE")
    axes.legend(fontsize=7)
    note(figure, conditions)
    return figure


def training(curves: Mapping[str, Mapping[str, pd.Series]], conditions: str) -> Figure:
    """The losses of several trainings (`training_log.curves` of each): a line for the training items, marks held out."""
    figure, axes = canvas(height=2.8)
    for (name, parts), color in zip(curves.items(), SYSTEMS, strict=False):
        for part, style in (("training", {"linewidth": 1.2}), ("held out", {"marker": "o", "linestyle": ":"})):
            if part in parts:
                label = name if part == "training" else None
                axes.plot(parts[part].index, parts[part].to_numpy(), color=color, markersize=4, label=label, **style)
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats a reply token)")
    axes.grid(color="#EEEEEE")
    axes.legend(fontsize=7)
    note(figure, conditions)
    return figure


def histograms(values: Mapping[str, pd.Series], conditions: str, xlabel: str = "", bins: int = 24) -> Figure:
    """A histogram a series, side by side, the mean as a dashed line."""
    figure, grid = canvas(height=2.2, columns=len(values), squeeze=False)
    for axes, (name, series) in zip(grid[0], values.items(), strict=True):
        axes.hist(series, bins=bins, color=HERE)
        axes.axvline(series.mean(), color=PAPER, linestyle="--", linewidth=1)
        axes.set_title(f"{name}: mean {series.mean():.{1 if series.mean() >= 10 else 3}f}", fontsize=8)
        axes.set_xlabel(xlabel)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    note(figure, conditions)
    return figure


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


def combinations(flags: pd.DataFrame, conditions: str, most: int = 14) -> Figure:
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
    top.set_ylabel("count")
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


def shares(table: pd.DataFrame, conditions: str, xlabel: str = "share") -> Figure:
    """Stacked horizontal bars: one bar a row, one colour a column; the cells of a row sum to 1."""
    figure, axes = canvas(height=1.0 + 0.3 * len(table))
    left = np.zeros(len(table))
    for name, color in zip(table.columns, SYSTEMS, strict=False):
        axes.barh(range(len(table)), table[name], left=left, color=color, label=str(name))
        left += table[name].to_numpy()
    axes.set_yticks(range(len(table)), table.index)
    axes.invert_yaxis()
    axes.set_xlabel(xlabel)
    axes.legend(ncols=len(table.columns), loc="lower left", bbox_to_anchor=(0, 1), fontsize=7)
    note(figure, conditions)
    return figure


def statuses(table: pd.DataFrame, order: Sequence[str], conditions: str) -> Figure:
    """One square an item, in a row for each value of the column `table`, coloured and lettered by its `status`.

    The letters are those of `order` (A, B, …), named in the legend: colour is not the only sign. Rows break at 32 squares.
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
    figure.set_figheight(0.9 + 0.19 * y)
    axes.set(xlim=(0, across), ylim=(y, -0.1), xticks=[], aspect="equal")
    axes.set_yticks([place + 0.45 for place in names], names.values())
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    note(figure, conditions)
    return figure
