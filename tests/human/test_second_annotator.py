"""Notebook 03 with a model as second annotator: what is missing is asked for again, what is refused is left out."""

import json

import pandas as pd
import pytest
from provider import bad, good

from cbtllm_utils import files
from cbtllm_utils.workflow import run

ANNOTATION = {"labels": [], "evidence": [], "risk": "none"}


def test_a_post_without_an_annotation_is_asked_for_again_and_a_refused_one_is_not_counted(
    server, tmp_path, monkeypatch
):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    replies = {
        row["questionID"]: "".join(text for _, text in row["sections"])
        for row in files.read_jsonl("data/sample/recorded_replies.jsonl")
    }
    posts = files.read_json("data/sample/psyqa_sample.json")[:40]
    items = [post | {"reply": replies[post["questionID"]], "topic": None} for post in posts]
    files.write_jsonl(tmp_path / "cbt_qa/cbt_qa.jsonl", items)
    healthy = False

    def script(body, call):
        post = body["messages"][-1]["content"]
        if posts[4]["question"] in post:
            return bad(400, "your prompt was filtered", "content_filter")
        if posts[7]["question"] in post and not healthy:
            return bad(500, "down")
        return good(body, f"<think>\n先看原话。\n</think>\n\n{json.dumps(ANNOTATION)}<|im_end|>")

    server.script = script
    options = {"run": str(tmp_path), "endpoint": f"http://127.0.0.1:{server.server_port}/v1", "model": "m"}
    expected = rf"1 of 40 requests have no answer \({posts[7]['questionID']}; the first: .*down\)"
    with pytest.raises(files.InputError, match=expected):
        run.run_notebook("03_distortion_analysis", "ci", max_retries=0, **options)
    healthy, before = True, len(server.asked)
    run.run_notebook("03_distortion_analysis", "ci", **options)
    assert len(server.asked) == before + 2, "the missing post, and the refused one"
    table = pd.read_csv(tmp_path / "tables/second_pass.csv").set_index("annotated by")
    assert table.loc["m", "posts"] == 39 and table.loc["names in the reply", "posts"] == 40
    assert not files.missing(tmp_path, "03_distortion_analysis").exists()
