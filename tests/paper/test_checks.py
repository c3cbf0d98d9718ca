"""The paper's arithmetic: every finding is computed, and vanishes when the numbers are other ones."""

import itertools

import numpy as np
import pandas as pd
import pytest
import sacrebleu
from scipy import stats
from sklearn import metrics

from cbtllm_utils import published
from cbtllm_utils.paper import checks
from cbtllm_utils.text import distortions, recognition

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


@pytest.fixture(scope="module")
def by_sklearn():
    """What scikit-learn says of the 53 matrices, each as its 500 items."""
    rows = []
    for tp, fp, fn, tn in recognition.matrices(500, 0.69, 0.93, 0.65).itertuples(index=False, name=None):
        truth, flagged = [1] * tp + [0] * fp + [1] * fn + [0] * tn, [1] * tp + [1] * fp + [0] * fn + [0] * tn
        rows.append(
            {
                "prevalence": sum(truth) / 500,
                "share flagged": sum(flagged) / 500,
                "precision": metrics.precision_score(truth, flagged),
                "specificity": metrics.recall_score(truth, flagged, pos_label=0),
                "balanced accuracy": metrics.balanced_accuracy_score(truth, flagged),
                "Cohen's kappa": metrics.cohen_kappa_score(truth, flagged),
                "LR+": metrics.class_likelihood_ratios(truth, flagged)[0],
                "accuracy of flagging nobody": metrics.accuracy_score(truth, [0] * 500),
                "accuracy of flagging everybody": metrics.accuracy_score(truth, [1] * 500),
                "F1 of flagging everybody": metrics.f1_score(truth, [1] * 500),
            }
        )
    return pd.DataFrame(rows)


def test_rates_of_a_confusion_matrix_are_scikit_learns(by_sklearn):
    found = recognition.rates(recognition.matrices(500, 0.69, 0.93, 0.65))
    pd.testing.assert_frame_equal(found, by_sklearn)


def test_table_3_reads_both_ways(by_sklearn):
    """Half of the flags are false, and the flags carry information."""
    low, high = by_sklearn.min().round(2), by_sklearn.max().round(2)
    ranges = {name: (low[name], high[name]) for name in by_sklearn}
    assert ranges["precision"] == (0.49, 0.51) and ranges["specificity"] == (0.57, 0.59)
    assert ranges["balanced accuracy"] == (0.75, 0.76) and ranges["Cohen's kappa"] == (0.41, 0.42)
    assert ranges["LR+"] == (2.16, 2.29) and ranges["prevalence"] == (0.30, 0.32)
    assert ranges["accuracy of flagging nobody"] == (0.68, 0.70)
    assert ranges["accuracy of flagging everybody"] == (0.30, 0.32) and ranges["F1 of flagging everybody"] == (
        0.46,
        0.49,
    )
    assert "precision 0.49 to 0.51" in found()["Table 3, implied precision"].finding
    information = (
        "specificity 0.57 to 0.59, balanced accuracy 0.75 to 0.76, Cohen's kappa 0.41 to 0.42, LR+ 2.16 to 2.29"
    )
    assert information in found()["Table 3, agreement beyond chance"].finding
    without = found()["Table 3, two trivial rules"].finding
    assert (
        "never naming a distortion has accuracy 0.68 to 0.70" in without
        and "accuracy 0.30 to 0.32, recall 1 and F1 0.46 to 0.49" in without
    )
    impossible = found(altered("Table 3", "Quality", "F1 score", to=0.99))["Table 3"]
    assert impossible.status == checks.INCONSISTENT


def test_two_classes_together_are_not_decided_by_their_counts():
    """By hand: 7115 + 7782 − 12136 = 2761 at least; with 742 + 349 + 345 + 2094 = 3530 that name neither, 6291."""
    least, most, of_all, of_naming = checks.overlap(PRINTED)
    assert (least, most) == (2_761, 6_291)
    assert (round(of_all), round(of_naming)) == (2_480, 4_562)  # 7115 · 7782 / 22327, / 12136
    assert of_all < least < of_naming < most
    assert "between 2,761 and 6,291 replies" in found()["Table 2, two classes together"].finding


@pytest.mark.parametrize(
    "rows", [[(1, 0, 0), (1, 1, 0), (0, 1, 0)], [(1, 1, 0), (1, 1, 1), (0, 0, 1)], [(1, 1, 1)] * 4]
)
def test_bounds_on_two_classes_hold_on_replies_that_are_known(rows):
    first, second, others = (sum(column) for column in zip(*rows, strict=True))
    bounds = distortions.overlap(first, second, others, naming=len(rows), items=len(rows) + 2)
    assert bounds.least <= sum(a and b for a, b, _ in rows) <= bounds.most


def test_table_4_contradicts_the_claim_on_bertscore_alone():
    assert not any(check.status == checks.INCONSISTENT for check in found().values())
    against = {name for name, check in found().items() if check.status == checks.AT_ODDS}
    assert against == {"Table 4, BERTSCORE", "Table 4, systems outperformed"}
    cells = {("Table 4", f"{name}-7B", "BERTSCORE") for name in ("Alpaca-Chinese", "Baichuan")}
    assert set(found()["Table 4, BERTSCORE"].about) == cells
    mended = found(altered("Table 4", "Baichuan-7B", "BERTSCORE", to=0.7850))
    assert "Table 4, BERTSCORE" not in mended and mended["Table 4, systems outperformed"].status == checks.CONSISTENT


def test_baichuan_leads_four_columns_of_five():
    """Read off Table 4 by eye; the paper does not say which rows were tuned, so no finding says it either."""
    assert found()["Table 4, columns led"].finding == "Baichuan-7B leads 4 of 5 columns: BLEU, METEOR, CHRF, BLEURT"
    assert "the paper does not say whether all were tuned alike" in found()["Table 4, baselines"].finding


def test_a_bleu_above_zero_says_that_the_text_was_segmented():
    assert "no score is below 0.2361" in found()["Table 4, BLEU"].finding
    text, reference = "我很难过，也很累。", "我很难过，因为很累。"
    assert sacrebleu.corpus_bleu([text], [[reference]], tokenize="none").score < 0.01  # as it stands: one word
    assert sacrebleu.corpus_bleu([" ".join(text)], [[" ".join(reference)]], tokenize="none").score > 10


def test_chrf_spreads_as_no_other_metric():
    assert (
        "the highest chrF is 77% above the lowest, the highest BLEU 12%" in found()["Table 4, chrF"].finding
    )  # .3839/.2167, .2648/.2361


def test_table_5_has_whole_points_of_five_raters_and_a_hundred_items():
    assert "multiple of 1/500 = 5 raters × 100 items" in found()["Table 5, rating points"].finding
    assert "leads by 1 of 1000 points" in found()["Table 5, Rele."].finding  # 867 and 866
    assert (
        found(altered("Table 5", "Baichuan-7B", "Rele.", to=1.733))["Table 5, rating points"].status
        == checks.INCONSISTENT
    )


def test_which_leads_of_table_5_its_design_can_show():
    """By simulation: of 4000 studies with the lead's largest standard deviation, 80 % find it at the level .05."""
    table = checks.detectable(PRINTED).set_index("scale")
    assert table["lead"].round(3).to_dict() == {"Rele.": 0.002, "Stru.": 0.136, "Help.": 0.024}
    assert table["largest SD"].round(3).to_dict() == {"Rele.": 0.007, "Stru.": 0.485, "Help.": 0.086}
    for lead, sd in table[["lead", "largest SD"]].itertuples(index=False):
        studies = np.random.default_rng(1).normal(lead, sd, size=(4000, 100))
        assert 0.76 < (stats.ttest_1samp(studies, 0, axis=1).pvalue < 0.05).mean() < 0.84
    shown = table.filter(like="SD 0").loc[["Rele.", "Help."]]
    assert shown.shape[1] == len(checks.SPREADS) and not shown.any(axis=None)
    assert table.loc["Stru.", "SD 0.4"] and not table.loc["Stru.", "SD 0.5"]


def test_a_lead_of_whole_points_has_a_least_spread():
    """1 and 12 points over 100 posts of 5 raters: one post, or twelve, that differ by one rating."""
    table = checks.detectable(PRINTED).set_index("scale")
    for scale, posts in (("Rele.", 1), ("Help.", 12), ("Stru.", 68)):
        assert table.loc[scale, "smallest SD"] == pytest.approx(np.std([0.2] * posts + [0] * (100 - posts)))
    assert table.loc["Rele.", "smallest SD"] > table.loc["Rele.", "largest SD"], "no ratings could show it"


def test_structure_is_not_strict():
    """(2 − 1.644) · 500 = 178 points are missing: 89 ratings of 0 at the least, 178 of 1 at the most."""
    assert "17.8 to 35.6 % of its ratings" in found()["Table 5, Stru. of Baichuan-7B"].finding
    assert "24.6 to 49.2 % of its ratings" in found()["Table 5, Stru. of Alpaca-Chinese-7B"].finding


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


def test_table_3_implies_the_same_ranges_in_a_table(by_sklearn):
    table = checks.implied(PRINTED).set_index("row")
    assert set(table["n"]) == {500} and table.loc["Cohen's kappa", "by chance"] == "0.00"
    for name, row in (("precision", "precision"), ("LR+", "LR+"), ("prevalence", "prevalence")):
        assert table.loc[row, ["low", "high"]].tolist() == pytest.approx(
            [by_sklearn[name].min(), by_sklearn[name].max()]
        )


def test_shares_points_and_leads_by_hand():
    """7115 / 22327 = 31.9 %; 1.734 · 500 = 867 points; 0.7849 - 0.7841 = 0.0008."""
    shares = checks.bases(PRINTED).set_index("class").loc["All-or-Nothing Thinking"]
    assert shares["% of replies that name one"].round(1) == 58.6 and shares["% of all replies"].round(1) == 31.9
    points = checks.points(PRINTED).set_index("system")
    assert points.loc["Baichuan-7B", "relevance"] == 867 and points.loc["lead"].tolist() == [1, 68, 12]
    best = checks.leaders(PRINTED).set_index("metric").loc["BERTSCORE"]
    assert best["best row"] == "Alpaca-Chinese-7B" and round(best["lead over the second"], 4) == 0.0008
    leads = checks.detectable_leads(PRINTED).set_index("scale")
    assert (leads.loc["structure", "SD 0.4"], leads.loc["relevance", "SD 0.1"]) == ("yes", "–")
