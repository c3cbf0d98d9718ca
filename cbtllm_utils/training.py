"""LoRA fine-tuning on instruction triads (§3.4, §4.3): Hugging Face's Trainer and peft, loss on the reply alone."""

import contextlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import transformers
from peft import PeftModel
from transformers.trainer_callback import PrinterCallback

from cbtllm_utils import files
from cbtllm_utils.recipe import Settings, device
from cbtllm_utils.trainer import ReplyTrainer, Watch, collate


def arguments(settings: Settings, folder: Path, logging_steps: int, checkpoint_steps: int) -> object:
    """The Trainer's arguments that the settings mean, on one device: several would multiply the items of a step."""
    found = transformers.TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=settings.batch,
        gradient_accumulation_steps=settings.accumulation,
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.schedule,
        optim=settings.optimizer,
        weight_decay=settings.weight_decay,
        warmup_steps=settings.warmup_steps,
        max_grad_norm=settings.max_gradient,
        fp16=settings.precision == "fp16",
        bf16=settings.precision == "bf16",
        activation_checkpointing=settings.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        seed=settings.seed,
        use_cpu=device().type == "cpu",
        logging_steps=logging_steps,
        logging_nan_inf_filter=False,
        save_strategy="steps" if checkpoint_steps else "no",
        save_steps=checkpoint_steps or 500,
        save_total_limit=2,
        remove_unused_columns=False,
        dataloader_pin_memory=device().type == "cuda",
        disable_tqdm=True,
        report_to="none",
    )
    found._n_gpu = min(found.n_gpu, 1)
    return found


def train(
    model: PeftModel,
    examples: list[dict],
    heldout: list[dict],
    settings: Settings,
    folder: Path,
    logging_steps: int = 10,
    checkpoint_steps: int = 0,
) -> list[dict]:
    """The log, after the model's adapter was trained in place: rows {step, epoch, loss, learning_rate} and
    {step, heldout_loss} (before, and after each epoch), by step.

    `loss` is the mean over the reply tokens since the last row, in nats. The state is kept in `folder` at the end, and
    with `checkpoint_steps` after every so many steps; a run that finds one there goes on from it: after the end, with
    nothing left to do. InputError when the loss is no number.
    """
    model.to(device())
    tokens = sum(len(example["input_ids"]) for example in examples)
    watch = Watch(heldout, settings.batch * 2, tokens)
    trainer = ReplyTrainer(
        model=model,
        args=arguments(settings, folder, logging_steps, checkpoint_steps),
        train_dataset=examples,
        data_collator=collate,
        callbacks=[watch],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=last_checkpoint(folder))
    keys = ("step", "epoch", "loss", "learning_rate", "heldout_loss")
    rows = [{key: row[key] for key in keys if key in row} for row in trainer.state.log_history]
    return [row for row in rows if "loss" in row or "heldout_loss" in row]


def last_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that is whole, or None; what a kill left of another is taken away."""
    found = {int(place.name.rpartition("-")[2]): place for place in folder.glob("checkpoint-*") if whole(place)}
    for place in folder.glob("checkpoint-*"):
        if place not in found.values():
            shutil.rmtree(place)
    return str(found[max(found)]) if found else None


def whole(checkpoint: Path) -> bool:
    """Whether a checkpoint's last file is there and ends: a kill while it was written leaves the beginning of it."""
    with contextlib.suppress(files.InputError):
        return isinstance(files.read_json(checkpoint / "trainer_state.json"), dict)
    return False


def work_folder(
    run: str | Path, backbone: str, identity: str, examples: list[dict], heldout: list[dict], settings: Settings
) -> Path:
    """Where this training's state lies: other items, held-out items or settings mean another folder, so that none is
    taken for another's. `identity` stands for what else decides: weights, code, how often the loss is logged."""
    items = [[e["input_ids"], e["labels"]] for e in (*examples, {"input_ids": [], "labels": []}, *heldout)]
    key = files.text_hash(json.dumps([identity, asdict(settings), items]))
    return files.path(run) / "training" / f".{backbone}-{key}"


def forget_older(folder: Path, kept: int = 2) -> None:
    """Nothing, after of the states of other trainings of the same backbone only the latest `kept` are left."""
    others = [place for place in folder.parent.glob(folder.name.rpartition("-")[0] + "-*") if place != folder]
    for other in sorted(others, key=lambda place: place.stat().st_mtime_ns, reverse=True)[kept:]:
        shutil.rmtree(other)
