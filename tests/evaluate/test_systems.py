"""Answers are aligned with the test set or refused; comparisons pair them by item."""

import pandas as pd
import pytest

from cbtllm_utils import files
from cbtllm_utils.evaluate import metrics
from cbtllm_utils.evaluate import systems as evaluation
from cbtllm_utils.llm import failure

TEST = [
    {"questionID": 7, "question": "睡不着怎么办", "description": "夜里总醒。", "reply": "睡前放下手机，写下三件好事。"},
    {"questionID": 3, "question": "考试怕", "description": "一考试就手抖。", "reply": "先深呼吸，再想想最坏会怎样。"},
]
TRAIN = [
    {"question": "失恋了", "description": "他走了。", "reply": "难过是正常的。"},
    {"question": "怕考试", "description": "考试手抖得写不了字。", "reply": "考试前深呼吸。"},
    {"question": "夜里睡不着", "description": "总醒，怎么办。", "reply": "睡前不看手机。"},
]


def answer(system: str, item: int, reply: str = "嗯。") -> dict:
    return {"system": system, "questionID": item, "reply": reply}


def test_replies_come_in_the_order_of_the_test_set():
    rows = [answer("a", 3, "三"), answer("a-untuned", 7, "B七"), answer("a", 7, "七"), answer("a-untuned", 3, "B三")]
    assert evaluation.align(rows, TEST) == {"a": ["七", "三"], evaluation.untuned("a"): ["B七", "B三"]}


def test_an_item_that_one_server_refused_is_left_out_for_every_system():
    refused = answer("b", 3, "") | {"finish_reason": failure.REFUSED}
    rows = [answer("a", 3, "三"), answer("a", 7, "七"), answer("b", 7, "B七"), refused]
    kept, items = evaluation.answered_by_all(rows, TEST)
    assert [item["questionID"] for item in items] == [7]
    assert evaluation.align(kept, items) == {"a": ["七"], "b": ["B七"]}
    assert evaluation.answered_by_all(rows[:2], TEST) == (rows[:2], TEST)
    with pytest.raises(files.InputError, match="not one of 1 test items was answered by every system"):
        evaluation.answered_by_all(rows, TEST[1:])


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([answer("a", 7)], r"answers of a: 1 test items missing and 0 that are not in the test set, among them 3"),
        (
            [answer("a", 7), answer("a", 3), answer("a", 9)],
            r"0 test items missing and 1 that are not in the test set, among them 9",
        ),
        ([answer("a", 7), answer("a", 7)], r"answers of a: question 7 appears twice"),
    ],
)
def test_a_system_that_answered_other_items_is_refused(answers, message):
    with pytest.raises(files.InputError, match=message):
        evaluation.align(answers, TEST)


@pytest.mark.parametrize(
    ("models", "heading"),
    [
        ({"a": "backbones/qwen-7b", "b": "backbones/llama-7b"}, "here (tiny models)"),
        ({"a": "backbones/qwen-7b", "b": "Qwen/Qwen-7B"}, "here"),
        ({"a": "backbones/qwen-7b"}, "here"),  # the model of b is not known
    ],
)
def test_our_column_says_whether_the_models_are_tiny(tmp_path, models, heading):
    for name, model in models.items():
        files.write_json(tmp_path / "adapters" / name / "training.json", {"model": model})
    assert evaluation.heading(tmp_path, ["a", "b"]) == heading


@pytest.mark.parametrize("block", [1, 256])
def test_the_baseline_repeats_the_reply_to_the_nearest_post(block, monkeypatch):
    monkeypatch.setattr(evaluation, "BLOCK", block)
    assert evaluation.nearest_replies(TEST, TRAIN) == ["睡前不看手机。", "考试前深呼吸。"]


def test_scores_and_items_have_the_columns_that_later_notebooks_read():
    systems = {"z": [row["reply"] for row in TEST], "a": ["睡前放下手机。", ""]}
    scores, items, draws = evaluation.evaluate(metrics.load(), systems, TEST, 200, 1)
    assert list(scores.columns) == ["system", "metric", "score", "low", "high", "signature"]
    assert list(items.columns) == ["questionID", "system", "bleu", "meteor", "chrf"]
    assert items["questionID"].tolist() == [7, 3, 7, 3]
    assert draws.shape == (200, 6) and (draws["bleu"]["z"] == 1).all()
    table = evaluation.wide(scores)
    assert list(table.index) == ["z", "a"] and list(table.columns) == ["BLEU", "METEOR", "CHRF"]
    assert table.loc["z", "BLEU"] == 1 and items.iloc[3, 2:].eq(0).all()


def test_a_comparison_pairs_by_item_and_corrects_for_all_rows():
    """Differences by hand: a - b = .1, .3 and .2 in x; none in y. Holm: 2 x .25 where all signs agree of 2^3."""
    rows = [
        ("a", 1, 0.2, 0.5),
        ("a", 2, 0.4, 0.5),
        ("a", 3, 0.6, 0.5),
        ("b", 3, 0.4, 0.5),
        ("b", 2, 0.1, 0.5),
        ("b", 1, 0.1, 0.5),
    ]
    items = pd.DataFrame(rows, columns=["system", "questionID", "x", "y"])
    found = evaluation.compare(items, [("a", "b")], 200, 1)
    assert found[["system", "compared with", "metric"]].values.tolist() == [["a", "b", "x"], ["a", "b", "y"]]
    assert found["difference"].tolist() == pytest.approx([0.2, 0.0])
    assert found["p"].tolist() == pytest.approx([0.25, 1.0]) and found["p (Holm)"].tolist() == pytest.approx([0.5, 1.0])
    assert found["95% CI low"][0] >= 0.1 - 1e-9 and found["95% CI high"][0] <= 0.3 + 1e-9


def test_ranks_by_hand():
    """BLEU: a leads in three draws of four, b in one; c ties with b in the last draw and is last in the others."""
    columns = pd.MultiIndex.from_product([["bleu"], ["a", "b", "c", "z"]])
    draws = pd.DataFrame([[3, 2, 1, 9], [3, 2, 1, 9], [3, 2, 1, 9], [1, 2, 2, 9]], columns=columns, dtype=float)
    scores = pd.DataFrame({"system": ["a", "b", "c", "z"], "metric": "bleu", "score": [2.5, 2.0, 1.25, 9.0]})
    found = evaluation.ranks(scores, draws, ["c", "b", "a"])
    assert found["system"].tolist() == ["a", "b", "c"] and found["rank"].tolist() == [1, 2, 3]
    assert found[["95% CI low", "95% CI high"]].values.tolist() == [[1, 3], [1, 2], [1, 3]]
    assert found["share of draws in first place"].tolist() == [0.75, 0.25, 0.25]


def test_extremes_are_the_first_the_middle_and_the_last():
    items = pd.DataFrame({"system": ["a", "a", "a", "b"], "questionID": [1, 2, 3, 1], "x": [0.2, 0.9, 0.5, 1.0]})
    found = evaluation.extremes(items, ["a"])
    assert found["which"].tolist() == ["best", "median", "worst"] and found["questionID"].tolist() == [2, 3, 1]
    even = evaluation.extremes(items, ["a", "b"]).set_index("which")["score"]
    assert even.tolist() == [1.0, 0.9, 0.2], "of an even number the higher of the middle two"


def test_without_a_pair_there_is_no_test():
    items = pd.DataFrame({"questionID": [1, 2], "system": "a", "bleu": [0.1, 0.2]})
    table = evaluation.compare(items, [], 100, 1)
    assert table.empty and list(table.columns)[-2:] == ["p", "p (Holm)"]
