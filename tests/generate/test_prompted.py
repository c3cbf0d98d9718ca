"""The prompted system: what is cut where the CBT prompt leaves little room, and what never is."""

import pytest
import transformers
from chat_models import tokenizer
from tiny import Bytes

from cbtllm_utils import files
from cbtllm_utils.data import prompts
from cbtllm_utils.generate import prompted
from cbtllm_utils.models import chat_templates, prompt_forms

CBT = prompts.read("params/prompts/cbt_prompt.zh.md")
ROWS = [
    {"questionID": i, "question": "怎么办", "description": "一二三四五六七八九十"[:length]}
    for i, length in ((7, 2), (3, 10))
]


def tokens(row, template, own):
    return len(chat_templates.ids(own, prompt_forms.prompt(row, template, own, CBT)))


@pytest.mark.parametrize("template", ["card", "triad-v0.2.0", "triad-v0.2.1", "chat"])
def test_the_description_loses_its_end_and_nothing_else(template):
    """A token a byte, three a character: of 10 characters 6 fit when 12 or 14 tokens are missing."""
    own = tokenizer("qwen3")
    whole = tokens(ROWS[1], template, own)
    for room, kept in ((whole, 10), (whole - 12, 6), (whole - 14, 5), (whole - 24, 2)):
        found, cut = prompted.fitted(ROWS, template, own, CBT, room)
        assert found[0] == ROWS[0] and found[1] == ROWS[1] | {"description": "一二三四五六七八九十"[:kept]}
        assert cut == ({3: 10 - kept} if kept < 10 else {})
        assert tokens(found[1], template, own) <= room < tokens(found[1], template, own) + 3 or kept == 10
        asked = prompt_forms.prompt(found[1], template, own, CBT)
        assert (
            CBT.text in asked and "〈问题〉怎么办〈/问题〉" in asked and f"{found[1]['description']}〈/描述〉" in asked
        )


def test_a_prompt_without_room_for_the_question_is_said_before_anything_is_answered():
    empty = tokens(ROWS[0] | {"description": ""}, "card", Bytes())
    found, cut = prompted.fitted(ROWS, "card", Bytes(), CBT, empty)
    assert [row["description"] for row in found] == ["", ""] and cut == {7: 2, 3: 10}
    with pytest.raises(
        files.InputError, match=rf"question 7 take more than {empty - 1} tokens, .* lower max_new_tokens"
    ):
        prompted.fitted(ROWS, "card", Bytes(), CBT, empty - 1)


def test_what_was_cut_is_said_and_recorded():
    assert prompted.in_words({3: 10, 5: 20}, 36) == (
        "prompted: 2 of 36 posts lost the end of their description to fit the context, 15 characters on average, at "
        "most 20"
    )
    assert prompted.in_words({}, 36) == "prompted: none of 36 posts was cut"
    made = prompted.record(CBT, 2048, {3: 10})
    assert made == {"prompt": CBT.hash, "context": 2048, "characters_cut": {"3": 10}}


def test_the_context_of_a_model_with_a_tower_for_images_is_that_of_its_text():
    config = transformers.Qwen3_5Config(text_config={"max_position_embeddings": 321})
    assert prompted.context(type("Model", (), {"config": config})) == 321
