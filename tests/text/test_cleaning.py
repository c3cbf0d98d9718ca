"""What servers leave around replies (DeepSeek-R1#23, vllm#13375): removed where certain, else named."""

import pytest

from cbtllm_utils.text import cleaning

TEXT = "我能理解你的难过。\n\n慢慢来。"


@pytest.mark.parametrize(
    ("raw", "removed"),
    [
        (TEXT, ()),
        (f"\n{TEXT} \n", ()),
        (f"<think>\n用户很难过。\n</think>\n\n{TEXT}", ("thinking block",)),
        (f"<think>\n\n</think>\n\n{TEXT}", ("thinking block",)),  # Qwen3 with thinking off
        (f"<think>短</think>{TEXT}", ("thinking block",)),
        (f"<thinking>短</thinking>\n{TEXT}", ("thinking block",)),
        (f"◁think▷短◁/think▷{TEXT}", ("thinking block",)),  # Kimi
        (f"用户很难过，先共情。\n</think>\n\n{TEXT}", ("thinking block",)),  # the template opened it in the prompt
        (f"</think>\n\n{TEXT}", ("thinking block",)),
        (f"{TEXT}<|im_end|>", ("control token",)),
        (f"{TEXT}<|im_end|>\n<|endoftext|>", ("control token",)),
        (f"{TEXT}</s>", ("control token",)),
        (f"<s> {TEXT} </s>", ("control token",)),
        (f"{TEXT}<|eot_id|>", ("control token",)),
        (f"{TEXT}<end_of_turn>", ("control token",)),
        (f"{TEXT}<｜end▁of▁sentence｜>", ("control token",)),  # DeepSeek
        (f"[/INST] {TEXT}", ("control token",)),
        (f"assistant\n{TEXT}", ("role name",)),
        (f"Assistant: {TEXT}", ("role name",)),
        (f"<|im_start|>assistant\n{TEXT}<|im_end|>", ("control token", "role name")),
        (f"<|start_header_id|>assistant<|end_header_id|>\n\n{TEXT}", ("control token", "role name")),
        (f"<think>嗯</think>\n{TEXT}<|im_end|>", ("control token", "thinking block")),
    ],
)
def test_what_is_certain_is_removed_and_named(raw, removed):
    assert cleaning.clean(raw) == (TEXT, removed)
    assert cleaning.remains(TEXT) is None


@pytest.mark.parametrize(
    ("raw", "left"),
    [
        ("<think>用户很难过，我应该先", "<think>"),  # cut while it thinks
        (f"<think>用户很难过。</think>{TEXT}</think>好。", "<think>"),  # where does it end?
        (f"{TEXT}</think>", "</think>"),  # nothing after it: thinking, or the reply?
        (f"我能理解</think>{TEXT}", "</think>"),  # within a line
        (f"我能理解<think>嗯</think>你的难过。{TEXT}", "<think>"),
        (f"{TEXT}<|im_end|>\n<|im_start|>user\n谢谢", "<|im_end|>"),
        (f"我<|endoftext|>能理解。{TEXT}", "<|endoftext|>"),
        (f"{TEXT}[INST] 还有吗？[/INST] 有。", "[INST]"),
        (f"{TEXT}<|im_en", "<|im_en"),
        ("<|channel|>analysis<|message|>嗯<|end|><|start|>assistant<|channel|>final<|message|>好。", "<|message|>"),
    ],
)
def test_what_is_not_certain_stays_and_is_named(raw, left):
    assert cleaning.remains(cleaning.clean(raw).text) == left


@pytest.mark.parametrize(
    "text", ["我 <3 你。", "血压 <120/80> 正常。", "写下<我的想法>。", "[1] 先呼吸。", "A < B | C > D。"]
)
def test_other_brackets_are_text(text):
    assert cleaning.clean(text) == (text, ()) and cleaning.remains(text) is None
