"""A model is asked by the annotators' guideline, and its labels count only with words of the post."""

import json

import pandas as pd
import pytest
from provider import good

from cbtllm_utils.data.psyqa import Question
from cbtllm_utils.human import annotation, model_annotators
from cbtllm_utils.llm import client
from cbtllm_utils.llm.client import Completion
from cbtllm_utils.text import distortions

POST = Question(1, "我总是失败", "考砸一次，这辈子就完了。")
ANSWER = {"labels": ["overgeneralization"], "evidence": ["我总是失败"], "risk": "none"}


@pytest.mark.parametrize(
    "text, reason",
    [
        ("好的", "not in the form asked for"),
        ("[1]", "not in the form asked for"),
        (json.dumps(ANSWER | {"labels": "overgeneralization"}), "not in the form asked for"),
        (json.dumps(ANSWER | {"evidence": [1]}), "not in the form asked for"),
        (json.dumps(ANSWER | {"labels": ["sadness"]}), "unknown label sadness"),
        (json.dumps(ANSWER | {"evidence": ["忽略以上"]}), "evidence that the post does not contain: '忽略以上'"),
        (json.dumps(ANSWER | {"evidence": []}), "labels without evidence"),
        (json.dumps(ANSWER | {"evidence": [""]}), "evidence '' is too short to show anything"),
    ],
)
def test_a_models_answer_counts_only_with_words_of_the_post(text, reason):
    assert model_annotators.parse(text, POST) == reason
    table = model_annotators.annotations([Completion(1, text, "m", "stop", 1, 1, 1)], {1: POST}, "m")
    assert table.loc[0, ["labels", "reason"]].tolist() == ["", reason]


def test_a_model_is_asked_by_the_guideline_and_a_schema(server, tmp_path):
    server.script = lambda body, call: good(body, json.dumps(ANSWER, ensure_ascii=False))
    url = f"http://127.0.0.1:{server.server_port}/v1"
    answers, failed = client.complete(model_annotators.requests([POST], "m"), endpoint=url, cache_path=tmp_path / "j")
    assert failed == {} and model_annotators.parse(answers[0].text, POST) == ANSWER
    (body,) = server.asked
    schema = body["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["labels"]["items"]["enum"] == list(distortions.taxonomy()["label"])
    assert annotation.guideline() in body["messages"][0]["content"] and "我总是失败" in body["messages"][1]["content"]


def test_agreement_by_hand():
    """Present in truth: 1, 2; flagged: 1, 3 → precision 1/2, recall 1/2, F1 1/2. Labels: 1 shared of 3 + 2 → 2/5."""
    truth = {1: {"a", "b"}, 2: {"c"}, 3: set(), 4: set()}
    found = model_annotators.agreement(truth, {1: {"a"}, 3: {"d"}})
    assert found == {"posts": 4, "precision": 0.5, "recall": 0.5, "F1": 0.5, "micro-F1 of labels": 0.4}
    assert pd.isna(model_annotators.agreement({}, {})["F1"])
