"""The transcribed numbers are whole and in place; `tests/paper/test_checks.py` has the arithmetic on them."""

import pandas as pd
import pytest

from cbtllm_utils import files, published


@pytest.mark.parametrize(
    ("name", "shape"),
    [("Table 1", (6, 1)), ("Table 2", (6, 1)), ("Table 3", (1, 3)), ("Table 4", (4, 5)), ("Table 5", (2, 3))],
)
def test_every_table_is_whole(name, shape):
    table = published.table(name)
    assert table.shape == shape and table.notna().all(axis=None)


def test_every_number_says_where_it_is_printed_and_is_there_once():
    numbers = published.numbers()
    assert not numbers.duplicated(["table", "row", "column"]).any()
    assert numbers["section"].str.match(r"§\d|Figure \d").all()
    assert (numbers.query("table == 'text'")["quote"] != "").all()
    numbers["value"].astype(float)


def test_backbones_are_the_rows_of_table_4_in_its_order():
    assert list(published.BACKBONES.values()) == list(published.table("Table 4").index)


def test_beside_keeps_the_papers_order_and_leaves_gaps_open():
    ours = pd.DataFrame({"Help.": [1.5], "Rele.": [2.0]}, index=["Baichuan-7B"])
    long = published.beside("Table 5", ours)
    assert list(long["column"]) == ["Rele.", "Stru.", "Help."] * 2
    assert long["here"].isna().tolist() == [True, True, True, False, True, False]
    assert long["difference"].iloc[[3, 5]].round(3).tolist() == [0.266, 0.068]  # 2 - 1.734, 1.5 - 1.432


def test_counts_of_data_sets_of_two_sizes_have_no_difference():
    ours = pd.DataFrame(
        {"Statistics": [360.0, 37.8]}, index=["No. of CBT Response", "Percentage of Cognitive Distortions"]
    )
    found = published.beside("Table 1", ours).set_index("row")["difference"].dropna()
    assert found.round(1).to_dict() == {"Percentage of Cognitive Distortions": -16.6}  # 37.8 - 54.4
    assert published.beside("Table 2", published.table("Table 2"))["difference"].isna().all()


def test_the_case_study_is_whole():
    case = files.read_json("data/published/figure4_case.json")
    assert [name for name, *_ in case["sections"]] == [
        *("validation", "key_thought", "challenge", "strategy", "encouragement")
    ]
    assert case["reply_zh"] == "".join(zh for _, zh, _ in case["sections"])
    assert case["reply_en"] == "\n".join(en for *_, en in case["sections"])
    assert case["query_zh"] == case["question"] + case["description"]
    assert "“全然或无”" in case["sections"][1][1] and "“过度概括”" in case["sections"][1][1]
    assert not any(mark in case["query_zh"] + case["reply_zh"] for mark in ",?!;")


def test_a_row_that_the_paper_lacks_comes_last_without_a_counterpart():
    ours = pd.DataFrame({"BLEU": [0.3]}, index=["qwen3-8b"])
    long = published.beside("Table 4", ours)
    assert len(long) == 25 and long["row"].tolist()[-5:] == ["qwen3-8b"] * 5
    row = long[(long["row"] == "qwen3-8b") & (long["column"] == "BLEU")].iloc[0]
    assert row["here"] == 0.3 and pd.isna(row["paper"]) and pd.isna(row["difference"])


def test_a_column_that_the_paper_lacks_comes_after_its_own():
    ours = pd.DataFrame({"ROUGE-L": [0.3], "Help.": [1.5]}, index=["Baichuan-7B"])
    long = published.beside("Table 5", ours)
    assert list(long["column"]) == ["Rele.", "Stru.", "Help.", "ROUGE-L"] * 2
    assert long["here"].dropna().tolist() == [1.5, 0.3] and long["paper"].isna().sum() == 2
