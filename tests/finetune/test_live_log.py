"""The log that is read while a training runs: each step once, whatever was killed, and nothing of it in the results."""

import json
import types

import pytest
from tiny import llama
from training_run import encoded, settings, trained

from cbtllm_utils import files
from cbtllm_utils.finetune import adapters, training, training_log
from cbtllm_utils.finetune.live_log import FIELDS, LiveLog

HELD_OUT = ["step", "heldout_loss", "peak_memory_gb", "heldout_seconds", "seconds_left", "time"]
RESULTS = {"step", "epoch", "loss", "learning_rate", "heldout_loss"}


def live(folder):
    return files.read_jsonl(folder / "live/baichuan-7b.jsonl")


def results(rows):
    return [{name: row[name] for name in row if name in RESULTS} for row in rows]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("live")
    return folder, trained(folder)[1]


def test_a_line_for_each_loss(run):
    folder, log = run
    rows = live(folder)
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 8, 9, 10, 11, 12, 12]  # 3 epochs of 4 steps
    assert results(rows) == log, "the log that the notebook draws and writes is the same without times and memory"
    for row in rows:
        losses = [name for name in FIELDS if name != "heldout_loss" and name != "heldout_seconds"]
        assert list(row) == (HELD_OUT if "heldout_loss" in row else losses)
    assert rows[0]["seconds_left"] is None, "nothing tells how fast a step is"
    assert rows[-1]["seconds_left"] == 0
    assert all(row["tokens_per_second"] > 0 and row["seconds_left"] >= 0 for row in rows if "loss" in row)
    assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)


def test_a_line_is_there_as_soon_as_its_step_is_taken(tmp_path, monkeypatch):
    seen, collate = [], training.collate

    def watched(rows):
        seen.append(sum("loss" in row for row in live(tmp_path)))
        return collate(rows)

    monkeypatch.setattr(training, "collate", watched)
    trained(tmp_path, batch=4, accumulation=1)
    assert len(seen) == 12 and seen[-1] >= 10  # the Trainer reads a batch ahead


def test_what_was_logged_after_the_last_checkpoint_is_logged_once(run, tmp_path, monkeypatch):
    """Steps 10 and 11 are taken again, and the kill left half of a line."""
    wanted, work, place = settings(checkpoint_steps=3), tmp_path / "work", tmp_path / "live/baichuan-7b.jsonl"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        add = LiveLog.add

        def killed(self, row):
            add(self, row)
            if row["step"] == 11:
                raise KeyboardInterrupt

        patch.setattr(LiveLog, "add", killed)
        training.train(adapters.fresh(llama(), wanted), encoded(), encoded(4), wanted, work)
    assert live(tmp_path)[-1]["step"] == 11 and training.state(work)["global_step"] == 9
    with place.open("a") as lines:
        lines.write('{"step": 12, "epo')
    before = place.stat().st_ino
    log = training.train(adapters.fresh(llama(), wanted), encoded(), encoded(4), wanted, work)
    assert results(live(tmp_path)) == log == run[1]
    assert place.stat().st_ino == before, "the same file, so `tail -f` goes on"
    assert [row["seconds_left"] for row in live(tmp_path)][-1] == 0


def test_a_training_from_before_the_live_log_is_loaded_and_continued(run, tmp_path):
    wanted = settings(checkpoint_steps=3)
    work = tmp_path / "work"
    training.train(adapters.fresh(llama(), wanted), encoded(), encoded(4), wanted, work)
    for place in work.glob("checkpoint-*/trainer_state.json"):
        state = files.read_json(place)
        state["log_history"] = [row for row in results(state["log_history"]) if len(row) > 1]
        cost = {"step": 12, "seconds": 1.0, "tokens_per_second": 9.0, "peak_memory_gb": 1.0}
        state["log_history"].append(cost)
        place.write_text(json.dumps(state | {"num_input_tokens_seen": 0}))
    files.path(tmp_path / "live/baichuan-7b.jsonl").unlink()
    assert training.train(adapters.fresh(llama(), wanted), encoded(), encoded(4), wanted, work) == run[1]
    assert live(tmp_path) == run[1], "no time is made up"
    (work / "checkpoint-12" / training.COMPLETE).unlink()
    assert training.train(adapters.fresh(llama(), wanted), encoded(), encoded(4), wanted, work) == run[1]
    assert results(live(tmp_path)) == run[1] and "seconds_left" in live(tmp_path)[-1]


def test_a_removed_file_stops_no_training_and_is_written_again(run, tmp_path, monkeypatch):
    add = LiveLog.add

    def removed(self, row):
        add(self, row)
        if row["step"] == 6:
            self.file.unlink()
            self.file.parent.rmdir()

    monkeypatch.setattr(LiveLog, "add", removed)
    assert trained(tmp_path)[1] == run[1] == results(live(tmp_path))


def test_the_time_left_counts_the_steps_of_this_process_and_the_held_out_losses_to_come(monkeypatch):
    """Resumed at step 100 of 400 in 4 epochs: 60 s for 50 steps, of which 10 s went into a held-out loss."""
    progress = training_log.Progress([], 1, None)
    progress.begin, progress.first, progress.paused, progress.measurements = 100, (1000.0, 0), 10.0, 5
    monkeypatch.setattr(training_log.time, "monotonic", lambda: 1060.0)
    log = [{"step": 0, "heldout_loss": 2.0}, {"step": 100, "heldout_loss": 1.0, "heldout_seconds": 10.0}]
    state = types.SimpleNamespace(global_step=150, max_steps=400, log_history=log, num_input_tokens_seen=0)
    assert progress.seconds_left(state) == 250 * 1.0 + 3 * 10  # a second per step; losses after epochs 2, 3 and 4
    state.global_step = 100
    assert progress.seconds_left(state) is None
    state.log_history = []
    state.global_step = 400
    assert progress.seconds_left(state) == 0


def test_throughput_is_tokens_per_second():
    assert training_log.throughput((10.0, 500), (14.0, 900)) == 100
