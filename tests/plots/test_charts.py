"""Charts show the numbers they are given, with n and conditions, and nothing is drawn outside or over another."""

import pandas as pd
import pytest
from matplotlib import colors as mcolors
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cbtllm_utils.plots import charts

NOTE = "demo scale: invented posts, tiny models; no evidence about people"
PAIRS = pd.DataFrame({"row": ["全或无", "x"], "paper": [1.0, 2.0], "here": [2.0, 30.0]})
POINTS = pd.DataFrame(
    {"row": ["a", "b"], "value": [0.5, 0.7], "low": [0.4, 0.6], "high": [0.6, 0.8], "scale": ["s", "t"]}
)
CELLS = pd.DataFrame([[1.0, 20.0], [float("nan"), 4.0]], index=["a", "b"], columns=["甲", "乙"])
MANY = pd.DataFrame({"table": ["Table 1"] * 40 + ["text"] * 3, "status": ["fits", "differs"] * 20 + ["fits"] * 3})
FLAGS = pd.DataFrame([[1, 1], [1, 1], [1, 1], [0, 1], [0, 1], [1, 0], [0, 0]], columns=["甲", "乙"], dtype=bool)
LOSSES = {
    name: {"training": pd.Series([8.0, 5.0], index=[10, 20]), "held out": pd.Series([8.2, 5.5], index=[0, 20])}
    for name in ("baichuan-7b", "底座")
}
SCORES = pd.DataFrame(
    {
        "row": ["Baichuan-7B"] * 3 + ["a training reply"],
        "kind": ["untuned", "prompted", "tuned", "baseline"],
        "value": [0.1, 0.2, 0.4, 0.3],
        "low": [0.0, 0.1, 0.3, 0.2],
        "high": [0.2, 0.3, 0.5, 0.4],
        "n": 36,
    }
)
DIFFERENCES = pd.DataFrame(
    {
        "group": ["tuned - untuned", "tuned - untuned", "tuned - prompted"],
        "row": ["Baichuan-7B", "Qwen-7B", "Baichuan-7B"],
        "metric": "BLEU",
        "value": [0.2, 0.1, -0.1],
        "low": [0.1, -0.1, -0.2],
        "high": [0.3, 0.3, 0.0],
        "decided": [True, False, True],
        "n": 36,
    }
)
PAIRED = pd.DataFrame([[9, 2, 3], [2, 8, 4], [3, 4, 7]], index=["甲", "b", "c"], columns=["甲", "b", "c"])
CHARTS = {
    "beside": (lambda: charts.beside(PAIRS, NOTE), {"全或无", "30", "paper", "here"}),
    "intervals": (
        lambda: charts.intervals(POINTS.assign(n=[36, 324]), NOTE),
        {"a (n = 36)", "b (n = 324)", "here, 95% CI"},
    ),
    "panels": (lambda: charts.panels(POINTS, "scale", NOTE), {"a", "b", "s", "t", "here, 95% CI"}),
    "training": (
        lambda: charts.training(LOSSES, NOTE, {"底座": [10, 20]}),
        {
            *("baichuan-7b", "底座", "training examples", "held-out examples", "end of an epoch", "step"),
            "loss (nats per character)",
        },
    ),
    "histograms": (
        lambda: charts.histograms({"length": pd.Series([1, 2, 3])}, NOTE, "characters", "posts"),
        {"length\nn = 3\nmean 2.000 (dashed)", "characters", "posts"},
    ),
    "ranges": (
        lambda: charts.ranges(
            PAIRS.rename(columns={"paper": "low", "here": "high"}).assign(n=[1, 1500]), NOTE, "share"
        ),
        {"全或无 (n = 1)", "x (n = 1,500)", "1.00", "2.00", "30", "share"},
    ),
    "dumbbells": (
        lambda: charts.dumbbells(
            pd.concat([SCORES.assign(metric="BLEU"), SCORES.assign(metric="all five components, in order, %")]), NOTE
        ),
        {
            "Baichuan-7B (n = 36)",
            "BLEU",
            "all five\ncomponents, in\norder, %",
            "untuned",
            "prompted",
            "tuned",
            "baseline",
            "with 95% CI",
        },
    ),
    "forest": (
        lambda: charts.forest(DIFFERENCES, NOTE, "difference"),
        {"tuned - prompted (n = 36)", "Qwen-7B", "BLEU", "difference", "decided after Holm", "not decided"},
    ),
    "triangle": (lambda: charts.triangle(PAIRED, NOTE, label="replies"), {"甲", "b", "4", "9", "replies"}),
    "heatmap": (lambda: charts.heatmap(CELLS, NOTE), {"甲", "20", "b"}),
    "combinations": (
        lambda: charts.combinations(FLAGS, NOTE, "replies", most=2),
        {"6 of 7 replies have at least one", "replies", "甲", "乙", "1 other", "3", "2"},
    ),
    "shares": (lambda: charts.shares(CELLS.fillna(0) / 25, NOTE), {"甲", "a"}),
    "statuses": (lambda: charts.statuses(MANY, ["fits", "differs"], NOTE), {"Table 1", "A fits: 23", "B differs: 20"}),
}


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_shows_its_words_and_conditions_inside_the_picture(name):
    make, words = CHARTS[name]
    figure = make()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # a missing glyph or a layout that does not fit is a warning, and so an error
    texts = [t for t in figure.findobj(lambda a: hasattr(a, "get_text")) if t.get_visible() and t.get_text().strip()]
    assert words | {NOTE} <= {text.get_text() for text in texts}
    frame = figure.bbox
    for text in texts:
        if text.get_text() in words | {NOTE}:
            box = text.get_window_extent(canvas.get_renderer())
            assert frame.x0 - 1 <= box.x0 and box.x1 <= frame.x1 + 1
            assert frame.y0 - 1 <= box.y0 and box.y1 <= frame.y1 + 1


@pytest.mark.parametrize(
    "name", [n for n, f in vars(charts).items() if getattr(f, "__annotations__", {}).get("return") is Figure]
)
def test_every_chart_is_drawn_above(name):
    assert name in CHARTS


def test_an_interval_is_drawn_from_its_low_to_its_high_end():
    (bars,) = charts.intervals(POINTS.assign(n=9), NOTE).axes[0].containers
    segments = bars.lines[2][0].get_segments()
    assert [segment[:, 0].round(6).tolist() for segment in segments] == [[0.4, 0.6], [0.6, 0.8]]


def test_tuned_and_untuned_have_marks_of_their_own():
    table = POINTS.assign(scale="s", mark=["untuned", "tuned"])
    figure = charts.panels(table, "scale", NOTE)
    faces = [mcolors.to_hex(bars.lines[0].get_markerfacecolor()) for bars in figure.axes[0].containers]
    assert faces == [charts.HERE.lower(), charts.GROUND]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["tuned, 95% CI", "untuned, 95% CI"]


def test_every_point_of_every_panel_is_drawn():
    table = POINTS.assign(kind="language model")  # a column of the ratings that has no say in how they are drawn
    figure = charts.panels(table, "scale", NOTE)
    points = [bars.lines[0].get_xdata() for axes in figure.axes for bars in axes.containers]
    assert [x[~pd.isna(x)].tolist() for x in points] == [[0.5], [0.7]]


def test_an_unknown_mark_is_an_error():
    with pytest.raises(ValueError, match="'other' is not in list"):
        charts.panels(POINTS.assign(mark="other"), "scale", NOTE)


def test_scores_in_order_become_darker():
    bars = charts.shares(pd.DataFrame([[0.2, 0.3, 0.5]], columns=["0", "1", "2"]), NOTE).axes[0].patches
    brightness = [sum(bar.get_facecolor()[:3]) for bar in bars]
    assert brightness == sorted(brightness, reverse=True)
    assert [round(bar.get_width()) for bar in bars] == [20, 30, 50]


def test_every_row_has_one_square_with_the_letter_of_its_status():
    figure = charts.statuses(MANY, ["fits", "differs"], NOTE)
    letters = [text.get_text() for text in figure.axes[0].texts]
    assert letters == ["A", "B"] * 20 + ["A"] * 3
    assert len({tuple(text.get_position()) for text in figure.axes[0].texts}) == 43


def test_a_glyph_that_no_font_has_is_not_passed_over():
    with pytest.raises(UserWarning, match=r"MELTING FACE.*missing"):
        FigureCanvasAgg(charts.beside(PAIRS, NOTE, xlabel="🫠")).draw()


def test_a_status_that_does_not_occur_is_not_in_the_legend():
    figure = charts.statuses(MANY, ["reproduced", "fits", "differs"], NOTE)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["A fits: 23", "B differs: 20"]


def test_a_bar_has_its_interval_and_its_n():
    ours = PAIRS.assign(low=[1.5, 28], high=[2.5, 33])
    figure = charts.beside(ours, NOTE, sizes={"paper": 14_000, "here": 360})
    (axes,) = figure.axes
    (drawn,) = (found for found in axes.containers if found.get_label() == "95% CI")
    assert [line[:, 0].tolist() for line in drawn.lines[2][0].get_segments()] == [[1.5, 2.5], [28, 33]]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["paper (n = 14,000)", "here (n = 360)", "95% CI"]


@pytest.mark.parametrize("table", [PAIRED, PAIRED - 5, pd.DataFrame([range(1, 30)])], ids=["counts", "signed", "ramp"])
def test_numbers_in_cells_can_be_read(table):
    axes = charts.heatmap(table, NOTE).axes[0]
    (cells,) = axes.collections
    cells.update_scalarmappable()
    for text, color in zip(axes.texts, cells.get_facecolor(), strict=True):
        one, other = sorted([luminance(mcolors.to_hex(color)), luminance(text.get_color())])
        assert (other + 0.05) / (one + 0.05) >= 4.5, text  # WCAG 2.1 AA


def luminance(color):
    """Return the relative luminance of #rrggbb as WCAG 2.1 defines it."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    parts = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def test_a_pair_is_drawn_once():
    axes = charts.triangle(PAIRED, NOTE).axes[0]
    places = {(text.get_position(), text.get_text()) for text in axes.texts}
    assert {(x, y): n for (x, y), n in places} == {
        **{(0.5, 0.5): "9", (1.5, 1.5): "8", (2.5, 2.5): "7"},
        **{(0.5, 1.5): "2", (0.5, 2.5): "3", (1.5, 2.5): "4"},
    }


def test_a_dumbbell_goes_from_untuned_to_tuned_in_each_panel():
    figure = charts.dumbbells(
        pd.concat([SCORES.assign(metric="BLEU"), SCORES.assign(metric="all five components, in order, %")]), NOTE
    )
    for axes in figure.axes[:2]:
        (connected,) = (line for line in axes.lines if len(line.get_xdata()) == 3)
        assert list(connected.get_xdata()) == [0.1, 0.2, 0.4]


def test_a_forest_tells_decided_differences_from_others():
    (axes,) = charts.forest(DIFFERENCES, NOTE).axes
    drawn = {found.get_label(): found.lines[0].get_xdata().tolist() for found in axes.containers}
    assert drawn == {"decided after Holm": [0.2, -0.1], "not decided": [0.1]}
    names = [label.get_text() for label in axes.get_yticklabels()]
    places = {x: names[int(y)] for found in axes.containers for x, y in found.lines[0].get_xydata()}
    assert places == {0.2: "Baichuan-7B", 0.1: "Qwen-7B", -0.1: "Baichuan-7B"}
    headings = {text.get_text(): names[int(text.xy[1])] for text in axes.texts}
    assert headings == {"tuned - untuned (n = 36)": "", "tuned - prompted (n = 36)": ""}, "on lines of their own"
    assert [text.xy[1] for text in axes.texts] == [0, 3]


def test_the_end_of_each_epoch_is_marked_in_its_own_panel():
    one, other = charts.training(LOSSES, NOTE, {"底座": [10, 20]}).axes
    marked = [[line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--"] for axes in (one, other)]
    assert marked == [[], [10, 20]] and one.get_ylim() == other.get_ylim()


@pytest.mark.parametrize(
    "draw", [lambda none: charts.panels(none, "scale", NOTE), lambda none: charts.shares(none, NOTE)]
)
def test_a_table_without_rows_is_an_empty_chart(draw):
    assert not draw(POINTS[:0]).axes[0].patches


@pytest.mark.parametrize(
    "draw", [lambda: charts.dumbbells(SCORES[:0].assign(metric=""), NOTE), lambda: charts.forest(DIFFERENCES[:0], NOTE)]
)
def test_without_differences_there_is_nothing_to_draw(draw):
    (axes,) = draw().axes
    assert not axes.containers
