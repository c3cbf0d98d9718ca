"""Claims in words: each verdict rests on the printed numbers, recomputed here by hand or by another library."""

import string

import pandas as pd
import pytest
from scipy import stats

from cbtllm_utils import files, published
from cbtllm_utils.paper import checks, claims

PRINTED = published.by_key(published.numbers())


@pytest.fixture(scope="module")
def table():
    return claims.table(PRINTED).set_index("claim")


def test_every_claim_has_its_words_its_evidence_and_a_verdict(table):
    readings = pd.read_csv(claims.READINGS)
    assert list(readings["claim"]) == list(table.index) and table.index.is_unique
    assert (table[["section", "quote", "evidence", "notebooks"]] != "").all(axis=None) and not table.isna().any(
        axis=None
    )
    assert set(table["verdict"]) == set(claims.VERDICTS), "in both directions"
    assert table["section"].str.match(r"§\d|Abstract|Ethical Statement|Appendix A").all()


def test_quotes_are_short_and_in_the_papers_own_order(table):
    """A quote is at most twelve words of one sentence; sections do not go back."""
    assert table["quote"].str.split().str.len().between(3, 12).all()
    order = ["Abstract", "§1", "§2", "§3", "§4", "§5", "§6", "Ethical Statement", "Appendix A"]
    places = [next(i for i, name in enumerate(order) if section.startswith(name)) for section in table["section"]]
    assert places == sorted(places)


def test_every_fact_is_used_or_can_be_and_none_is_missing():
    text = files.path(claims.READINGS).read_text(encoding="utf-8")
    used = {name for _, name, _, _ in string.Formatter().parse(text) if name}
    assert used <= set(claims.facts(PRINTED))


def test_facts_follow_from_the_printed_numbers_alone():
    """By hand from Tables 1 to 5."""
    known = claims.facts(PRINTED)
    assert known["share_named"] == "54.4%"  # 12136 / 22327
    assert (known["others"], known["three"]) == ("3,530", "1,436")  # 742+349+345 = 1436, +2094
    assert known["three_share"] == "11.8%" and known["least_share"] == "23%"  # 1436/12136, 2761/12136
    assert (known["led"], known["columns"]) == ("4", "5")
    assert (known["rows_beaten"], known["other_rows"]) == ("2", "3")
    assert (known["chrf_spread"], known["bleu_spread"]) == ("77%", "12%")  # .3839/.2167, .2648/.2361
    assert known["rele_share"] == "87%" and known["stru_share"] == "75% to 82%"  # 1.732, 1.734; 1.508, 1.644 of 2
    assert (known["rele_points"], known["stru_points"], known["help_points"]) == ("1", "68", "12")
    assert known["below_least"] == "17.8%"  # (2 - 1.644) / 2: were all of them 0
    assert known["all_points"] == "1,000"


def test_rows_below_baichuan_are_so_in_every_column_but_one(table):
    scores = published.table("Table 4")
    baichuan = scores.loc["Baichuan-7B"]
    assert (scores.loc["LLama-Chinese-7B"] < baichuan).all() and table.loc["LLaMA behind", "verdict"] == "holds"
    assert (scores.loc["Qwen-7B"] < baichuan).all() and table.loc["Qwen behind", "verdict"] == "holds in part"
    assert (scores.loc["Alpaca-Chinese-7B"] > scores.loc["LLama-Chinese-7B"]).all()
    assert list(scores.columns[scores.loc["Alpaca-Chinese-7B"] > baichuan]) == ["BERTSCORE"]
    assert table.loc["Alpaca slightly behind", "verdict"] == table.loc["outperforms three benchmark models", "verdict"]


def test_accuracy_says_no_more_than_flagging_nobody_and_the_flags_say_more_than_chance():
    """Of the 53 matrices none has an accuracy that differs from flagging nobody (exact McNemar test, 5 %)."""
    fits = checks.fits(PRINTED)
    p_values = [stats.binomtest(int(tp), int(tp + fp)).pvalue for tp, fp in zip(fits["tp"], fits["fp"], strict=True)]
    assert min(p_values) > 0.5
    tables = [[[tp, fp], [fn, tn]] for tp, fp, fn, tn in fits.itertuples(index=False, name=None)]
    assert max(stats.fisher_exact(matrix).pvalue for matrix in tables) < 1e-20


@pytest.mark.parametrize("scale", ["Rele.", "Stru.", "Help."])
def test_all_three_means_of_table_5_are_higher_for_baichuan(scale):
    means = published.table("Table 5")
    assert means.loc["Baichuan-7B", scale] > means.loc["Alpaca-Chinese-7B", scale]


def test_figure_4_says_what_the_readings_say_of_it():
    case = files.read_json("data/published/figure4_case.json")
    assert "“过度概括”，即基于过去的经验，预测未来的社交情况都会是消极的" in case["reply_zh"]
    assert "寻求心理咨询师的帮助" in case["reply_zh"]
    assert not any(word in case["query_zh"] for word in ("将来", "未来", "以后", "永远", "会")), "no word on the future"
