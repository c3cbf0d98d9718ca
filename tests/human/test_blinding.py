"""Raters see every reply once, in their own order, and nothing that says which system wrote it."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cbtllm_utils import files
from cbtllm_utils.human import blinding

QUESTIONS = [
    {"questionID": n, "question": f"问题{n}", "description": "描述" * n, "reply": f"参考{n}"} for n in range(1, 31)
]
SYSTEMS = ["alpaca-chinese-7b", "baichuan-7b", "reference"]
ANSWERS = [
    {"system": s, "questionID": q["questionID"], "reply": f"{'长' * (i + 1)}回复{q['questionID']}"}
    for i, s in enumerate(SYSTEMS[:2])
    for q in QUESTIONS
]


def drawn(items: int = 12, seed: int = 42) -> list[dict]:
    return blinding.sample(QUESTIONS, ANSWERS, SYSTEMS, items, seed)


def test_the_sample_is_seeded_and_independent_of_the_order_of_the_files():
    ids = [row["questionID"] for row in drawn()]
    assert len(set(ids)) == 12
    assert ids == [
        row["questionID"] for row in blinding.sample(QUESTIONS[::-1], ANSWERS[::-1], SYSTEMS, items=12, seed=42)
    ]
    assert ids != [row["questionID"] for row in drawn(seed=43)]


def test_only_questions_that_every_system_answered_are_drawn():
    gaps = [a | {"reply": " "} if a["system"] == "baichuan-7b" and a["questionID"] > 5 else a for a in ANSWERS]
    assert [r["questionID"] for r in blinding.sample(QUESTIONS, gaps, SYSTEMS, 100, 1)] == [1, 2, 3, 4, 5]


def test_an_unknown_system_names_those_there_are():
    with pytest.raises(files.InputError, match="no answers by qwen-7b; there are: alpaca-chinese-7b, baichuan-7b, ref"):
        blinding.sample(QUESTIONS, ANSWERS, ["qwen-7b"], 5, 1)


def test_without_a_common_question_the_error_says_how_many_each_system_answered():
    apart = [a for a in ANSWERS if (a["questionID"] <= 10) == (a["system"] == "baichuan-7b")]
    with pytest.raises(files.InputError, match=r"all systems; answered of 30: alpaca-chinese-7b 20, baichuan-7b 10"):
        blinding.sample(QUESTIONS, apart, SYSTEMS[:2], 5, 1)


def test_every_rater_sees_every_answer_once_and_some_again_much_later():
    sheets, key = blinding.make_sheets(drawn(), raters=5, repeats=6, seed=42)
    assert [s.rater for s in sheets] == ["R1", "R2", "R3", "R4", "R5"]
    for sheet in sheets:
        rows = key[key["form"] == sheet.form]
        assert list(rows["entry"]) == [e.entry for e in sheet.entries] and rows["entry"].is_unique
        first = rows[~rows["repeat"]].set_index(["questionID", "system"])["position"]
        again = rows[rows["repeat"]].set_index(["questionID", "system"])["position"]
        assert len(first) == first.index.nunique() == 12 * 3 and len(again) == 6
        assert ((again - first[again.index]) > 12 * 3 / 3).all()  # a third of the sheet lies between


def test_orders_and_codes_differ_between_raters_and_return_with_the_seed():
    sheets, key = blinding.make_sheets(drawn(), 3, 4, 42)
    orders = {
        tuple(key[key["rater"] == r][["questionID", "system"]].itertuples(index=False)) for r in ("R1", "R2", "R3")
    }
    assert len(orders) == 3 and len({s.form for s in sheets}) == 3
    assert not {e.entry for e in sheets[0].entries} & {e.entry for e in sheets[1].entries}
    assert blinding.make_sheets(drawn(), 3, 4, 42)[1].equals(key)


def test_systems_are_spread_over_the_sheet():
    _, key = blinding.make_sheets(drawn(30), 20, 0, 7)
    places = key.groupby("system")["position"].mean()  # 90 positions, mean 45.5; 600 draws each: one sd is about 1.1
    assert places.between(41, 50).all()


def test_the_key_says_which_reply_an_entry_is():
    sheets, key = blinding.make_sheets(drawn(), 2, 3, 42)
    replies = {(r["questionID"], s): text for r in drawn() for s, text in r["replies"].items()}
    for sheet, e in ((s, e) for s in sheets for e in s.entries):
        row = key[(key["form"] == sheet.form) & (key["entry"] == e.entry)].iloc[0]
        assert replies[row["questionID"], row["system"]] == e.answer and row["check"] == e.check


def test_risk_is_marked_by_the_question_alone():
    posts = [{"questionID": 1, "question": "我想死", "description": "", "reply": "不想死"}]
    posts += [{"questionID": 2, "question": "睡不着", "description": "", "reply": "我想死"}]
    sheets, key = blinding.make_sheets(blinding.sample(posts, [], ["reference"], 2, 1), 1, 0, 1)
    risk = dict(zip(key["questionID"], [e.risk for e in sheets[0].entries], strict=True))
    assert risk == {1: True, 2: False}


def test_a_post_that_a_second_reader_flagged_is_marked_too():
    """The screen alone flags neither post; `risk` of the data set says that somebody did."""
    sheets, key = blinding.make_sheets(drawn(2), 1, 0, 1)
    assert not any(e.risk for e in sheets[0].entries)
    flagged = [row | {"risk": row["questionID"] == key["questionID"].iloc[0]} for row in QUESTIONS]
    sheets, key = blinding.make_sheets(blinding.sample(flagged, ANSWERS, SYSTEMS, 2, 42), 1, 0, 1)
    marked = {number for number, e in zip(key["questionID"], sheets[0].entries, strict=True) if e.risk}
    assert marked == {key["questionID"].iloc[0]} and sum(e.risk for e in sheets[0].entries) == 3


@given(st.text(), st.text(), st.text())
def test_the_checksum_shows_an_edit_and_ignores_white_space(question, description, answer):
    assert blinding.checksum(question, description, answer) == blinding.checksum(
        f" {question}\r\n", description, answer + "\n"
    )
    assert blinding.checksum(question, description, answer) != blinding.checksum(question, description, answer + "。")


@given(st.text(st.characters(codec=None)))
def test_a_clean_text_fits_every_format(text):
    clean = blinding.clean(text)
    assert clean.encode("utf-8").decode() == clean and "\r" not in clean and "\0" not in clean
    assert blinding.clean(clean) == clean


@pytest.mark.parametrize(
    ("a", "b", "guessed"),
    [("长长", "短", 1.0), ("短", "长长", 1.0), ("同样", "一样", 0.5)],
)
def test_lengths_that_give_a_system_away(a, b, guessed):
    rows = [{"questionID": n, "replies": {"a": a, "b": b}} for n in range(4)]
    assert blinding.guessed_from_length(rows)["guessed from length"].tolist() == [guessed]


def test_lengths_by_hand():
    rows = [{"replies": {"a": "x" * a, "b": "x" * b}} for a, b in [(3, 1), (1, 2), (5, 5), (9, 2)]]
    found = blinding.guessed_from_length(rows).iloc[0]  # longer: a, b, tie, a = 2.5 of 4
    assert tuple(found)[2:][::-1] == (0.625, 2.5, 4.5)


def test_the_key_of_earlier_forms_remains_after_the_next_run(tmp_path):
    """Codes that look like numbers (12E4) must not be read as numbers."""
    _, old = blinding.make_sheets(drawn(seed=1), 1, 0, 1)
    old.loc[0, ["form", "entry", "check"]] = ["1234567890123456", "12E4", "0012345678901234"]
    _, new = blinding.make_sheets(drawn(seed=2), 1, 0, 2)
    blinding.save_key(old, tmp_path / "key.csv")
    assert blinding.save_key(new, tmp_path / "key.csv")["form"].nunique() == 3
    again = blinding.save_key(new, tmp_path / "key.csv")
    assert len(again) == len(old) + len(new) and again["repeat"].dtype == bool
    row = again[again["form"] == "1234567890123456"].iloc[0]
    assert (row["entry"], row["check"], row["questionID"]) == ("12E4", "0012345678901234", old["questionID"][0])


def test_an_id_that_is_text_stays_text(tmp_path):
    key = pd.DataFrame([("f1", "R1", 1, "AAAA", "0123", "007", "s", False)], columns=blinding.KEY)
    blinding.save_key(key, tmp_path / "key.csv")
    later = blinding.save_key(key.assign(form="f2"), tmp_path / "key.csv")
    assert later["questionID"].tolist() == ["007", "007"]
