"""Recognition scores by hand, and annotations that cannot be used."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cbtllm_utils import files, published
from cbtllm_utils.text import recognition

TRUTH = pd.Series([True, True, True, False, False, False, False, False])
FLAGS = pd.Series([True, True, False, True, False, False, False, False])


def test_scores_by_hand():
    matrix = recognition.counts(TRUTH, FLAGS)
    assert matrix == {"tp": 2, "fp": 1, "fn": 1, "tn": 4}
    assert recognition.scores(**matrix) == pytest.approx(
        {"Accuracy": 6 / 8, "Recall": 2 / 3, "F1 score": 4 / 6, "Precision": 2 / 3}
    )


def test_no_positive_gives_no_score():
    assert np.isnan(recognition.scores(0, 0, 0, 5)["Recall"])


def test_intervals_are_wilsons():
    """By hand, with z = 1.96: (6 + z²/2 ± z √(6·2/8 + z²/4)) / (8 + z²) = .4093 and .9285."""
    table = recognition.intervals(TRUTH, FLAGS).set_index("score")
    assert table.loc["Accuracy"].round(4).tolist() == [0.75, 0.4093, 0.9285]
    assert (table["low"] < table["value"]).all() and (table["value"] < table["high"]).all()
    low, high = stats.binomtest(2, 4).proportion_ci(method="wilson")  # 2 hits, 1 false, 1 missed
    assert table.loc["F1 score"].tolist() == pytest.approx([2 / 3, 2 * low / (1 + low), 2 * high / (1 + high)])


def test_a_perfect_score_has_an_interval_with_room():
    truth = pd.Series([True] * 20 + [False] * 20)
    table = recognition.intervals(truth, truth).set_index("score")
    assert (table["value"] == 1).all() and table["low"].between(0.8, 0.95).all() and (table["high"] <= 1).all()


def test_a_class_is_printed_as_counts_with_intervals_and_a_rare_one_without():
    truth = pd.DataFrame({"often": [True] * 10 + [False] * 10, "rarely": [True] * 3 + [False] * 17})
    flagged = pd.DataFrame({"often": [True] * 9 + [False] * 11, "rarely": [True] * 2 + [False] * 18})
    often, rarely = recognition.by_class(truth, flagged).to_dict("records")
    assert (often["annotated"], often["named"], often["both"]) == (10, 9, 9)
    assert often["annotated that are named"].startswith("9 of 10 (")
    assert rarely["annotated that are named"] == "2 of 3" and rarely["named that are annotated"] == "2 of 2"


def test_the_paper_table_3_means_a_precision_near_one_half():
    printed = published.table("Table 3").loc["Quality"]
    found = recognition.matrices(500, printed["Accuracy"], printed["Recall"], printed["F1 score"])
    precision = found.tp / (found.tp + found.fp)
    assert len(found) == 53 and precision.between(0.49, 0.51).all()
    assert ((found.tp + found.fn).min(), (found.tp + found.fn).max()) == (149, 161)
    for row in found.itertuples(index=False):
        assert {k: round(v + 1e-12, 2) for k, v in recognition.scores(*row).items() if k != "Precision"} == dict(
            printed
        )


@pytest.mark.parametrize(
    "text, message",
    [
        ("questionID,labels\n1,x\n", "no column annotator; its columns: questionID, labels"),
        (
            "questionID,annotator,labels\n1,A,\n2,A,mental_filter|sad\n",
            r"a\.csv, line 3: 'sad' is not a distortion; there ",
        ),
        ("questionID,annotator,labels\n1,A,x\n1,A,y\n", "annotator A judged 1 twice"),
    ],
)
def test_annotations_that_cannot_be_used(tmp_path, text, message):
    place = tmp_path / "a.csv"
    place.write_text(text)
    with pytest.raises(files.InputError, match=message):
        recognition.annotations(str(place))


def test_the_sample_annotations():
    judged = recognition.annotations("data/sample/distortion_annotations.csv")
    assert judged.shape == (360, 2) and (judged.map(bool).nunique(axis=1) == 1).all()


def test_intervals_without_a_positive_are_nan_as_the_score_is():
    truth, flagged = pd.Series([False] * 20), pd.Series([True] * 5 + [False] * 15)
    table = recognition.intervals(truth, flagged).set_index("score")
    assert table.loc["Recall"].isna().all() and table.loc["Precision", "value"] == 0


def test_the_confusion_matrix_in_words():
    said = recognition.in_words(TRUTH, FLAGS)
    assert (
        "Of 8 posts" in said
        and "in 2 and neither does in 4; only the reply does in 1, only the annotators in 1" in said
    )
    assert "no scores" in recognition.in_words(TRUTH[:0], FLAGS[:0])


def test_a_class_counts_where_every_annotator_gave_it():
    judged = pd.DataFrame({"A": [{"x", "y"}, {"x"}], "B": [{"y"}, set()]}, index=[7, 9])
    found = recognition.given_by_all(judged, ["x", "y"])
    assert found.loc[7].tolist() == [False, True] and found.loc[9].tolist() == [False, False]


def test_table_3_beside_ours_says_how_many_posts():
    table = recognition.beside_table3(TRUTH, FLAGS).set_index("column")
    assert table.loc["Accuracy", ["paper", "here", "items"]].tolist() == [0.69, 0.75, 8]
    assert table.loc["Precision", "here"] == pytest.approx(2 / 3) and np.isnan(table.loc["Precision", "paper"])
