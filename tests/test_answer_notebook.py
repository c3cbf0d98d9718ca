"""Notebook 05 against a server: both systems by their names there, rows as local ones, nothing loaded here."""

import pandas as pd
from test_remote import text_completion

from cbtllm_utils import files, run

POSTS = [(7, "睡不着怎么办", "夜里总醒。"), (3, "考试怕", "一考试就手抖，觉得自己完了。")]


def test_a_served_model_answers_in_the_place_of_a_local_one(server, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder, reply = str(tmp_path / "run"), "听起来很不容易。你可以先深呼吸，再写下三件好事。"
    rows = [{"questionID": i, "question": q, "description": d, "reply": reply, "risk": False} for i, q, d in POSTS]
    files.write_jsonl(f"{folder}/cbt_qa/test.jsonl", rows)
    server.script = lambda body, call: text_completion(body, f"{body['model']}说：慢慢来。", "stop")
    options = {"endpoint": f"http://127.0.0.1:{server.server_port}/v1", "served": {"untuned": "base", "tuned": "cbt"}}
    run.run_notebook("05_answer_generation", "ci", backbone="qwen-7b", run=folder, **options)
    answers = files.read_jsonl(f"{folder}/answers/qwen-7b.jsonl")
    assert [(row["system"], row["questionID"], row["reply"]) for row in answers] == [
        *(("qwen-7b-untuned", i, "base说：慢慢来。") for i in (7, 3)),
        *(("qwen-7b", i, "cbt说：慢慢来。") for i in (7, 3)),
    ]
    assert answers[0].keys() == {"system", "questionID", "reply", "finish_reason", "tokens"}
    assert {body["max_tokens"] for body in server.asked} == {48} and len(server.asked) == 4, "the profile's limit"
    assert all(body["prompt"].endswith("\nAssistant: ") for body in server.asked)
    form = pd.read_csv(f"{folder}/tables/answers_form_qwen-7b.csv")
    assert form["system"].tolist() == ["qwen-7b-untuned", "qwen-7b"] and form["items"].tolist() == [2, 2]
