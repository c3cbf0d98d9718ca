import functools
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from cbtllm_utils import files
from cbtllm_utils.generate import workers


def step(tick, number, folder):
    for _ in range(number):
        tick()
    (folder / str(number)).write_text(str(os.getpid()))


def fail(tick):
    raise files.InputError("this job fails")


def die(tick):
    os._exit(3)


def stay(tick, folder):
    (folder / "pid").write_text(str(os.getpid()))
    time.sleep(120)


def test_jobs_run_in_processes_of_their_own(tmp_path, capsys):
    workers.run({f"job {n}": functools.partial(step, number=n, folder=tmp_path) for n in (3, 2)}, total=5, processes=2)
    pids = {file.read_text() for file in tmp_path.iterdir()}
    assert len(pids) == 2 and str(os.getpid()) not in pids
    assert "5/5" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("bad", "error", "said"),
    [(fail, files.InputError, "this job fails"), (die, RuntimeError, "bad: its process ended with exit code 3")],
)
def test_a_job_that_fails_ends_the_others_and_those_that_wait_never_start(tmp_path, capfd, bad, error, said):
    jobs = {"long": functools.partial(stay, folder=tmp_path), "bad": bad}
    jobs["later"] = functools.partial(step, number=1, folder=tmp_path)
    start = time.monotonic()
    with pytest.raises(error, match=said):
        workers.run(jobs, total=1, processes=2)
    assert time.monotonic() - start < 60 and not (tmp_path / "1").exists()
    assert not [p for p in psutil.Process().children() if "spawn_main" in " ".join(p.cmdline())]


MAIN = """
import functools, pathlib, sys
from test_workers import stay
from cbtllm_utils.generate import workers
if __name__ == "__main__":
    workers.run({"stay": functools.partial(stay, folder=pathlib.Path(sys.argv[1]))}, total=1, processes=1)
"""


def test_jobs_end_when_the_process_that_waits_for_them_is_killed(tmp_path):
    (tmp_path / "main.py").write_text(MAIN)
    here = os.environ | {"PYTHONPATH": os.pathsep.join([str(files.ROOT), str(files.ROOT / "tests/generate")])}
    parent = subprocess.Popen(
        [sys.executable, str(tmp_path / "main.py"), str(tmp_path)], env=here, stderr=subprocess.DEVNULL
    )
    pid = started(tmp_path / "pid")
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the job outlives its parent"
        time.sleep(0.1)


def started(file: Path) -> int:
    deadline = time.monotonic() + 60
    while not (file.exists() and file.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return int(file.read_text())
