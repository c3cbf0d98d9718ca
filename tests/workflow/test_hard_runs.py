"""Real processes under hard conditions: a signal while asking, a second run, a clock that jumps."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from provider import KEY, good

from cbtllm_utils import files, response_cache
from cbtllm_utils.data import prompts
from cbtllm_utils.workflow import locks

FAKETIME = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
PROMPT = "params/prompts/cbt_prompt.zh.md"
REPLY = "".join(text for _, text in files.read_jsonl("data/sample/recorded_replies.jsonl")[0]["sections"])


def environment(**more):
    """The environment of a process here, with this checkout's package."""
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(files.ROOT), os.environ.get("PYTHONPATH", "")])} | more


ENDS = [  # which signal, to whom, the runner's exit status, and what it says
    (signal.SIGINT, "all", 130, "interrupted"),  # Ctrl-C
    (signal.SIGTERM, "runner", 130, "interrupted"),  # a batch system
    (
        signal.SIGKILL,
        "kernel",
        1,
        r"the kernel was killed \(SIGKILL\), by somebody, or because .+ [0-9.]+ GB of the [0-9.]+ GB",
    ),
    (signal.SIGKILL, "runner", -9, None),
]


def test_a_signal_while_a_notebook_asks_keeps_the_answers(server, tmp_path):
    """Whoever is ended, and however: no answer is lost, no process stays; the last run ends the work."""
    server.script = lambda body, call: time.sleep(0.2) or good(body, REPLY)
    folder, asked = tmp_path / "run", 0
    files.write_json(folder / "prompts" / "cbt.json", prompts.record(prompts.read(PROMPT), PROMPT))
    values = {"run": folder, "limit": 48, "model": "m", "concurrency": 4}
    values["endpoint"] = f"http://127.0.0.1:{server.server_port}/v1"
    command = [sys.executable, "-m", "cbtllm_utils.workflow.run", "02_dataset_generation", "--profile", "ci"]
    command += [f"{name}={value}" for name, value in values.items()]
    failed = folder / "notebooks" / "02_dataset_generation.failed.ipynb"
    for number, whom, status, words in [*ENDS, (None, None, 0, None)]:
        options = {"env": environment(NO_PROXY="127.0.0.1"), "start_new_session": True, "text": True}
        process = subprocess.Popen(command, cwd=files.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
        if number:
            while len(server.asked) < asked + 8:
                assert process.poll() is None, process.communicate()
                time.sleep(0.01)
            kernels = psutil.Process(process.pid).children(recursive=True)
            ended = {"all": -process.pid, "runner": process.pid, "kernel": kernels[0].pid}[whom]
            os.killpg(-ended, number) if ended < 0 else os.kill(ended, number)
        _, err = process.communicate(timeout=120)
        said = [line for line in err.splitlines() if not line.startswith("      02_")]
        assert process.returncode == status, err
        if number:
            assert not psutil.wait_procs(kernels, timeout=30)[1], "the kernel of a killed runner ends by itself"
            assert len(said) == bool(words) and all(re.search(words, line) for line in said), err
            assert not (folder / "cbt_qa" / "cbt_qa.jsonl").exists()
            left = [p.name for p in folder.rglob(".*") if not p.name.endswith(".lock")]
            assert len(left) == (status == -9), "only a killed runner leaves something, until the next run"
        if whom == "kernel":
            assert "02_dataset_generation: cell " in said[0] and said[0].endswith(f"(see {failed.name})")
            outputs = [cell.get("outputs") for cell in nbformat.read(failed, 4).cells]
            assert sum(map(bool, outputs)) > 2, "what the cells before showed is kept"
        kept = len(response_cache.read(folder / "cbt_qa" / "responses.jsonl"))
        assert kept >= min(48, len(server.asked) - 4 * len(ENDS))
        asked = len(server.asked)
    assert kept == 48 <= asked <= 48 + 4 * len(ENDS)
    assert not failed.exists() and not [p for p in folder.rglob(".*") if not p.name.endswith(".lock")]
    assert KEY not in "".join(p.read_text(errors="replace") for p in folder.rglob("*") if p.is_file())


def test_a_second_run_of_a_profile_is_refused_in_one_line():
    with locks.whole_run("runs/ci"):
        command = [sys.executable, "-m", "cbtllm_utils.workflow.pipeline", "--profile", "ci"]
        done = subprocess.run(command, cwd=files.ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == "error: runs/ci: another run of this profile is running; wait for it or stop it\n"


CLOCK = """
import json, sys, time
from cbtllm_utils.llm import client
url, folder = sys.argv[1:]
requests = [{"id": i, "model": "m", "messages": [{"role": "user", "content": str(i)}]} for i in range(40)]
options = {"requests_per_minute": 6000, "price": {"input": 1.0, "output": 2.0}, "budget": 0.1}
years = {time.gmtime().tm_year}
answers, failed = client.complete(requests, endpoint=url, cache_path=folder + "/cache", **options)
years.add(time.gmtime().tm_year)
print(json.dumps([len(answers), failed, sorted(years)]))
"""


@pytest.mark.skipif(not FAKETIME, reason="no libfaketime here (Debian: apt-get install libfaketime)")
def test_a_clock_that_jumps_by_years_keeps_nobody_waiting_and_no_budget_from_counting(server, tmp_path):
    """Every fifth answer sets the process's clock ten years on or back. At 0.002 each (1,000 tokens in, 500 out) 40
    requests keep a budget of 0.1, of which each sets aside less than 0.0015 more. Their pace is in test_pacing.py."""
    clock, turns = tmp_path / "clock", threading.Lock()

    def script(body, call):
        if call % 5 == 0:
            with turns:
                (tmp_path / "next").write_text(["2035-01-01 00:00:00", "2015-01-01 00:00:00"][call // 5 % 2])
                (tmp_path / "next").replace(clock)
        return good(body)

    server.script = script
    clock.write_text("2025-01-01 00:00:00")
    fake = {"LD_PRELOAD": str(FAKETIME[0]), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1"}
    fake |= {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_RESET": "1", "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, "-c", CLOCK, f"http://127.0.0.1:{server.server_port}/v1", str(tmp_path / "run")]
    (tmp_path / "run").mkdir()
    done = subprocess.run(command, env=environment(**fake), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    answers, failed, years = json.loads(done.stdout)
    assert (answers, failed, len(server.asked)) == (40, {}, 40)
    assert years[0] == 2025 and len(years) == 2, "the clock did jump"
