"""Sections: measured on replies that the model has not seen, and on texts that are none."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cbtllm_utils import files, sections


@pytest.fixture(scope="module")
def measured():
    return sections.crossvalidate(folds=3)


@pytest.mark.parametrize(
    "what, least, most", [("characters", 0.97, 1), ("complete", 0.98, 1), ("shuffled", 0, 0.1), ("cut", 0, 0.02)]
)
def test_on_unseen_replies(measured, what, least, most):
    assert least <= measured[what] <= most


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.sampled_from("我你。！？“”…\n ，a🙂"), max_size=80))
def test_stretches_join_to_the_reply(text):
    assert "".join(part for _, part in sections.segment(text)) == text


@pytest.mark.parametrize("text", ["", "\n", "。", "？", "🙂" * 40, "“" * 3000, "很好。" * 300])
def test_odd_texts_are_not_complete(text):
    assert "".join(part for _, part in sections.segment(text)) == text
    assert not sections.structure(text).complete


def test_forum_answers_are_not_cbt_replies(sample_questions):
    answers = [record["answers"][0]["answer_text"] for record in sample_questions]
    assert sum(sections.structure(answer).complete for answer in answers) <= 0.02 * len(answers)


def test_the_paper_case_is_read_as_it_is_coloured():
    """Figure 4 colours the published reply by section; none of it was in the sample."""
    case = files.read_json("data/published/figure4_case.json")
    truth = [name for name, chinese, _ in case["sections"] for _ in chinese]
    found = [name for name, text in sections.segment(case["reply_zh"]) for _ in text]
    assert sum(a == b for a, b in zip(found, truth, strict=True)) / len(truth) >= 0.9
    assert sections.is_cbt(sections.structure(case["reply_zh"]))
