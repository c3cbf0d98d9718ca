"""A reply is whole when the server ended it in a normal way and its last sentence ends."""

import pytest

from cbtllm_utils import files
from cbtllm_utils.text import endings

RECORDED = [
    "".join(text for _, text in row["sections"]) for row in files.read_jsonl("data/sample/recorded_replies.jsonl")
]
FORUM = [
    answer["answer_text"] for post in files.read_json("data/sample/psyqa_sample.json") for answer in post["answers"]
]


@pytest.mark.parametrize(
    "reason",
    [*"stop STOP FinishReason.STOP end_turn stop_sequence eos eos_token COMPLETE endoftext null".split(), "", None],
)
def test_a_normal_end_and_an_unstated_one_leave_the_word_to_the_text(reason):
    assert endings.cut_off("慢慢来。", reason) is None
    assert endings.cut_off("慢慢来，我们", reason) == "in mid-sentence"


@pytest.mark.parametrize(
    "reason",
    "length max_tokens MAX_TOKENS model_length SAFETY RECITATION content_filter abort error ERROR_TOXIC sensitive "
    "network_error insufficient_system_resource tool_calls function_call pause_turn model_context_window_exceeded "
    "guardrail_intervened banana".split(),
)
def test_any_other_reason_is_cut_off_by_its_name(reason):
    """OpenAI, Gemini, Cohere, Mistral, vLLM, Zhipu, DeepSeek, Anthropic, Bedrock; and one that nobody knows yet."""
    assert endings.cut_off("慢慢来。", reason) == reason


def test_no_reply_of_the_sample_is_cut_off_nor_is_any_answer_of_its_forum():
    assert [text[-20:] for text in RECORDED + FORUM if not endings.ends(text)] == []
    assert len(RECORDED) == len(FORUM) == 360


def test_what_is_cut_at_any_share_is_cut_off_unless_a_sentence_ended_there():
    """Where a quoted sentence ends with its stop, 吧 or a number of a hotline ends the text, nobody can tell."""
    cut = [text[: int(len(text) * share)].rstrip() for text in RECORDED for share in (0.5, 0.65, 0.8, 0.95)]
    whole = [text for text in cut if endings.ends(text)]
    at_a_stop = [text for text in whole if text.rstrip("”’")[-1] in "。！？…"]
    assert len(whole) - len(at_a_stop) <= 0.005 * len(cut) and len(whole) < 0.06 * len(cut)


@pytest.mark.parametrize(
    "end",
    [
        *("加油！❤️", "你很棒！👍🏻", "慢慢来～", "慢慢来:)", "慢慢来(*^▽^*)", "你并不孤单……", "**你值得被爱。**"),
        *("他说：“我可以。”", "（我一直在。）", "You are not alone.", "慢慢来吧", "你可以的，加油", "^_^"),
        *(
            "如果需要，请拨打心理援助热线 12356",
            "请拨打 12320-5",
            "热线：010-82951332",
            "\n\n祝你好运",
            "请打 400-161-9995",
            "危险时请拨打120",
        ),
        *("\n\n祝好", "\n\n祝你早日康复", "\n\n祝好！\n你的咨询师", "\n\n——一位关心你的朋友", "\n\n你的朋友 小林"),
        *("\n此致\n敬礼", "\n祝好。\n2024年5月3日", "\n你可以试试：\n- 写日记\n- 散步\n- 深呼吸"),
        "\n【温馨提示：本回复不能代替诊疗】",
    ],
)
def test_replies_end_in_many_ways(end):
    assert endings.ends("听起来你很难过，这不容易。" + end)


@pytest.mark.parametrize(
    "end",
    [
        *("我能", "首先，", "你可以试试以下几步：", "他说：“我可以", "你可以对自己说：“我已经很努力了。", "慢慢来——"),
        *("请拨打热线 400", "请拨打热线 400-161", "请拨打心理援助热线 123", "电话：010"),
        *("最近你提到“非黑即白”", "比如（写日记", "\n\n最后，我想", "\n\n祝你早日走出", "\n\n**", "你已经坚持了12"),
        *(
            "\n1. 写日记。\n2. 散步",
            "\n1. 写日记\n2. 在",
            "1",
            "你是一个很好的",
            "这件事让你",
            "推荐你读《被讨厌的勇气》",
        ),
    ],
)
def test_a_sentence_that_does_not_end_is_cut_off(end):
    assert not endings.ends("听起来你很难过，这不容易。" + end)
