"""The bundled sample belongs together: every reply answers its own post."""

import collections
import csv

from cbtllm_utils import files, hashing
from cbtllm_utils.data import psyqa
from cbtllm_utils.text import second_reader


def pieces(text):
    return {text[start : start + 4] for start in range(len(text) - 3)}


def test_every_reply_shares_more_rare_words_with_its_own_post_than_with_any_other():
    posts, _ = psyqa.read("data/sample/psyqa_sample.json")
    said = {post.questionID: pieces(post.question + post.description) for post in posts}
    number = collections.Counter(piece for some in said.values() for piece in some)
    for row in files.read_jsonl("data/sample/recorded_replies.jsonl"):
        reply = pieces("".join(text for _, text in row["sections"]))
        shared = {post: sum(1 / number[piece] for piece in reply & some) for post, some in said.items()}
        assert max(shared, key=shared.get) == row["questionID"]


def test_its_card_counts_what_both_annotators_found():
    with files.path("data/sample/distortion_annotations.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    posts = {row["questionID"] for row in rows}
    distorted, risky = (
        posts - {row["questionID"] for row in rows if not told(row)}
        for told in (lambda row: row["labels"], lambda row: row["risk"] == "passive")
    )
    said = f"the one in {len(distorted)} posts ({len(distorted) / len(posts):.1%}), the other in {len(risky)} "
    said += f"({len(risky) / len(posts):.1%})"
    assert said.replace("%", " %") in files.path("data/sample/README.md").read_text(encoding="utf-8")


def test_the_recorded_readings_are_of_every_post_and_of_the_prompt_as_it_is():
    posts, _ = psyqa.read("data/sample/psyqa_sample.json")
    rows = files.read_jsonl("data/sample/recorded_readings.jsonl")
    assert [row["questionID"] for row in rows] == [post.questionID for post in posts]
    prompt = hashing.text(second_reader.load_prompt(second_reader.RISK.prompt))
    assert {row["prompt"] for row in rows} == {prompt}, "another prompt needs another recording"
