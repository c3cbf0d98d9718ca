"""Scores and tables count as long as the version is the same, so that a change of them needs a new version."""

from pathlib import Path

import pytest
import random_scorers

from cbtllm_utils import evaluate, files
from cbtllm_utils.evaluate import metrics, systems

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

POSTS = [
    {"question": f"问题{i}", "description": text, "reply": "好" * (i + 1)}
    for i, text in enumerate(["睡不着", "考试前手抖", "和父母吵架"])
]


def test_other_numbers_come_with_another_version(tmp_path):
    """To accept other numbers: raise `cbtllm_utils.evaluate.VERSION` and write both to expected_scores.json."""
    expected = files.read_json(EXPECTED)
    assert expected["version"] == evaluate.VERSION, "the expected numbers are of another version"
    found = numbers(tmp_path)
    assert found.keys() == expected["numbers"].keys()
    for name, values in expected["numbers"].items():
        assert found[name] == pytest.approx(values, abs=1e-5), f"{name}: other numbers, same VERSION"


def numbers(folder: Path) -> dict[str, list[float]]:
    """Return the numbers of every table of two systems."""
    places = random_scorers.write(folder)
    scorers = metrics.load(bertscore_model=places["encoder"], bertscore_layer=2, bleurt_model=places["bleurt"])
    test = [{"questionID": i, "reply": text} for i, text in enumerate(REFERENCES)]
    two = {"a": PREDICTIONS, "b": [*PREDICTIONS[1:], "好"]}
    scores, items, draws = systems.evaluate(scorers, two, test, resamples=50, seed=1)
    tables = {
        "scores": scores.drop(columns="signature"),
        "items": items,
        "ranks": systems.ranks(scores, draws, ["a", "b"]),
        "tests": systems.compare(items, [("a", "b")], 50, 1),
        "extremes": systems.extremes(items, ["a", "b"]),
    }
    shown = {
        name: table.select_dtypes("number").fillna(-9).to_numpy().ravel().tolist() for name, table in tables.items()
    }
    return shown | {"baseline": [float(len(text)) for text in systems.nearest_replies(POSTS, POSTS[::-1])]}
