"""Answers on disk survive a kill at any byte, and are found under the old name of their file."""

import json

import pytest

from cbtllm_utils import files, response_cache


def entry(name):
    return {"hash": name, "text": f"答\u2028{name}"}


@pytest.fixture
def place(tmp_path):
    """A cache with the entries a, b, c."""
    with response_cache.appending(tmp_path / "sub" / "responses.jsonl") as file:
        for name in "abc":
            response_cache.append(file, entry(name))
    return tmp_path / "sub" / "responses.jsonl"


def test_entries_come_back_by_hash(place):
    assert response_cache.read(place) == {name: entry(name) for name in "abc"}
    assert response_cache.read(place.with_name("none")) == {}


@pytest.mark.parametrize("cut", [1, 2, 5, 20])
def test_a_kill_at_any_byte_of_the_last_line_costs_at_most_that_line(place, cut):
    place.write_bytes(place.read_bytes()[:-cut])
    left = "abc" if cut == 1 else "ab"  # only the line break is missing: the line itself is whole
    assert list(response_cache.read(place)) == list(left)
    with response_cache.appending(place) as file:
        response_cache.append(file, entry("d"))
    assert list(response_cache.read(place)) == [*left, "d"]


@pytest.mark.parametrize("tail", [b"\x00\x00\x00", b"{broken}\n", b"[1]\n", b"\xff\n\n"])
def test_a_damaged_last_line_is_taken_away_when_the_next_is_written(place, tail):
    place.write_bytes(place.read_bytes() + tail)
    before = place.read_bytes()
    assert list(response_cache.read(place)) == list("abc")
    assert place.read_bytes() == before, "reading changes nothing"
    with response_cache.appending(place) as file:
        response_cache.append(file, entry("d"))
    assert list(response_cache.read(place)) == list("abcd")


def test_a_damaged_line_elsewhere_is_an_error_with_its_number(place):
    lines = place.read_bytes().split(b"\n")
    place.write_bytes(b"\n".join([lines[0], lines[1][:-9], lines[2], b""]))
    with pytest.raises(files.InputError, match=r"responses\.jsonl, line 2: damaged"):
        response_cache.read(place)


def test_an_empty_cache_holds_nothing(tmp_path):
    with response_cache.appending(tmp_path / "j.jsonl"):
        pass
    assert response_cache.read(tmp_path / "j.jsonl") == {}


@pytest.mark.parametrize("killed", [False, True])
def test_a_cache_of_version_0_1_is_renamed_with_its_batches(tmp_path, place, killed):
    """`killed`: between the two renames, which take the answers last."""
    content = place.read_bytes()
    place.rename(place.with_name("journal.jsonl"))
    place.with_name("responses.batches.json" if killed else "journal.batches.json").write_text("{}")
    assert list(response_cache.read(place)) == list("abc")
    assert place.read_bytes() == content
    assert sorted(p.name for p in place.parent.iterdir()) == ["responses.batches.json", "responses.jsonl"]


def test_an_old_cache_beside_a_new_one_is_read_as_well(place):
    """As after a folder of version 0.1 was copied over a newer one: what was paid counts; the newer answer wins."""
    old = place.with_name("journal.jsonl")
    old.write_text("".join(json.dumps(entry(name) | {"text": "old"}) + "\n" for name in "cx"))
    before = old.read_bytes()
    assert {mark: found["text"] for mark, found in response_cache.read(place).items()} == {
        **{name: entry(name)["text"] for name in "abc"},
        "x": "old",
    }
    with response_cache.appending(place) as file:
        response_cache.append(file, entry("d"))
    assert sorted(response_cache.read(place)) == [*"abcdx"] and old.read_bytes() == before


@pytest.mark.parametrize(
    ("new", "old"), [("responses/x.jsonl", "journals/x.jsonl"), (".qwen.responses", ".qwen.journal"), ("j", "j")]
)
def test_what_version_0_1_called_a_cache(tmp_path, new, old):
    assert response_cache.old_name(tmp_path / new) == tmp_path / old
