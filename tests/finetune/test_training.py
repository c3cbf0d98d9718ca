"""LoRA training of a model of two small layers: it learns, resumes, is not repeated, and is known by its content."""

import json
import math
import os
import re
import shutil

import psutil
import pytest
import torch
import transformers
from tiny import llama
from training_run import encoded, losses_of, settings, summary, trained, written

from cbtllm_utils import files, finetune, hashing
from cbtllm_utils.finetune import adapters, training, training_log
from cbtllm_utils.models import devices

FIXTURE = files.ROOT / "tests/finetune/training.json"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    return *trained(folder), folder


def test_training_lowers_the_loss_and_logs_every_step(run):
    _, log, folder = run
    losses = losses_of(log)
    held = [row for row in log if "heldout_loss" in row]
    assert len(losses) == 12 == settings().steps(14)[1]  # 14 / (2 · 2) → 4 per epoch, 3 epochs
    assert losses[-1] < losses[0] and held[-1]["heldout_loss"] < held[0]["heldout_loss"]
    assert held[0]["heldout_loss"] == pytest.approx(math.log(259), abs=0.3)  # random weights know nothing
    assert [row["step"] for row in held] == [0, 4, 8, 12]
    assert all({"step", "epoch", "loss", "learning_rate"} == row.keys() for row in log if "loss" in row)
    assert [file.name for file in (folder / "work").iterdir()] == ["checkpoint-12"]


def test_outputs_that_change_need_another_version(run):
    """Raise `finetune.VERSION` when this fails, and record: trainings made before are then not taken for the same."""
    model, log, _ = run
    adapter = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    norms = {name.split(".layers.")[-1]: weight.norm().item() for name, weight in sorted(adapter.items())}
    made = {"losses": losses_of(log), "norms": norms}
    made["held-out losses"] = [row["heldout_loss"] for row in log if "heldout_loss" in row]
    recorded = files.read_json(FIXTURE)
    advice = f"write to {FIXTURE.name}: {json.dumps({'version': finetune.VERSION} | made)}"
    assert recorded.pop("version") == finetune.VERSION, advice
    assert recorded.keys() == made.keys()
    for name, values in recorded.items():
        assert made[name] == pytest.approx(values, rel=1e-3), f"{name} changed: raise finetune.VERSION and {advice}"


def test_the_same_seed_gives_the_same_adapter_bit_for_bit(run, tmp_path):
    first = written(run[0], run[1], run[2] / "first")
    assert hashing.sha256(first) == hashing.sha256(written(*trained(tmp_path), tmp_path / "second"))
    assert hashing.sha256(first) != hashing.sha256(written(trained(tmp_path, seed=7)[0], run[1], tmp_path / "other"))


def test_only_the_adapter_learns(run):
    weights = dict(llama().named_parameters())
    for name, value in run[0].named_parameters():
        if "lora_" not in name:
            assert torch.equal(value, weights[name.removeprefix("base_model.model.").replace("base_layer.", "")])


def interrupted(monkeypatch, after):
    """Count the batches that are read, and interrupt after so many: a kill seen from inside."""
    read, collate = [], training.collate

    def counted(rows):
        read.append(len(rows))
        if len(read) > after:
            raise KeyboardInterrupt
        return collate(rows)

    monkeypatch.setattr(training, "collate", counted)
    return read


def test_a_resumed_training_ends_where_a_whole_one_does(run, tmp_path, monkeypatch):
    """Breaks when transformers skips other batches on resume, or reads the epoch from another place."""
    wanted, work = settings(checkpoint_steps=3), tmp_path / "work"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupted(patch, 20)  # 7 batches per epoch
        training.train(adapters.fresh(llama(), wanted), encoded(), encoded(4), wanted, work)
    assert sorted(file.name for file in work.iterdir()) == ["checkpoint-6", "checkpoint-9"]
    model, read = adapters.fresh(llama(), wanted), interrupted(monkeypatch, 100)
    log = training.train(model, encoded(), encoded(4), wanted, work)
    assert sum(read) == 10  # step 9 ended the first 4 of the last epoch's 14 examples
    assert [row.get("loss") for row in log] == [row.get("loss") for row in run[1]]
    whole, resumed = (written(m, run[1], tmp_path / name) for name, m in (("whole", run[0]), ("resumed", model)))
    assert hashing.sha256(whole) == hashing.sha256(resumed)


def test_a_finished_training_is_not_trained_again(run, tmp_path, monkeypatch, capsys):
    shutil.copytree(run[2] / "work", tmp_path / "work")
    wanted, read = settings(), interrupted(monkeypatch, 0)
    model = adapters.fresh(llama(), wanted)
    log = training.train(model, encoded(), encoded(4), wanted, tmp_path / "work")
    assert log == run[1] and not read and "trained before: " in capsys.readouterr().err
    first, again = (written(m, run[1], tmp_path / name) for name, m in (("first", run[0]), ("again", model)))
    assert hashing.sha256(first) == hashing.sha256(again)


@pytest.mark.parametrize(("epochs", "steps"), [(0.1, 2), (0.25, 4), (1.25, 18)])
def test_a_training_that_ended_within_an_epoch_is_not_trained_again(tmp_path, monkeypatch, epochs, steps):
    """14 examples, one per step. The Trainer asks whether it has ended only after another step."""
    values = {"epochs": epochs, "batch": 1, "accumulation": 1, "logging_steps": 5}
    model, log = trained(tmp_path, **values)
    assert log[-1]["step"] == steps
    live = tmp_path / "live/baichuan-7b.jsonl"
    lines, read = live.read_text(encoding="utf-8"), interrupted(monkeypatch, 0)
    assert all((row["seconds_left"] or 0) >= 0 for row in files.read_jsonl(live))
    for _ in range(2):
        loaded, again = trained(tmp_path, **values)
        assert again == log and not read and live.read_text(encoding="utf-8") == lines
        assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), model.parameters(), strict=True))


@pytest.mark.parametrize("values", [{"gradient_checkpointing": True}, {"accumulation": 1, "batch": 4}])
def test_ways_to_save_memory_change_a_training_by_rounding_alone(tmp_path, values):
    plain, saving = (losses_of(trained(tmp_path, dropout=0.0, **more)[1]) for more in ({}, values))
    assert saving == pytest.approx(plain, rel=1e-4)


def test_bf16_trains(tmp_path):
    losses = losses_of(trained(tmp_path, precision="bf16")[1])
    assert losses[-1] < losses[0]


def test_visible_gpus_do_not_multiply_a_batch(tmp_path, monkeypatch):
    """Breaks when the Trainer no longer asks `n_gpu` how many GPUs one process uses."""
    monkeypatch.setattr(transformers.TrainingArguments, "n_gpu", property(lambda self: 4))
    plain = transformers.TrainingArguments(output_dir=str(tmp_path), per_device_train_batch_size=2, use_cpu=True)
    assert plain.train_batch_size == 8
    assert training.arguments(settings(), tmp_path).train_batch_size == 2


def test_the_cost_of_a_training_is_not_part_of_its_log(run):
    said = re.fullmatch(r"(\d+) s, ([\d,]+) tokens/s, ([\d.]+) GB peak memory", training.cost(run[2] / "work"))
    rows = [row for row in training.state(run[2] / "work")["log_history"] if "seconds" in row]
    tokens = 3 * sum(encoded()["length"])
    assert len(rows) == 1 and rows[0]["tokens_per_second"] * rows[0]["seconds"] == pytest.approx(tokens)
    assert 0.1 < float(said[3]) < psutil.virtual_memory().total / 1e9
    assert not any("seconds" in row for row in run[1])


def test_a_training_is_known_by_all_that_could_change_it(tmp_path, monkeypatch):
    def place(number=2, held=2, weights="a hash", **values):
        return training.work_folder(tmp_path, "qwen-7b", weights, encoded(number), encoded(held), settings(**values))

    first = place()
    assert first == place() and first.parent == tmp_path / "training"
    others = [place(3), place(held=3), place(weights="another"), place(rank=8), place(2, 0), place(0, 4)]
    others.append(place(logging_steps=2))
    for name, value in (("checkpoint_steps", 9), ("run", "runs/x"), ("model", "elsewhere/qwen-7b")):
        assert place(**{name: value}) == first, f"{name} does not change what is learned"
    with monkeypatch.context() as patch:
        patch.setattr(finetune, "VERSION", 0)
        others.append(place())
    with monkeypatch.context() as patch:
        patch.setattr(training.metadata, "version", lambda name: "0")
        others.append(place())
    assert len({first, *others}) == 10


def test_only_the_latest_states_of_other_trainings_remain(tmp_path):
    first, another = tmp_path / ".qwen-7b-0", tmp_path / ".baichuan-7b-0"
    others = [tmp_path / f".qwen-7b-{number}" for number in range(1, 5)]
    for age, folder in enumerate([first, another, *others]):
        folder.mkdir()
        os.utime(folder, (1000 - age, 1000 - age))
    training.remove_older(first)
    assert set(tmp_path.iterdir()) == {first, another, *others[:2]}


def test_a_checkpoint_that_a_kill_left_incomplete_is_passed_over(run, tmp_path):
    for number in (3, 6, 9, 12):
        (tmp_path / f"checkpoint-{number}").mkdir()
        (tmp_path / f"checkpoint-{number}" / "trainer_state.json").write_text("{}")
    for number in (3, 6):
        (tmp_path / f"checkpoint-{number}" / "complete").touch()
    assert training.last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-6")
    training.remove_incomplete(tmp_path)
    assert sorted(place.name for place in tmp_path.iterdir()) == ["checkpoint-3", "checkpoint-6"]
    assert training.last_checkpoint(tmp_path / "nothing") is None
    saved = {file.name: file.stat().st_mtime_ns for file in (run[2] / "work" / "checkpoint-12").iterdir()}
    assert saved["complete"] == max(saved.values()), (
        "transformers calls `on_save` after all files of a checkpoint are written"
    )


def test_a_kill_between_the_last_step_and_its_held_out_loss_costs_no_number(tmp_path, monkeypatch):
    """With 7B's weights that loss takes minutes, in which a batch system's time may end."""
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        log_heldout = training_log.Progress.log_heldout

        def interrupt_at_the_end(self, model, state):
            if state.global_step == state.max_steps:
                raise KeyboardInterrupt
            log_heldout(self, model, state)

        patch.setattr(training_log.Progress, "log_heldout", interrupt_at_the_end)
        trained(tmp_path, checkpoint_steps=2)
    assert not training.ended(tmp_path / "work-2")
    _, log = trained(tmp_path, checkpoint_steps=2)
    assert [row["step"] for row in log if "heldout_loss" in row] == [0, 4, 8, 12]
    assert training.losses(training.state(tmp_path / "work-2")["log_history"]) == log
    assert "tokens/s" in training.cost(tmp_path / "work-2")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_layer_trained_whole_is_saved_with_the_adapter(tmp_path, precision):
    """As Chinese-LLaMA's lm_head: trained in 32 bits, loaded when training ended, read again by plain peft."""
    base = llama().to(devices.DTYPES[precision])
    before = base.lm_head.weight.clone()
    wanted = settings(modules_to_save=["lm_head"], precision=precision)
    model = adapters.fresh(base, wanted)
    log = training.train(model, encoded(), encoded(4), wanted, tmp_path / "work")
    head = model.get_base_model().lm_head
    assert head.modules_to_save["default"].weight.dtype == torch.float32
    assert torch.equal(head.original_module.weight, before)
    assert (head.modules_to_save["default"].weight - before).abs().max() > 1e-3
    again = adapters.fresh(llama().to(before.dtype), wanted)
    training.load_result(again, tmp_path / "work")
    loaded = again.get_base_model().lm_head.modules_to_save["default"].weight
    assert torch.equal(loaded, head.modules_to_save["default"].weight)
    folder = adapters.write(again, tmp_path / "adapter", summary(log, modules_to_save=["lm_head"]), "made for a test")
    merged = adapters.attach(llama().to(before.dtype), folder)
    ids = torch.arange(40)[None] + 5
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        found, expected = (one(ids).logits.float() for one in (merged, model.eval()))
        torch.testing.assert_close(found, expected, atol=5e-2, rtol=5e-2)


def test_losses_and_curves():
    log = [{"step": 0, "heldout_loss": 4.0}, {"step": 5, "epoch": 1.0, "loss": 3.0, "learning_rate": 0.1}]
    log += [{"step": 5, "heldout_loss": 2.0}]
    one = {"input_ids": [1], "labels": [1], "reply_tokens": 10, "reply_cut": 5, "characters": 20}
    table = training_log.losses(log, finetune.examples.dataset([one]))  # 5 tokens are left, of 10 characters
    assert table["loss per token"].tolist() == [4.0, 2.0] and table["loss per character"].tolist() == [2.0, 1.0]
    assert table["perplexity"][1] == pytest.approx(7.389, abs=1e-3)  # e²


def test_trainings_are_compared_per_character(tmp_path):
    log = [{"step": 0, "heldout_loss": 4.0}, {"step": 2, "epoch": 2.0, "loss": 3.0, "learning_rate": 0.1}]
    log += [{"step": 2, "heldout_loss": 2.0}]
    three = finetune.examples.dataset(
        [{"input_ids": [1], "labels": [1], "reply_tokens": 4, "reply_cut": 0, "characters": 8}] * 3
    )
    one = finetune.examples.dataset(
        [{"input_ids": [1], "labels": [1], "reply_tokens": 10, "reply_cut": 5, "characters": 20}]
    )
    chosen = settings(batch=3, accumulation=1, epochs=2)  # one step for each pass over three examples
    about = training_log.summary(log, three, one, chosen, trained_weights=2_500_000)
    files.write_jsonl(tmp_path / "training/qwen-7b.jsonl", [*log, about])
    trainings = training_log.read(tmp_path, ["qwen-7b", "released"])
    row = training_log.compared(trainings).loc[0].to_dict()
    assert row == {  # 12 tokens hold 24 characters, and of the held-out reply 5 tokens are left, of 10 characters
        "backbone": "Qwen-7B",
        "weights trained, millions": 2.5,
        "training examples": 3,
        "steps": 2,
        "held-out examples": 1,
        "loss before": 2.0,
        "loss after": 1.0,
        "likelihood of a character, after ÷ before": pytest.approx(2.718, abs=1e-3),  # e
    }
    curves, epochs = training_log.drawn(trainings)
    assert curves["Qwen-7B"]["training"].to_dict() == {2: 1.5}
    assert curves["Qwen-7B"]["held out"].to_dict() == {0: 2.0, 2: 1.0} and epochs == {"Qwen-7B": [1, 2]}


ABOUT = {"trained_weights": 2000, "steps": 6, "examples": 3, "heldout_examples": 2} | {
    f"{kind}_{unit}": 10 for kind in ("reply", "heldout_reply") for unit in ("tokens", "characters")
}


@pytest.mark.parametrize(
    "losses, said",
    [
        ([3.0, 2.0, 1.0], ["fell from 3.00 to 1.00", "7.4 times as likely", "lowest after the last epoch"]),  # e²
        ([3.0, 2.0, 2.5], ["fell from 3.00 to 2.50", "lowest after epoch 1 of 2"]),
        ([2.0, 3.0, 2.5], ["rose from 2.00 to 2.50", "0.61 times as likely", "lowest after epoch 0 of 2"]),
        ([], ["No example was held out"]),
    ],
)
def test_a_training_in_words(losses, said):
    log = [{"step": 3 * epoch, "heldout_loss": loss} for epoch, loss in enumerate(losses)]
    text = " ".join(training_log.in_words(log, ABOUT, 50_000))
    assert "2,000 weights, while the backbone has 50,000, in 6 steps on 3 examples" in text
    assert all(one in text for one in said)


def test_the_steps_of_the_paper_and_here():
    plan = training_log.plan(324, settings(batch=1, accumulation=1, epochs=4)).set_index("training")
    assert plan.loc["paper, inferred"].tolist() == [20094, 16, 1256, 3768]  # 22,327 · 0.9; 4 · 4; three epochs
    assert plan.loc["here"].tolist() == [324, 1, 324, 1296]


def test_a_training_that_has_ended_shows_no_bar(run, capsys):
    again = adapters.fresh(llama(), settings())
    training.train(again, encoded(), encoded(4), settings(), run[2] / "work")
    assert "it/s" not in capsys.readouterr().err


def test_a_log_without_characters_is_left_out_and_said_to_be(tmp_path, capsys):
    files.write_jsonl(tmp_path / "training/a.jsonl", [{"step": 1}, {"summary": {"reply_tokens": 3}}])
    files.write_jsonl(tmp_path / "training/b.jsonl", [{"step": 1}, {"summary": ABOUT}])
    assert list(training_log.read(tmp_path, ["a", "b"])) == ["b"]
    assert "a.jsonl lacks the characters of its replies and is left out; run 04_lora" in capsys.readouterr().out
    assert training_log.compared({}).empty
