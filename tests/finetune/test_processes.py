"""Two processes train what one trains: the same examples in each step, the same losses, one set of files."""

import subprocess
import sys
import time

import psutil
import pytest
import torch
from tiny import llama
from training_run import encoded, settings

from cbtllm_utils import files
from cbtllm_utils.finetune import adapters, training

HELD_OUT = 5  # an odd number: the processes cannot share it evenly


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    llama().save_pretrained(folder / "backbones/tiny")
    return folder


def trained(run, name, **values):
    wanted = settings(dropout=0.0, run=str(run), **values)
    model = adapters.fresh(llama(), wanted)
    (run / name).mkdir(exist_ok=True)
    return model, training.train(model, encoded(), encoded(HELD_OUT), wanted, run / name)


@pytest.fixture(scope="module")
def one(run):
    """14 examples, 4 per step: the last step of each of the 3 epochs has 2."""
    return trained(run, "one", batch=2, accumulation=2)


def same(one, model, log):
    assert [row["step"] for row in log] == [row["step"] for row in one[1]]
    for kind in ("loss", "heldout_loss", "learning_rate"):
        ours, theirs = ([row[kind] for row in rows if kind in row] for rows in (log, one[1]))
        assert ours == pytest.approx(theirs, abs=1e-4), kind
    for (name, ours), theirs in zip(model.named_parameters(), one[0].parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4), name


def test_two_processes_give_the_losses_of_one(run, one, capsys, monkeypatch):
    """Whatever the environment tells accelerate: each process of torchrun keeps it out as it starts."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "3")
    model, log = trained(run, "two", processes=2, batch=1, accumulation=2)
    same(one, model, log)
    said = capsys.readouterr()
    assert "tokens/s" in said.err and "12/12" in said.err and not said.out
    # Once it has ended, its result is loaded and it is not trained again.
    times = {place: place.stat().st_mtime_ns for place in (run / "two").rglob("*") if place.is_file()}
    rows = files.read_jsonl(run / "live/baichuan-7b.jsonl")
    assert [row["step"] for row in rows] == [row["step"] for row in log], "one of the two writes the live log"
    again, log_again = trained(run, "two", processes=2, batch=1, accumulation=2)
    assert log_again == log
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))
    assert times == {place: place.stat().st_mtime_ns for place in (run / "two").rglob("*") if place.is_file()}
    assert {place.parent.name for place in times} == {"checkpoint-12"}
    assert "trained before: " in capsys.readouterr().err


KILLED = """
import sys
sys.path[:0] = {path!r}
from pathlib import Path
from tiny import llama
from training_run import encoded, settings
from cbtllm_utils.finetune import adapters, training
wanted = settings(dropout=0.0, run={run!r}, **{values})
folder = Path({run!r}) / "killed"
folder.mkdir(exist_ok=True)
training.train(adapters.fresh(llama(), wanted), encoded(), encoded({held_out}), wanted, folder)
"""


def test_killed_they_continue_from_their_last_checkpoint_to_the_same_end(run, one):
    # 2 examples in each of 2 processes: in the last step of an epoch, of 2 examples, one of them has nothing to learn.
    values = {"checkpoint_steps": 2, "processes": 2, "batch": 2, "accumulation": 1, "gradient_checkpointing": True}
    script = KILLED.format(path=sys.path, run=str(run), values=values, held_out=HELD_OUT)
    started = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not training.last_checkpoint(run / "killed"):
        assert started.poll() is None
        time.sleep(0.01)
    others = psutil.Process(started.pid).children(recursive=True)
    started.kill()
    started.wait()
    assert psutil.wait_procs(others, timeout=20)[1] == [], "they end when the one that wants their result has"
    assert 2 <= training.state(run / "killed")["global_step"] < 12
    same(one, *trained(run, "killed", **values))


def test_a_loss_that_is_not_finite_ends_them_all(run):
    with pytest.raises(files.InputError, match=r"is nan at step \d+, on the examples \(questionID\) \d.* lower learn"):
        trained(run, "nan", batch=1, processes=2, learning_rate=1e30)
    assert not [p for p in psutil.Process().children(recursive=True) if "cbtllm_utils.finetune.training" in p.cmdline()]


def test_more_processes_than_gpus_are_for_several_machines(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    for processes, said in ((8, "--nnodes=2 --nproc-per-node=4"), (6, "--nnodes=2 --nproc-per-node=3")):
        with pytest.raises(files.InputError, match=rf"torchrun {said} .*-m cbtllm_utils.finetune.training"):
            training.launch(tmp_path, processes)
