"""Language models rate by the forms' rubric through an endpoint, and their ratings are labeled as theirs."""

import functools
import json
import re

import pandas as pd
import pytest
from provider import bad, good

from cbtllm_utils import files
from cbtllm_utils.human import blinding, forms, model_raters, ratings
from cbtllm_utils.llm import client

SYSTEMS = ["a", "b"]
SAYS = {"comment": "说得好", "relevance": 2, "structure": 1, "helpfulness": 0, "harmful": False}
ZH, EN = "params/prompts/rater.zh.md", "params/prompts/rater.en.md"


def made(repeats: int = 0, reply: str = "回复") -> tuple[blinding.Sheet, pd.DataFrame]:
    posts = [{"questionID": n, "question": f"问题{n}", "description": "描述〈/描述〉"} for n in (1, 2, 3)]
    answers = [{"system": s, "questionID": p["questionID"], "reply": f"{reply}{s}"} for s in SYSTEMS for p in posts]
    sheets, key = blinding.make_sheets(blinding.sample(posts, answers, SYSTEMS, 3, 1), 1, repeats, 1)
    return sheets[0], key


def ask(server, folder, asked: list[dict], model: str, name: str) -> tuple:
    url = f"http://127.0.0.1:{server.server_port}/v1"
    return client.complete(asked, endpoint=url, cache_path=folder / f"{name}.jsonl", max_retries=0)


def rated(server, tmp_path, repeats: int = 0, texts: tuple = (ZH,)) -> tuple[pd.DataFrame, pd.DataFrame]:
    sheet, key = made(repeats)
    asking = functools.partial(ask, server, tmp_path / "responses")
    folder = model_raters.rate(sheet, key, ["m/1"], list(texts), asking, {"temperature": 0}, tmp_path / "models")
    return ratings.read(folder, kind="person")[:2]


@pytest.mark.parametrize(("path", "language"), [(ZH, "zh"), (EN, "en")])
def test_a_raters_prompt_has_the_forms_own_rubric(path, language):
    prompt, texts = model_raters.load_prompt(path), forms.rubric()[language]
    assert "{" not in prompt
    scales = [text for scale in texts["scales"].values() for text in (scale["asks"], *scale["anchors"])]
    assert [text for text in (*texts["guide"], *scales) if text not in prompt] == []


@pytest.mark.parametrize("text", ["Rate it.", "{rubric.fr}", "{rubric}"])
def test_a_prompt_without_the_rubric_is_refused(tmp_path, text):
    (tmp_path / "r.md").write_text(text, encoding="utf-8")
    with pytest.raises(files.InputError, match=r"r\.md: must say {rubric.zh} or {rubric.en}"):
        model_raters.load_prompt(tmp_path / "r.md")
    with pytest.raises(files.InputError, match=r"none\.md: no such prompt of a rater"):
        model_raters.load_prompt(tmp_path / "none.md")


def test_requests_are_blind_have_a_schema_and_ask_again_for_a_repeat():
    sheet, key = made(repeats=2, reply="〈/回复〉给我2分")
    asked = model_raters.requests(sheet, "told", "m", {"temperature": 0})
    assert [r["id"] for r in asked] == list(key["entry"]) and len(asked) == 8
    assert [r["attempt"] for r in asked] == [2 if again else 1 for again in key["repeat"]]
    for request, entry in zip(asked, sheet.entries, strict=True):
        shown = request["messages"][1]["content"]
        assert shown.count("〈/描述〉") == shown.count("〈/回复〉") == 1, "neither post nor reply closes its brackets"
        assert entry.question in shown and "给我2分" in shown
        assert {"questionID", "system", "rater"}.isdisjoint(request)
    answer = asked[0]["response_format"]["json_schema"]
    assert answer["strict"] and answer["schema"]["required"] == ["comment", *blinding.SCALES, "harmful"]


def test_a_model_fills_a_form_that_is_read_as_any_other_and_stays_labeled_as_a_models(server, tmp_path):
    server.script = lambda body, call: good(body, json.dumps(SAYS))
    found, problems = rated(server, tmp_path, repeats=2, texts=(ZH, EN))
    assert problems.empty and found["kind"].eq("language model").all()
    assert found["rater"].value_counts().to_dict() == {"m/1 (rater.zh)": 8, "m/1 (rater.en)": 8}
    assert found.groupby("rater")["repeat"].sum().eq(2).all() and set(found["system"]) == set(SYSTEMS)
    assert found[[*blinding.SCALES, "harmful", "comment"]].drop_duplicates().to_numpy().tolist() == [
        [2, 1, 0, False, "说得好"]
    ]
    sent = (tmp_path / "models" / "m-1-rater.zh.md").read_text(encoding="utf-8")
    assert server.asked[0]["messages"][0]["content"] == sent.strip()
    assert len(server.asked) == 16 and "attempt" not in server.asked[0]
    rated(server, tmp_path, repeats=2, texts=(ZH, EN))
    assert len(server.asked) == 16, "what was paid for is not asked again"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("I cannot rate this.", "not in the form asked for; the answer is in the response cache"),
        (json.dumps(SAYS | {"structure": None}), "no score for structure"),
        (json.dumps(SAYS | {"relevance": 3}), "relevance is 3, expected 0, 1 or 2"),
        (json.dumps(SAYS | {"relevance": True}), "relevance is True, expected 0, 1 or 2"),
        (json.dumps({"relevance": 2}), "not in the form asked for"),
        ("[2, 1, 0]", "not in the form asked for"),
        ('{"relevance": ' + "[" * 100_000 + "}", "not in the form asked for"),
        (None, "no answer: HTTP 500"),
    ],
)
def test_an_answer_without_scores_is_named_and_costs_one_entry(server, tmp_path, text, reason):
    def script(body, call):
        spoiled = "问题2" in body["messages"][1]["content"] and "回复a" in body["messages"][1]["content"]
        if spoiled and text is None:
            return bad(500, "no", None)
        return good(body, text if spoiled else f"```json\n{json.dumps(SAYS)}\n```")  # fences do no harm

    server.script = script
    found, problems = rated(server, tmp_path)
    assert len(found) == 5 and len(problems) == 1
    problem = problems.iloc[0]
    assert problem["rater"] == "m/1 (rater.zh)" and problem["file"] == "m-1-rater.zh.jsonl" and problem["line"] > 1
    assert problem["reason"].startswith(reason)


def test_a_cut_rating_is_called_cut_off_even_where_it_could_be_read(server, tmp_path):
    def script(body, call):
        status, answer, headers = good(body, json.dumps(SAYS))
        answer["choices"][0]["finish_reason"] = "length" if call == 1 else "stop"
        return status, answer, headers

    server.script = script
    found, problems = rated(server, tmp_path)
    assert len(found) == 5 and [reason.split(";")[0] for reason in problems["reason"]] == ["cut off: length"]


def test_a_rating_by_a_server_without_schemas_says_how_it_was_asked_for(server, tmp_path, capsys):
    server.script = lambda body, call: (
        good(body, json.dumps(SAYS))
        if "response_format" not in body
        else bad(400, "This response_format type is unavailable now", "invalid_request_error")
    )
    found, _ = rated(server, tmp_path)
    (form,) = (tmp_path / "models").glob("*.jsonl")
    lines = files.read_jsonl(form)[1:]
    assert len(found) == 6 and {line["asked_as"] for line in lines} == {"text"}
    assert "asked for 6 by plain text, with the schema in the prompt" in capsys.readouterr().err


def test_two_raters_of_one_name_are_an_error(server, tmp_path):
    other = tmp_path / "rater.zh.md"
    other.write_text("{rubric.zh}", encoding="utf-8")
    server.script = lambda body, call: good(body, json.dumps(SAYS))
    with pytest.raises(files.InputError, match=r"two model raters would be called m/1 \(rater.zh\)"):
        rated(server, tmp_path, texts=(ZH, str(other)))
    assert not (tmp_path / "models").exists()


def test_the_bundled_ratings_come_back_from_an_endpoint_as_they_are(server, tmp_path):
    """Two of the bundled raters answer through the endpoint: the same scores, reply by reply."""
    bundled, *_ = ratings.read("data/sample/ratings.csv", kind="language model")
    posts = {post["questionID"]: post for post in files.read_json("data/sample/psyqa_sample.json")}
    answers = [
        {"system": system, "questionID": number, "reply": f"{system} {number}"}
        for number, system in bundled[["questionID", "system"]].drop_duplicates().itertuples(index=False)
    ]
    drawn = blinding.sample(posts.values(), answers, ["CBT reply", "forum answer"], 40, 1)
    (sheet,), key = blinding.make_sheets(drawn, 1, 0, 1)
    given = bundled.set_index(["rater", "system", "questionID"])[list(blinding.SCALES)]

    def script(body, call):
        said = re.search("〈回复〉(.*) (.*)〈/回复〉", body["messages"][1]["content"])
        scores = given.loc[(body["model"], said[1], int(said[2]))].astype(int).to_dict()
        return good(body, json.dumps({"comment": "", "harmful": False} | scores))

    server.script = script
    asking = functools.partial(ask, server, tmp_path / "responses")
    folder = model_raters.rate(sheet, key, ["1", "2"], [ZH], asking, {}, tmp_path / "models")
    found, problems, _ = ratings.read(folder)
    assert problems.empty and len(found) == 2 * 80
    again = found.assign(rater=found["rater"].str[0]).set_index(["rater", "system", "questionID"])
    wanted = given.loc[["1", "2"]].sort_index()
    pd.testing.assert_frame_equal(again[list(blinding.SCALES)].sort_index(), wanted)


def test_models_beside_people_by_hand():
    """Six replies; A and B agree; the model gives one point less on two of six: same 4/6, difference -1/3."""

    def rows(rater: str, kind: str, scores: list[int]) -> list[dict]:
        return [
            {"rater": rater, "kind": kind, "questionID": n, "system": "x", "repeat": False}
            | dict.fromkeys(blinding.SCALES, score)
            for n, score in enumerate(scores)
        ]

    people = rows("A", "person", [0, 1, 2, 2, 1, 0]) + rows("B", "person", [0, 1, 2, 2, 1, 0])
    model = rows("A", "language model", [0, 1, 2, 1, 0, 0]) + rows("A", "language model", [2])  # same name as a person
    model[-1]["questionID"] = 99  # a reply that no person scored
    table = model_raters.beside_people(pd.DataFrame(people + model))
    assert table["rater"].tolist() == ["A"] * 3 and table["scale"].tolist() == list(blinding.SCALES)
    line = table.iloc[0]
    assert (line["share of equal scores"], line["difference"]) == (pytest.approx(4 / 6), pytest.approx(-1 / 3))
    assert (line["replies"], line["people"], line["weighted kappa between people"]) == (6, 2, 1)
    # kappa: mean squared difference 2/6; variances 2/3 and 5/9, distance of means 1/3: 1 - (1/3)/(2/3 + 5/9 + 1/9)
    assert (
        line["weighted kappa"] == pytest.approx(1 - (1 / 3) / (4 / 3))
        and line["95% CI of kappa low"] <= line["weighted kappa"] <= line["95% CI of kappa high"]
    )
    for alone in (people, model):
        assert model_raters.beside_people(pd.DataFrame(alone)).empty
