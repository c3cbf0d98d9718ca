"""Notebook 03 with a model as second annotator: posts that it did not judge are left out, and listed where missing."""

import json

import pandas as pd
from provider import bad, good

from cbtllm_utils import files
from cbtllm_utils.workflow import run

ANNOTATION = {"labels": [], "evidence": [], "risk": "none"}


def test_a_post_without_an_annotation_is_listed_and_neither_it_nor_a_refused_one_counts(server, tmp_path, monkeypatch):
    """One of 40 may be missing here; a step with more fails in the tests of 02 and 07."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    replies = {
        row["questionID"]: "".join(text for _, text in row["sections"])
        for row in files.read_jsonl("data/sample/recorded_replies.jsonl")
    }
    posts = files.read_json("data/sample/psyqa_sample.json")[:40]
    items = [post | {"reply": replies[post["questionID"]], "topic": None} for post in posts]
    files.write_jsonl(tmp_path / "cbt_qa/cbt_qa.jsonl", items)

    def script(body, call):
        post = body["messages"][-1]["content"]
        if posts[4]["question"] in post:
            return bad(400, "your prompt was filtered", "content_filter")
        if posts[7]["question"] in post:
            return bad(500, "down")
        return good(body, f"<think>\n先看原话。\n</think>\n\n{json.dumps(ANNOTATION)}<|im_end|>")

    server.script = script
    options = {"run": str(tmp_path), "endpoint": f"http://127.0.0.1:{server.server_port}/v1", "model": "m"}
    run.run_notebook("03_distortion_analysis", "ci", max_retries=0, allowed_missing=1 / 40, **options)
    table = pd.read_csv(tmp_path / "tables/second_pass.csv").set_index("annotated by")
    assert table.loc["m", "posts"] == 38 and table.loc["names in the reply", "posts"] == 40
    listed = pd.read_csv(files.missing(tmp_path, "03_distortion_analysis"))
    assert listed["id"].tolist() == [posts[7]["questionID"]] and "down" in listed["reason"][0]
    assert len(server.asked) == 40
