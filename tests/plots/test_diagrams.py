"""The pictures made of text show all of their text: none missing, none clipped, none over another."""

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cbtllm_utils import files
from cbtllm_utils.data import prompts
from cbtllm_utils.plots import diagrams
from cbtllm_utils.plots.figures import COMPONENT_COLORS

CONDITIONS = "demo scale: invented posts, tiny models, recorded replies; no evidence about people or therapies. " * 3
CASE = files.read_json("data/published/figure4_case.json")
CHINESE = [(section, chinese) for section, chinese, _ in CASE["sections"]]
ENGLISH = [(section, english) for section, _, english in CASE["sections"]]
NASTY = "哈哈😀👩‍👩‍👧 $a_1$ & <b> " + "https://example.org/" + "x" * 200 + "\r\n\t（笑）" * 30
COUNTS = {"Forum questions": 22_327, "CBT prompt": "cbt_prompt.zh", "LoRA fine-tuning": ", ".join(["a-long-name"] * 9)}


def case():
    replies = [diagrams.Reply("published", CHINESE), diagrams.Reply("translated", ENGLISH)]
    replies += [diagrams.Reply("tuned", CHINESE * 2, "5 of 5"), diagrams.Reply("😀", [("", NASTY)])]
    query = diagrams.Reply("query", [("", CASE["query_zh"])])
    return diagrams.case(query, [*replies, diagrams.Reply("", [])], CONDITIONS)


FIGURES = {
    "case": case,
    "prompt": lambda: diagrams.prompt(prompts.read("params/prompts/cbt_prompt.zh.md"), CONDITIONS),
    "data_quality": lambda: diagrams.data_quality(CASE["question"], CASE["description"], NASTY, CHINESE, CONDITIONS),
    "overview": lambda: diagrams.overview(COUNTS, CONDITIONS),
}


@pytest.fixture(params=FIGURES)
def drawn(request):
    """A figure and its renderer after drawing; a missing glyph is a warning and so an error."""
    figure = FIGURES[request.param]()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return figure, canvas.get_renderer()


def boxes(figure, renderer):
    texts = [text for text in figure.axes[0].texts if text.get_text().strip()]
    return [text.get_window_extent(renderer) for text in texts]


def test_no_text_leaves_the_figure_or_its_box(drawn):
    figure, renderer = drawn
    grounds = [patch.get_window_extent(renderer) for patch in figure.axes[0].patches]
    found = boxes(figure, renderer)
    assert len(found) > 6
    for text in found:
        assert figure.bbox.x0 <= text.x0 and text.x1 <= figure.bbox.x1 and figure.bbox.y0 <= text.y0
        assert any(g.x0 <= text.x0 and text.x1 <= g.x1 and g.y0 <= text.y0 and text.y1 <= g.y1 for g in grounds)


def test_no_text_covers_another(drawn):
    found = boxes(*drawn)
    for number, one in enumerate(found):
        for other in found[number + 1 :]:
            assert min(one.x1, other.x1) <= max(one.x0, other.x0) or min(one.y1, other.y1) - max(one.y0, other.y0) < 2


def test_every_character_of_the_case_is_drawn_with_the_name_of_its_component():
    figure = case()
    shown = "".join(text.get_text() for text in figure.axes[0].texts)
    for section, text in CHINESE:
        assert text.strip() in shown, section
    assert all(shown.count(f"{i} {name}") >= 4 for i, (name, _) in enumerate(prompts.COMPONENTS.values(), 1))


def test_colors_follow_the_components_in_the_papers_order():
    assert list(COMPONENT_COLORS) == list(prompts.COMPONENTS) == [section for section, *_ in CASE["sections"]]


@pytest.mark.parametrize("section", COMPONENT_COLORS)
def test_labels_can_be_read_on_their_background(section):
    def luminance(color):  # WCAG 2.1, relative luminance
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        parts = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    dark, light = (luminance(color) for color in COMPONENT_COLORS[section])
    assert (light + 0.05) / (dark + 0.05) >= 4.5  # WCAG 2.1 AA


def test_neighbors_of_one_component_are_one_segment():
    assert diagrams.merge([("a", "x"), ("a", "y"), ("b", "z"), ("a", " \n")]) == [("a", "xy"), ("b", "z")]
    assert diagrams.merge([("a", "x"), ("b", " \n"), ("a", "y")]) == [("a", "xy")]


def test_the_overview_names_every_box():
    shown = {text.get_text() for text in diagrams.overview({"CBT QA": 358}, "").axes[0].texts}
    assert shown >= {"CBT QA", "358", "CBT-LLM", "Forum questions", "CBT prompt"}


def test_a_number_without_a_box_is_an_error():
    with pytest.raises(ValueError, match="no such box: PsyQA questions; the boxes are Forum questions"):
        diagrams.overview({"PsyQA questions": 360}, "")


@pytest.mark.parametrize(
    "name", [n for n, f in vars(diagrams).items() if getattr(f, "__annotations__", {}).get("return") is Figure]
)
def test_every_diagram_is_drawn_above(name):
    assert name in {"draw", *FIGURES}


def test_bytes_that_are_not_a_character_are_drawn_and_explained():
    figure = diagrams.case(diagrams.Reply("query", [("", "a")]), [diagrams.Reply("r", [("", "说\ufffd。")])], "here")
    shown = {text.get_text() for text in figure.axes[0].texts}
    assert {"说⟨?⟩。", "here. ⟨?⟩: bytes of a reply that are not a character"} <= shown


def test_the_split_is_a_fork():
    """Both sets come from the data, and only the training set leads to the model."""
    ways = {(one, other) for one, _, other, _ in diagrams.FLOW}
    assert {("CBT QA", "Training set"), ("CBT QA", "Test set")} <= ways
    assert [one for one, other in ways if other == "LoRA fine-tuning"] == ["Training set"]
    assert {one for one, other in ways if other == "Evaluation"} == {"Test set", "CBT-LLM"}
