"""Components, measured on replies that the model has not seen and on texts that are not CBT replies."""

import itertools
import random
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cbtllm_utils import files
from cbtllm_utils.data.prompts import COMPONENTS
from cbtllm_utils.text import sections


def right(marked, model):
    """For each character of a marked reply, whether it is given its component."""
    given = sections.segment("".join(text for _, text in marked), model)
    marks, found = ([name for name, text in stretches for _ in text] for stretches in (marked, given))
    return [mark == name for mark, name in zip(marks, found, strict=True)]


def spoiled(marked, draw):
    """A marked reply made worse: sentences shuffled, components swapped, cut at 80 %, its first 40 % three times."""
    own = [text.strip() for _, text in marked]
    reply = "".join(text for _, text in marked)
    texts = sections.sentences(reply)
    return {
        "shuffled": "".join(draw.sample(texts, len(texts))),
        "swapped": "\n\n".join(own[2:] + own[:2]),
        "cut": reply[: len(reply) * 4 // 5],
        "looping": reply[: len(reply) * 2 // 5] * 3,
    }


def judged(row, model, draw):
    """For one marked reply: characters given their component, with and without line breaks; what passes as complete."""
    unbroken = [(name, text.replace("\n", "")) for name, text in row["sections"]]
    texts = {"complete": "".join(text for _, text in row["sections"])} | spoiled(row["sections"], draw)
    return {
        "characters": right(row["sections"], model),
        "characters_unbroken": right(unbroken, model),
        **{name: [sections.structure(text, model).complete] for name, text in texts.items()},
    }


@pytest.fixture(scope="module")
def measured(folds=3):
    """Shares over replies that are read by a model trained on the others."""
    marked, draw = files.read_jsonl(sections.MARKED), random.Random(42)
    draw.shuffle(marked)
    counts = {}
    for fold in range(folds):
        model = sections.learn([row for i, row in enumerate(marked) if i % folds != fold])
        for row in marked[fold::folds]:
            for name, values in judged(row, model, draw).items():
                counts.setdefault(name, []).extend(values)
    return {name: float(np.mean(values)) for name, values in counts.items()}


@pytest.fixture(scope="module")
def replies():
    return ["".join(text for _, text in row["sections"]) for row in files.read_jsonl(sections.MARKED)]


@pytest.mark.parametrize(
    "what, least, most",
    [
        ("characters", 0.97, 1),
        ("characters_unbroken", 0.95, 1),
        ("complete", 0.98, 1),
        *[("shuffled", 0, 0.02), ("swapped", 0, 0.01), ("cut", 0, 0.01), ("looping", 0, 0)],
    ],
)
def test_on_unseen_replies(measured, what, least, most):
    assert least <= measured[what] <= most


@settings(max_examples=80, deadline=None)
@given(st.text(alphabet=st.sampled_from("我你觉得。！？“”‘…\n\r ，a.🙂\u200d\u2028"), max_size=80))
def test_stretches_join_to_the_reply(text):
    stretches = sections.segment(text)
    assert "".join(part for _, part in stretches) == text
    assert all(name in COMPONENTS and part for name, part in stretches)
    assert all(one != other for (one, _), (other, _) in itertools.pairwise(stretches))


@pytest.mark.parametrize(
    "text", ["", "\n", " \n\n ", "。", "？", "我", "🙂" * 40, "“" * 3000, "“我”" * 500, "很好。" * 300, "a" * 20_000]
)
def test_odd_texts_join_and_are_not_complete(text):
    assert "".join(stretch for _, stretch in sections.segment(text)) == text
    assert not sections.structure(text).complete


@pytest.mark.parametrize("text", ["", "\n", "  "])
def test_a_blank_reply_holds_nothing(text):
    assert sections.structure(text) == ((), False, False)


def test_forum_answers_are_not_cbt_replies(sample_questions):
    answers = [record["answers"][0]["answer_text"] for record in sample_questions]
    assert sum(sections.structure(answer).complete for answer in answers) <= 0.01 * len(answers)


def test_replies_made_worse_lose_their_completeness(replies):
    draw = random.Random(1)
    some = [reply for reply in replies[::9] if sections.structure(reply).complete]
    assert len(some) >= 0.98 * len(replies[::9])
    worse = {
        "characters shuffled": ["".join(draw.sample(reply, len(reply))) for reply in some],
        "cut at 60 %": [reply[: len(reply) * 6 // 10] for reply in some],
        "cut in the last sentence": [reply[:-5] + "我们" for reply in some],
        "said twice": [f"{reply}\n\n{reply}" for reply in some],
        "first hundred characters over and over": [reply[:100] * 5 for reply in some],
        "last sentences looping": [reply + reply[-30:] * 8 for reply in some],
        "turned round": ["\n\n".join(reply.split("\n\n")[::-1]) for reply in some],
    }
    passed = {name: sum(sections.structure(text).complete for text in texts) for name, texts in worse.items()}
    assert max(passed.values()) <= 1, passed


def test_the_paper_case_is_read_as_it_is_coloured():
    """Figure 4 colours the published reply by section; nothing like it was in the sample."""
    case = files.read_json("data/published/figure4_case.json")
    truth = [name for name, chinese, _ in case["sections"] for _ in chinese]
    found = [name for name, text in sections.segment(case["reply_zh"]) for _ in text]
    assert np.mean([a == b for a, b in zip(found, truth, strict=True)]) >= 0.95
    assert sections.structure(case["reply_zh"]) == (tuple(COMPONENTS), True, True)


@pytest.mark.parametrize(
    "runs, right",
    [
        ([0, 1, 2, 3, 4], True),
        ([0, 2, 4], True),  # some left out
        ([0, 3, 1, 2, 3, 4], True),  # safety first
        ([0, 3, 0, 1, 2, 3, 4], True),
        ([1, 0, 2, 3, 4], False),
        ([0, 1, 2, 4, 3], False),
        ([0, 1, 2, 3, 4, 0, 1, 2, 3, 4], False),
        ([], False),
    ],
)
def test_the_order_of_components(runs, right):
    assert sections.in_order(runs) is right


@pytest.mark.parametrize(
    "text, right", [("好。", True), ("好！”", True), ("加油🙂\n", True), ("好", False), ("好，", False), ("", False)]
)
def test_the_end_of_a_sentence(text, right):
    assert sections.ends_sentence(text) is right


def test_the_likeliest_path_of_all():
    """Viterbi against all 5^4 paths of four sentences, one by one."""
    model = sections.fitted()
    texts = ["你好。\n\n", "你觉得呢？", "先睡一觉。\n\n", "会好的。"]
    placed, _ = sections.log_probabilities(texts, model)
    seams = model.after[[1, 0, 1]]

    def score(path):
        steps = sum(seams[i, path[i], path[i + 1]] for i in range(3))
        return model.first[path[0]] + steps + sum(placed[i, k] for i, k in enumerate(path))

    assert sections.decode(texts, placed, model) == list(max(itertools.product(range(5), repeat=4), key=score))


def test_characters_shuffled_within_their_sentences_still_pass():
    """What notebooks 05 and 06 warn of: the check reads which characters a sentence has, not what it means."""
    draw, found = random.Random(0), []
    for row in files.read_jsonl(sections.MARKED)[:40]:
        texts = []
        for sentence in sections.sentences("".join(text for _, text in row["sections"])):
            body, stop = re.fullmatch(r"(.*?)([。！？!?…”’）\s]*)", sentence, re.DOTALL).groups()
            texts.append("".join(draw.sample(body, len(body))) + stop)
        found.append(len(sections.structure("".join(texts)).present) == 5)
    assert sum(found) / len(found) > 0.8
