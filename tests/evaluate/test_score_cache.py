"""Numbers are computed once for each pair of texts, in this process and in the next."""

import shutil
from pathlib import Path

import pytest

from cbtllm_utils import evaluate
from cbtllm_utils.evaluate import score_cache
from cbtllm_utils.evaluate.score_cache import ScoreCache


class Counted:
    """A scorer that counts what it is asked, and answers backwards."""

    def __init__(self):
        self.asked = []

    def __call__(self, pairs):
        self.asked += pairs
        for place in reversed(range(len(pairs))):
            yield place, [float(len(pairs[place][0])), 0.0]


def test_each_pair_is_scored_once_and_in_order(tmp_path):
    stream = Counted()
    cache = ScoreCache(stream, "model a", tmp_path / "scores.jsonl")
    pairs = [("我", "x"), ("我们", "y"), ("我", "x")]
    assert cache(pairs) == [[1.0, 0.0], [2.0, 0.0], [1.0, 0.0]]
    assert stream.asked == [("我", "x"), ("我们", "y")]
    again = Counted()
    assert ScoreCache(again, "model a", tmp_path / "scores.jsonl")([*pairs, ("三个字", "")])[3] == [3.0, 0.0]
    assert again.asked == [("三个字", "")], "only what the file lacks"
    other = Counted()
    ScoreCache(other, "model b", tmp_path / "scores.jsonl")(pairs)
    assert len(other.asked) == 2, "another model's numbers are not taken"


def test_reference_and_candidate_are_not_mixed_up():
    stream = Counted()
    cache = ScoreCache(stream, "k")
    cache([("a", "bc"), ("ab", "c"), ("bc", "a")])
    assert len(stream.asked) == 3


def test_what_came_before_an_interruption_is_there(tmp_path):
    def broken(pairs):
        yield 0, [1.0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ScoreCache(broken, "k", tmp_path / "scores.jsonl")([("a", "b"), ("c", "d")])
    rest = Counted()
    assert ScoreCache(rest, "k", tmp_path / "scores.jsonl")([("a", "b"), ("c", "d")])[0] == [1.0] and rest.asked == [
        ("c", "d")
    ]


@pytest.fixture
def folder(tmp_path) -> Path:
    """Make a model's folder."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model.safetensors").write_bytes(b"weights")
    (tmp_path / "model/vocab.txt").write_text("我", encoding="utf-8")
    return tmp_path / "model"


def test_a_copy_of_a_model_has_its_key(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    assert score_cache.key(folder, layer=2) == score_cache.key(tmp_path / "copy", layer=2)


@pytest.mark.parametrize("changed", ["weights", "vocabulary", "setting", "library", "version"])
def test_whatever_decides_a_score_changes_the_key(folder, monkeypatch, changed):
    before = score_cache.key(folder, layer=2)
    if changed == "weights":
        (folder / "model.safetensors").write_bytes(b"other weights")
    elif changed == "vocabulary":
        (folder / "vocab.txt").write_text("你", encoding="utf-8")
    elif changed == "library":
        monkeypatch.setattr(score_cache, "version", lambda name: "9.9")
    elif changed == "version":
        monkeypatch.setattr(evaluate, "VERSION", evaluate.VERSION + 1)
    assert score_cache.key(folder, layer=3 if changed == "setting" else 2) != before
