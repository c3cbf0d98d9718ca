"""Answers are aligned with the test set or refused; comparisons pair them by item."""

import pandas as pd
import pytest
from scipy import stats

from cbtllm_utils import files
from cbtllm_utils.evaluate import metrics
from cbtllm_utils.evaluate import systems as evaluation
from cbtllm_utils.generate import kinds
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
    assert evaluation.align(rows, TEST) == {"a": ["七", "三"], "a untuned": ["B七", "B三"]}


def test_an_item_that_one_server_refused_is_left_out_for_every_system():
    refused = answer("b", 3, "") | {"finish_reason": failure.REFUSED}
    rows = [answer("a", 3, "三"), answer("a", 7, "七"), answer("b", 7, "B七"), refused]
    kept, items = evaluation.answered_by_all(rows, TEST)
    assert [item["questionID"] for item in items] == [7]
    assert evaluation.align(kept, items) == {"a": ["七"], "b": ["B七"]}
    assert evaluation.answered_by_all(rows[:2], TEST) == (rows[:2], TEST)
    with pytest.raises(files.InputError, match="none of 1 test items was answered by every system"):
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
        files.write_json(tmp_path / "answers" / f"{name}.json", {"model": model, "tuned_model": None})
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
    assert found[["best rank in 95% of draws", "worst rank"]].values.tolist() == [[1, 3], [1, 2], [1, 3]]
    assert found["first in % of draws"].tolist() == [75, 25, 25]


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


SYSTEMS = ["a", "a untuned", "a prompted", "a-seed43", "a-seed43 untuned", "b"]


def test_systems_of_a_kind_and_pairs_are_those_that_answered():
    assert evaluation.of_kind(SYSTEMS, ["b", "a", "a-seed43"], kinds.TUNED) == ["b", "a", "a-seed43"]
    assert evaluation.of_kind(SYSTEMS, ["b", "a"], kinds.PROMPTED) == ["a prompted"]
    backbones = ["a", "a-seed43", "b"]
    assert evaluation.pairs(SYSTEMS, backbones, kinds.TUNED, kinds.UNTUNED) == [("a", "a untuned")]
    assert evaluation.pairs(SYSTEMS[1:3], backbones, kinds.TUNED, kinds.PROMPTED) == []


def test_seeds_are_averaged_by_item_and_give_an_interval_of_their_own():
    """Item means over seeds: a .3, .5; b .1, .1. Seeds' means: a .35, .45; b .05, .15: Welch, df 2, t = 4.3027."""
    values = {"a": (0.25, 0.45), "a-seed43": (0.35, 0.55), "b": (0.0, 0.1), "b-seed43": (0.2, 0.1)}
    rows = [(name, item, value) for name, own in values.items() for item, value in enumerate(own)]
    items = pd.DataFrame(rows, columns=["system", "questionID", "x"])
    row = evaluation.compare(items, [("a", "b")], 50, 1).iloc[0]
    assert row["difference"] == pytest.approx(0.3)
    ends = row[["95% CI over seeds low", "95% CI over seeds high"]].tolist()
    half = 4.3027 * (0.1**2 / 2) ** 0.5  # both seeds' means are .1 apart: variance .005 each, of a mean of two .0025
    assert ends == pytest.approx([0.3 - half, 0.3 + half], abs=1e-4)
    single = evaluation.compare(items[~items["system"].str.contains("seed")], [("a", "b")], 50, 1)
    assert "95% CI over seeds low" not in single and "one training and one decode" in evaluation.replication(single)


def test_scores_by_seed_by_hand():
    scores = pd.DataFrame(
        {"system": ["a", "a-seed43", "a-seed44", "b"], "metric": "bleu", "score": [0.1, 0.2, 0.3, 0.5]}
    )
    found = evaluation.by_seed(pd.concat([scores, scores.assign(metric=metrics.COMPAT)]))
    assert found[["system", "metric", "seeds"]].values.tolist() == [["a", "BLEU", 3]]
    assert found.iloc[0, 3:].tolist() == pytest.approx([0.2, 0.1, 0.1, 0.3])


def test_pooled_correlation_misleads_where_systems_differ():
    """Within each system x and y run against each other; b is better in both, so pooled they run together."""
    rows = [("a", 1, 1, 3), ("a", 2, 2, 2), ("a", 3, 3, 1), ("b", 1, 11, 13), ("b", 2, 12, 12), ("b", 3, 13, 11)]
    items = pd.DataFrame(rows, columns=["system", "questionID", "x", "y"])
    row = evaluation.correlations(items, {"all": ["a", "b"]}).iloc[0]
    assert row["within all"] == pytest.approx(-1) and row["all pooled"] == pytest.approx(1 - 6 * 16 / 210)
    flat = evaluation.correlations(items.assign(y=1), {"all": ["a", "b"]}).iloc[0]
    assert flat[["within all", "all pooled"]].isna().all(), "a constant has no ranks"


def test_the_mean_correlation_is_by_fishers_z():
    """Correlations .5 and -1/2 of three ranks: z = ±.5493, mean 0; .5 and .5: .5."""
    rows = [("a", 1, 1, 1), ("a", 2, 2, 3), ("a", 3, 3, 2), ("b", 1, 1, 3), ("b", 2, 2, 1), ("b", 3, 3, 2)]
    items = pd.DataFrame(rows, columns=["system", "questionID", "x", "y"])
    both = evaluation.correlations(items, {"both": ["a", "b"], "one": ["a"]}).iloc[0]
    assert both["within both"] == pytest.approx(0) and both["within one"] == pytest.approx(0.5)


def test_controls_keep_what_they_say():
    whole = ["先深呼吸。再想想最坏会怎样！好", "睡前放下手机，写下三件好事。"]
    found = evaluation.controls(whole, 1)
    both = found["shuffled within sentences"], found["shuffled whole"]
    for text, inside, shuffled in zip(whole, *both, strict=True):
        assert sorted(text) == sorted(inside) == sorted(shuffled)
        assert text != shuffled and text != inside
        assert [len(part) for part in text.split("。")] == [len(part) for part in inside.split("。")]
    assert found["reply to another post"] == whole[::-1]
    assert found["first half of the reference"] == ["先深呼吸。再想想", "睡前放下手机，"]
    assert evaluation.controls(whole, 1) == found


def test_the_table_of_controls_begins_with_the_highest_means_of_any_system():
    rows = [("a", 0.5, 0.1), ("b", 0.4, 0.3), ("the reference itself", 1.0, 1.0), ("first half", 0.6, 0.2)]
    items = pd.DataFrame([(n, i, x, y) for n, x, y in rows for i in range(3)], columns=["system", "questionID", *"xy"])
    items = items.rename(columns={"x": "bleu", "y": "meteor"})
    own = items["system"].isin(["a", "b"])
    table = evaluation.controlled(items[own], items[~own], ["a", "b"])
    assert table.index.tolist() == ["highest of any system", "the reference itself", "first half"]
    assert table.round(9).values.tolist() == [[0.5, 0.3], [1, 1], [0.6, 0.2]]


def test_a_metric_of_single_characters_does_not_see_their_order():
    """chrF of longer n-grams does; with one word per text METEOR and BLEU are of whole texts."""
    replies = ["先深呼吸再想想最坏会怎样", "睡前放下手机写下三件好事", "把想到的都写在一张纸上吧"] * 4
    test = [{"questionID": i, "reply": text} for i, text in enumerate(replies)]
    scorers = metrics.load()
    order = evaluation.compare_with_shuffled(scorers, {"a": replies}, test, 50, 1)
    assert set(order["compared with"]) == {"a shuffled"} and (order["difference"] > 0).all()
    assert evaluation.senseless(order) == []
    one = [{"questionID": i, "reply": "好" * (i + 1)} for i in range(12)]
    same = evaluation.compare_with_shuffled(scorers, {"a": [row["reply"] for row in one]}, one, 50, 1)
    assert evaluation.senseless(same) == ["BLEU", "METEOR", "CHRF"], "one character has a single order"


def test_replies_are_compared_at_equal_length():
    first, second = evaluation.at_equal_length(["一二三四", "", "好"], ["五六", "七八", "很好"])
    assert first == ["一二", "", "好"] and second == ["五六", "", "很"]
    long = {"a": [row["reply"] for row in TEST], "b": [row["reply"][:6] for row in TEST]}
    table = evaluation.compare_at_equal_length(metrics.load(), long, [("a", "b")], TEST, 50, 1)
    assert table["difference"].tolist() == [0, 0, 0], "b is a's beginning"
    assert table[["system", "compared with"]].drop_duplicates().values.tolist() == [["a", "b"]]
    assert table["characters"].eq(6).all()
    assert evaluation.compare_at_equal_length(metrics.load(), long, [], TEST, 50, 1).empty


def test_the_verdict_counts_what_p_and_seeds_both_show():
    table = pd.DataFrame(
        {
            "metric": ["BLEU", "CHRF", "METEOR", "BLEURT"],
            "difference": [0.1, -0.1, 0.1, 0.1],
            "p (Holm)": [0.01, 0.01, 0.2, 0.01],
        }
    )
    assert evaluation.verdict({"x": table}, ["BLEURT"]).values.tolist() == [[1, 1, 3]]
    seeds = table.assign(**{"95% CI over seeds low": [-0.1, -0.2, 0, 0], "95% CI over seeds high": [0.3, -0.01, 1, 1]})
    assert evaluation.verdict({"x": seeds}, []).values.tolist() == [[0, 1, 4]], "0 is in the first interval"


def test_random_replies_are_training_replies_and_the_seed_decides():
    found = evaluation.random_replies(TEST * 20, TRAIN, 1)
    assert set(found) == {row["reply"] for row in TRAIN} and len(found) == 40
    assert found == evaluation.random_replies(TEST * 20, TRAIN, 1) != evaluation.random_replies(TEST * 20, TRAIN, 2)


def test_a_baseline_has_no_seeds_and_adds_no_spread_of_its_own():
    """Seeds' means .3, .4, .5 less .1: one sample of three, .3 ± t(.975; 2) · .1 / √3."""
    values = {"a": 0.3, "a-seed43": 0.4, "a-seed44": 0.5, evaluation.NEAREST: 0.1}
    rows = [(name, item, value + item / 100) for name, value in values.items() for item in (-1, 0, 1)]
    items = pd.DataFrame(rows, columns=["system", "questionID", "x"])
    row = evaluation.compare(items, [("a", evaluation.NEAREST)], 50, 1).iloc[0]
    half = 4.3027 * 0.1 / 3**0.5
    ends = row[["95% CI over seeds low", "95% CI over seeds high"]].tolist()
    assert ends == pytest.approx([0.3 - half, 0.3 + half], abs=1e-4)


@pytest.mark.parametrize("second", [[0.1, 0.4, 0.2], [0.5, 0.1]])
def test_the_interval_over_seeds_is_scipys(second):
    found = stats.ttest_ind([0.3, 0.9, 0.4], second, equal_var=False).confidence_interval(0.95)
    assert evaluation.welch([0.3, 0.9, 0.4], second) == pytest.approx(tuple(found))


def test_a_run_is_read_once_and_says_n(tmp_path):
    for part, rows in (("test", TEST), ("train", TRAIN)):
        files.write_jsonl(tmp_path / f"cbt_qa/{part}.jsonl", rows)
    refused = answer("a", 3, "") | {"finish_reason": failure.REFUSED}
    files.write_jsonl(tmp_path / "answers/a.jsonl", [answer("a", 7, "七"), refused])
    test, train, answers, n = evaluation.read(tmp_path, ["a"])
    assert [row["questionID"] for row in test] == [7] and train == TRAIN and answers == [answer("a", 7, "七")]
    assert n == "n = 1 test items of 2, those that every system answered"
    baselines = evaluation.baselines(test, train, 1)
    assert list(baselines) == list(evaluation.BASELINES) and baselines[evaluation.NEAREST] == ["睡前不看手机。"]


def test_where_nothing_is_tuned_all_systems_are_judged():
    assert evaluation.judged(["a", "a untuned", evaluation.NEAREST], ["a"]) == ["a"]
    assert evaluation.judged(["a untuned", "a prompted", evaluation.NEAREST], ["a"]) == ["a untuned", "a prompted"]


def test_scores_are_saved_for_other_tests(tmp_path):
    systems = {"a": [row["reply"] for row in TEST]}
    scores, items, _ = evaluation.evaluate(metrics.load(), systems, TEST, 50, 1)
    evaluation.save(tmp_path, scores, items, "test")
    saved = pd.read_csv(tmp_path / "scores/automatic.csv")
    assert {"system", "metric", "score", "95% CI low", "95% CI high", "signature", "conditions"} == set(saved)
    assert pd.read_parquet(tmp_path / "scores/items.parquet")["conditions"].eq("test").all()


def test_every_comparison_is_made_and_controls_come_with_the_shuffled_replies():
    replies = {"a": [row["reply"] for row in TEST], "a untuned": ["嗯。", "好。"], "b": ["写下三件好事。", "深呼吸。"]}
    systems = replies | evaluation.baselines(TEST, TRAIN, 1)
    scorers, draw = metrics.load(), {"resamples": 50, "seed": 1}
    _, items, _ = evaluation.evaluate(scorers, systems, TEST, **draw)
    found = evaluation.compare_all(scorers, systems, items, TEST, ["a", "b"], **draw)
    pairs = {name: set(zip(t["system"], t["compared with"], strict=True)) for name, t in found.items()}
    assert pairs == {
        "automatic_tuned_untuned": {("a", "a untuned")},
        "automatic_tuned_prompted": set(),
        "automatic_matched_length": {("a", "a untuned")},
        "automatic_tuned_baseline": {(name, other) for name in "ab" for other in evaluation.BASELINES},
        "automatic_between": {("a", "b")},
    }
    controls, order = evaluation.check_metrics(scorers, {"a": replies["a"]}, items, TEST, **draw)
    same = ["the reference itself", "highest of any system"]  # METEOR's penalty is not quite 0
    assert controls.loc[same].to_numpy() == pytest.approx(1, abs=1e-3)
    assert set(order["compared with"]) == {"a shuffled"}
