"""kill -9 or an interrupt while notebook 00 makes its models: whole or absent, and the same in the next run."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import killed_build
import psutil
import torch

from cbtllm_utils import files, hashing
from cbtllm_utils.demo import backbones

PROGRAM = Path(killed_build.__file__)


def made_here(place):
    """Make in this process what `build` makes in processes of its own."""
    place.mkdir(parents=True)
    threads, known = torch.get_num_threads(), killed_build.known()
    torch.set_num_threads(1)
    for job in (backbones.make_llama, backbones.make_qwen, backbones.make_baichuan, backbones.make_scorers):
        job(place, known, killed_build.SMALLEST)
    torch.set_num_threads(threads)
    return place


def start(folder):
    path = os.environ | {"PYTHONPATH": str(files.ROOT)}
    return subprocess.Popen([sys.executable, str(PROGRAM), str(folder)], env=path, stderr=subprocess.DEVNULL)


def wait_for(number, folder, process):
    while sum(place.is_file() for place in folder.rglob("*")) < number:
        assert process.poll() is None
        time.sleep(0.01)


def test_models_are_whole_or_absent_and_the_same_after_a_kill(tmp_path):
    """The processes that 00 starts end with it; what they had made is removed by the next run."""
    process = start(tmp_path)
    wait_for(random.Random(0).randint(1, 20), tmp_path, process)  # so many of 25 files are there before the kill
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert not psutil.wait_procs(children, timeout=60)[1], "workers end with their parent"
    assert [place.name[:11] for place in tmp_path.iterdir()] == [".backbones-"]
    assert start(tmp_path).wait(timeout=300) == 0
    assert [place.name for place in tmp_path.iterdir()] == ["backbones"]
    expected = made_here(tmp_path / "expected" / "backbones")
    assert hashing.sha256(tmp_path / "backbones") == hashing.sha256(expected)


def test_an_interrupt_ends_the_workers_and_leaves_nothing(tmp_path):
    process = start(tmp_path)
    wait_for(3, tmp_path, process)
    children = psutil.Process(process.pid).children(recursive=True)
    for one in (process, *children):  # Ctrl-C in a terminal reaches them all
        one.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) != 0
    assert not psutil.wait_procs(children, timeout=60)[1]
    assert list(tmp_path.iterdir()) == []
