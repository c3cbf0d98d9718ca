"""Tokenized examples, counted by hand."""

import numpy as np
import pytest
from tiny import Bytes
from training_run import ROW

from cbtllm_utils.finetune import examples
from cbtllm_utils.models import prompt_forms


def test_labels_cover_the_reply_and_its_end_alone():
    # bos + "ab" = 3 tokens of prompt; "c" + eos = 2 tokens of reply
    example = examples.encode_example(Bytes(), "ab", "c", 1024)
    assert example["input_ids"].tolist() == [2, 97 + 3, 98 + 3, 99 + 3, 1]
    assert example["labels"].tolist() == [-100, -100, -100, 99 + 3, 1]
    assert (example["prompt_tokens"], example["reply_tokens"]) == (3, 2)
    assert (example["prompt_cut"], example["reply_cut"]) == (0, 0)


@pytest.mark.parametrize(
    ("prompt", "reply", "cutoff", "remaining"),
    [
        (300, 700, 1024, (300, 700)),  # fits
        (512, 512, 1024, (512, 512)),  # just fits
        (600, 600, 1024, (512, 512)),  # 1024 · 600/1200 = 512
        (300, 900, 1024, (256, 768)),  # 1024 · 300/1200 = 256
        (500, 1000, 1024, (341, 682)),  # 1024/3 = 341.33, 1024 · 2/3 = 682.67: one token of the cutoff stays free
        (1500, 600, 1024, (731, 292)),  # 731.43 and 292.57
    ],
)
def test_truncation_as_in_llama_factory(prompt, reply, cutoff, remaining):
    assert examples.truncated(prompt, reply, cutoff) == remaining


def test_a_truncated_example_loses_the_ends_and_counts_them():
    # 1 + 29 tokens of prompt, 59 + 1 of reply: 30 + 60 = 90, cut to 45: 15 and 30
    example = examples.encode_example(Bytes(), "p" * 29, "r" * 59, 45)
    assert example["labels"].tolist() == [-100] * 15 + [ord("r") + 3] * 30  # no end of text is left to learn
    assert (example["prompt_cut"], example["reply_cut"]) == (15, 30)
    table = examples.lengths({"train": examples.dataset([example])}).set_index("text")
    assert table.loc["reply", ["examples", "longest", "examples cut", "tokens cut, %"]].tolist() == [
        1,
        60,
        1,
        50.0,
    ]


def test_examples_are_an_arrow_table_of_integers():
    rows = [ROW, ROW | {"questionID": "a", "reply": "好"}]
    table = examples.encode(rows, Bytes(), "card", 400)
    assert table.features == examples.FEATURES
    assert table["questionID"][:] == ["1", "a"] and table["characters"][:] == [3, 1]
    alone = examples.encode_example(Bytes(), prompt_forms.prompt(rows[1], "card"), "好", 400)
    assert np.array_equal(table[1]["input_ids"], alone["input_ids"]) and table[1]["length"] == len(alone["input_ids"])
    assert table["reply_tokens"][:] == [3 * 3 + 1, 3 + 1]  # three bytes for each character, and the end
