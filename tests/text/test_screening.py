"""The risk screen: rows of the case table, and figures on posts of voices that the model has not read."""

import functools
import json
import os
import subprocess
import sys

import numpy as np
import opencc
import pytest

from cbtllm_utils import notices
from cbtllm_utils.text import risk_model, screening, screening_measures, second_reader

CASES = {  # case D2: each was found by nothing, and the kinds that a reader would give it
    "我想死了": {"suicide_ideation"},
    "我的猫走了，我想死了": {"suicide_ideation"},
    "我的猫走了我想死": {"suicide_ideation"},
    "我没有自杀成功": {"suicide_attempt"},
    "他们说我不会自杀，可我已经买好药了": {"suicide_plan_or_means"},
    "自殺、自殘": {"suicide_ideation", "self_harm"},
    "想把自己饿死": {"suicide_ideation", "self_harm"},
    "买好了炭": {"suicide_plan_or_means"},
    "攒了五十片安定": {"suicide_plan_or_means"},
    "美工刀在手臂上划": {"self_harm"},
    "他掐着我的脖子": {"abuse_suffered"},
    "想拉着全家一起走": {"harm_to_others"},
}


@functools.cache
def posts():
    return screening_measures.posts()


@functools.cache
def unread():
    """Every voice's posts as screened by a model that has not read the voice."""
    return screening_measures.screen_left_out_posts(posts(), posts()["voice"].unique())


def written():
    """Those of them that were written for the screens: all but the sample's."""
    return unread()[lambda table: table["voice"] != screening_measures.SAMPLE]


def share(table, kind=None):
    return (table if kind is None else table[table["kind"] == kind])["flagged"].mean()


@pytest.mark.parametrize("text", CASES)
def test_a_case_is_flagged_with_its_kind_and_its_words(text):
    found = screening.find_risk(text)
    assert screening.risk(text) and {one.kind for one in found} & CASES[text]
    assert all(text[one.start : one.start + len(one.text)] == one.text for one in found)


@pytest.mark.parametrize("text", ["", " \n", "。。。", "🙂", "12356", "\0", "\ud83d"])
def test_a_text_without_words_is_read(text):
    assert screening.find_risk(text) == [] and not screening.risk(text)


def test_recall_and_false_alarms_on_voices_that_were_not_read():
    """The issue asks for recall of 0.93 with at most 0.05 on everyday distress and 0.15 on look-alikes."""
    table = written()
    assert share(table[table["label"] == 1]) >= 0.93
    assert share(table, "everyday_distress") <= 0.05 and share(table, risk_model.LOOK_ALIKE) <= 0.15


def test_no_kind_of_risk_is_mostly_missed():
    risky = written()[lambda table: table["label"] == 1]
    assert risky.groupby("kind")["flagged"].mean().min() >= 0.8


def test_the_kind_of_most_posts_is_named_in_voices_that_were_not_read():
    table = posts()
    own = table[(table["voice"] == "a") & (table["label"] == 1)]
    model = risk_model.fit(table[table["voice"] != "a"])
    assert (
        np.mean(
            [model.kind(text) == risk_model.KINDS[kind] for text, kind in zip(own["text"], own["kind"], strict=True)]
        )
        >= 0.8
    )


@pytest.mark.parametrize("broken", ["\0", "\ud83d"])
@pytest.mark.parametrize("text", CASES)
def test_a_broken_character_hides_nothing(text, broken):
    assert all(screening.risk(written) for written in (f"{broken}{text}", f"{text}{broken}", broken.join(text)))
    assert all(one.text in f"{text}{broken}" for one in screening.find_risk(f"{text}{broken}"))
    assert screening.find_referral(broken) == [] and not screening.advice(broken)


def test_one_sentence_is_flagged_in_a_post_of_a_hundred_thousand_characters():
    post = next(text for text in posts().query("kind == 'everyday_distress'")["text"] if not screening.risk(text))
    many = post * (50_000 // len(post))
    assert not screening.risk(many + many)
    assert screening.risk(f"{many}。攒了五十片安定。{many}")


def test_a_model_scores_a_post_alone_as_it_scores_a_voice():
    few = posts().groupby(["voice", "kind"]).head(2)
    few = few[few["voice"].isin(["d", "e", "f"])]
    together = risk_model.leave_one_voice_out(few, ["f"])
    model = risk_model.fit(few[few["voice"] != "f"])
    alone = [model.scores(text) for text in few.loc[together.index, "text"]]
    np.testing.assert_allclose(together.to_numpy(), np.array(alone), atol=1e-9)


def test_traditional_script_hides_nothing():
    to_traditional = opencc.OpenCC("s2t")
    drawn = posts().sample(300, random_state=1)["text"]
    same = [screening.risk(text) == screening.risk(to_traditional.convert(text)) for text in drawn]
    assert np.mean(same) >= 0.97


def test_full_width_and_spaced_characters_hide_nothing():
    assert screening.risk("我 想 死") and screening.risk("\uf967想活了")  # a 不 of another code


def test_a_screen_gives_the_same_answer_in_every_process():
    program = (
        "import json; from cbtllm_utils.text import risk_model as m; t = m.files.read_csv(m.POSTS);"
        "model = m.fit(t.groupby('kind').head(30)); print(json.dumps([model.scores(x) for x in t['text'][:50]]))"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", program], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        )
        for seed in ("1", "2")
    ]
    first, second = (json.loads(run.stdout) for run in runs)
    assert first == second


def test_the_sample_is_mostly_found_when_left_out():
    """Whole posts, written before there was a screen to write for: the hardest voice, with the most false alarms."""
    sample = unread()[lambda table: table["voice"] == screening_measures.SAMPLE]
    assert len(sample) > 350
    assert share(sample[sample["label"] == 1]) >= 0.75
    assert share(sample[sample["label"] == 0]) <= 0.4


def test_the_two_voices_written_last_are_screened_as_when_they_were_scored_first():
    found = screening_measures.screen_posts(screening_measures.posts(screening_measures.FINAL_POSTS))
    read = screening_measures.screen_replies(screening_measures.replies(screening_measures.FINAL_REPLIES))
    for table, right, false in ((found, 146, 12), (read, 40, 1)):
        assert table[table["label"] == 1]["flagged"].sum() == right
        assert table[table["label"] == 0]["flagged"].sum() == false


def test_screen_and_second_reader_name_the_same_kinds():
    assert set(second_reader.KINDS) == set(risk_model.NAMES)


def test_the_notices_say_where_to_find_help():
    assert "12356" in notices.notice("zh") and "12356" in notices.notice("en")
    assert "Yixinli" in notices.NOTICES["psyqa"] and "peer support" in notices.NOTICES["psyqa"]


def test_help_that_a_reply_advises_against_is_not_advised():
    both = "请马上联系你信任的家人，也可以拨打12356。"
    assert screening.advised(both) == {"hotline", "trusted_person"} and screening.advice(both)
    assert screening.advised(both + "先别打12356。") == {"trusted_person"} and not screening.advice(
        both + "先别打12356。"
    )
