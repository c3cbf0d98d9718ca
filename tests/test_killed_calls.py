"""Killed at every system call that changes the disk: the old or the new is whole, and nothing else stays."""

import functools
import shutil

import killed_calls
import pytest

from cbtllm_utils import files, response_cache

pytestmark = pytest.mark.skipif(
    not killed_calls.works(), reason="strace may not kill here (Debian: apt-get install strace; containers: ptrace)"
)


def contents(place):
    """Every file below a folder with its text, hidden ones as well."""
    return {p.relative_to(place).as_posix(): p.read_text() for p in place.rglob("*") if p.is_file()}


def whole(step, place, content):
    """What a folder holds when `step` came to its end there."""
    place.mkdir()
    step(place, content)
    return contents(place)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """For a step and what was there before: folders in which it was killed, at its first call, at its second, …"""

    @functools.cache
    def at_each(step, before):
        folder = tmp_path_factory.mktemp(f"{step.__name__}-{before}")
        (folder / "before").mkdir()
        if before == "old":
            step(folder / "before", "old")
        return list(killed_calls.killed_at_each(step, lambda name: shutil.copytree(folder / "before", folder / name)))

    return at_each


@pytest.mark.parametrize("step", [killed_calls.folder, killed_calls.file])
@pytest.mark.parametrize("before", ["nothing", "old"])
def test_a_replacement_that_is_killed_leaves_the_old_or_the_new(killed, tmp_path, step, before):
    old = {} if before == "nothing" else whole(step, tmp_path / "old", "old")
    new = whole(step, tmp_path / "new", "new")
    seen = []
    for left in killed(step, before):
        place, again = (shutil.copytree(left, tmp_path / f"{left.name}-{n}") for n in "12")
        step(again)
        assert contents(again) == new, "the next one that makes it ends as if nothing had happened"
        assert [p.name for p in again.iterdir()] == ["made"]
        seen.append([path for path in contents(place) if path.startswith("made")])
        killed_calls.tidy(place)
        assert contents(place) in (old, new), "a reader finds the old or the new, whole"
        assert len(list(place.iterdir())) == bool(contents(place)), "and nothing beside it"
    assert len(seen) > 5 and (seen.count([]) > 0) == (before == "nothing" or step == killed_calls.folder)


def test_putting_back_what_a_kill_left_can_be_killed_as_well(killed, tmp_path):
    old = whole(killed_calls.folder, tmp_path / "old", "old")
    (gap,) = [place for place in killed(killed_calls.folder, "old") if not (place / "made").exists()]
    again = killed_calls.killed_at_each(killed_calls.tidy, lambda name: shutil.copytree(gap, tmp_path / name))
    numbers = 0
    for place in again:
        killed_calls.tidy(place)
        assert contents(place) == old and [p.name for p in place.iterdir()] == ["made"]
        numbers += 1
    assert numbers > 3


def test_half_of_what_was_replaced_never_comes_back(killed, tmp_path):
    """Killed while the old one is removed; then someone removes the new one by hand."""
    old = whole(killed_calls.folder, tmp_path / "old", "old")
    for left in killed(killed_calls.folder, "old"):
        place = shutil.copytree(left, tmp_path / left.name)
        shutil.rmtree(place / "made", ignore_errors=True)
        killed_calls.tidy(place)
        assert contents(place) in (old, {})


def test_a_step_whose_answers_were_missing_never_counts_as_whole_when_it_is_killed_on_beginning_anew(tmp_path):
    def begin(name):
        place = tmp_path / name
        files.write_json(place / "records/02.json", {})
        files.write_text(files.missing(place, "02"), "id,reason\n1,no answer\n")
        return place

    for place in killed_calls.killed_at_each(killed_calls.forget, begin):
        assert files.missing(place, "02").exists() or not (place / "records/02.json").exists()


@pytest.mark.parametrize("error", ["ENOLCK", "ENOSYS", "EOPNOTSUPP"])
def test_a_disk_without_locks_works_and_is_said_to_be_one(tmp_path, error):
    """As some network file systems are; what a kill moved aside is put back there as well."""
    aside = tmp_path / ".old-00000000.tmp"
    killed_calls.folder(aside, "old")
    (aside / "made").rename(aside / ".replaced")
    done = killed_calls.strace(killed_calls.held, tmp_path, f"--inject=flock:error={error}", "--output=/dev/null")
    assert done.returncode == 0
    said = done.stderr.splitlines()
    assert len(said) == 3 and all("this disk has no file locks" in line for line in said)
    assert contents(tmp_path / "made") == {"a": "new", "sub/b": "new"}
    assert contents(tmp_path / "old") == {"a": "old", "sub/b": "old"}


def test_an_answer_that_was_appended_is_there_whenever_a_kill_comes(tmp_path):
    killed_calls.answers(tmp_path / "before", "ab")

    def begin(name):
        return shutil.copytree(tmp_path / "before", tmp_path / name)

    found = []
    for place in killed_calls.killed_at_each(killed_calls.answers, begin):
        cache = place / "cache" / "responses.jsonl"
        found.append("".join(response_cache.read(cache)))
        killed_calls.answers(place, "e")
        assert (
            "".join(response_cache.read(cache)) == found[-1] + "e"
            and cache.read_text().count("\n") == len(found[-1]) + 1
        )
    assert found == sorted(found) and found[0] == "ab" and found[-1] == "abcd"
