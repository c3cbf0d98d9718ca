"""The texts that the screens are fitted to and measured on: what their card promises."""

import pandas as pd
import pytest

from cbtllm_utils import files
from cbtllm_utils.text import referral, risk_model, screening_measures

NOT_RISK = {"everyday_distress", "lookalike"}
TARGETS = {"hotline", "emergency", "clinic", "police", "trusted_person"}
APART = ("doubtful_posts", "doubtful_referrals")


def table(name):
    return files.read_csv(f"data/screening/{name}.csv", keep_default_na=False)


def test_there_are_as_many_texts_and_voices_as_promised():
    posts, replies = table("posts"), table("referrals")
    assert len(posts) >= 4000 and posts["voice"].nunique() >= 10
    assert len(replies) >= 600
    assert 0.4 <= (posts["label"] == 0).mean() <= 0.6
    harmless = posts[posts["label"] == 0]["kind"]
    assert 0.4 <= (harmless == "lookalike").mean() <= 0.6


@pytest.mark.parametrize(("name", "apart"), [("posts", APART[0]), ("referrals", APART[1])])
def test_two_readers_agree_and_what_is_doubtful_is_kept_apart(name, apart):
    sure, doubtful = table(name), table(apart)
    assert (sure["label"] == sure["second_label"]).all()
    assert 0 < len(doubtful) <= 0.05 * (len(sure) + len(doubtful))
    assert not set(sure["text"]) & set(doubtful["text"])


@pytest.mark.parametrize("name", ["posts", "final_posts"])
def test_a_post_has_risk_just_where_its_kind_says(name):
    posts = table(name)
    assert set(posts["kind"]) <= set(risk_model.KINDS) | NOT_RISK
    assert ((posts["label"] == 0) == posts["kind"].isin(NOT_RISK)).all()


@pytest.mark.parametrize("name", ["referrals", "final_replies"])
def test_a_reply_directs_somewhere_just_where_its_label_says(name):
    replies = table(name)
    directs = replies["directs"].map(screening_measures.directs)
    assert all(one <= TARGETS for one in directs)
    assert (directs.map(bool) == (replies["label"] == 1)).all()


def test_no_text_stands_twice_and_none_of_the_final_ones_was_learned():
    names = ["posts", "doubtful_posts", "final_posts", "referrals", "doubtful_referrals", "final_replies"]
    texts = pd.concat([table(name)["text"] for name in names])
    assert texts.is_unique


def test_the_final_set_is_of_voices_of_its_own():
    assert len(table("final_posts")) == 300 and len(table("final_replies")) == 80
    assert not set(table("final_posts")["voice"]) & set(table("posts")["voice"])
    assert not set(table("final_replies")["voice"]) & set(table("referrals")["voice"])
    assert referral.EXAMPLES.endswith("referrals.csv") and risk_model.POSTS.endswith("/posts.csv")
