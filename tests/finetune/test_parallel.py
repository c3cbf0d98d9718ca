"""Two processes train what one trains: the same items in each step, the same losses, one set of files."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from test_training import items, settings
from tiny import llama

from cbtllm_utils import files
from cbtllm_utils.finetune import adapters, parallel, training
from cbtllm_utils.finetune import settings as recipe

HELD = items(5)  # an odd number: the processes cannot share it evenly


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parallel")
    llama().save_pretrained(folder / "backbones/tiny")
    return folder


def trained(run, name, examples=None, checkpoint_steps=0, **values):
    wanted = settings(dropout=0.0, **values)
    source = {"model": "backbones/tiny", "deltas": [], "run": str(run)}
    base = adapters.outline(**source) if wanted.sharded else llama()  # shared out, nobody holds it whole
    model = adapters.fresh(base, wanted, "backbones/tiny")
    (run / name).mkdir(exist_ok=True)
    log = parallel.train(model, examples or items(), HELD, wanted, run / name, 1, checkpoint_steps, source)
    return model, log


@pytest.fixture(scope="module")
def one(run):
    """14 items, 4 a step: the last step of each of the 3 epochs has 2."""
    return trained(run, "one", batch=2, accumulation=2)


def same(one, model, log):
    assert [row["step"] for row in log] == [row["step"] for row in one[1]]
    for kind in ("loss", "heldout_loss", "learning_rate"):
        ours, theirs = ([row[kind] for row in rows if kind in row] for rows in (log, one[1]))
        assert ours == pytest.approx(theirs, abs=1e-4), kind
    for (name, ours), theirs in zip(model.named_parameters(), one[0].parameters(), strict=True):
        assert (ours.is_meta and "lora_" not in name) or torch.allclose(ours, theirs, atol=1e-4), name


def test_two_processes_give_the_losses_of_one(run, one, capsys):
    model, log = trained(run, "two", processes=2, batch=1, accumulation=2)
    same(one, model, log)
    said = capsys.readouterr()
    assert "tokens/s" in said.err and "12/12" in said.err and not said.out
    # ended, it is taken and not trained again
    kept = {place: place.stat().st_mtime_ns for place in (run / "two").rglob("*") if place.is_file()}
    again, log_again = trained(run, "two", processes=2, batch=1, accumulation=2)
    assert log_again == log
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))
    assert kept == {place: place.stat().st_mtime_ns for place in (run / "two").rglob("*") if place.is_file()}
    assert {place.parent.name for place in kept} == {"checkpoint-12"}
    assert "trained before: " in capsys.readouterr().err


SAVING = {"sharded": True, "gradient_checkpointing": True, "packing": True}


def test_sharded_and_killed_it_goes_on_from_its_last_checkpoint_to_the_same_end(run, one):
    # 2 items in each of 2 processes: in the last step of an epoch, of 2 items, one of them has nothing to learn
    values = {"checkpoint_steps": 2, "processes": 2, "batch": 2, "accumulation": 1} | SAVING
    script = f"import sys; sys.path[:0] = {sys.path!r}; from pathlib import Path; import test_parallel as t; "
    script += f"t.trained(Path({str(run)!r}), 'killed', **{values})"
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


def test_a_loss_that_is_no_number_ends_them_all(run):
    with pytest.raises(files.InputError, match=r"is nan at step \d+, on the items \(questionID\) \d.* lower learning"):
        trained(run, "nan", batch=1, processes=2, learning_rate=1e30)
    assert not [p for p in psutil.Process().children(recursive=True) if "cbtllm_utils.finetune.parallel" in p.cmdline()]


def test_more_processes_than_gpus_are_for_several_machines(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    for processes, said in ((8, "--nnodes=2 --nproc-per-node=4"), (6, "--nnodes=2 --nproc-per-node=3")):
        with pytest.raises(files.InputError, match=rf"torchrun {said} .*-m cbtllm_utils.finetune.parallel"):
            parallel.launch(tmp_path, processes)


@pytest.mark.parametrize(
    "values", [{"processes": 0}, {"sharded": True}, {"processes": 2, "sharded": True, "quantization": "nf4"}]
)
def test_settings_that_cannot_be(values):
    with pytest.raises(files.InputError, match=r"processes must be above 0|sharded = true needs processes above 1"):
        settings(**values)


def test_the_items_of_a_step_are_those_of_all_processes():
    four = recipe.Settings(accumulation=1, processes=4)
    assert four.items == recipe.Settings().items == 16
    assert recipe.steps(20094, four) == (1256, 3768)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_each_process_reads_and_holds_its_half_alone(tmp_path):
    # blocks above 1 MiB go back to the system at once, as in tests/test_loading.py
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "1000000", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [str(files.ROOT / "tests/support/shares.py"), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert list(found) == ["tied", "baichuan", "current", "delta"]
    for name, (weights, largest, most, same) in [(name, numbers) for name, both in found.items() for numbers in both]:
        assert same, name
        if name != "tied":  # half of 506 MiB; a delta makes its tensors whole, in fp32, before they are cut
            assert most <= weights / 2 + (4 if name == "delta" else 1) * largest, name
