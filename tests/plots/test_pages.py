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
    assert "bleu, best: a, post 4, flagged for risk, 0.2500" in html and "bleu 0.2500, chrf 0.5000" in html
    assert html.count("The reply is empty.") == 1 and all(notice in html for notice in notices.NOTICES.values())
    assert "Validation" not in html, "no text is marked, so there is no legend"
