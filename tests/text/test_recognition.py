"""Recognition scores by hand, and annotations that cannot be used."""

import numpy as np
import pandas as pd
import pytest

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


def test_intervals_hold_the_value_and_are_seeded():
    one, two = (recognition.intervals(TRUTH, FLAGS, 500, 1) for _ in range(2))
    assert one.equals(two)
    assert (one["low"] <= one["value"]).all() and (one["value"] <= one["high"]).all()
    assert one.set_index("score").loc["Accuracy", "value"] == 0.75


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
    table = recognition.intervals(truth, flagged, 200, 1).set_index("score")
    assert table.loc["Recall"].isna().all() and table.loc["Precision", "value"] == 0
