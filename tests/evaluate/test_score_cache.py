"""Numbers are computed once for each pair of texts, in this process and in the next."""

import pytest

from cbtllm_utils.evaluate.score_cache import Kept


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
    kept = Kept(stream, "model a", tmp_path / "journal")
    pairs = [("我", "x"), ("我们", "y"), ("我", "x")]
    assert kept(pairs) == [[1.0, 0.0], [2.0, 0.0], [1.0, 0.0]]
    assert stream.asked == [("我", "x"), ("我们", "y")]
    again = Counted()
    assert Kept(again, "model a", tmp_path / "journal")([*pairs, ("三个字", "")])[3] == [3.0, 0.0]
    assert again.asked == [("三个字", "")], "only what the file lacks"
    other = Counted()
    Kept(other, "model b", tmp_path / "journal")(pairs)
    assert len(other.asked) == 2, "another model's numbers are not taken"


def test_the_two_texts_are_told_apart():
    stream = Counted()
    kept = Kept(stream, "k")
    kept([("a", "bc"), ("ab", "c"), ("bc", "a")])
    assert len(stream.asked) == 3


def test_what_came_before_an_interruption_is_there(tmp_path):
    def broken(pairs):
        yield 0, [1.0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Kept(broken, "k", tmp_path / "journal")([("a", "b"), ("c", "d")])
    rest = Counted()
    assert Kept(rest, "k", tmp_path / "journal")([("a", "b"), ("c", "d")])[0] == [1.0] and rest.asked == [("c", "d")]
