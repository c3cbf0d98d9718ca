"""Cached scores count as long as the version is the same, so that a change of scores needs a new version."""

from pathlib import Path

import pytest
import random_scorers

from cbtllm_utils import evaluate, files
from cbtllm_utils.evaluate import metrics

EXPECTED = Path(__file__).with_name("expected_scores.json")
REFERENCES = [
    "我能理解你现在的感受，这听起来很不容易。",
    "你提到“完了”，这像是灾难化思维。",
    "试着写下三件今天做到的事。",
    "加油",
]
PREDICTIONS = [
    "我很理解你的感受，这真的不容易。",
    "这像是灾难化思维，把一次失误看成整个人生。",
    "试着写下今天的3件事",
    "",
]


def test_other_scores_come_with_another_version(tmp_path):
    """To accept other scores: raise `cbtllm_utils.evaluate.VERSION` and write both to expected_scores.json."""
    places = random_scorers.write(tmp_path)
    scorers = metrics.load(bertscore_model=places["encoder"], bertscore_layer=2, bleurt_model=places["bleurt"])
    found = metrics.evaluate(scorers, PREDICTIONS, REFERENCES)
    expected = files.read_json(EXPECTED)
    assert expected["version"] == evaluate.VERSION, "the expected scores are of another version"
    same = pytest.approx(expected["corpus"], abs=1e-5)
    assert found.scores.set_index("metric")["score"].to_dict() == same, "other scores, same VERSION"
    for metric, items in expected["items"].items():
        assert found.items[metric].tolist() == pytest.approx(items, abs=1e-5), "other scores, same VERSION"
