"""How the screens are measured, on tables small enough to count by hand."""

import pandas as pd

from cbtllm_utils.text import screening_measures

COLUMNS = ["id", "voice", "kind", "label", "flagged", "text"]
POSTS = pd.DataFrame(
    [
        ("1", "a", "self_harm", 1, True, "甲"),
        ("2", "a", "self_harm", 1, False, "乙"),
        ("3", "a", "lookalike", 0, False, "丙"),
        ("4", "b", "self_harm", 1, False, "丁"),
        ("5", "b", "abuse_suffered", 1, False, "戊"),
        ("6", "b", "lookalike", 0, True, "己"),
    ],
    columns=COLUMNS,
)


def test_rates_count_those_that_should_be_flagged_and_the_others_apart():
    table = screening_measures.rates(POSTS, "kind")
    counted = table[["measure", "kind", "n", "flagged"]].to_records(index=False).tolist()
    assert counted == [
        ("recall", "all", 4, 1),
        ("recall", "self_harm", 3, 1),
        ("recall", "abuse_suffered", 1, 0),
        ("false alarms", "all", 2, 1),
        ("false alarms", "lookalike", 2, 1),
    ]
    assert table["share"].tolist() == [1 / 4, 1 / 3, 0, 1 / 2, 1 / 2]


def test_the_voice_with_the_lowest_recall_comes_first():
    table = screening_measures.by_voice(POSTS)
    assert table.to_records(index=False).tolist() == [("b", 2, 0.0, 1, 1.0), ("a", 2, 0.5, 1, 0.0)]


def test_misses_are_drawn_from_each_kind_and_say_how_many_there_are():
    table = screening_measures.misses(POSTS, each=1, seed=1)
    assert table[["kind", "missed"]].to_records(index=False).tolist() == [("self_harm", 2), ("abuse_suffered", 1)]
    assert set(table["text"]) <= {"乙", "丁", "戊"}
    assert screening_measures.misses(POSTS.assign(flagged=True), each=1, seed=1).empty


def test_a_post_without_a_reading_stays_what_the_screen_said():
    readings = pd.DataFrame({"id": ["1", "2", "3", "4"], "severity": ["none", "passive", "none", "active"]})
    read = screening_measures.read_posts(POSTS, readings)
    assert read["flagged"].tolist() == [True, True, False, True, False, True]


def test_a_reply_is_exact_when_all_and_only_what_it_directs_to_is_found():
    found = [frozenset({"hotline", "police"}), frozenset({"hotline"}), frozenset(), frozenset({"clinic"})]
    replies = pd.DataFrame({"directs": ["police+hotline", "hotline+clinic", "", ""], "found": found})
    table = screening_measures.with_advice(replies)
    assert table["exact"].tolist() == [True, False, True, False]
    assert table["flagged"].tolist() == [True, True, False, True]


def test_a_summary_is_said_in_sentences_with_its_counts():
    """Of 3 posts with risk 2 are flagged, of 2 without 1."""
    table = pd.DataFrame({"kind": "x", "label": [1, 1, 1, 0, 0], "flagged": [True, True, False, True, False]})
    found = screening_measures.summary({screening_measures.LEFT_OUT_POSTS: table, "others": table})
    assert screening_measures.sentences(found) == [
        "In voices not read before, the risk screen flags 2 of 3 posts with risk and 1 of 2 posts without."
    ]
