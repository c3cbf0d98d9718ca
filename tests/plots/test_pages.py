"""A page of cases has every text, as text, and loads nothing from elsewhere."""

import re
from html.parser import HTMLParser

import pandas as pd
import pytest

from cbtllm_utils import files, notices
from cbtllm_utils.data import prompts
from cbtllm_utils.plots import pages
from cbtllm_utils.plots.diagrams import Reply

CASE = files.read_json("data/published/figure4_case.json")
QUERY = Reply("The query", [("", CASE["query_zh"])])
PUBLISHED = Reply("Published", [(section, chinese) for section, chinese, _ in CASE["sections"]], "5 of 5")
HOSTILE = '</style><script>alert(1)</script><img src="https://example.org/x.png" onerror=x> & \u202eabc'


class Reader(HTMLParser):
    """The tags, attributes and text of a page, as a browser takes them."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def read():
    hostile = Reply(HOSTILE, [("validation", HOSTILE), (HOSTILE, HOSTILE)], HOSTILE)
    cases = [(QUERY, [PUBLISHED, hostile, Reply("silent", [])]), (hostile, [])]
    return Reader(pages.page(f"Case study {HOSTILE}", cases, f"demo {HOSTILE}"))


def test_every_text_is_there_and_labeled(read):
    for section, chinese, _ in CASE["sections"]:
        assert chinese.strip() in read.text
        assert prompts.COMPONENTS[section][0] in read.text
    assert CASE["query_zh"] in read.text and "The reply is empty." in read.text


@pytest.mark.parametrize("notice", notices.NOTICES.values(), ids=notices.NOTICES)
def test_the_notices_are_shown(read, notice):
    assert notice in read.text


def test_what_a_model_says_is_text_and_never_markup(read):
    assert read.text.count(HOSTILE) >= 5  # titles, segments, remark, conditions, as they were said
    assert not {"script", "img", "iframe", "object", "link", "form"} & set(read.tags)
    assert not any(name.startswith("on") for name, _ in read.attributes)


def test_the_page_loads_nothing(read):
    addresses = [value for name, value in read.attributes if name in ("src", "href", "action")]
    assert addresses and all(address.startswith("#") for address in addresses)
    assert "url(" not in pages.page("x", [], "") and "@import" not in pages.page("x", [], "")


def test_colors_come_with_a_label_and_a_bar():
    shown = pages.fragment([PUBLISHED])
    assert len(re.findall(r"border-left: 5px solid #", shown)) == 5 == len(re.findall(r"<small style=", shown))
    assert "<html" not in shown and "5 of 5" in shown


def luminance(color: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_labels_and_texts_are_legible_on_their_colors_in_light_and_dark():
    """WCAG AA asks for a contrast of 4.5."""
    shown = pages.fragment([PUBLISHED, Reply("unmarked", [("", "一"), ("question", "二")])])
    boxes = re.findall(r'<div class="segment".*?</div>', shown, re.S)
    assert len(boxes) == 7
    for box in boxes:
        pairs = dict.fromkeys(re.findall(r"(background|color): light-dark\((#\w+), (#\w+)\)", box))
        for side in (1, 2):
            [behind] = [pair[side] for pair in pairs if pair[0] == "background"]
            for ink in (pair[side] for pair in pairs if pair[0] == "color"):
                low, high = sorted(map(luminance, (behind, ink)))
                assert (high + 0.05) / (low + 0.05) >= 4.5, (behind, ink)


def test_replies_to_one_post_are_next_to_each_other_numbered_and_can_be_scrolled_with_keys(read):
    assert "(1 of 3)" in read.text and "(3 of 3)" in read.text and "Swipe to see 3 replies" in read.text
    assert ("tabindex", "0") in read.attributes and ("aria-label", "Replies to: The query") in read.attributes


@pytest.mark.parametrize(("text", "language"), [("你好", "zh"), ("Hello", "en"), ("CBT是一种疗法", "zh"), ("", "en")])
def test_the_language_of_a_text(text, language):
    assert pages.language(text) == language


def test_answers_are_shown_beside_post_and_reference_with_all_their_scores():
    test = [{"questionID": 4, "question": "<b>怎么办", "description": "睡不着", "reply": "参考<i>", "risk": True}]
    items = pd.DataFrame({"system": ["a", "b"], "questionID": 4, "bleu": [0.25, 0.0], "chrf": [0.5, 0.0]})
    chosen = pd.DataFrame([("bleu", "best", "a", 4, 0.25), ("bleu", "worst", "b", 4, 0.0)])
    chosen.columns = ["metric", "which", "system", "questionID", "score"]
    html = pages.page("Answers", pages.answers(chosen, items, {"a": ["<script>x"], "b": [" "]}, test), "demo")
    assert (
        "<script" not in html
        and "&lt;script&gt;x" in html
        and "参考&lt;i&gt;" in html
        and "&lt;b&gt;怎么办?睡不着" in html
    )
    assert (
        "bleu, best reply: A, tuned, 0.2500 (post 4, flagged for risk)" in html and "bleu 0.2500, chrf 0.5000" in html
    )
    assert html.count("The reply is empty.") == 1 and all(notice in html for notice in notices.NOTICES.values())
    assert "Validation" not in html, "no text is marked, so there is no legend"


def test_bytes_that_are_not_a_character_are_shown_and_explained_where_they_occur():
    shown = Reader(pages.fragment([Reply("r", [("", "说\ufffd。")])])).text
    assert "说⟨?⟩。" in shown and "⟨?⟩: bytes of a reply that are not a character" in shown
    assert "⟨?⟩" not in pages.fragment([PUBLISHED])
