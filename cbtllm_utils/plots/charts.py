"""Charts that notebooks draw: a table in, a matplotlib Figure out, with the conditions below it.

A published value is always gray, ours blue. The ends of an interval are the columns `low` and `high`.
"""

from collections.abc import Iterable, Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from cbtllm_utils.plots import text_layout
from cbtllm_utils.plots.figures import ACCENT, GRAY, HERE, SMALL, canvas, label_bars, note, text_on
from cbtllm_utils.plots.svg import FAINT, GROUND, INK, LINE

# Legends are outside the axes: inside, their marks could cover a value or be taken for one.
ABOVE_AXES = {"ncols": 2, "loc": "lower left", "bbox_to_anchor": (0, 1)}
ABOVE_FIGURE = {"loc": "outside upper left"}
MARKS = {  # of systems: color and shape differ, so that either is enough; colors of Okabe and Ito (2008)
    "here": {"fmt": "s"},
    "tuned": {"fmt": "s", "color": HERE},
    "prompted": {"fmt": "^", "color": "#009E73"},
    "untuned": {"fmt": "o", "color": ACCENT, "markerfacecolor": GROUND},
    "baseline": {"fmt": "D", "color": INK, "markerfacecolor": GROUND},
}
STATUS_COLORS = [
    "#009E73",
    "#E69F00",
    "#999999",
    "#56B4E9",
    "#D55E00",
    "#CC79A7",
    "#F0E442",
]  # gray is "not comparable"
LETTERS = "ABCDEFGH"


def beside(table: pd.DataFrame, conditions: str, xlabel: str = "", sizes: Mapping[str, int] | None = None) -> Figure:
    """Draw horizontal bars, the published value above ours.

    Args:
        table: Columns row, paper, here and perhaps low and high, the interval of ours.
        conditions: Under which conditions the numbers were made.
        xlabel: What the values are.
        sizes: n of "paper" and of "here", for the legend.
    """
    place, names = np.arange(len(table)), wrapped(table["row"])
    figure, axes = canvas(height=0.9 + 0.46 * len(table))
    keys = {side: f"{side} (n = {sizes[side]:,})" if sizes else side for side in ("paper", "here")}
    label_bars(axes, axes.barh(place - 0.2, table["paper"], 0.38, color=GRAY, label=keys["paper"]))
    bars = axes.barh(place + 0.2, table["here"], 0.38, color=HERE, label=keys["here"])
    if "low" in table:
        ours = table.assign(value=table["here"])
        ends = draw_intervals(axes, ours, place + 0.2, fmt="none", color=INK, label="95% CI")
        label_bars(axes, bars, ends)
    else:
        label_bars(axes, bars)
    axes.set_yticks(place, names)
    axes.invert_yaxis()
    axes.set_xlabel(xlabel)
    axes.margins(x=0.12)
    figure.legend(ncols=3, **ABOVE_FIGURE)
    figure.set_label(f"{xlabel or 'Values'}, of the paper and here: {', '.join(table['row'])}")
    note(figure, conditions)
    return figure


def draw_intervals(axes: Axes, table: pd.DataFrame, place: np.ndarray, **look: object) -> ErrorbarContainer:
    """Draw the column `value` of a table as points with their intervals and return them."""
    # Rounding can put a value a hair beyond its own interval, and matplotlib refuses negative lengths.
    lengths = np.abs(np.vstack([table["value"] - table["low"], table["high"] - table["value"]]))
    return axes.errorbar(table["value"], place, xerr=lengths, **{"color": HERE, "capsize": 2} | look)


def intervals(table: pd.DataFrame, conditions: str, xlabel: str = "") -> Figure:
    """Draw points with 95% intervals.

    Args:
        table: Columns row, value, the interval and n, which is shown beside the row's name.
        conditions: Under which conditions the numbers were made.
        xlabel: What the values are.
    """
    place, names = np.arange(len(table)), wrapped(rows_with_n(table), 2.1)
    figure, axes = canvas(height=1.0 + len(table) * line_height(names))
    draw_intervals(axes, table, place, fmt="o", markersize=4, label="here, 95% CI")
    axes.set_yticks(place, names)
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.set_xlabel(xlabel)
    axes.grid(axis="x")
    axes.legend(**ABOVE_AXES)
    figure.set_label(f"{xlabel or 'Values'} with 95% intervals: {', '.join(table['row'])}")
    note(figure, conditions)
    return figure


def panels(table: pd.DataFrame, by: str, conditions: str, limits: tuple[float, float] | None = None) -> Figure:
    """Draw points with 95% intervals in one panel for each value of the column `by`; panels share the rows' names.

    Args:
        table: Columns row, value, the interval, `by`, and perhaps n and `mark`: tuned, prompted, untuned or baseline,
            each with its own mark.
        by: The column that names the panel.
        conditions: Under which conditions the numbers were made.
        limits: The ends of a scale that all panels share; without them each panel shows its own range.
    """
    panel_names, rows = list(table[by].unique()), list(table["row"].unique())
    table = table if "mark" in table else table.assign(mark="here")
    marks = sorted(set(table["mark"]), key=list(MARKS).index)
    names = wrapped(rows_with_n(table.drop_duplicates("row")))
    figure, grid = facets(len(panel_names), 0.3 + len(rows) * line_height(names), 3, sharey=True)
    drawn = []
    for axes, name in zip(grid, panel_names, strict=True):
        drawn = []
        for mark in marks:
            found = table[(table[by] == name) & (table["mark"] == mark)].set_index("row").reindex(rows)
            drawn.append(draw_intervals(axes, found, np.arange(len(rows)), markersize=5, **MARKS[mark]))
        axes.set_title(*wrapped([name], 1), fontsize=SMALL)
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.grid()
        if limits:
            edge = 0.05 * (limits[1] - limits[0])  # room for a point at the end of the scale
            axes.set_xlim(limits[0] - edge, limits[1] + edge)
            axes.set_xticks(np.linspace(*limits, 3))
    figure.legend(drawn, [f"{mark}, 95% CI" for mark in marks], ncols=3, **ABOVE_FIGURE)
    figure.axes[0].set_yticks(np.arange(len(rows)), names)
    figure.axes[0].set_ylim(max(len(rows), 1) - 0.5, -0.5)
    figure.set_label(f"Values with 95% intervals of {', '.join(rows)}, one panel each for {', '.join(panel_names)}")
    note(figure, conditions)
    return figure


def training(
    curves: Mapping[str, Mapping[str, pd.Series]], conditions: str, epochs: Mapping[str, Sequence[int]] | None = None
) -> Figure:
    """Draw the losses of trainings, one panel each with the same scale.

    Args:
        curves: Name of a training -> "training" and "held out" -> loss in nats per character by step.
        conditions: Under which conditions the numbers were made.
        epochs: Name of a training -> the steps at which an epoch ends, drawn as vertical lines.
    """
    figure, grid = facets(len(curves), 1.9, sharey=True)
    styles = {
        "training": {"color": HERE, "linewidth": 1.2, "label": "training examples"},
        "held out": {"color": ACCENT, "linestyle": ":", "marker": "o", "markersize": 4, "label": "held-out examples"},
    }
    ends = {"color": FAINT, "linewidth": 0.8, "linestyle": "--", "label": "end of an epoch"}
    keys = {}
    for axes, (name, losses) in zip(grid, curves.items(), strict=True):
        for step in (epochs or {}).get(name, ()):
            keys["epoch"] = axes.axvline(step, **ends)
        for kind, series in losses.items():
            (keys[kind],) = axes.plot(series.index, series.to_numpy(), **styles[kind])
        axes.set_title(name, fontsize=SMALL)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.grid(axis="y")
    figure.legend(handles=list(reversed(keys.values())), ncols=3, **ABOVE_FIGURE)
    figure.supylabel("loss (nats per character)", fontsize=SMALL)
    grid[-1].set_xlabel("step")
    figure.set_label(f"Loss in nats per character by training step, one panel each for {', '.join(curves)}")
    note(figure, conditions)
    return figure


def facets(count: int, height: float, columns: int = 2, **options: object) -> tuple[Figure, list[Axes]]:
    """Return a figure with so many panels, `columns` in a row of `height` inches, and the panels in reading order."""
    columns = max(min(count, columns), 1)
    rows = max(-(-count // columns), 1)
    figure, grid = canvas(0.9 + height * rows, rows, columns, squeeze=False, **options)
    for spare in grid.flat[count:]:
        spare.set_axis_off()
    return figure, list(grid.flat[:count])


def ranges(table: pd.DataFrame, conditions: str, xlabel: str = "") -> Figure:
    """Draw a bar from the least to the most possible value of each row, both ends written.

    Args:
        table: Columns row, low, high and perhaps n, the size of what the range is about.
        conditions: How the ranges were found.
        xlabel: What the values are.
    """
    place = np.arange(len(table))
    figure, axes = canvas(height=0.9 + 0.36 * len(table))
    axes.hlines(place, table["low"], table["high"], color=HERE, linewidth=7, capstyle="butt")
    axes.scatter([*table["low"], *table["high"]], [*place, *place], color=HERE, marker="|", s=90, linewidths=1.6)
    for y, low, high in zip(place, table["low"], table["high"], strict=True):
        for end, side, shift in ((low, "right", -5), (high, "left", 5)):
            text = {"xytext": (shift, 0), "textcoords": "offset points", "ha": side, "va": "center"}
            axes.annotate(f"{end:.2f}" if end < 10 else f"{end:,.0f}", (end, y), fontsize=SMALL, **text)
    axes.set_yticks(place, wrapped(rows_with_n(table)))
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.margins(x=0.25)
    axes.set_xlabel(xlabel)
    axes.grid(axis="x")
    figure.set_label(f"The least and the most possible value of {', '.join(table['row'])}")
    note(figure, conditions)
    return figure


def rows_with_n(table: pd.DataFrame) -> list[str]:
    """Return the names of the rows, each with its n where the table has that column."""
    if "n" not in table:
        return [str(row) for row in table["row"]]
    return [f"{row} (n = {int(n):,})" for row, n in zip(table["row"], table["n"], strict=True)]


def wrapped(names: Iterable[str], inches: float = 1.5) -> list[str]:
    """Return the names of rows in lines that leave room for the chart beside them."""
    whole = (str(name).replace(" = ", "\u00a0=\u00a0") for name in names)  # "n = 36" stays on one line
    return ["\n".join(text_layout.wrap(name, inches, SMALL)).replace("\u00a0", " ") for name in whole]


def line_height(names: Sequence[str]) -> float:
    """Return the inches that each row needs for the tallest of the names."""
    return 0.12 + 0.17 * max((name.count("\n") + 1 for name in names), default=1)


KINDS = {"untuned": -0.24, "prompted": 0.0, "tuned": 0.24, "baseline": 0.0}  # -> height within its row


def dumbbells(table: pd.DataFrame, conditions: str) -> Figure:
    """Draw one panel per metric: on each row the untuned, prompted and tuned value, connected in this order.

    Args:
        table: Columns row (a backbone's title, or a baseline's), metric, kind (a key of KINDS), value, low, high and
            perhaps n.
        conditions: Under which conditions the numbers were made.
    """
    metrics, rows = list(table["metric"].unique()), list(table["row"].unique())
    names = wrapped(rows_with_n(table.drop_duplicates("row")), 1.2)
    figure, grid = facets(len(metrics), 0.5 + len(rows) * max(0.36, line_height(names)), 3, sharey=True)
    keys = {}
    for axes, metric in zip(grid, metrics, strict=True):
        found = table[table["metric"] == metric].assign(place=lambda t: t["row"].map(rows.index) + t["kind"].map(KINDS))
        for _, points in found.sort_values("place").groupby("row"):
            axes.plot(points["value"], points["place"], color=FAINT, linewidth=0.8, zorder=1)
        for kind in KINDS:
            if len(points := found[found["kind"] == kind]):
                keys[kind] = draw_intervals(axes, points, points["place"], markersize=5.5, label=kind, **MARKS[kind])
        axes.set_title(*wrapped([metric], 1), fontsize=SMALL)
        axes.xaxis.set_major_locator(MaxNLocator(2))
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
        axes.margins(x=0.1)
    figure.get_layout_engine().set(wspace=0.08)  # apart enough for the numbers below two panels
    figure.axes[0].set_yticks(range(len(rows)), names)
    figure.axes[0].set_ylim(max(len(rows), 1) - 0.5, -0.5)
    figure.legend(
        keys.values(), keys, ncols=4, title="with 95% CI", title_fontsize=SMALL, alignment="left", **ABOVE_FIGURE
    )
    figure.set_label(f"{', '.join(metrics)} of {', '.join(rows)}: untuned, prompted and tuned, with 95% intervals")
    note(figure, conditions)
    return figure


def forest(table: pd.DataFrame, conditions: str, xlabel: str = "") -> Figure:
    """Draw differences with 95% intervals around a line at 0, a panel per metric side by side, the rows in groups.

    Args:
        table: Columns group, row, metric, value, low, high, decided (whether the test decides after Holm's
            correction) and n.
        conditions: Under which conditions the numbers were made.
        xlabel: What the differences are.
    """
    metrics = list(table["metric"].unique())
    lines = table.drop_duplicates(["group", "row"])
    names, places, headings = [], {}, {}
    for group, rows in lines.groupby("group", sort=False):
        n = "–".join(f"{end:,}" for end in sorted({rows["n"].min(), rows["n"].max()}))
        headings[len(names)] = f"{group} (n = {n})"
        names += ["", *rows["row"]]
        places |= {(group, row): len(names) - len(rows) + i for i, row in enumerate(rows["row"])}
    figure, grid = facets(len(metrics), 0.18 * len(names), len(metrics), sharey=True)
    looks = {True: {"fmt": "s", "color": HERE, "label": "decided after Holm"}}
    looks[False] = {"fmt": "o", "color": FAINT, "markerfacecolor": GROUND, "label": "not decided"}
    keys = {}
    for axes, metric in zip(grid, metrics, strict=True):
        found = table[table["metric"] == metric]
        place = pd.Series([places[key] for key in zip(found["group"], found["row"], strict=True)], index=found.index)
        for decided, look in looks.items():
            if (chosen := found["decided"].astype(bool) == decided).any():
                look = {"markersize": 4.5, "capsize": 0} | look
                keys[look["label"]] = draw_intervals(axes, found[chosen], place[chosen], **look)
        axes.set_title(metric, fontsize=SMALL, loc="right" if axes is grid[-1] else "left")
        ends = axes.get_xlim()
        ticks = [tick for tick in MaxNLocator(2).tick_values(*ends) if ends[0] <= tick <= ends[1]]
        farthest = max(ticks, key=lambda tick: (abs(tick), tick))
        axes.set_xticks([0, farthest], ["0", f"{farthest:g}"])
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        for start, end in zip(headings, [*list(headings)[1:], len(names)], strict=True):  # no line crosses a heading
            for tick, color in ((0, FAINT), (farthest, LINE)):
                axes.vlines(tick, start + 0.5, end - 0.5, color=color, linewidth=0.8, zorder=0)
    look = {"va": "center", "fontsize": SMALL, "fontweight": "bold"}
    for y, heading in headings.items():  # on a line of its own, across the panels
        place = {"xy": (0, y), "xycoords": grid[0].get_yaxis_transform(), "in_layout": False}
        grid[-1].annotate(heading, **place, **look)
    figure.axes[0].set_yticks(range(len(names)), names)
    figure.axes[0].set_ylim(max(len(names), 1) - 0.5, -0.5)
    figure.legend(keys.values(), keys, ncols=2, **ABOVE_FIGURE)
    figure.axes[len(grid) // 2].set_xlabel(xlabel)
    figure.set_label(f"Differences in {', '.join(metrics)} with 95% intervals: {'; '.join(lines['group'].unique())}")
    note(figure, conditions)
    return figure


def triangle(table: pd.DataFrame, conditions: str, format: str = ".0f", label: str = "") -> Figure:
    """Draw the lower triangle of a symmetric table as colored cells with their values and a color bar.

    Args:
        table: The same rows and columns; the diagonal is left out where it is NaN. Where a value is below 0, colors
            go from red over white (0) to blue.
        conditions: Under which conditions the numbers were made.
        format: How a value is written.
        label: What the values are, beside the color bar.
    """
    lower = table.astype(float).where(np.tri(len(table), dtype=bool))
    lower = lower.dropna(how="all").dropna(how="all", axis="columns")
    figure, axes = canvas(height=1.8 + 0.34 * len(lower))
    cells = draw_cells(axes, lower.to_numpy(), format)
    axes.set_xticks(np.arange(lower.shape[1]) + 0.5, lower.columns, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(np.arange(lower.shape[0]) + 0.5, lower.index)
    (said,) = wrapped([label], 2)
    figure.colorbar(cells, ax=axes, label=said, shrink=0.9).outline.set_edgecolor(LINE)
    figure.set_label(f"{label or 'Counts'} for each pair of {', '.join(map(str, table.index))}")
    note(figure, conditions)
    return figure


def draw_cells(axes: Axes, values: np.ndarray, format: str) -> QuadMesh:
    """Draw colored cells from the upper left on, each with its value; no cell for NaN."""
    most = max(np.nanmax(np.abs(values)), 1e-9)
    signed = np.nanmin(values) < 0
    colors = matplotlib.colormaps["RdBu" if signed else "Blues"].resampled(32)
    least = -most if signed else 0
    cells = axes.pcolormesh(np.ma.masked_invalid(values), cmap=colors, vmin=least, vmax=most, edgecolor=GROUND)
    for (y, x), value in np.ndenumerate(values):
        if not np.isnan(value):
            ink = text_on(cells.to_rgba(value))
            axes.text(x + 0.5, y + 0.5, f"{value:{format}}", ha="center", va="center", fontsize=SMALL, color=ink)
    axes.invert_yaxis()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return cells


def histograms(
    values: Mapping[str, pd.Series], conditions: str, xlabel: str = "", ylabel: str = "", bins: int = 24
) -> Figure:
    """Draw one histogram per series, side by side, with its size and its mean as a dashed line."""
    figure, grid = facets(len(values), 1.7, 3)
    for axes, (name, series) in zip(grid, values.items(), strict=True):
        mean = series.mean()
        axes.hist(series, bins=bins, color=HERE)
        axes.axvline(mean, color=ACCENT, linestyle="--", linewidth=1.4)
        decimals = 1 if mean >= 10 else 3
        axes.set_title(f"{name}\nn = {len(series):,}\nmean {mean:,.{decimals}f} (dashed)", fontsize=SMALL)
        axes.set_xlabel(xlabel)
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    grid[0].set_ylabel(ylabel)
    figure.set_label(f"Histograms of {xlabel or 'values'}: {', '.join(values)}")
    note(figure, conditions)
    return figure


def shares(table: pd.DataFrame, conditions: str, xlabel: str = "share (%)") -> Figure:
    """Draw one stacked bar per row; columns are scores in rising order, darker for higher; each row sums to 1.

    Shares from 8% on are written into their bars.
    """
    place, names = np.arange(len(table)), wrapped(table.index)
    figure, axes = canvas(height=1.0 + len(table) * line_height(names))
    left, ramp = np.zeros(len(table)), matplotlib.colormaps["Blues"](np.linspace(0.15, 0.85, table.shape[1]))
    for name, color in zip(table.columns, ramp, strict=True):
        share = 100 * table[name].to_numpy(dtype=float)
        bars = axes.barh(place, share, left=left, color=color, edgecolor=FAINT, linewidth=0.6, label=str(name))
        written = [f"{value:.0f}" if value >= 8 else "" for value in share]
        axes.bar_label(bars, written, label_type="center", fontsize=SMALL, color=text_on(color))
        left += share
    axes.set_yticks(place, names)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel(xlabel)
    axes.legend(**ABOVE_AXES | {"ncols": len(table.columns)})
    scores = ", ".join(map(str, table.columns))
    figure.set_label(f"Shares of {scores}, one stacked bar each for {', '.join(map(str, table.index))}")
    note(figure, conditions)
    return figure


def heatmap(table: pd.DataFrame, conditions: str, format: str = ".0f", title: str = "") -> Figure:
    """Draw a table as colored cells with their values. White is 0, blue above and red below it, empty no value."""
    figure, axes = canvas(height=1.6 + 0.34 * len(table))
    draw_cells(axes, table.to_numpy(dtype=float), format)
    axes.set_xticks(np.arange(table.shape[1]) + 0.5, table.columns, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(np.arange(table.shape[0]) + 0.5, table.index)
    axes.set_title(title)
    figure.set_label(f"{title or 'Values'}: {', '.join(map(str, table.index))} by {', '.join(map(str, table.columns))}")
    note(figure, conditions)
    return figure


def combinations(flags: pd.DataFrame, conditions: str, ylabel: str = "count", most: int = 14) -> Figure:
    """Draw which columns of a boolean table are true together (an UpSet plot).

    Each row of the table counts once, in the combination of all that is true in it: a bar, with its members as dots
    below. Rows where nothing is true are left out; combinations beyond the `most` frequent share the last bar.
    """
    found = flags[flags.any(axis=1)].value_counts()
    shown, rest = found.head(most), found.iloc[most:]
    names = wrapped(flags.columns, 2.4)
    lines = sum(name.count("\n") + 1 for name in names)
    figure, (bars, dots) = canvas(height=2.2 + 0.26 * lines, rows=2, sharex=True, height_ratios=[1, 1.4])
    label_bars(bars, bars.bar(range(len(shown)), shown.to_numpy(), color=HERE))
    if len(rest):
        label_bars(bars, bars.bar([len(shown)], [rest.sum()], color=GRAY))
    bars.set_title(f"{found.sum():,} of {len(flags):,} {ylabel} have at least one")
    bars.set_ylabel(ylabel)
    bars.margins(y=0.15)
    for place, members in enumerate(shown.index):
        true = [y for y, member in enumerate(members) if member]
        dots.plot([place] * len(true), true, "o-", color=HERE, markersize=5, linewidth=1.5)
    dots.set_yticks(range(flags.shape[1]), names)
    dots.set_ylim(flags.shape[1] - 0.5, -0.5)
    dots.grid(axis="y")
    figure.set_label(f"How many {ylabel} have each combination of {', '.join(map(str, flags.columns))}")
    others = f"{len(rest)} other" if len(rest) == 1 else f"{len(rest)} others"
    dots.set_xticks([len(shown)] if len(rest) else [], [others] if len(rest) else [])
    note(figure, conditions)
    return figure


def statuses(table: pd.DataFrame, order: Sequence[str], conditions: str) -> Figure:
    """Draw one square per row of a table, on one line for each value of its column `table`.

    A square has the color and the letter of its `status`: color is not the only sign. Letters (A, B, …) follow
    `order`, without statuses that do not occur, and are named in the legend. Lines break at 26 squares.
    """
    across, y, names = 26, 0, {}
    figure, axes = canvas(height=1)
    counts = table["status"].value_counts()
    letters = dict(zip((status for status in order if status in counts), LETTERS, strict=False))
    colors = dict(zip(order, STATUS_COLORS, strict=False))
    for name, found in table.groupby("table", sort=False):
        names[y] = name
        for place, status in enumerate(found["status"]):
            x, below = place % across, y + place // across
            axes.add_patch(Rectangle((x, below), 0.9, 0.9, color=colors[status], alpha=0.35, linewidth=0))
            axes.text(x + 0.45, below + 0.47, letters[status], ha="center", va="center", fontsize=SMALL)
        y += (len(found) - 1) // across + 1
    keys = []
    for status, letter in letters.items():
        keys.append(Patch(color=colors[status], alpha=0.35, label=f"{letter} {status}: {counts[status]}"))
    figure.legend(handles=keys, ncols=2, **ABOVE_FIGURE)
    figure.set_figheight(0.9 + 0.2 * -(-len(keys) // 2) + 0.165 * y)
    axes.set(xlim=(0, across), ylim=(y, -0.1), xticks=[], aspect="equal")
    axes.set_yticks([place + 0.45 for place in names], names.values())
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    said = ", ".join(f"{counts[status]} {status}" for status in letters)
    figure.set_label(f"One square for each of {len(table)} numbers: {said}")
    note(figure, conditions)
    return figure
