"""The split has the paper's sizes, follows its seed, and keeps near duplicates together."""

import numpy as np
import pytest

from cbtllm_utils.data import splits


def distinct(n):
    """n texts without a common pair of characters."""
    return [chr(0x4E00 + 2 * i) + chr(0x4E01 + 2 * i) for i in range(n)]


@pytest.mark.parametrize(
    "items, test",
    [
        (360, 36),
        (10, 1),
        (5, 1),  # half a test item is one: a set without items could not be scored
        (2, 1),
        (1, 0),
        (100, 10),
        (22, 2),
    ],
)
def test_a_tenth_is_for_test(items, test):
    table = splits.assign(list(range(items)), distinct(items))
    assert (table["split"] == "test").sum() == test and set(table["split"]) <= set(splits.SPLITS)


def test_the_papers_size_gives_2233_and_20094(monkeypatch):
    monkeypatch.setattr(splits, "families", lambda texts, threshold: np.arange(len(texts)))  # 35 seconds otherwise
    counts = splits.assign(range(22_327), [""] * 22_327)["split"].value_counts()
    assert counts.to_dict() == {"train": 20_094, "test": 2_233}


def test_the_seed_decides():
    def test_set(seed):
        table = splits.assign(list(range(100)), distinct(100), seed=seed)
        return set(table.index[table["split"] == "test"])

    assert test_set(1) == test_set(1) and test_set(1) != test_set(2)


LONG = "这学期我总是睡不着，一想到考试就心慌，怎么办？室友都睡了，只有我醒着，越想越害怕。"


@pytest.mark.parametrize("seed", range(8))
def test_near_duplicates_stay_on_one_side(seed):
    texts = [*distinct(40), LONG, LONG, LONG + "谢谢大家", LONG.replace("室友", "同学")]
    table = splits.assign([f"q{i}" for i in range(44)], texts, seed=seed, test_share=0.25)
    assert table["near_duplicate_of"].tolist() == [None] * 41 + ["q40"] * 3
    assert len(set(table["split"][-4:])) == 1
    assert (table["split"] == "test").sum() == 11  # 44 / 4: the other families fill what the four leave free


def test_a_family_too_large_for_the_test_set_is_trained_on():
    table = splits.assign(list(range(12)), [LONG] * 11 + ["别的问题"])
    assert table["split"].tolist() == ["train"] * 11 + ["test"]


def test_another_post_on_the_same_matter_is_not_a_duplicate():
    other = "这学期开学以后我总是睡不好，一到考试前就紧张，该怎么办才好？同寝室的人都睡得很香，我却醒到天亮。"
    assert len(set(splits.families([LONG, other]))) == 2
    assert len(set(splits.families([LONG, other], threshold=0.05))) == 1


def test_no_text_and_one_text():
    assert splits.families([]).tolist() == [] and splits.families(["一"]).tolist() == [0]
    assert splits.assign([], []).empty


def test_texts_of_one_character_are_read():
    assert len(set(splits.families(["一", "二二", "二二"]))) == 2


def test_one_item_fewer_moves_at_most_one_other():
    ids = list(range(300))
    whole = splits.assign(ids, distinct(300))["split"]
    without = splits.assign(ids[1:], distinct(300)[1:])["split"]
    moved = (whole.drop(0) != without).sum()
    assert moved <= 1  # if item 0 was tested, the next in the order takes its place


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.95, 1.0])
def test_both_sides_hold_an_item_where_possible(share):
    sides = splits.assign([1, 2, 3], distinct(3), test_share=share)["split"]
    assert set(sides) == ({"train", "test"} if share else {"train"})


def test_two_small_families_fill_both_sides(monkeypatch):
    monkeypatch.setattr(splits, "families", lambda texts, threshold: np.array([0, 0, 1, 1]))
    assert sorted(splits.assign([1, 2, 3, 4], ["a"] * 4)["split"]) == ["test", "test", "train", "train"]
