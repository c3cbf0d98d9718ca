"""The findings are made from the printed numbers and from this run's files, and say so where a file is not there."""

import pandas as pd
import pytest

from cbtllm_utils import files, published
from cbtllm_utils.paper import audit, claims, findings

PRINTED = published.by_key(published.numbers())
TUNING = "Does tuning make a backbone's replies more like the references?"
PROMPTING = "Does tuning make replies more like the references than the full CBT prompt does?"


def by_claim(run):
    return findings.table(PRINTED, run).set_index("claim or question")


def write_tests(run, name, differences, p=0.01, metrics=("BLEU", "METEOR", "CHRF", "BLEURT")):
    rows = [("x", metric, difference, p) for metric, difference in zip(metrics, differences, strict=True)]
    table = pd.DataFrame(rows, columns=["system", "metric", "difference", "p (Holm)"])
    files.write_text(run / f"tables/{name}.csv", table.to_csv(index=False))


def write_order(run, blind):
    table = pd.DataFrame({"metric": ["BLEU", "METEOR", "CHRF", "BLEURT"], "difference": 0.1})
    table["p (Holm)"] = [0.9 if metric in blind else 0.01 for metric in table["metric"]]
    files.write_text(run / "tables/automatic_order.csv", table.to_csv(index=False))


def test_a_page_of_findings_in_all_directions_without_a_run(tmp_path):
    table = findings.table(PRINTED, tmp_path)
    assert 12 <= len(table) <= 20 and not table.map(lambda text: "{" in text or not text).any(axis=None)
    asked = table["claim or question"].str.endswith("?")
    assert asked.is_monotonic_increasing, "the paper's claims first, then our questions"
    order = ["does not hold", "not shown", "holds in part", "holds"]
    assert table.loc[~asked, "verdict"].drop_duplicates().tolist() == order
    assert set(table.loc[asked, "verdict"]) == {"yes", "in part", "cannot be known", "not run"}
    told = table.index[table["claim or question"].str.contains("named distortion|names a distortion")]
    assert told.tolist() == [told[0], told[0] + 1], "the two rows on distortions next to each other"
    assert set(table["rests on"]) == {
        "the paper",
        "the paper and its published weights",
        "the paper; this run",
        "this run",
    }
    assert list(table[table["verdict"] == "not run"].index) == list(table[table["rests on"] == "this run"].index)
    assert table["where"].str.contains("notebook").all()


@pytest.mark.parametrize(
    ("claim", "numbers"),
    [  # from Tables 2 to 5 by hand, see test_checks.py and test_claims.py
        (
            "Baichuan marginally outperforms Alpaca in all aspects.",
            "(5 raters × 100 posts × 2 points = 1,000), Baichuan leads by 1, 68 and 12.",
        ),
        ("CBT-LLM outperforms three advanced benchmark models.", "leads 4 of 5 columns and beats 2 of 3 rows"),
        (
            "If a reply names a distortion, did therapists see one?",
            "none in 142 to 147 of the 281 to 295 posts",
        ),
        ("Accuracy (0.69) suggests a high level of correctness.", "0.68 to 0.70"),
        ("All-or-nothing thinking often occurs together with overgeneralization.", "At least 2,761 replies"),
    ],
)
def test_what_rests_on_the_paper_has_its_numbers(tmp_path, claim, numbers):
    row = by_claim(tmp_path).loc[claim]
    assert numbers in row["evidence"] and row["rests on"] == "the paper"


@pytest.mark.parametrize(
    ("differences", "p", "evidence", "verdict"),
    [  # a metric by which shuffled characters are not told apart does not count
        (
            (0.1, 0.2, 0.3, -0.9),
            0.01,
            "in 3 of 3 comparisons and lower in 0 (1 backbone × 3 metrics: BLEU, METEOR, CHRF;",
            "yes in this run",
        ),
        (
            (-0.1, -0.2, -0.3, 0.9),
            0.01,
            "in 0 of 3 comparisons and lower in 3 (1 backbone × 3 metrics: BLEU, METEOR, CHRF;",
            "no in this run",
        ),
        ((0.1, 0.2, -0.3, 0.9), 0.01, "in 2 of 3 comparisons and lower in 1 (1 backbone", "undecided in"),
        ((0.1, 0.2, 0.3, 0.9), 0.05, "in 0 of 3 comparisons and lower in 0 (1 backbone", "undecided in"),
    ],
)
def test_tuning_is_judged_by_this_runs_tests(tmp_path, differences, p, evidence, verdict):
    write_tests(tmp_path, "automatic_tuned_prompted", differences, p)
    write_order(tmp_path, ["BLEURT"])
    found = by_claim(tmp_path)
    assert evidence in found.loc[PROMPTING, "evidence"] and verdict in found.loc[PROMPTING, "verdict"]
    assert found.loc[TUNING, "verdict"] == "not run"


@pytest.mark.parametrize(
    ("blind", "evidence", "verdict"),
    [
        (
            ["METEOR", "BLEURT"],
            "By METEOR and BLEURT, no system's replies score higher than this nonsense",
            "no in this run",
        ),
        ([], "Every metric scores some system's replies higher than this nonsense", "undecided"),
    ],
)
def test_what_controls_say_of_the_metrics_is_a_finding(tmp_path, blind, evidence, verdict):
    write_order(tmp_path, blind)
    found = by_claim(tmp_path).loc["Does a higher score mean a better reply?"]
    assert evidence in found["evidence"] and verdict in found["verdict"]


def test_no_verdict_where_no_metric_tells_shuffled_characters(tmp_path):
    write_tests(tmp_path, "automatic_tuned_prompted", (0.1, 0.2, 0.3, 0.9))
    write_order(tmp_path, ["BLEU", "METEOR", "CHRF", "BLEURT"])
    assert "undecided" in by_claim(tmp_path).loc[PROMPTING, "verdict"]


def test_a_difference_that_seeds_may_explain_does_not_count_and_equal_length_is_said(tmp_path):
    tests = pd.DataFrame({"system": "a", "metric": ["BLEU", "METEOR", "CHRF"], "difference": 0.1, "p (Holm)": 0.01})
    tests = tests.assign(**{"95% CI over seeds low": [-0.1, 0.1, None], "95% CI over seeds high": [0.1, 0.2, None]})
    files.write_text(tmp_path / "tables/automatic_tuned_untuned.csv", tests.to_csv(index=False))
    matched = pd.DataFrame({"compared with": ["a untuned", "a prompted"], "metric": "BLEU"})
    matched = matched.assign(difference=[0.1, 0.1], **{"p (Holm)": [0.9, 0.01]})
    files.write_text(tmp_path / "tables/automatic_matched_length.csv", matched.to_csv(index=False))
    found = by_claim(tmp_path).loc[TUNING]
    assert "higher than untuned ones in 2 of 3 comparisons" in found["evidence"]  # the third has a single run
    assert found["evidence"].endswith("cut to equal length, higher in 0 of 1.") and "undecided" in found["verdict"]


@pytest.mark.parametrize(("model", "said"), [("backbones/x", True), ("Qwen/Qwen-7B", False)])
def test_a_run_of_tiny_models_says_that_it_tells_nothing_of_7b(tmp_path, model, said):
    files.write_json(tmp_path / "answers/x.json", {"model": model})
    rests = by_claim(tmp_path)["rests on"]
    assert rests.str.contains("no evidence about 7B").any() == said
    assert rests.str.contains("this run (Qwen/Qwen-7B)", regex=False).any() != said
    assert not rests[rests.str.startswith("the paper") & ~rests.str.contains("this run")].str.contains("7B").any()


def test_chrf_raters_and_readers_of_this_run_are_counted(tmp_path):
    scores = [("a", "chrf", 0.10), ("b", "chrf", 0.20), ("a", "chrf_jury_compat", 0.5), ("b", "chrf_jury_compat", 0.3)]
    table = pd.DataFrame(scores, columns=["system", "metric", "score"])
    files.write_text(tmp_path / "scores/automatic.csv", table.to_csv(index=False))
    rated = pd.DataFrame({"kind": ["language model", "person"], "raters": [5, 3]})
    files.write_text(tmp_path / "scores/human.csv", rated.to_csv(index=False))
    read = pd.DataFrame({"replies to flagged posts": [4, 4], "read by a person": [1, 0]})
    files.write_text(tmp_path / "tables/readings.csv", read.to_csv(index=False))
    said = " ".join(by_claim(tmp_path)["evidence"])
    assert (
        "For the 2 systems and baselines of this run, jury gives 0.300 to 0.500 instead of 0.100 to 0.200, and 2 of them change"
        in said
    )
    assert "Here 5 language models and 3 people rated." in said
    assert (
        "People have read 1 of the 8 replies to posts flagged for risk (by the screen or a second reader) that" in said
    )


def test_a_lead_that_is_one_of_length_does_not_hold(tmp_path):
    write_tests(tmp_path, "automatic_tuned_prompted", (0.1, 0.2, 0.3, 0.4))
    assert "yes in this run" in by_claim(tmp_path).loc[PROMPTING, "verdict"]
    matched = pd.DataFrame({"compared with": ["x prompted"] * 4, "metric": ["BLEU", "METEOR", "CHRF", "BLEURT"]})
    matched = matched.assign(difference=[0.1, 0.2, 0.3, -0.4], **{"p (Holm)": 0.01})
    files.write_text(tmp_path / "tables/automatic_matched_length.csv", matched.to_csv(index=False))
    found = by_claim(tmp_path).loc[PROMPTING]
    assert "cut to equal length, higher in 3 of 4" in found["evidence"] and "undecided" in found["verdict"]


@pytest.mark.parametrize(("nearest", "verdict"), [((-0.1, 0.1), "undecided in"), ((0.1, 0.1), "yes in this run")])
def test_answering_the_post_takes_a_lead_over_the_nearest_training_reply(tmp_path, nearest, verdict):
    rows = [("nearest training reply", "BLEU", nearest[0]), ("nearest training reply", "METEOR", nearest[1])]
    rows += [("random training reply", metric, 0.1) for metric in ("BLEU", "METEOR")]
    table = pd.DataFrame(rows, columns=["compared with", "metric", "difference"])
    table = table.assign(system="x", **{"p (Holm)": 0.01})
    files.write_text(tmp_path / "tables/automatic_tuned_baseline.csv", table.to_csv(index=False))
    found = by_claim(tmp_path).loc["Do tuned replies answer the post, beyond sharing the form of all replies?"]
    assert verdict in found["verdict"]
    ahead = sum(value > 0 for value in nearest)
    assert (
        f"higher than the nearest training reply in {ahead} of 2 comparisons (lower in {2 - ahead}) and than"
        in found["evidence"]
    )
    assert (
        "than the random training reply in 2 of 2 comparisons (lower in 0); 1 backbone × 2 metrics each (BLEU, METEOR"
        in found["evidence"]
    )


def test_tiny_models_decide_nothing_about_prompting(tmp_path):
    write_tests(tmp_path, "automatic_tuned_prompted", (0.1, 0.2, 0.3, 0.4))
    files.write_json(tmp_path / "answers/x.json", {"model": "backbones/x"})
    assert "undecided" in by_claim(tmp_path).loc[PROMPTING, "verdict"]


def test_whose_weights_answered_as_tuned_is_named(tmp_path):
    files.write_json(tmp_path / "answers/x.json", {"model": "baichuan-inc/Baichuan-7B", "tuned_model": "a/CBT-LLM"})
    assert by_claim(tmp_path)["rests on"].str.contains("(baichuan-inc/Baichuan-7B, a/CBT-LLM)", regex=False).any()


def test_the_audit_in_sentences(tmp_path):
    said = claims.table(PRINTED)
    numbers = audit.table(published.numbers(), {})
    first, second, third, last = findings.sentences(said, numbers)
    assert f"{(said['verdict'] == 'holds').sum()} hold, " in first and first.endswith("cannot be known.")
    assert "0 disagree" in second and "3 are at odds with a claim" in second and "a counterpart for 0" in third
    assert f"of the {len(said)} claims" in last


def test_without_a_metric_that_sees_sense_nothing_is_answered(tmp_path):
    write_order(tmp_path, ("BLEU", "METEOR", "CHRF", "BLEURT"))
    rows = [(f"{which} training reply", "BLEU", "x", 0.1, 0.01) for which in ("nearest", "random")]
    table = pd.DataFrame(rows, columns=["compared with", "metric", "system", "difference", "p (Holm)"])
    files.write_text(tmp_path / "tables/automatic_tuned_baseline.csv", table.to_csv(index=False))
    found = by_claim(tmp_path).loc["Do tuned replies answer the post, beyond sharing the form of all replies?"]
    assert found["verdict"] == "undecided in this run" and "No metric of this run" in found["evidence"]
