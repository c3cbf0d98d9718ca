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
        {"length, n = 3\nmean 2.000 (dashed)", "characters", "posts"},
    ),
    "ranges": (
        lambda: charts.ranges(
            PAIRS.rename(columns={"paper": "low", "here": "high"}).assign(n=[1, 1500]), NOTE, "share"
        ),
        {"全或无 (n = 1)", "x (n = 1,500)", "1.00", "2.00", "30", "share"},
    ),
    "dumbbells": (
        lambda: charts.dumbbells(pd.concat([SCORES.assign(metric="BLEU"), SCORES.assign(metric="chrF")]), NOTE),
        {"Baichuan-7B (n = 36)", "BLEU", "chrF", "untuned", "prompted", "tuned", "baseline", "with 95% CI"},
    ),
    "forest": (
        lambda: charts.forest(DIFFERENCES, NOTE, "difference"),
        {"tuned - prompted", "Qwen-7B (n = 36)", "BLEU", "difference", "decided after Holm", "not decided"},
    ),
    "triangle": (lambda: charts.triangle(PAIRED, NOTE, label="replies"), {"甲", "b", "4", "9", "replies"}),
    "heatmap": (lambda: charts.heatmap(CELLS, NOTE), {"甲", "20", "b"}),
    "combinations": (
        lambda: charts.combinations(FLAGS, NOTE, "replies", most=2),
        {"6 of 7 replies", "replies", "甲", "乙", "1 other", "3", "2"},
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
    assert brightness == sorted(brightness, reverse=True) and [round(bar.get_width(), 3) for bar in bars] == [
        0.2,
        0.3,
        0.5,
    ]


def test_every_row_has_one_square_with_the_letter_of_its_status():
    figure = charts.statuses(MANY, ["fits", "differs"], NOTE)
    letters = [text.get_text() for text in figure.axes[0].texts]
    assert letters == ["A", "B"] * 20 + ["A"] * 3
    assert len({tuple(text.get_position()) for text in figure.axes[0].texts}) == 43


def test_a_glyph_that_no_font_has_is_not_passed_over():
    with pytest.raises(UserWarning, match=r"MELTING FACE.*missing"):
        FigureCanvasAgg(charts.beside(PAIRS.assign(row=["🫠", "x"]), NOTE)).draw()
