"""Charts that several notebooks draw: a table in, a matplotlib Figure out, in the style of `figures`."""

import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from cbtllm_utils.plots.figures import ACCENT, GREY, HERE, PAPER, SYSTEMS, canvas, label_bars, note

# Where a legend stands: inside the axes its samples could lie on a value, or look like one.
ABOVE = {"ncols": 2, "loc": "lower left", "bbox_to_anchor": (0, 1), "fontsize": 7}


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
    axes.legend(**ABOVE)
    note(figure, conditions)
    return figure


def intervals(table: pd.DataFrame, conditions: str, xlabel: str = "") -> Figure:
    """Points with intervals: columns row, value, low, high, and perhaps `paper`, drawn as a hollow diamond."""
    place = np.arange(len(table))
    figure, axes = canvas(height=0.9 + 0.28 * len(table))
    spread = np.abs(np.vstack([table["value"] - table["low"], table["high"] - table["value"]]))
    axes.errorbar(
        table["value"], place, xerr=spread, fmt="o", color=HERE, capsize=2, markersize=4, label="here, 95 % interval"
    )
    if "paper" in table:
        axes.plot(table["paper"], place, "D", color=PAPER, markerfacecolor="none", markersize=5, label="paper")
    axes.set_yticks(place, table["row"])
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.set_xlabel(xlabel)
    axes.grid(axis="x", color="#EEEEEE")
    axes.legend(**ABOVE)
    note(figure, conditions)
    return figure


def panels(table: pd.DataFrame, by: str, conditions: str, limits: tuple[float, float] | None = None) -> Figure:
    """`intervals` side by side, one panel for each value of the column `by`, sharing the rows' names.

    `limits`: the ends of a scale that all panels share; without them each panel shows its own range.
    """
    names = list(table[by].unique())
    rows = list(table["row"].unique())
    figure, grid = canvas(height=1.2 + 0.24 * len(rows), columns=len(names), sharey=True, squeeze=False)
    for axes, name in zip(grid[0], names, strict=True):
        part = table[table[by] == name].set_index("row").reindex(rows)
        spread = np.abs(np.vstack([part["value"] - part["low"], part["high"] - part["value"]]))
        bars = axes.errorbar(
            part["value"], np.arange(len(rows)), xerr=spread, fmt="o", color=HERE, capsize=2, markersize=3
        )
        axes.set_title(name, fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(color="#EEEEEE")
        if limits:
            edge = 0.05 * (limits[1] - limits[0])  # room for a point at the end of the scale
            axes.set_xlim(limits[0] - edge, limits[1] + edge)
    figure.legend([bars], ["here, 95 % interval"], loc="outside upper left", fontsize=7)
    grid[0, 0].set_yticks(np.arange(len(rows)), rows)
    grid[0, 0].set_ylim(len(rows) - 0.5, -0.5)
    note(figure, conditions)
    return figure


def training(curves: Mapping[str, Mapping[str, pd.Series]], conditions: str) -> Figure:
    """The losses of trainings (`training_log.curves` of each): a colour a training, a line style each kind of items."""
    figure, axes = canvas(height=2.9)
    styles = {"training": {"linewidth": 1.2}, "held out": {"linewidth": 1.2, "marker": "o", "linestyle": ":"}}
    keys = []
    for (name, parts), color in zip(curves.items(), itertools.cycle(SYSTEMS)):
        for part, series in parts.items():
            axes.plot(series.index, series.to_numpy(), color=color, markersize=4, **styles[part])
        keys.append(Line2D([], [], color=color, linewidth=4, label=name))
    shown = [part for part in styles if any(part in parts for parts in curves.values())]
    keys += [
        Line2D([], [], color="black", markersize=4, label=f"{part.replace(' ', '-')} items", **styles[part])
        for part in shown
    ]
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats a reply token)")
    axes.grid(color="#EEEEEE")
    figure.legend(handles=keys, loc="outside upper left", ncols=3, fontsize=7)
    note(figure, conditions)
    return figure


def histograms(
    values: Mapping[str, pd.Series], conditions: str, xlabel: str = "", ylabel: str = "", bins: int = 24
) -> Figure:
    """A histogram a series, side by side, the mean as a dashed line."""
    figure, grid = canvas(height=2.2, columns=len(values), squeeze=False)
    for axes, (name, series) in zip(grid[0], values.items(), strict=True):
        axes.hist(series, bins=bins, color=HERE)
        axes.axvline(series.mean(), color=ACCENT, linestyle="--", linewidth=1.4)
        axes.set_title(f"{name}: mean {series.mean():.{1 if series.mean() >= 10 else 3}f} (dashed)", fontsize=8)
        axes.set_xlabel(xlabel)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    grid[0, 0].set_ylabel(ylabel)
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
    axes.legend(**ABOVE | {"ncols": len(table.columns)})
    note(figure, conditions)
    return figure
