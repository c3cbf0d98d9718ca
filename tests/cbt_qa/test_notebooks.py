"""Notebooks 01 and 02 against an endpoint: every variant of the prompt is measured, batches make the data set."""

import json

import nbformat
import pandas as pd
import pytest
from provider import answered, bad, good

from cbtllm_utils import files
from cbtllm_utils.data import prompts, psyqa
from cbtllm_utils.human import blinding
from cbtllm_utils.workflow import run

RECORDED = files.read_jsonl("data/sample/recorded_replies.jsonl")
POSTS = [
    prompts.enclosed(post.question, post.description) for post in psyqa.read("data/sample/psyqa_sample.json")[0][:12]
]
REPLY, PROTOTYPE = ("".join(text for _, text in row["sections"]) for row in RECORDED[:2])


UNFIT = {  # A7, and three words for three things: of the batch's posts by their place, the others are answered
    1: (good, "SAFETY", REPLY[:300]),
    2: (good, "stop", REPLY[: len(REPLY) * 4 // 5]),
    3: (good, "stop", "很抱歉，这个话题我帮不了你。"),
    4: (good, "stop", "<think>" + REPLY),
    5: (bad, 400, "Your request was rejected by content_filter"),
}


def line(body):
    """The status and the body of a line of a batch's output."""
    place = POSTS.index(body["messages"][-1]["content"])
    kind, word, text = UNFIT.get(place, (good, "stop", REPLY))
    if kind is bad:
        return bad(word, text, "content_filter")[:2]
    status, content, _ = good(body, text)
    content["choices"][0]["finish_reason"] = word
    return status, content


@pytest.fixture
def asked(server, tmp_path, monkeypatch):
    """Where notebooks ask, and a run folder."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server.script = lambda body, call: good(body, PROTOTYPE if body["model"] == "strong" else REPLY)
    server.line = lambda call: answered(call["custom_id"], *line(call["body"]))
    return f"http://127.0.0.1:{server.server_port}/v1", str(tmp_path / "run")


def test_a_provider_is_asked_with_every_variant_and_by_batches(server, asked):
    url, folder = asked
    both = {"run": folder, "endpoint": url, "model": "m"}
    english = "params/prompts/cbt_prompt.en.md"
    options = {"prototype_model": "strong", "measured": 3, "compare": [english], "example": True}
    run.run_notebook("01_prompt_design", "ci", **both, **options)
    table = pd.read_csv(f"{folder}/tables/prompt_compliance.csv")
    variants = set(table["texts"].str.removeprefix("replies to ")) - {"forum answers"}
    assert variants == {"the CBT prompt", "the CBT prompt with a prototype reply", "cbt_prompt.en"} | {
        f"the CBT prompt without {name}"
        for name in ("validation", "key thought", "challenge", "strategy", "encouragement")
    }
    assert [body["model"] for body in server.asked].count("strong") == 1
    assert len(server.asked) == 1 + 8 * 3, "the prototype, and three posts for each of eight prompts"
    before, prompt = len(server.asked), prompts.load(f"{folder}/prompts/cbt.json")
    prices = {"m, batch": {"input": 1.0, "output": 2.0, "date": "2026-01-01"}}
    place = run.run_notebook(
        "02_dataset_generation",
        "ci",
        **both,
        limit=12,
        max_attempts=1,
        batch=True,
        poll_seconds=0.01,
        prices=prices,
        budget=1.0,
    )
    items = files.read_jsonl(f"{folder}/cbt_qa/cbt_qa.jsonl")
    assert len(items) == 12 - len(UNFIT) and {(i["prompt"], i["model"]) for i in items} == {(prompt.hash, "m-0613")}
    assert len(server.asked) == before and len(server.batches) == 1
    dropped = pd.read_csv(f"{folder}/cbt_qa/dropped.csv")
    kinds = dropped["kind"].value_counts().to_dict()
    assert kinds == {
        "not asked": 348,
        "cut off": 2,
        "refused by the model": 1,
        "failed the check": 1,
        "refused by the provider": 1,
    }
    reasons = dropped[dropped["kind"] != "not asked"].set_index("kind")["reason"]
    assert reasons["cut off"].tolist() == ["SAFETY, 1 times asked", "in mid-sentence, 1 times asked"]
    assert "holds <think>" in reasons["failed the check"] and "content_filter" in reasons["refused by the provider"]
    counted = "2 cut off, 1 failed the check, 348 not asked, 1 refused by the model, 1 refused by the provider"
    assert counted in files.path(f"{folder}/tables/table1_dataset.md").read_text(encoding="utf-8")
    assert counted in files.path(f"{folder}/cbt_qa/README.md").read_text(encoding="utf-8")
    text = nbformat.writes(nbformat.read(place, 4))
    assert "sk-secret" not in text and "0.02" in text, "11 answers x (1,000 x 1 + 500 x 2) / 1e6 = 0.022"


def test_a_run_whose_every_post_is_refused_ends_with_the_providers_words_and_lists_them(server, asked):
    url, folder = asked
    server.script = lambda body, call: bad(400, "filtered", "content_filter")
    source = "params/prompts/cbt_prompt.zh.md"
    files.write_json(f"{folder}/prompts/cbt.json", prompts.record(prompts.read(source), source))
    with pytest.raises(files.InputError, match=r"none of 3 posts has a usable reply; 3 .* content_filter t: filtered"):
        run.run_notebook("02_dataset_generation", "ci", run=folder, endpoint=url, model="m", limit=3)
    kinds = pd.read_csv(f"{folder}/cbt_qa/dropped.csv")["kind"].value_counts()
    assert kinds["refused by the provider"] == 3


def test_a_second_reader_is_estimated_asked_and_its_flags_count(server, asked):
    """Post 1 is flagged by the reader, post 2 refused, post 3 quoted wrongly; the rest has no risk for the reader."""
    url, folder = asked
    source = "params/prompts/cbt_prompt.zh.md"
    files.write_json(f"{folder}/prompts/cbt.json", prompts.record(prompts.read(source), source))
    posts = psyqa.read("data/sample/psyqa_sample.json")[0][:6]
    own = [post.description[:5] for post in posts]
    quoted = {1: own[1], 3: "帖子里没有的话"}

    def script(body, call):
        if "response_format" not in body:
            return good(body, REPLY)
        place = POSTS.index(body["messages"][-1]["content"])
        if place == 2:
            return bad(400, "blocked", "content_filter")
        found = [{"quote": quoted[place], "kind": "suicide_ideation"}] if place in quoted else []
        said = {"findings": found, "severity": "passive" if found else "none"}
        return good(body, json.dumps(said, ensure_ascii=False))

    server.script = script
    reader = {"reader_endpoint": url, "reader_model": "r", "reader_budget": 1.0}
    prices = {"r": {"input": 1.0, "output": 2.0, "date": "2026-01-01"}}
    options = {"run": folder, "endpoint": url, "model": "m", "limit": 6, "prices": prices} | reader
    place = run.run_notebook("02_dataset_generation", "ci", **options)
    assert [body["model"] for body in server.asked].count("r") == 6 == len(server.asked) - 6
    items = {item["questionID"]: item for item in files.read_jsonl(f"{folder}/cbt_qa/cbt_qa.jsonl")}
    by = [items[post.questionID]["flagged_by"] for post in posts]
    assert by[1] in ("second reader", "risk screen and second reader") and items[posts[1].questionID]["risk"]
    assert not {"second reader"} & {by[0], *by[2:]}, "what the reader did not read is what the screen said"
    text = nbformat.writes(nbformat.read(place, 4))
    assert (
        "second reader: 6 requests to r, about " in text and "second reader: the language model r, not a person" in text
    )
    table = pd.read_csv(f"{folder}/tables/risk_readers.csv").set_index("the reader finds")
    assert table.loc[["any of these", "none of these", "unread"], "posts"].tolist() == [1, 3, 2]
    assert table["conditions"].str.contains("4 read, 2 unread").all()
    listed = pd.read_csv(f"{folder}/cbt_qa/readings.csv").set_index("questionID")
    assert listed.loc[posts[1].questionID, "quoted"] == own[1]
    assert "content_filter" in listed.loc[posts[2].questionID, "unread"]
    assert "quotes other words" in listed.loc[posts[3].questionID, "unread"]
    card = files.path(f"{folder}/cbt_qa/README.md").read_text(encoding="utf-8")
    assert "second reader: the language model r, not a person; 4 read, 2 unread" in card


def test_the_data_set_says_how_many_replies_to_flagged_posts_a_person_read(tmp_path):
    """Post 900027 speaks of a wish to die; its recorded reply comes back judged, on a sheet that another run made."""
    posts = {post.questionID: post for post in psyqa.read("data/sample/psyqa_sample.json")[0]}
    reply = next("".join(text for _, text in row["sections"]) for row in RECORDED if row["questionID"] == 900027)
    post = posts[900027]
    check = blinding.checksum(post.question, post.description, reply)
    rows = [{"entry": "AAAA", "check": check, "verdict": 1}, {"entry": "BBBB", "check": "of another run", "verdict": 0}]
    files.write_jsonl(tmp_path / "read/1.jsonl", [{"form": "x", "rater": "reader1", "name": "王芳"}, *rows])
    run.run_notebook("01_prompt_design", "ci", run=str(tmp_path / "run"))
    options = {"run": str(tmp_path / "run"), "filled_readings": str(tmp_path / "read"), "limit": 30}
    run.run_notebook("02_dataset_generation", "ci", **options)
    [row] = pd.read_csv(tmp_path / "run/tables/dataset_readings.csv").to_dict("records")
    assert (row["read by a person"], row["adequate"], row["inadequate"], row["harmful"]) == (1, 0, 1, 0)
    n = row["replies to flagged posts"]
    said = f"1 of {n} replies to {n} flagged post{'s' * (n != 1)} read by a person: 1 inadequate"
    assert files.read_text(tmp_path / "run/tables/dataset_readings.md").startswith(f"**In the data set: {said}**")
    assert said in " ".join(files.read_text(tmp_path / "run/cbt_qa/README.md").split())
    referral = pd.read_csv(tmp_path / "run/tables/referral.csv").set_index("post")
    assert referral.loc["flagged for risk", "replies"] == row["replies to flagged posts"]
