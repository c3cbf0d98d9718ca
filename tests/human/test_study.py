"""What a run's rating study says first: whether people rated, what they said, and how many items it would take."""

import pandas as pd
import pytest
import returned_files

from cbtllm_utils.human import agreement, blinding, ratings, reading_sheets, study
from cbtllm_utils.human.settings import HumanEvaluationSettings

POST = {"questionID": 1, "question": "不想活了", "description": "没人知道。", "reply": "请拨打12356。", "risk": True}
ANSWER = {"system": "qwen-7b", "questionID": 1, "reply": "听到你这样说，我很担心。"}


def rated(system: str, kind: str, scores: dict[int, int]) -> pd.DataFrame:
    rows = [
        {"rater": rater, "kind": kind, "questionID": question, "system": system, "repeat": False, "harmful": None}
        | {"relevance": score + int(question == 2), "structure": score, "helpfulness": score}
        for question, score in scores.items()
        for rater in ("1", "2")
    ]
    return pd.DataFrame(rows, columns=ratings.FIELDS)


def said(found: pd.DataFrame) -> list[str]:
    replied = reading_sheets.replies([ANSWER], [POST])
    read = reading_sheets.read("no such folder", replied["check"])
    to_read = study.Readings([], read, replied, reading_sheets.judged(replied, read.judgments))
    whole = study.Study([POST], [ANSWER], [], [], pd.DataFrame(columns=["form", "rater"]))
    needed = agreement.items_needed(agreement.compare(found))
    return study.summary(found, agreement.means(found), needed, to_read, whole)


def test_without_people_it_says_so_first_and_names_what_models_rated():
    models = [rated("CBT reply", "language model", {1: 2, 2: 1}), rated("forum answer", "language model", {1: 0, 2: 0})]
    first, second, third, fourth, last = said(pd.concat(models, ignore_index=True))
    assert first == "No person has rated a reply."
    assert (
        second
        == "2 language models rated replies to 2 posts; mean helpfulness (0 to 2): CBT reply 1.50, forum answer 0.00."
    )
    assert third == "None of these replies is by a system of this run."
    assert "structure" not in fourth and "relevance, 0.002, needs" in fourth and "the paper rated 100" in fourth
    assert last == "By all systems and in the data set: 0 of 1 replies to 1 flagged post read by a person."


def test_people_come_before_models_and_this_runs_systems_are_not_called_others():
    both = [rated("qwen-7b", "language model", {1: 2, 2: 1}), rated("qwen-7b", "person", {1: 1, 2: 0})]
    first, second, last = said(pd.concat(both, ignore_index=True))
    assert first == "2 people rated replies to 2 posts; mean helpfulness (0 to 2): Qwen-7B, tuned 0.50."
    assert second.startswith("2 language models rated") and last.startswith(
        "By all systems and in the data set: 0 of 1"
    )


@pytest.mark.parametrize("named", ["data/sample/ratings.csv", None, "forms"])
def test_forms_that_people_filled_are_theirs_whatever_else_is_read(tmp_path, named):
    """The same folder may be given for both: forms, and ratings that name their systems."""
    folder = str(tmp_path / "forms")
    drawn = [{name: POST[name] for name in ("questionID", "question", "description")} | {"risk": True}]
    drawn[0]["replies"] = {"a": "回复", "b": "别的回复"}
    [sheet], key = blinding.make_sheets(drawn, 1, 0, 42)
    contents = {"R1.jsonl": returned_files.page(sheet, {entry.entry: (1, 1, 1) for entry in sheet.entries})}
    returned_files.lay(tmp_path / "forms", contents)
    chosen = HumanEvaluationSettings(filled=folder, ratings=folder if named == "forms" else named)
    found = study.ratings(study.Study([], [], drawn, [sheet], key), tmp_path, chosen).ratings
    assert set(found.loc[found["file"] == "R1.jsonl", "kind"]) == {"person"}


def test_a_system_of_others_with_a_bare_name_is_not_called_a_tuned_one(tmp_path):
    lines = ["questionID,system,rater,relevance,structure,helpfulness", "1,therapist,R1,2,1,2", "1,CBT reply,R1,2,2,2"]
    (tmp_path / "named.csv").write_text("\n".join(lines), encoding="utf-8")
    chosen = HumanEvaluationSettings(filled=str(tmp_path / "forms"), ratings=str(tmp_path / "named.csv"))
    found = study.ratings(study.Study([], [], [], *blinding.make_sheets([], 1, 0, 42)), tmp_path, chosen).ratings
    assert set(agreement.titled(agreement.means(found))["system"]) == {"therapist (of others)", "CBT reply"}
