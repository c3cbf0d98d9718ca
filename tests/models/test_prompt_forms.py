"""A post in the forms of prompt that the model card and LLaMA-Factory's versions word, and in the full CBT prompt."""

import pytest
from training_run import ROW

from cbtllm_utils import files
from cbtllm_utils.data import prompts
from cbtllm_utils.demo import backbones as demo_backbones
from cbtllm_utils.demo import formats
from cbtllm_utils.models import chat_templates, prompt_forms, tokenizers

INSTRUCTION = "你是一名经验丰富的心理咨询师,专长于认知行为疗法, 以心理咨询师的身份回答以下问题。"
# llmtuner 0.2.0, extras/template.py: prefix ["{{system}}"], sep ["\n"], prompt ["Human: {{query}}\nAssistant: "]
LLMTUNER = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    f"and polite answers to the user's questions.\nHuman: {INSTRUCTION}\n怎么办?我睡不着\nAssistant:"
)
VERSIONS = ("v0.2.0", "v0.2.1")
CBT = prompts.read("params/prompts/cbt_prompt.zh.md")


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("card", f"{INSTRUCTION}\nHuman: 怎么办?我睡不着\nAssistant: "),
        ("triad-v0.2.0", f"{LLMTUNER} "),
        ("triad-v0.2.1", LLMTUNER),
    ],
)
def test_the_forms_of_2023(template, text):
    assert prompt_forms.prompt(ROW, template) == text
    assert prompt_forms.wording(template) == text.replace("怎么办?我睡不着", "{input}")


@pytest.fixture(scope="module")
def demo_tokenizers(tmp_path_factory):
    """Tokenizers as notebook 00 makes them, from the sample's posts."""
    place = tmp_path_factory.mktemp("tokenizers")
    texts = demo_backbones.corpus("data/sample/psyqa_sample.json", heldout=20, seed=0).texts()
    for family, prefix_space in (("llama", True), ("baichuan", False)):
        model = formats.pieces(texts, 1800, demo_backbones.COVERAGE, prefix_space=prefix_space)
        formats.write_pieces(place / family, model, begin=prefix_space)
    (place / "qwen").mkdir()
    (place / "qwen/qwen.tiktoken").write_bytes(formats.ranks(texts, 3200, demo_backbones.COVERAGE))
    return {family: tokenizers.load_tokenizer(place / family) for family in ("llama", "baichuan", "qwen")}


@pytest.mark.parametrize("family", ["llama", "baichuan", "qwen"])
def test_the_space_at_the_end_is_the_token_that_the_reply_follows(demo_tokenizers, family):
    """What follows a space and what follows a colon are learned apart: a model asked otherwise meets a new context."""
    own = demo_tokenizers[family]
    with_space, without = (chat_templates.ids(own, prompt_forms.prompt(ROW, f"triad-{v}", own)) for v in VERSIONS)
    assert with_space[-1] != without[-1]
    assert own.decode([with_space[-1]]).strip() == "" and own.decode([without[-1]]).strip() != ""
    assert with_space[: len(without) - 1] == without[:-1], "nothing else differs"


@pytest.mark.parametrize("template", ["card", "triad-v0.2.0", "triad-v0.2.1"])
def test_the_prompted_system_is_asked_in_the_same_form(template):
    """The CBT prompt is in the place of the instruction, and the post between the brackets that its last rule names."""
    plain, full = prompt_forms.prompt(ROW, template), prompt_forms.prompt(ROW, template, cbt=CBT)
    assert full == plain.replace(INSTRUCTION, CBT.text).replace(
        "怎么办?我睡不着", "〈问题〉怎么办〈/问题〉\n〈描述〉我睡不着〈/描述〉"
    )
    assert prompt_forms.messages(ROW, CBT) == prompts.messages(CBT, "怎么办", "我睡不着")


def test_what_each_form_rests_on_is_one_row(demo_tokenizers):
    rows = prompt_forms.table(demo_tokenizers["qwen"], "card")
    assert [row["form"] for row in rows] == ["card (used here)", "triad-v0.2.0", "triad-v0.2.1"]
    assert all(row["worded by"] and row["read in"] and row["inferred"] for row in rows)
    assert "`" not in "".join(text for row in rows for text in row.values())  # a cell is not Markdown


def test_an_unknown_form_and_that_of_former_versions_are_named():
    with pytest.raises(files.InputError, match=r"template = 'triad': expected one of card, triad-v0\.2\.0, .*, chat"):
        prompt_forms.prompt(ROW, "triad")


def test_a_post_cannot_break_the_template():
    row = ROW | {"question": "{instruction} {0}", "description": "{}"}
    assert "Human: {instruction} {0}?{}\n" in prompt_forms.prompt(row, "card")


def test_a_triad_has_the_papers_three_fields():
    assert prompt_forms.triad(ROW) == {
        "instruction": prompt_forms.INSTRUCTION,
        "input": "怎么办?我睡不着",
        "output": "你好。",
    }
