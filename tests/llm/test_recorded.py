"""Recorded replies come through the client as a provider's would."""

import json
import shutil

import pytest

from cbtllm_utils import files
from cbtllm_utils.data import prompts, psyqa
from cbtllm_utils.llm import client, errors, recorded

RECORDING = "data/sample/recorded_replies.jsonl"
PROMPT = prompts.read("params/prompts/cbt_prompt.zh.md")


def asked(posts):
    return [
        {"id": p.questionID, "model": "m", "messages": prompts.messages(PROMPT, p.question, p.description)}
        for p in posts
    ]


def test_replies_are_those_of_the_recording_to_the_letter(tmp_path):
    posts, _ = psyqa.read("data/sample/psyqa_sample.json")
    answers, failed = client.complete(asked(posts), endpoint=f"replay:{RECORDING}", cache_path=tmp_path / "j")
    lines = [json.loads(line) for line in files.path(RECORDING).read_text(encoding="utf-8").splitlines()]
    expected = {line["questionID"]: "".join(text for _, text in line["sections"]) for line in lines}
    assert failed == {} and {answer.id: answer.text for answer in answers} == expected
    assert {(a.model, a.finish_reason, a.attempts) for a in answers} == {("recorded", "stop", 1)}


def test_another_recording_is_not_answered_by_an_old_cache(tmp_path):
    for name in ("psyqa_sample.json", "recorded_replies.jsonl"):
        shutil.copy(files.path(f"data/sample/{name}"), tmp_path / name)
    post, recording = psyqa.read(tmp_path / "psyqa_sample.json")[0][0], tmp_path / "recorded_replies.jsonl"
    where = {"endpoint": f"replay:{recording}", "cache_path": tmp_path / "j"}
    before, _ = client.complete(asked([post]), **where)
    rows = files.read_jsonl(recording)
    rows[0]["sections"][0][1] = "改过的话。"
    files.write_jsonl(recording, rows)
    recorded.replies.cache_clear()
    after, _ = client.complete(asked([post]), **where)
    assert before[0].text != after[0].text and after[0].text.startswith("改过的话。")
    assert client.missing(asked([post]), **where) == []


def test_an_unknown_post_stops_with_what_to_do(tmp_path):
    post = psyqa.Question(1, "谁也没问过", "")
    with pytest.raises(errors.EndpointError, match=r"no reply to '谁也没问过'; name an endpoint that can answer"):
        client.complete(asked([post]), endpoint=f"replay:{RECORDING}", cache_path=tmp_path / "j")


@pytest.mark.parametrize(
    "row", [{"questionID": 5, "sections": []}, {"questionID": 900001}, {"sections": [["a", "b"]]}, [1]]
)
def test_a_recording_that_does_not_fit_its_posts_names_the_row(tmp_path, row):
    sample = files.path("data/sample/psyqa_sample.json").read_bytes()
    (tmp_path / "psyqa_sample.json").write_bytes(sample)
    files.write_jsonl(tmp_path / "own.jsonl", [{"questionID": 900001, "sections": [["validation", "好"]]}, row])
    with pytest.raises(files.InputError, match=r"own\.jsonl, (row 2: no recorded reply|line 2: a list)"):
        recorded.replies(tmp_path / "own.jsonl")


def test_a_missing_recording_is_named():
    with pytest.raises(files.InputError, match=r"none\.jsonl: no such file"):
        client.connect("replay:data/sample/none.jsonl", 1.0)


def test_captions_say_when_recorded_replies_answer_another_prompt():
    """A recording looks a reply up by its post alone: under another prompt it shows nothing of that prompt."""
    endpoint, other = f"replay:{RECORDING}", prompts.without(PROMPT, "strategy").hash
    assert recorded.note(endpoint, PROMPT.hash) == "" == recorded.note("openai", other)
    assert PROMPT.hash in recorded.note(endpoint, other) and other in recorded.note(endpoint, other)
