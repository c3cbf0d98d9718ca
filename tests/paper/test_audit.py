"""Every published number has its place in the audit, with a status and a reason; ours come from the run's files."""

import json

import pandas as pd
import pytest

from cbtllm_utils import files, published
from cbtllm_utils.finetune import llama_factory
from cbtllm_utils.finetune.settings import TrainingSettings
from cbtllm_utils.paper import audit, checks

NUMBERS = published.numbers()
ITEMS = ("text", "items", "value")


@pytest.fixture(scope="module")
def table():
    return audit.table(NUMBERS, {})


def status(table, *key):
    return table.set_index(["table", "row", "column"]).loc[key, "status"]


def test_every_published_number_has_one_row_with_status_and_reason(table):
    keys = ["table", "row", "column"]
    assert table[keys].to_numpy().tolist() == NUMBERS[keys].to_numpy().tolist()
    assert table["paper"].tolist() == NUMBERS["value"].tolist()
    assert table["status"].isin(audit.STATUSES).all() and table["reason"].str.len().gt(3).all()


def test_every_number_at_odds_with_a_claim_is_in_the_table_and_no_other(table):
    expected = {
        key for check in checks.run(published.by_key(NUMBERS)) if check.status == audit.AT_ODDS for key in check.about
    }
    assert not (table["status"] == audit.INCONSISTENT).any()
    found = table[table["status"] == audit.AT_ODDS][["table", "row", "column"]]
    assert set(found.itertuples(index=False, name=None)) == expected
    assert ("Table 4", "Alpaca-Chinese-7B", "BERTSCORE") in expected


def test_no_rule_is_idle():
    rules = pd.read_csv(audit.RULES, dtype=str, keep_default_na=False)
    assert set(rules["status"]) <= {audit.NOT_COMPARABLE, audit.SETTING}
    for line in rules.itertuples(index=False):
        same = NUMBERS[NUMBERS["table"] == line.table]
        assert line.row == "*" or line.row in set(same["row"]), line.row


def test_recipe_and_audit_agree_that_the_number_of_gpus_is_not_stated(table):
    """§4.3: "we utilized the NVIDIA V100 32G GPU for model training"."""
    key = published.text_keys("GPU memory")[0]
    assert "number of GPUs is not stated" in table.set_index(["table", "row", "column"]).loc[key, "reason"]
    recipe = llama_factory.settings_table(TrainingSettings()).set_index("setting").loc["processes"]
    assert recipe["paper says"] == "–" and "the paper does not say" in recipe["why"]


@pytest.mark.parametrize(
    ("items", "bleu", "expected"),
    [
        (360, 0.2648, audit.NOT_COMPARABLE),  # a like number at another scale is chance
        (22_327, 0.2648, audit.REPRODUCED),
        (22_327, 0.2648 * 1.049, audit.REPRODUCED),
        (22_327, 0.2648 * 0.94, audit.DIFFERS),
        (22_327, float("nan"), audit.NOT_COMPARABLE),
    ],
)
def test_results_are_judged_at_the_papers_scale_alone(items, bleu, expected):
    key = ("Table 4", "Baichuan-7B", "BLEU")
    assert status(audit.table(NUMBERS, {ITEMS: items, key: bleu}), *key) == expected


def test_at_the_papers_scale_our_own_share_counts_for_more_than_its_arithmetic():
    key = published.text_keys("share of all-or-nothing")[0]
    assert status(audit.table(NUMBERS, {ITEMS: 360, key: 10.0}), *key) == audit.CONSISTENT
    assert status(audit.table(NUMBERS, {ITEMS: 22_327, key: 10.0}), *key) == audit.DIFFERS


@pytest.mark.parametrize(("epochs", "reason"), [(3.0, "taken as printed"), (2.0, "set otherwise here")])
def test_settings_say_whether_they_were_taken_over(epochs, reason):
    key = published.text_keys("epochs")[0]
    row = audit.table(NUMBERS, {key: epochs}).set_index(["table", "row", "column"]).loc[key]
    assert row["status"] == audit.SETTING and reason in row["reason"] and "1,256 steps" in row["reason"]


@pytest.fixture
def run(tmp_path):
    """A run's tables, scores and logs, as the notebooks write them."""
    for name, ours in (("1_dataset", [360, 360, 20.0, 190.5, 460.0, 50.0]), ("2_distortions", [90, 45, 10, 9, 8, 63])):
        printed = published.table(f"Table {name[0]}")
        long = published.beside(f"Table {name[0]}", printed.assign(**{printed.columns[0]: ours}))
        files.write_text(tmp_path / f"tables/table{name}.csv", long.assign(conditions="test").to_csv(index=False))
    recognized = pd.DataFrame({"Accuracy": [0.8], "Recall": [0.9], "F1 score": [0.7]}, index=["Quality"])
    long = published.beside("Table 3", recognized)
    files.write_text(tmp_path / "tables/table3_recognition.csv", long.to_csv(index=False))
    scores = [("qwen-7b", "bleu", 0.1), ("qwen-7b-untuned", "bleu", 0.9), ("qwen-7b", "chrf_jury_compat", 0.9)]
    frame = pd.DataFrame(scores, columns=["system", "metric", "score"])
    files.write_text(tmp_path / "scores/automatic.csv", frame.to_csv(index=False))
    rated = [
        ("person", "baichuan-7b", "relevance", 1.5, 20),
        ("language model", "alpaca-chinese-7b", "relevance", 2.0, 40),
    ]
    frame = pd.DataFrame(rated, columns=["kind", "system", "scale", "mean", "items"])
    files.write_text(tmp_path / "scores/human.csv", frame.to_csv(index=False))
    for name, epochs in (("qwen-7b", 2.0), ("baichuan-7b", 3.0)):
        settings = {"learning_rate": 1e-2, "epochs": epochs, "accumulation": 1, "precision": "fp32"}
        rows = [
            {"step": 1, "loss": 2.0},
            {"summary": {"backbone": name, "examples": 324, "heldout_examples": 36, "steps": 9, "settings": settings}},
        ]
        files.write_text(tmp_path / f"training/{name}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


@pytest.mark.parametrize(
    ("key", "ours"),
    [
        (("Table 1", "Characters Per Question", "Statistics"), 20.0),
        (("text", "characters per question", "value"), 20.0),
        (("Table 2", "Others", "Samples"), 63),
        (("text", "replies with a distortion", "value"), 180),  # 50 % of 360
        (("text", "share of all-or-nothing", "value"), 50.0),  # 90 of 180
        (("text", "share of other distortions", "value"), 50.0),  # 10 + 9 + 8 + 63 of 180
        (("Table 3", "Quality", "F1 score"), 0.7),
        (("text", "recognition F1", "value"), 0.7),
        (("Table 4", "Qwen-7B", "BLEU"), 0.1),  # the tuned system
        (("Table 4", "Qwen-7B", "CHRF"), None),  # not what jury scores as shipped
        (("Table 5", "Baichuan-7B", "Rele."), 1.5),
        (("Table 5", "Alpaca-Chinese-7B", "Rele."), None),  # models are no people
        (("text", "rated items", "value"), 20),
        (("text", "learning rate", "value"), 1e-2),
        (("text", "epochs", "value"), None),  # two trainings, two values
        (("text", "train share", "value"), 90.0),
        (("text", "backbones", "value"), 2),
    ],
)
def test_our_numbers_come_from_the_files_of_the_run(run, key, ours):
    assert audit.ours(run).get(key) == ours


def test_a_missing_table_names_itself(tmp_path):
    with pytest.raises(files.InputError, match=r"table1_dataset.csv: not there; run the notebook"):
        audit.ours(tmp_path)


def test_a_run_that_trains_nothing_has_a_table_of_trainings_without_rows(tmp_path):
    """As of the profile `released`: notebook 09 computes with its columns."""
    found = audit.trainings(tmp_path)
    assert found.empty and {"backbone", "examples", "batch", "accumulation", "processes", "epochs", "steps"} <= {*found}
    assert audit.training(tmp_path) == {} and audit.steps(tmp_path).empty


def test_steps_are_those_of_arithmetic(tmp_path):
    """10 examples, 2 batches of 2 per step: 3 steps per epoch, of which 1.5 epochs take 5."""
    settings = {"batch": 2, "accumulation": 2, "processes": 1, "epochs": 1.5}
    summary = {"backbone": "qwen-7b", "examples": 10, "heldout_examples": 1, "steps": 5, "settings": settings}
    files.write_text(tmp_path / "training/qwen-7b.jsonl", json.dumps({"summary": summary}) + "\n")
    row = audit.steps(tmp_path).iloc[0]
    assert (row["backbone"], row["steps"], row["steps by arithmetic"]) == ("Qwen-7B", 5, 5)


def test_the_order_of_replies_changes_what_jury_gives_and_not_chrf():
    orders = audit.chrf_orders(3)
    assert orders["chrF of all pairs"].nunique() == 1 and orders["chrF as jury 2.3.1 gives it"].nunique() > 1


def test_statuses_are_counted_by_table(table):
    counted = audit.by_table(table).set_index("table")
    assert audit.INCONSISTENT not in counted and counted.loc["Table 4", audit.AT_ODDS] == 2
    assert counted.sum(axis=None) == audit.sections(NUMBERS)["numbers"].sum() == len(NUMBERS)
