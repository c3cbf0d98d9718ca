"""Table 5, tests and agreement on ratings small enough to compute by hand."""

import numpy as np
import pandas as pd
import pytest

from cbtllm_utils import published
from cbtllm_utils.human import agreement, ratings
from cbtllm_utils.human.blinding import SCALES


def rated(scores: dict[tuple, tuple], kind: str = "person") -> pd.DataFrame:
    """(rater, questionID, system[, repeat]) -> three scores."""
    made = [
        {"rater": r, "kind": kind, "questionID": q, "system": s, "repeat": bool(again), "harmful": False}
        | dict(zip(SCALES, values, strict=True))
        for (r, q, s, *again), values in scores.items()
    ]
    return pd.DataFrame(made, columns=ratings.FIELDS)


SMALL = rated(
    {
        **{("A", 1, "x"): (2, 2, 1), ("A", 2, "x"): (2, 1, 0), ("A", 1, "y"): (1, 0, 0), ("A", 2, "y"): (0, 1, 0)},
        **{("B", 1, "x"): (2, 1, 1), ("B", 2, "x"): (1, 1, 0), ("B", 1, "y"): (1, 0, 1)},  # B left y to 2 out
        **{("A", 1, "x", True): (2, 1, 1), ("A", 1, "y", True): (1, 2, 0)},
    }
)


@pytest.mark.parametrize(
    ("system", "scale", "mean", "count"),
    [
        ("x", "relevance", 7 / 4, 4),  # 2 + 2 + 2 + 1; repeats do not count
        ("x", "structure", 5 / 4, 4),
        ("x", "helpfulness", 2 / 4, 4),
        ("y", "relevance", 2 / 3, 3),
        ("y", "structure", 1 / 3, 3),
        ("y", "helpfulness", 1 / 3, 3),
    ],
)
def test_means_by_hand(system, scale, mean, count):
    row = agreement.means(SMALL).set_index(["system", "scale"]).loc[(system, scale)]
    assert row["mean"] == pytest.approx(mean) and row["ratings"] == count
    assert (row["items"], row["raters"], row["kind"]) == (2, 2, "person")
    assert row["low"] <= row["mean"] <= row["high"]


def test_items_and_raters_are_counted_separately():
    third = SMALL[SMALL["questionID"] == 1].assign(questionID=3)
    found = agreement.means(pd.concat([SMALL, third], ignore_index=True))
    assert found[["items", "raters"]].drop_duplicates().to_numpy().tolist() == [[3, 2]]


def test_intervals_come_from_items_not_from_ratings():
    """Of 0..1, x on relevance has items 1 and .75: m = .875, variance 2 · 2 · .25² / 4² = 1/64, 7 effective items.

    Wilson with t(.975; 1) = 12.7062, squared 161.45: (.875 + 161.45/14 ± 12.7062 · sqrt(1/64 + .8237)) / 24.064.
    """
    row = agreement.means(SMALL).set_index(["system", "scale"]).loc[("x", "relevance")]
    assert (row["low"], row["high"]) == pytest.approx((2 * 0.0318, 2 * 0.9993), abs=1e-3)
    twice = pd.concat([SMALL, SMALL.assign(rater=SMALL["rater"] + "2")])
    again = agreement.means(twice).set_index(["system", "scale"]).loc[("x", "relevance")]
    assert (again["low"], again["high"]) == pytest.approx((row["low"], row["high"]))


def test_a_scale_at_its_ceiling_has_an_interval():
    """All twos of 40 items: 2 · 40 / (40 + 2.0227²), no 2.000–2.000."""
    row = agreement.means(rated({("A", q, "x"): (2, 2, 2) for q in range(40)})).iloc[0]
    assert (row["low"], row["high"]) == pytest.approx((1.8144, 2), abs=1e-4)


def test_the_papers_size_gives_the_papers_steps():
    """FIELD: five raters on 100 items make every mean a multiple of 1/500, as Table 5's are."""
    scores = {(f"R{r}", q, "baichuan-7b"): (2, 1, (r + q) % 3) for r in range(5) for q in range(100)}
    found = agreement.means(rated(scores))
    assert found["ratings"].eq(500).all() and (found["mean"] * 500 % 1).pipe(np.isclose, 0).all()
    shown = agreement.like_the_paper(found)
    assert shown.loc["Baichuan-7B", "Rele."] == 2 and list(shown.columns) == ["Help.", "Rele.", "Stru."]
    beside = published.beside("Table 5", shown)
    assert beside["here"].notna().sum() == 3 and len(beside) == 6


def test_language_models_are_never_in_the_papers_cells():
    models = rated({("1", 1, "baichuan-7b"): (2, 2, 2)}, kind="language model")
    assert agreement.like_the_paper(agreement.means(models)).empty


def test_table_5_says_who_rated():
    both = pd.concat([SMALL, rated({("1", 1, "x"): (0, 0, 0)}, kind="language model")])
    table = agreement.table5(agreement.means(both))
    assert table["rated by"].tolist() == ["paper: 5 people"] * 2 + ["here: 2 people"] * 2 + ["here: 1 language model"]
    assert table.loc[1, ["Rele.", "Stru.", "Help."]].tolist() == [1.734, 1.644, 1.432]
    assert table.loc[2, ["Rele.", "Rele. 95% CI low", "Rele. 95% CI high"]].tolist() == pytest.approx(
        [1.75, 0.064, 1.999], abs=1e-3
    )
    assert agreement.describe_raters(both) == "2 people and 1 language model"
    assert agreement.describe_raters(SMALL) == "2 people" and agreement.describe_raters(SMALL[:0]) == "nobody"
    assert agreement.describe_raters(both[both["kind"] != "person"]) == "1 language model, no people"


def test_raters_by_hand():
    table = agreement.by_rater(SMALL).set_index(["rater", "system"])
    assert table.loc[("A", "x"), list(SCALES)].tolist() == [2, 1.5, 0.5]
    assert table["marked as harmful"].tolist() == [0, 0, 0, 0]
    unasked = agreement.by_rater(SMALL.assign(harmful=None))
    assert unasked["marked as harmful"].isna().all()
    assert table["entries rated"].tolist() == [2, 2, 2, 1] and table["entries repeated"].tolist() == [1, 1, 0, 0]


def test_distribution_by_hand():
    shares = agreement.distribution(SMALL)
    assert shares.loc[("person", "x", "relevance")].tolist() == [0, 0.25, 0.75]
    assert shares.loc[("person", "y", "structure")].tolist() == pytest.approx([2 / 3, 1 / 3, 0])
    assert shares.sum(axis=1).tolist() == pytest.approx([1] * 6)
    assert [scale for *_, scale in shares.index[:3]] == list(SCALES)


def test_systems_are_compared_within_rater_and_item():
    """relevance: item 1 is (2-1 + 2-1)/2 = 1; item 2 only A rated both: 2-0 = 2; mean 1.5, sd = 1/sqrt(2)."""
    row = agreement.compare(SMALL).set_index("scale").loc["relevance"]
    assert (row["system"], row["other system"], row["items"]) == ("x", "y", 2)
    assert row["difference"] == 1.5 and row["standard deviation"] == pytest.approx(np.sqrt(0.5))
    assert row["p"] == 0.5  # ++ and -- of four flips


def test_holm_corrects_over_all_pairs_and_scales_that_a_kind_was_asked_about():
    """Three pairs x three scales: the smallest p times 9, and another kind's tests are another family."""
    scores = {("A", q, s): (2 * (s == "x"), (q + (s == "x")) % 3, 1) for q in range(12) for s in "xyz"}
    found = agreement.compare(pd.concat([rated(scores), SMALL.assign(kind="language model")]))
    assert found[found[agreement.KIND] != "person"]["p (Holm)"].tolist() == [1, 1, 1]
    found = found[found[agreement.KIND] == "person"]
    assert len(found) == 9 and found.groupby(["system", "other system"]).size().eq(3).all()
    pair = found[(found["system"] == "x") & (found["other system"] == "y")].set_index("scale")
    assert pair.loc["relevance", "p (Holm)"] == pytest.approx(9 * pair.loc["relevance", "p"])
    assert pair.loc["helpfulness", "p (Holm)"] == 1


def test_systems_without_a_question_in_common_are_not_compared():
    separate = rated({("A", 1, "x"): (2, 2, 2), ("A", 2, "y"): (0, 0, 0)})
    assert agreement.compare(separate).empty


def test_one_item_has_no_interval():
    one = rated({("A", 1, "x"): (2, 2, 2)})
    row = agreement.means(one).iloc[0]
    assert row["mean"] == 2 and np.isnan([row["low"], row["high"]]).all()
    assert pd.isna(agreement.table5(agreement.means(one)).loc[2, "Rele. 95% CI low"])


def test_agreement_by_hand():
    """x on relevance: (A, B) gave (2, 2) and (2, 1): one pair of two alike."""
    table = agreement.agreement(SMALL).set_index(["system", "scale"])
    assert table.loc[("x", "relevance"), "share of equal scores"] == 0.5
    assert table.loc[(agreement.ALL_SYSTEMS, "relevance"), "share of equal scores"] == pytest.approx(
        2 / 3
    )  # (2,2) (2,1) (1,1)
    assert table.loc[("x", "relevance"), ["raters", "replies"]].tolist() == [2, 2]
    twins = pd.concat([SMALL[SMALL["rater"] == "A"].assign(rater=name) for name in "AC"])
    assert agreement.agreement(twins)["Krippendorff's alpha"].dropna().eq(1).all()


def test_consistency_by_hand():
    """A saw two entries again: structure went 2 -> 1 and 0 -> 2."""
    table = agreement.consistency(SMALL).set_index("scale")
    assert table.loc[
        "relevance", ["repeats", "share of equal scores", "mean absolute change", "mean change"]
    ].tolist() == [2, 1, 0, 0]
    assert table.loc[
        "structure", ["repeats", "share of equal scores", "mean absolute change", "mean change"]
    ].tolist() == [2, 0, 1.5, 0.5]


def test_items_needed_for_the_papers_margins_by_hand():
    """7.8489 · (sd / difference)²: with sd .5, relevance .002 -> 490,555; structure .136 -> 107; helpfulness .024."""
    compared = pd.DataFrame({agreement.KIND: "person", "scale": SCALES, "standard deviation": 0.5})
    table = agreement.items_needed(compared).set_index("scale")
    assert table["difference in the paper"].tolist() == [0.002, 0.136, 0.024]
    assert table["items needed"].tolist() == [490_555, 107, 3407]
    assert table["minimum detectable difference"].tolist() == pytest.approx([2.8016 * 0.05] * 3, abs=1e-4)
    flat = agreement.items_needed(compared.assign(**{"standard deviation": [0.5, 0.0, 0.5]})).set_index("scale")
    assert (
        flat["items needed"].isna().tolist()
        == flat["minimum detectable difference"].isna().tolist()
        == [False, True, False]
    )
    both = pd.concat([compared, compared.assign(**{agreement.KIND: "language model", "standard deviation": 1.0})])
    separate = agreement.items_needed(both).set_index([agreement.KIND, "scale"])["items needed"]
    assert separate["person", "structure"] == 107 and separate["language model", "structure"] == 425  # 4 x 106.05


def test_without_ratings_every_table_is_empty_but_for_the_papers():
    empty = SMALL[:0]
    for table in ("means", "by_rater", "distribution", "compare", "agreement", "consistency"):
        assert getattr(agreement, table)(empty).empty, table
    assert len(agreement.table5(agreement.means(empty))) == 2
    assert agreement.items_needed(agreement.compare(empty)).empty


def test_the_same_seed_gives_the_same_tables():
    bundled, *_ = ratings.read("data/sample/ratings.csv", kind="language model")
    few = bundled[bundled["questionID"] < 900100]
    pd.testing.assert_frame_equal(agreement.means(few), agreement.means(few[::-1]))
    pd.testing.assert_frame_equal(agreement.agreement(few), agreement.agreement(few))


def test_figures_say_whose_replies_were_rated_by_whom_and_how_many():
    both = pd.concat([rated({("1", 1, "forum answer"): (0, 0, 0)}, kind="language model"), SMALL])
    both["system"] = both["system"].replace({"x": "qwen-7b-untuned", "y": "reference"})
    first, *_, last = agreement.drawn(agreement.means(both)).to_dict("records")
    assert first["row"] == "Qwen-7B, untuned, 2 people" and (first["mark"], first["n"]) == ("untuned", 2)
    assert last["row"] == "forum answer, 1 language model" and last["mark"] == "here"
    bars = agreement.distribution_drawn(both)
    assert bars.index[0] == "relevance, Qwen-7B, untuned, 2 people (n = 4)" and list(bars.columns)[2] == "score 2"
    assert bars.index[-1].endswith("forum answer, 1 language model (n = 1)") and bars.iloc[-1].tolist() == [1, 0, 0]
    people, models = agreement.who_rated(both).to_dict("records")
    counts = [people[name] for name in ("raters", "posts", "replies", "ratings")]
    assert counts == [2, 2, 4, 7] and people["replies by"] == "Qwen-7B, untuned, data set's own reply"
    assert (models["raters"], models["ratings"]) == (1, 1)
