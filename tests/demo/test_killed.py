"""kill -9 while notebook 00 makes its stand-ins: they are whole or not there, and the same when it is run again."""

import os
import random
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
    """What `build` makes in processes of its own, made in this one."""
    place.mkdir(parents=True)
    threads, known = torch.get_num_threads(), killed_build.known()
    torch.set_num_threads(1)
    for job in (backbones.llama, backbones.qwen, backbones.baichuan):
        job(place, known, killed_build.SCALE, lambda: None)
    backbones.scorers(place, known, (2, 2), killed_build.SCALE.seed, lambda: None)
    torch.set_num_threads(threads)
    return place


def begun(folder):
    path = os.environ | {"PYTHONPATH": str(files.ROOT)}
    return subprocess.Popen([sys.executable, str(PROGRAM), str(folder)], env=path, stderr=subprocess.DEVNULL)


def test_stand_ins_are_whole_or_not_there_and_the_same_after_a_kill(tmp_path):
    """00 starts processes of its own, which end with it; what they had made goes when it is run again."""
    made, process = random.Random(0).randint(1, 20), begun(tmp_path)  # so many of 25 files stand there before the kill
    while sum(place.is_file() for place in tmp_path.rglob("*")) < made:
        assert process.poll() is None
        time.sleep(0.01)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert not psutil.wait_procs(children, timeout=60)[1], "they end with the process that waits for them"
    assert [place.name[:11] for place in tmp_path.iterdir()] == [".backbones-"]
    assert begun(tmp_path).wait(timeout=300) == 0
    assert [place.name for place in tmp_path.iterdir()] == ["backbones"]
    expected = made_here(tmp_path / "expected" / "backbones")
    assert hashing.sha256(tmp_path / "backbones") == hashing.sha256(expected)
