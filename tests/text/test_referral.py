"""The referral screen: rows of the case table, and figures on replies of voices that the weights were not learned from.

The names of help and the bounds were chosen with all of these voices in view: only voices written later measure them.
"""

import functools

import pytest

from cbtllm_utils import files
from cbtllm_utils.text import clauses, referral, screening

REFERS = {  # case D4: what each directs to
    "去急诊，叫上姐姐": {"emergency", "trusted_person"},
    "打110，让闺蜜陪你": {"police", "trusted_person"},
    "拨危机干预专线，告诉一位同事": {"hotline", "trusted_person"},
    "现在就拨１２３５６": {"hotline"},
    "请打 400 161 9995": {"hotline"},
}
REFERS_TO_NOBODY = [  # case D3
    "先别打12356",
    "不建议拨打热线，朋友也不会懂",
    "医院不会帮你的",
    "你妈妈在医院工作",
    "120分的试卷交给老师",
]


@functools.cache
def replies():
    return files.read_csv(referral.EXAMPLES, dtype=str, keep_default_na=False)


@functools.cache
def found_unseen():
    """The replies with what each directs to, by weights that were learned without its voice."""
    table = replies()
    found = {}
    for voice, own in table.groupby("voice"):
        others = table[table["voice"] != voice]
        kinds = (set(directs.split("+")) for directs in others["directs"])
        model = referral.learn(zip(others["text"], kinds, strict=True))
        for key, text in zip(own["id"], own["text"], strict=True):
            least = referral.ADVISED, referral.SURE
            found[key] = [{one.to for one in referral.find(text, bound, model)} for bound in least]
    both = table.assign(found=[found[key][0] for key in table["id"]], sure=[found[key][1] for key in table["id"]])
    return both.assign(flagged=both["found"].map(bool))


def names_both(kinds):
    return "trusted_person" in kinds and len(kinds) > 1


@pytest.mark.parametrize(
    ("reply", "kinds"),
    [(reply, {"hotline"}) for reply in REFERS_TO_NOBODY[:2]]
    + [(reply, set()) for reply in ["", *REFERS_TO_NOBODY[2:], *REFERS]],
)
def test_a_clause_against_a_crisis_resource_is_quoted(reply, kinds):
    found = screening.find_against(reply)
    assert {one.to for one in found} == kinds
    assert all(reply[one.start : one.start + len(one.text)] == one.text for one in found)


@pytest.mark.parametrize("reply", REFERS)
def test_a_referral_is_quoted_with_what_it_directs_to(reply):
    found = screening.find_referral(reply)
    assert {one.to for one in found} == REFERS[reply]
    assert all(reply[one.start : one.start + len(one.text)] == one.text for one in found)
    assert screening.advice(reply) is (len(REFERS[reply]) == 2)


@pytest.mark.parametrize("reply", REFERS_TO_NOBODY)
def test_a_mention_that_is_not_advice(reply):
    assert screening.find_referral(reply) == []
    assert not screening.advice(reply)


def test_unseen_voices():
    """The mean of the voices and the worst of them."""
    shares = found_unseen().groupby(["label", "voice"])["flagged"].mean()
    assert shares["1"].mean() >= 0.9 and shares["0"].mean() <= 0.1
    assert shares["1"].min() >= 0.85 and shares["0"].max() <= 0.16


@pytest.mark.parametrize("kind", ["hotline", "emergency", "clinic", "police", "trusted_person", "several"])
def test_unseen_voices_by_kind(kind):
    table = found_unseen()
    assert table.loc[(table["label"] == "1") & (table["kind"] == kind), "flagged"].mean() >= 0.8


def test_what_unseen_voices_direct_to():
    table = found_unseen()
    table = table[table["label"] == "1"]
    named = [(found, set(directs.split("+"))) for found, directs in zip(table["found"], table["directs"], strict=True)]
    hits = sum(len(found & truth) for found, truth in named)
    assert hits / sum(len(truth) for _, truth in named) >= 0.88
    assert hits / sum(len(found) for found, _ in named) >= 0.88


def test_advice_in_unseen_voices():
    """A person and a crisis resource: what is sure is nearly always so."""
    table = found_unseen()
    truth = table["directs"].str.split("+").map(names_both)
    sure = table["sure"].map(names_both)
    assert truth[sure].mean() >= 0.85 and sure[truth].mean() >= 0.85
    assert (sure & (table["label"] == "0")).sum() <= 0.02 * (table["label"] == "0").sum()
    assert all(one <= other for one, other in zip(table["sure"], table["found"], strict=True))


def test_the_same_replies_give_the_same_model():
    rows = replies().groupby("label").head(40)
    pairs = list(zip(rows["text"], (set(directs.split("+")) for directs in rows["directs"]), strict=True))
    assert referral.learn(pairs) == referral.learn(pairs)


def test_clauses_are_where_they_say():
    for text in replies()["text"]:
        plain = clauses.plain(text)
        assert len(plain) == len(text)
        parts = clauses.split(plain)
        assert all(plain[part.start : part.start + len(part.text)] == part.text for part in parts)
        assert [part.start for part in parts] == sorted({part.start for part in parts})


@pytest.mark.parametrize("text", ["", "他" * 20_000, "打120" * 5_000, "“" * 20_000, "跟妈妈说" * 5_000, "一 " * 10_000])
def test_any_text_can_be_read(text):
    for one in screening.find_referral(text):
        assert text[one.start : one.start + len(one.text)] == one.text
