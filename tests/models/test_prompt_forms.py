"""A post in the two forms of prompt for base models, as the model card and LLaMA-Factory have them."""

import pytest
from training_run import ROW

from cbtllm_utils.models import prompt_forms


@pytest.mark.parametrize(
    ("template", "text"),
    [
        (
            "card",
            "你是一名经验丰富的心理咨询师,专长于认知行为疗法, 以心理咨询师的身份回答以下问题。\n"
            "Human: 怎么办?我睡不着\nAssistant: ",
        ),
        (
            "triad",
            "Human: 你是一名经验丰富的心理咨询师,专长于认知行为疗法, 以心理咨询师的身份回答以下问题。\n"
            "怎么办?我睡不着\nAssistant: ",
        ),
    ],
)
def test_both_prompt_forms(template, text):
    assert prompt_forms.prompt(ROW, template) == text


def test_a_post_cannot_break_the_template():
    row = ROW | {"question": "{instruction} {0}", "description": "{}"}
    assert "Human: {instruction} {0}?{}\n" in prompt_forms.prompt(row, "card")


def test_a_triad_has_the_papers_three_fields():
    assert prompt_forms.triad(ROW) == {
        "instruction": prompt_forms.INSTRUCTION,
        "input": "怎么办?我睡不着",
        "output": "你好。",
    }
