"""The paper's arithmetic: every finding is computed, and vanishes when the numbers are other ones."""

import itertools

import pytest

from cbtllm_utils import published
from cbtllm_utils.paper import checks
from cbtllm_utils.text import recognition

NUMBERS = published.numbers()
PRINTED = published.by_key(NUMBERS)


def found(printed=PRINTED):
    return {check.name: check for check in checks.run(printed)}


def altered(*key, to):
    return PRINTED | {key: to}


def test_every_check_is_about_printed_numbers():
    assert {key for check in found().values() for key in check.about} <= set(PRINTED)


@pytest.mark.parametrize(
    ("row", "share"),  # by hand: 12136/22327, 7115/12136, 7782/12136, (742+349+345+2094)/12136
    [
        ("share with a distortion", "54.36"),
        ("share of all-or-nothing", "58.63"),
        ("share of overgeneralization", "64.12"),
        ("share of other distortions", "29.09"),
    ],
)
def test_shares_are_recomputed_and_a_wrong_one_is_found(row, share):
    assert share in found()[row].finding and found()[row].status == checks.CONSISTENT
    assert found(altered("text", row, "value", to=PRINTED["text", row, "value"] + 1))[row].status == checks.INCONSISTENT


def test_table_2_counts_labels():
    assert "18,427 labels on 12,136 replies, 1.52 each" in found()["labels per reply"].finding


def test_the_matrices_behind_table_3_are_all_that_there_are():
    table = recognition.matrices(500, 0.69, 0.93, 0.65)
    assert len(table) == 53
    positives, flags = table["tp"] + table["fn"], table["tp"] + table["fp"]
    assert (positives.min(), positives.max()) == (149, 161)
    assert (flags.min(), flags.max()) == (281, 295)  # 56 to 59 % of 500
    assert (table.sum(axis=1) == 500).all() and (table >= 0).all(axis=None)


@pytest.mark.parametrize(("n", "scores"), [(7, (0.7, 0.7, 0.7)), (10, (0.8, 1.0, 0.7)), (9, (0.6, 0.8, 0.7))])
def test_matrices_by_trying_every_one(n, scores):
    expected = set()
    for tp, fp, fn in itertools.product(range(n + 1), repeat=3):
        if tp and tp + fp + fn <= n:
            own = ((n - fp - fn) / n, tp / (tp + fn), 2 * tp / (2 * tp + fp + fn))
            if all(abs(a - b) <= 0.05 + 1e-9 for a, b in zip(own, scores, strict=True)):
                expected.add((tp, fp, fn, n - tp - fp - fn))
    assert expected and set(recognition.matrices(n, *scores, decimals=1).itertuples(index=False, name=None)) == expected


def test_table_3_says_that_half_of_the_flags_are_false_and_that_never_flagging_is_as_right():
    assert "precision 0.49 to 0.51" in found()["Table 3, implied precision"].finding
    assert "accuracy 0.68 to 0.70, the prompt 0.69" in found()["Table 3, a rule without flags"].finding
    impossible = found(altered("Table 3", "Quality", "F1 score", to=0.99))["Table 3"]
    assert impossible.status == checks.INCONSISTENT


def test_table_4_contradicts_the_claim_on_bertscore_alone():
    against = {name for name, check in found().items() if check.status == checks.INCONSISTENT}
    assert against == {"Table 4, BERTSCORE", "Table 4, systems outperformed"}
    cells = {("Table 4", f"{name}-7B", "BERTSCORE") for name in ("Alpaca-Chinese", "Baichuan")}
    assert set(found()["Table 4, BERTSCORE"].about) == cells
    mended = found(altered("Table 4", "Baichuan-7B", "BERTSCORE", to=0.7850))
    assert "Table 4, BERTSCORE" not in mended and mended["Table 4, systems outperformed"].status == checks.CONSISTENT


def test_chrf_spreads_as_no_other_metric():
    assert (
        "chrF spreads by 77% over the systems, BLEU by 12%" in found()["Table 4, chrF"].finding
    )  # .3839/.2167, .2648/.2361


def test_table_5_has_whole_points_of_five_raters_and_a_hundred_items():
    assert "multiple of 1/500 = 5 raters × 100 items" in found()["Table 5, rating points"].finding
    assert "leads by 1 of 1000 points" in found()["Table 5, Rele."].finding  # 867 and 866
    assert (
        found(altered("Table 5", "Baichuan-7B", "Rele.", to=1.733))["Table 5, rating points"].status
        == checks.INCONSISTENT
    )


def test_the_split_and_the_steps_follow():
    assert "2,233 test and 20,094 training" in found()["split"].finding
    assert "16 per step: 1,256 steps per epoch, 3,768 in all" in found()["steps"].finding  # 20,094/16 = 1,255.9
    assert found(altered("text", "test share", "value", to=20.0))["split"].status == checks.INCONSISTENT


def test_a_number_printed_twice_with_two_values_is_found():
    broken = found(altered("Table 1", "Characters Per Question", "Statistics", to=22.6))
    assert broken["characters per question, twice"].status == checks.INCONSISTENT
    assert found()["numbers printed twice"].finding == "12 of 12 pairs agree"


def test_the_vocabulary_of_chinese_llama():
    assert "49,953 − 32,000 = 17,953 tokens are new" in found()["vocabulary"].finding
