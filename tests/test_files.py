import os
import stat
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from cbtllm_utils import files


def names(folder):
    return [entry.name for entry in folder.iterdir()]


def test_relative_names_are_below_the_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert files.path("params/demo.yaml").is_file()
    assert files.path(tmp_path / "x") == tmp_path / "x"


@pytest.mark.parametrize("name, shown", [("runs/demo/a.csv", "runs/demo/a.csv"), ("/home/someone/a.csv", "a.csv")])
def test_printed_names_hold_no_folders_of_a_user(name, shown):
    assert files.shown(name) == shown


def test_a_block_that_fails_leaves_the_old_file(tmp_path):
    files.write_text(tmp_path / "a", "old")
    with pytest.raises(RuntimeError), files.atomic(tmp_path / "a") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path) == ["a"]


def test_a_directory_is_replaced_whole(tmp_path):
    for content in ("first", "second"):
        with files.atomic(tmp_path / "d") as temporary:
            temporary.mkdir()
            (temporary / content).touch()
    assert names(tmp_path / "d") == ["second"]
    assert names(tmp_path) == ["d"]


@pytest.mark.parametrize("umask, mode", [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_what_a_library_writes_for_its_owner_alone_is_as_the_umask_says(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        with files.atomic(tmp_path / "d") as temporary:
            (temporary / "stock").mkdir(parents=True)
            for name in ("a.safetensors", "stock/a.safetensors"):
                save_file({"a": torch.zeros(1)}, temporary / name)
        with files.atomic(tmp_path / "usual") as temporary:
            temporary.touch(0o600)
    finally:
        os.umask(before)
    made = [tmp_path / name for name in ("d/a.safetensors", "d/stock/a.safetensors", "usual")]
    assert [stat.S_IMODE(place.stat().st_mode) for place in made] == [mode] * 3
    assert sorted(names(tmp_path)) == ["d", "usual"]


def test_json_lines_keep_separators_that_are_text(tmp_path):
    rows = [{"a": "one\u2028two\u0085three"}, {"a": "😀"}]
    files.write_jsonl(tmp_path / "a.jsonl", rows)
    assert files.read_jsonl(tmp_path / "a.jsonl") == rows


def test_a_damaged_line_is_named_by_its_number(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(files.InputError, match=r"a\.jsonl, line 2"):
        files.read_jsonl(tmp_path / "a.jsonl")


@pytest.mark.parametrize("content, message", [(None, "no such file"), ('{"a": ', "not JSON")])
def test_a_json_file_that_cannot_be_read_is_named(tmp_path, content, message):
    if content is not None:
        (tmp_path / "a.json").write_text(content)
    with pytest.raises(files.InputError, match=message):
        files.read_json(tmp_path / "a.json")


def test_a_model_is_found_in_the_run_then_in_the_repository(tmp_path):
    (tmp_path / "backbones" / "tiny").mkdir(parents=True)
    assert files.local_or_hub("backbones/tiny", tmp_path) == str(tmp_path / "backbones" / "tiny")
    assert files.local_or_hub("data/sample", tmp_path) == str(files.ROOT / "data" / "sample")


@pytest.mark.parametrize(
    "name, advice", [("Qwen/Qwen-7B", "hf download Qwen/Qwen-7B"), ("../no/such/dir", "check the path")]
)
def test_a_model_that_is_not_here_says_how_to_get_it(tmp_path, name, advice):
    with pytest.raises(files.InputError, match=advice):
        files.local_or_hub(name, tmp_path)


def test_a_block_that_makes_nothing_leaves_the_old_folder(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "file").write_text("kept")
    with pytest.raises(FileNotFoundError, match="old: the new version was not written"), files.atomic(tmp_path / "old"):
        pass
    assert (tmp_path / "old" / "file").read_text() == "kept" and [p.name for p in tmp_path.iterdir()] == ["old"]


LEFT = """
import os, signal, sys
from cbtllm_utils import files
with files.atomic(sys.argv[1]) as place:
    place.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_kill_left_goes_at_the_next_try_and_what_is_being_made_stays(tmp_path):
    subprocess.run([sys.executable, "-c", LEFT, str(tmp_path / "a")], env=os.environ | {"PYTHONPATH": str(files.ROOT)})
    (left,) = tmp_path.iterdir()
    assert (left / "a").read_text() == "half" and left.name.startswith(".a-")
    files.write_text(tmp_path / "b", "another's name")
    with files.atomic(tmp_path / "a") as slow:
        assert not left.exists()
        slow.write_text("slow")
        files.write_text(tmp_path / "a", "quick")
        assert (tmp_path / "a").read_text() == "quick" and slow.exists()
    assert (tmp_path / "a").read_text() == "slow" and sorted(names(tmp_path)) == ["a", "b"]


@pytest.mark.parametrize(
    "name", ["/home/alice/PsyQA.json", "replay:/home/alice/replies.jsonl", "~/PsyQA.json", "../../alice/PsyQA.json"]
)
def test_a_public_name_has_no_folders(name):
    assert "alice" not in files.public(name) and "/" not in files.public(name).replace("replay:", "")


@pytest.mark.parametrize(
    "error, said",
    [
        (
            OSError(28, "No space left on device"),
            "No space left on device; free some space and run again: finished work is kept",
        ),
        (OSError(28, "No space left on device", "/home/alice/x.csv"), "x.csv: No space left on device; free some"),
        (PermissionError(13, "Permission denied", str(files.ROOT / "runs/demo")), "runs/demo: Permission denied"),
        (OSError(30, "Read-only file system", "/mnt/run"), "run: Read-only file system; make it writable, or name"),
        (OSError("odd"), "odd"),
    ],
)
def test_a_fault_of_the_disk_says_what_where_and_what_to_do(error, said):
    assert files.explain(error).startswith(said)


@pytest.mark.parametrize(
    "name, shown",
    [
        ("http://alice:secret@host/v1", "http://host/v1"),
        ("~10 posts a day", "~10 posts a day"),
        ("Qwen/Qwen-7B", "Qwen/Qwen-7B"),
        ("data/sample/../psyqa/x.json", "data/psyqa/x.json"),
    ],
)
def test_a_public_name_keeps_what_is_no_secret(name, shown):
    assert files.public(name) == shown


@pytest.mark.parametrize(
    "reported, shown",
    [
        ("/models/x.Q4_1.gguf", "x.Q4_1.gguf"),
        ("/home/alice/merged/baichuan-7b/", "baichuan-7b"),
        ("./merged/baichuan-7b", "baichuan-7b"),
        ("~/models/x", "x"),
        ("C:\\Users\\alice\\models\\x.gguf", "x.gguf"),
        ("models/x.gguf", "x.gguf"),
        ("file:///srv/models/x", "x"),
        ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B"),
        ("accounts/fireworks/models/qwen3-8b", "accounts/fireworks/models/qwen3-8b"),
        ("qwen2.5:7b", "qwen2.5:7b"),
        ("gpt-3.5-turbo-0613", "gpt-3.5-turbo-0613"),
    ],
)
def test_a_servers_model_is_named_without_the_servers_folders(reported, shown):
    assert files.model_name(reported) == shown


@pytest.mark.parametrize(
    "name, found",
    [
        ("Qwen/Qwen3-0.6B", ("Qwen/Qwen3-0.6B", None)),
        ("Qwen/Qwen3-0.6B@c1899de", ("Qwen/Qwen3-0.6B", "c1899de")),
        ("backbones/qwen-7b", ("backbones/qwen-7b", None)),
    ],
)
def test_a_model_of_the_hub_may_be_named_at_a_revision(name, found):
    assert files.at_revision(name) == found


def test_a_folder_with_an_at_sign_is_a_folder(tmp_path):
    place = tmp_path / "weights@home"
    place.mkdir()
    assert files.at_revision(str(place)) == (str(place), None)
    assert files.local_or_hub(str(place), "runs") == str(place)
