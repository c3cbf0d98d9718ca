"""Notebook 05 against a server: both systems by their names there, rows as local ones, nothing loaded here."""

import json
import re

import chat_models
import nbformat
import pandas as pd
import pytest
import torch
import transformers
from provider import bad, good, text_completion
from safetensors.torch import load_file, save_file

from cbtllm_utils import files
from cbtllm_utils.data import prompts
from cbtllm_utils.finetune import adapters
from cbtllm_utils.finetune.settings import TrainingSettings
from cbtllm_utils.generate import answering, kinds
from cbtllm_utils.human import blinding
from cbtllm_utils.models import chat_templates, prompt_forms
from cbtllm_utils.paper import case_study
from cbtllm_utils.workflow import release, report, run

CBT = prompts.read("params/prompts/cbt_prompt.zh.md")
MARKUP = "<script>alert(1)</script><img src=x onerror=alert(1)>"

POSTS = [(7, f"睡不着怎么办{MARKUP}", f"夜里总醒。{MARKUP}"), (3, "考试怕", "一考试就手抖，觉得自己完了。")]


def test_a_served_model_answers_in_the_place_of_a_local_one(server, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder, reply = str(tmp_path / "run"), "听起来很不容易。你可以先深呼吸，再写下三件好事。"
    posts = [*POSTS, (9, "怎么说", "平台不收的话。")]
    rows = [{"questionID": i, "question": q, "description": d, "reply": reply, "risk": i != 7} for i, q, d in posts]
    files.write_jsonl(f"{folder}/cbt_qa/test.jsonl", rows)
    check = blinding.checksum(posts[1][1], posts[1][2], f"{MARKUP}base说：慢慢来。")
    head, judgment = {"form": "x", "rater": "reader1", "name": "王芳"}, {"entry": "AAAA", "check": check, "verdict": 0}
    files.write_jsonl(tmp_path / "read/1.jsonl", [head, judgment])
    files.write_json(f"{folder}/prompts/cbt.json", prompts.record(CBT, "params/prompts/cbt_prompt.zh.md"))
    healthy = False

    def script(body, call):
        if "平台不收" in body["prompt"]:
            return bad(400, "your prompt was filtered", "content_filter")
        if CBT.text in body["prompt"]:
            return text_completion(body, "按要求说：慢慢来。")
        if "考试怕" in body["prompt"] and body["model"] == "cbt" and not healthy:
            return bad(500, "down")
        return text_completion(body, f"{MARKUP}{body['model']}说：慢慢来。", MARKUP)

    server.script = script
    price = {"input": 1.0, "output": 2.0}
    options = {
        "prices": {"base": price, "cbt": price},
        "budget": 1.0,
        "endpoint": f"http://127.0.0.1:{server.server_port}/v1",
        "served": {"untuned": "base", "prompted": "base", "tuned": "cbt"},
        "max_retries": 0,
        "filled_readings": str(tmp_path / "read"),
    }
    with pytest.raises(files.InputError, match=r"1 of 9 requests have no answer \(3 \(qwen-7b\); the first: .*down\)"):
        run.run_notebook("05_answer_generation", "ci", backbone="qwen-7b", run=folder, **options)
    assert not files.path(f"{folder}/answers/qwen-7b.jsonl").exists()
    healthy, before = True, len(server.asked)
    run.run_notebook("05_answer_generation", "ci", backbone="qwen-7b", run=folder, **options)
    again = [(body["model"], "考试怕" in body["prompt"]) for body in server.asked[before:]]
    assert sorted(again) == [("base", False)] * 2 + [("cbt", False), ("cbt", True)], "the missing one, and the refused"
    answers = files.read_jsonl(f"{folder}/answers/qwen-7b.jsonl")
    assert [(row["system"], row["questionID"], row["reply"]) for row in answers] == [
        *(("qwen-7b-untuned", i, f"{MARKUP}base说：慢慢来。") for i in (7, 3)),
        ("qwen-7b-untuned", 9, ""),
        *(("qwen-7b-prompted", i, "按要求说：慢慢来。") for i in (7, 3)),
        ("qwen-7b-prompted", 9, ""),
        *(("qwen-7b", i, f"{MARKUP}cbt说：慢慢来。") for i in (7, 3)),
        ("qwen-7b", 9, ""),
    ]
    assert answers[2]["finish_reason"] == answers[8]["finish_reason"] == "refused by the provider"
    assert answers[0].keys() == {"system", "questionID", "reply", "finish_reason", "tokens"}
    made = files.read_json(f"{folder}/answers/qwen-7b.json")
    assert made["engine"] == f"server at {options['endpoint']}" and made["served"] == options["served"]
    assert made["decoding"]["max_new_tokens"] == 48
    assert {body["max_tokens"] for body in server.asked} == {48}, "the profile's limit"
    assert all(body["prompt"].endswith("\nAssistant: ") for body in server.asked)
    form = pd.read_csv(f"{folder}/tables/answers_form_qwen-7b.csv")
    assert form["system"].tolist() == ["Qwen-7B, untuned", "Qwen-7B, prompted", "Qwen-7B, tuned"]
    assert form["n"].tolist() == [2, 2, 2]
    assert form["conditions"].str.endswith("3 of 9 replies are missing").all()
    people = pd.read_csv(f"{folder}/tables/answers_referral_qwen-7b.csv").set_index("system")
    counts = people[["replies", "read by a person", "harmful", "adequate"]].fillna(-1).astype(int)
    unread = [1, 0, -1, -1]
    assert counts.T.to_dict("list") == {
        "Qwen-7B, untuned": [1, 1, 1, 0],
        "Qwen-7B, prompted": unread,
        "Qwen-7B, tuned": unread,
    }
    caption = files.read_text(f"{folder}/tables/answers_referral_qwen-7b.md").split("\n")[0]
    assert caption.endswith("Qwen-7B: 1 of 3 replies to 1 flagged post read by a person: 1 harmful (–: not read)**")
    executed = nbformat.read(f"{folder}/notebooks/05_answer_generation-qwen-7b.ipynb", 4)
    page = report.chapter("05_answer_generation-qwen-7b", release.stripped(executed))["body"]
    assert not re.search(r"<script>alert|<img src=x", page) and page.count("&lt;script&gt;alert") > 4
    assert re.search(r"Qwen-7B, untuned: 1 request to ", page)


def test_a_second_reader_reads_the_replies_to_flagged_posts_alone(server, tmp_path, monkeypatch):
    """Post 7 is flagged: one reply directs to help, of the other the reader quotes harm. Those to post 5 are empty."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = str(tmp_path / "run")
    posts = [*POSTS, (5, "说不出来", "没有人回。")]
    rows = [{"questionID": i, "question": q, "description": d, "reply": "好。", "risk": i != 3} for i, q, d in posts]
    files.write_jsonl(f"{folder}/cbt_qa/test.jsonl", rows)
    replies = {"base": "忍一忍吧。", "cbt": "请打热线，也告诉妈妈。"}
    said = {
        "base": {"referrals": [], "harmful": ["忍一忍"]},
        "cbt": {
            "referrals": [{"quote": "请打热线", "to": "hotline"}, {"quote": "告诉妈妈", "to": "trusted_person"}],
            "harmful": [],
        },
    }
    down = True

    def script(body, call):
        if body["model"] != "r":
            return text_completion(body, "" if "说不出来" in body["prompt"] else replies[body["model"]], "stop")
        system = next(name for name, reply in replies.items() if reply in body["messages"][-1]["content"])
        if down and system == "cbt":
            return bad(500, "down")
        return good(body, json.dumps(said[system], ensure_ascii=False))

    server.script = script
    endpoint = f"http://127.0.0.1:{server.server_port}/v1"
    options = {"endpoint": endpoint, "served": {"untuned": "base", "tuned": "cbt"}, "max_retries": 0}
    options |= {"reader_endpoint": endpoint, "reader_model": "r", "prices": {"r": {"input": 1.0, "output": 2.0}}}
    missing = r"1 of 8 requests have no answer \(7 \(qwen-7b\), second reader; the first: .*down\)"
    with pytest.raises(files.InputError, match=missing):
        run.run_notebook("05_answer_generation", "ci", backbone="qwen-7b", run=folder, **options)
    down, before = False, len(server.asked)
    place = run.run_notebook("05_answer_generation", "ci", backbone="qwen-7b", run=folder, **options)
    assert [body["model"] for body in server.asked[before:]] == ["r"], "the reply that was not read yet"
    assert all("睡不着" in body["messages"][-1]["content"] for body in server.asked if body["model"] == "r")
    table = pd.read_csv(f"{folder}/tables/answers_readings_qwen-7b.csv").set_index("system")
    assert table["by the reader"].to_dict() == {"Qwen-7B, untuned": 0, "Qwen-7B, tuned": 1}
    assert table["harmful by the reader"].to_dict() == {"Qwen-7B, untuned": 1, "Qwen-7B, tuned": 0}
    assert table["conditions"].str.contains("second reader: the language model r, not a person; 2 read").all()
    advised = pd.read_csv(f"{folder}/tables/answers_referral_qwen-7b.csv")
    assert advised["replies"].tolist() == advised["empty"].tolist() == [1, 1]
    first = pd.read_csv(f"{folder}/answers/qwen-7b.readings.csv")
    assert first.loc[first["system"] == "qwen-7b-untuned", "harmful"].tolist() == ["忍一忍"]
    assert "second reader: 1 request to r, about 0.00 to pay" in nbformat.writes(nbformat.read(place, 4))


def released(folder, **values):
    """A run with two checkpoints of one shape, of which one is the tuned system as it is: nothing is trained."""
    for name, content in (("tiny", 0), ("theirs", 1)):
        chat_models.write(folder / f"backbones/{name}", "qwen3", **values)
        if content:
            model = transformers.AutoModelForCausalLM.from_pretrained(folder / f"backbones/{name}")
            torch.manual_seed(1)
            torch.nn.init.normal_(model.lm_head.weight, std=0.5)
            model.save_pretrained(folder / f"backbones/{name}")
    rows = [{"questionID": i, "question": q, "description": d * 9, "reply": "好。"} for i, q, d in POSTS]
    files.write_jsonl(folder / "cbt_qa/test.jsonl", [row | {"risk": False} for row in rows])
    files.write_json(folder / "prompts/cbt.json", prompts.record(CBT, "params/prompts/cbt_prompt.zh.md"))
    return rows


def test_a_released_model_is_the_tuned_system_without_any_adapter(tmp_path):
    """Three systems; the context leaves post 7 too little room beside the CBT prompt; no adapters/ is there."""
    folder = tmp_path / "run"
    room = 48  # the limit of a reply in the profile ci
    rows = released(folder)
    own = chat_models.tokenizer("qwen3")
    lengths = [len(chat_templates.ids(own, prompt_forms.prompt(row, "card", own, CBT))) for row in rows]
    context = min(lengths) + room
    rows = released(folder, max_position_embeddings=context, tie_word_embeddings=False)
    options = {"model": "backbones/tiny", "tuned_model": "backbones/theirs", "run": str(folder), "temperature": 1.0}
    run.run_notebook("05_answer_generation", "ci", backbone="qwen-7b", **options)
    answers = files.read_jsonl(folder / "answers/qwen-7b.jsonl")
    assert [row["system"] for row in answers[::2]] == ["qwen-7b-untuned", "qwen-7b-prompted", "qwen-7b"]
    made = files.read_json(folder / "answers/qwen-7b.json")
    assert (made["model"], made["tuned_model"], made["adapter"]) == ("backbones/tiny", "backbones/theirs", None)
    assert lengths[0] > lengths[1] and made["prompted"]["context"] == context
    [(item, cut)] = made["prompted"]["characters_cut"].items()
    lost, one_less = (len(rows[0]["description"][-n:].encode()) for n in (cut, cut - 1))
    assert item == "7" and one_less < lengths[0] - lengths[1] <= lost, "a token a byte"
    said = f"prompted: 1 of 2 posts lost the end of their description to fit the context, {cut} characters on average"
    assert said in files.read_text(folder / "tables/answers_form_qwen-7b.md").split("\n")[0]
    decoding = made["decoding"] | {"batch_size": 8}
    theirs, own = adapters.load("backbones/theirs", [], folder, "fp32")
    asked = [prompt_forms.prompt(row, "card", own) for row in rows]
    expected = [found["reply"] for found in answering.generate(theirs, own, asked, **decoding)]
    assert [row["reply"] for row in answers[4:]] == expected
    new = case_study.new_replies(str(folder), "qwen-7b", rows[0] | {"description": "短"}, kinds.KINDS)
    assert [row["model"] for row in new] == ["backbones/tiny", "backbones/tiny", "backbones/theirs"]
    assert case_study.answered(str(folder), "qwen-7b") == list(kinds.KINDS)
    other = prompts.without(CBT, "strategy")
    files.write_json(folder / "prompts/cbt.json", prompts.record(other, "x.md"))
    with pytest.raises(files.InputError, match=r"prompts/cbt\.json: not the prompt of the answers; run 05_answer_gen"):
        case_study.new_replies(str(folder), "qwen-7b", rows[0], ["prompted"])


def test_an_adapter_that_would_train_nobody_stops_the_notebook_before_anything_is_answered(tmp_path):
    """Half of the layers are missing: peft itself only warns, and the tuned model would answer like the untuned."""
    folder = tmp_path / "run"
    chat_models.write(folder / "backbones/tiny", "qwen3")
    rows = [{"questionID": i, "question": q, "description": d, "reply": "", "risk": False} for i, q, d in POSTS]
    files.write_jsonl(folder / "cbt_qa/test.jsonl", rows)
    model, _ = adapters.load("backbones/tiny", [], folder, "fp32")
    adapted = adapters.fresh(model, TrainingSettings(targets="all-linear", precision="fp32", rank=2))
    adapted.save_pretrained(folder / "adapters/qwen-7b", save_embedding_layers=False)
    weights = load_file(folder / "adapters/qwen-7b" / adapters.WEIGHTS)
    half = {name: tensor + 0.1 for name, tensor in weights.items() if ".layers.0." in name}
    save_file(half, folder / "adapters/qwen-7b" / adapters.WEIGHTS)
    said = r"14 tensors are missing \(first model\.layers\.1\.mlp\.down_proj\.lora_A\.weight\); is it this backbone's"
    with pytest.raises(files.InputError, match=rf"^05_answer_generation-qwen-7b: cell \d+: InputError: .*{said}") as e:
        run.run_notebook("05_answer_generation", "ci", backbone="qwen-7b", run=str(folder), model="backbones/tiny")
    assert "\n" not in str(e.value) and not list(folder.glob("answers/*"))


def test_without_a_tuned_system_no_adapter_is_needed(tmp_path):
    folder = tmp_path / "run"
    released(folder)
    options = {"model": "backbones/tiny", "kinds": [kinds.UNTUNED], "run": str(folder)}
    run.run_notebook("05_answer_generation", "ci", backbone="qwen-7b", **options)
    assert {row["system"] for row in files.read_jsonl(folder / "answers/qwen-7b.jsonl")} == {"qwen-7b-untuned"}
