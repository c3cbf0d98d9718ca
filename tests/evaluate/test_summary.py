"""What notebook 06 shows: the paper's layout of Table 4, titles for labels, and sentences that say what was counted."""

import pandas as pd
import pytest

from cbtllm_utils import published
from cbtllm_utils.evaluate import metrics, summary, systems
from cbtllm_utils.evaluate.settings import EvaluationSettings

LABELS = ["qwen-7b untuned", "qwen-7b", "qwen-7b-seed43", "qwen3-8b", systems.NEAREST, systems.RANDOM]
SCORES = pd.DataFrame(
    [
        (
            name,
            metric,
            place / 100 + shift,
            0.1,
            0.9,
            f"{metric}|x|cut:{place}" if metric == "bleurt" else f"{metric}|y",
        )
        for place, name in enumerate(LABELS)
        for shift, metric in ((0.1, "bleu"), (0.2, "chrf"), (0.3, metrics.COMPAT), (0.4, "bleurt"))
    ],
    columns=["system", "metric", "score", "low", "high", "signature"],
)


def compared(system: str, other: str, p: float = 0.01) -> pd.DataFrame:
    row = {"system": system, "compared with": other, "metric": "BLEU", "difference": 0.2}
    return pd.DataFrame([row | {"95% CI low": 0.1, "95% CI high": 0.3, "p (Holm)": p}])


TESTS = {
    "automatic_tuned_untuned": compared("qwen-7b", "qwen-7b untuned"),
    "automatic_tuned_prompted": compared("qwen-7b", "qwen-7b prompted", 0.2),
    "automatic_matched_length": pd.concat([compared("a", "a untuned"), compared("b", "b prompted")]),
    "automatic_tuned_baseline": pd.concat([compared("a", systems.NEAREST), compared("b", systems.RANDOM)]),
    "automatic_between": compared("qwen-7b", "baichuan-7b"),
}


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("baichuan-7b untuned", "Baichuan-7B, untuned"),
        ("baichuan-7b shuffled", "Baichuan-7B, tuned, shuffled"),
        ("reference", "reference"),
        ("nearest training reply", "nearest training reply"),
    ],
)
def test_readers_see_titles(name, title):
    assert summary.title(name) == title


def test_table_4_has_the_papers_layout():
    """§4.5: one row per system; the columns BLEU, METEOR, CHRF, BLEURT, BERTSCORE. Ours are below, empty where none."""
    table = summary.table4(SCORES, ["qwen-7b", "qwen-7b-seed43", "qwen3-8b"], "here")
    assert table.columns.tolist() == ["system", "from", "BLEU", "METEOR", "CHRF", "BLEURT", "BERTSCORE"]
    assert table["from"].tolist() == ["paper"] * 4 + ["here"] * 2 + ["here (no model)"] * 2
    assert table["system"].tolist() == [
        *("LLama-Chinese-7B", "Alpaca-Chinese-7B", "Qwen-7B", "Baichuan-7B"),
        *("Qwen-7B, tuned", "Qwen3-8B, tuned", "nearest training reply", "random training reply"),
    ]
    assert table.loc[3, "BLEU"] == published.value("Table 4", "Baichuan-7B", "BLEU") == 0.2648
    assert table.loc[4, ["BLEU", "CHRF", "BLEURT"]].tolist() == pytest.approx([0.11, 0.21, 0.41])
    assert table.loc[4:, ["METEOR", "BERTSCORE"]].isna().all(axis=None)


def test_every_system_has_its_scores_with_their_intervals():
    table = summary.with_intervals(SCORES)
    assert table["system"].tolist() == LABELS
    names = ["BLEU", "BLEU 95% CI low", "BLEU 95% CI high"]
    assert table.columns.tolist()[:4] == ["system", *names] and "METEOR" not in table
    assert table.loc[1, names].tolist() == [0.11, 0.1, 0.9]


def test_chrf_has_the_published_value_of_the_same_backbone():
    table = summary.chrf_ways(SCORES, ["qwen-7b", "qwen3-8b"])
    assert table.iloc[0].tolist() == ["qwen-7b", pytest.approx(0.21), pytest.approx(0.31), 0.2939]
    assert pd.isna(table.loc[1, "paper"])


def test_the_dumbbells_have_a_row_for_each_backbone_and_baseline():
    table = summary.dumbbells(SCORES, ["qwen-7b", "qwen-7b-seed43", "qwen3-8b"])
    assert set(table["metric"]) == {"BLEU", "CHRF", "BLEURT"}
    rows = table.drop_duplicates(["row", "kind"])[["row", "kind"]].values.tolist()
    assert rows == [
        *(["Qwen-7B", "untuned"], ["Qwen-7B", "tuned"], ["Qwen-7B, seed 43", "tuned"], ["Qwen3-8B", "tuned"]),
        *([systems.NEAREST, "baseline"], [systems.RANDOM, "baseline"]),
    ]


def test_a_signature_says_how_many_replies_of_any_system_were_cut():
    table = summary.signatures(SCORES, "qwen-7b").set_index("metric")
    assert table.loc["BLEURT"].tolist() == ["x|cut:1", 5] and table.loc["CHRF", "signature"] == "y"
    assert pd.isna(table.loc["BLEU", "replies cut, at most"])


def test_the_forest_has_a_group_for_each_comparison():
    found = summary.forest(summary.comparisons(TESTS), 36)
    assert found[["group", "row"]].values.tolist() == [
        ["tuned minus untuned", "Qwen-7B"],
        ["tuned minus prompted", "Qwen-7B"],
        ["tuned minus untuned, equal length", "A"],
        ["tuned minus prompted, equal length", "B"],
        ["system minus nearest training reply", "A"],
        ["system minus random training reply", "B"],
        ["Qwen-7B minus …", "Baichuan-7B"],
    ]
    assert found["decided"].tolist() == [True, False, True, True, True, True, True] and set(found["n"]) == {36}
    assert found.loc[0, ["value", "low", "high"]].tolist() == [0.2, 0.1, 0.3]
    left_out = summary.forest(summary.comparisons(TESTS), 36, ["BLEU"])
    assert not left_out["decided"].any() and set(left_out["metric"]) == {"BLEU\n(left out)"}


def test_the_answer_counts_what_the_verdict_counts():
    compared = summary.comparisons(TESTS)
    verdict = systems.verdict(compared, [])
    first, second, third = summary.sentences(verdict, ["BLEURT"], compared, "they are tiny")
    assert "(each 1 backbone × 1 metric;" in first and first.endswith("about prompting, because they are tiny.")
    assert "more than untuned ones in 1 of 1 comparisons" in first and "prompted ones in 0 of 1" in first
    assert "higher in 1 of 1 comparisons and lower in 0" in second
    assert third.startswith("By BLEURT, no system's replies score higher") and "it is left out" in third
    untuned = verdict.assign(tests=verdict["tests"].where(verdict.index == summary.NEAREST_REPLY, 0))
    assert "the systems' replies score higher in" in summary.sentences(untuned, [], compared)[0], "nobody was named"
    verdict.loc[summary.NEAREST_REPLY] = [0, 1, 1]
    assert "do not show that a reply answers its own post" in summary.sentences(verdict, [], compared)[2]


def test_what_was_not_compared_is_not_in_the_answer():
    none = summary.comparisons({name: table[:0] for name, table in TESTS.items()})
    assert summary.sentences(systems.verdict(none, []), [], none) == [summary.sense([])]


def test_prompted_tiny_models_decide_nothing_and_their_length_is_said_where_it_is_less():
    form = pd.DataFrame({"system": ["A, prompted", "B, prompted", "A, tuned", "B, tuned"]})
    shorter = form.assign(**{"length ratio": [0.1, 0.3, 0.8, 1.0]})
    said = summary.follows_nothing(systems.TINY, shorter)
    assert "follow no instruction" in said and "(20% of the references' length, tuned ones 90%)" in said
    assert "shorter" not in summary.follows_nothing(systems.TINY, form.assign(**{"length ratio": [1.0, 1.0, 0.8, 1.0]}))
    assert summary.follows_nothing("here", shorter) == ""


def test_what_controls_show_is_said_by_metric():
    rows = ["highest of any system", "the reference itself", "shuffled within sentences", "shuffled whole"]
    scores = {"BLEU": [0.06, 1, 0.02, 0.02], "METEOR": [0.3, 1, 0.5, 0.5], "BLEURT": [0.59, 0.599, 0.6, 0.595]}
    kept, failed = summary.controls_in_words(pd.DataFrame(scores, rows), ["BLEURT"])
    assert kept.startswith("By METEOR, the shuffled reference scores higher than any") and "keeps METEOR:" in kept
    assert failed.startswith("By BLEURT, the reference itself scores no higher")
    assert summary.controls_in_words(pd.DataFrame({"BLEU": scores["BLEU"]}, rows), []) == []


def test_how_many_replies_are_cut_is_read_from_the_signatures():
    signatures = [
        "bleurt|tokens:512|items:36|empty:0|cut:36",
        "bleurt|tokens:512|items:36|empty:0|cut:36",
        "bleu|items:36|empty:0",
    ]
    scores = pd.DataFrame({"metric": ["bleurt", "bleurt", "bleu"], "signature": signatures})
    assert "BLEURT cuts all 36 to 512 tokens" in summary.cut(scores)
    scores.loc[0, "signature"] = "bleurt|tokens:512|items:36|empty:0|cut:30"
    assert "BLEURT cuts 30 to 36 of 36 to 512 tokens." in summary.cut(scores)
    assert summary.cut(scores[2:]) == "No metric cuts a text."


def test_table_4_says_below_it_what_it_can_show(tmp_path):
    chosen = EvaluationSettings(run=str(tmp_path), conditions="test", bertscore_model=None, bleurt_model=None)
    verdict = systems.verdict(summary.comparisons(TESTS), [])
    said = summary.below_table4(chosen, "n = 3 test items", pd.DataFrame({"system": ["qwen-7b"]}), verdict)
    assert said.startswith("test; n = 3 test items; one training and one decode per backbone")
    assert "cannot be compared" in said and "1 of 1 paired tests between backbones decide" in said
    assert "#" not in said and "intervals: tables/automatic_all_systems" in said


@pytest.mark.parametrize(("names", "text"), [([], ""), (["a"], "a"), (["a", "b"], "a and b"), ([*"abc"], "a, b and c")])
def test_names_in_a_sentence(names, text):
    assert summary.listed(names) == text


def test_tables_in_files_have_titles_and_optional_ones_are_left_out_when_empty():
    none = TESTS["automatic_between"][:0]
    found = summary.with_titles(TESTS | {"automatic_tuned_prompted": none, "automatic_seeds": none})
    assert "automatic_seeds" not in found and len(found["automatic_tuned_prompted"][1]) == 0
    title, table = found["automatic_tuned_untuned"]
    assert title.startswith("Tuned") and table["compared with"].tolist() == ["Qwen-7B, untuned"]


def test_conditions_name_the_models_and_n(tmp_path):
    chosen = EvaluationSettings(run=str(tmp_path), conditions="test", bertscore_model=None, bleurt_model=None)
    assert summary.stated(chosen, "n = 3 test items") == "test; n = 3 test items"


def test_a_repeated_training_reply_is_judged_as_one_to_its_own_post(monkeypatch):
    asked = []
    monkeypatch.setattr(summary.reply_checks, "structure", lambda rows: asked.extend(rows) or pd.DataFrame())
    monkeypatch.setattr(summary.reply_checks, "structure_shares", lambda counts: pd.DataFrame({"system": []}))
    train, test = [{"questionID": 9, "reply": "慢慢来。"}], [{"questionID": 1}, {"questionID": 2}]
    summary.structure({"a": ["慢慢来。", "好。"]}, test, train)
    assert [row["questionID"] for row in asked] == [9, 2]
