"""LoRA fine-tuning on instruction triads (§3.4, §4.3): Hugging Face's Trainer and peft, loss on the reply alone."""

import contextlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import transformers
from peft import PeftModel
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from transformers.trainer_callback import PrinterCallback

from cbtllm_utils import files, hashing
from cbtllm_utils.finetune.progress import Watch
from cbtllm_utils.finetune.settings import Settings
from cbtllm_utils.finetune.trainer import ReplyTrainer, check_apart, collate, pack
from cbtllm_utils.models.devices import device


def arguments(settings: Settings, folder: Path, logging_steps: int, checkpoint_steps: int) -> object:
    """The Trainer's arguments that the settings mean, on one device of this process: several would multiply the items
    of a step."""
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
        ddp_find_unused_parameters=False,
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
    nothing left to do. InputError when the loss or the gradient is no number. Among several processes (`parallel`)
    each calls this with the same arguments.
    """
    # Arguments first: they join the processes and give each its device.
    given = arguments(settings, folder, logging_steps, checkpoint_steps)
    if settings.sharded:
        leave_shares(model)
    else:
        model.to(device())
    if settings.packing:
        check_apart(model, examples)
    tokens = sum(len(example["input_ids"]) for example in examples)
    trainer = ReplyTrainer(
        model=model,
        args=given,
        train_dataset=examples,
        data_collator=pack if settings.packing else collate,
        callbacks=[Watch(heldout, settings.batch * 2, tokens)],
    )
    trainer.remove_callback(PrinterCallback)
    forget_broken(folder)
    trainer.train(resume_from_checkpoint=last_checkpoint(folder))
    return points(trainer.state.log_history)


def points(log_history: list[dict]) -> list[dict]:
    """The rows of a Trainer's log that hold a loss, with what `train` promises of them."""
    keys = ("step", "epoch", "loss", "learning_rate", "heldout_loss")
    rows = [{key: row[key] for key in keys if key in row} for row in log_history]
    return [row for row in rows if "loss" in row or "heldout_loss" in row]


def leave_shares(model: PeftModel) -> None:
    """Nothing, after the Trainer was told to treat a model of shares as any other: as if it were the adapter alone.

    The adapter, which is small, is whole in each process, as are its gradients and the optimizer's state: checkpoints
    are those of one process, and can be resumed, which the Trainer refuses for a model that was read in shares.
    """
    shared = [name for name, parameter in model.named_parameters() if isinstance(parameter, DTensor)]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, shared)
    model.get_base_model()._is_distributed_loading_by_transformers = False


def take(model: PeftModel, folder: Path) -> list[dict]:
    """The log of a training that has ended, after its adapter was loaded into the model, or into an outline of it."""
    if model.device.type == "meta":
        for name, layer in model.named_modules():
            if name.rpartition(".")[2].startswith("lora_"):
                layer.to_empty(device="cpu")
    model.load_adapter(last_checkpoint(folder), "default", is_trainable=True)
    return points(state(folder)["log_history"])


def state(folder: Path) -> dict:
    """The Trainer's state at the newest whole checkpoint; {} where there is none."""
    place = last_checkpoint(folder)
    return files.read_json(Path(place) / "trainer_state.json") if place else {}


def ended(folder: Path) -> bool:
    """Whether a training has come to its last step."""
    found = state(folder)
    return bool(found) and found["global_step"] >= found["max_steps"]


def took(folder: Path) -> str:
    """What a training took, as text: what the log of its last checkpoint keeps, and results do not."""
    rows = [row for row in state(folder)["log_history"] if "tokens_per_second" in row]
    words = "{seconds:.0f} s, {tokens_per_second:,.0f} tokens/s, {peak_memory_gb:.1f} GB of memory at most"
    return words.format(**rows[-1])


def last_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that is whole, or None; a kill while one was written leaves its last file away, or cut."""
    found = [place for place in folder.glob("checkpoint-*") if whole(place)]
    return str(max(found, key=lambda place: int(place.name.rpartition("-")[2]))) if found else None


def forget_broken(folder: Path) -> None:
    """Nothing, after checkpoints that are not whole were removed: the Trainer would count them."""
    for place in folder.glob("checkpoint-*"):
        if not whole(place):
            shutil.rmtree(place, ignore_errors=True)  # several processes may do it at once


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
    key = hashing.text(json.dumps([identity, asdict(settings), items]))
    return files.path(run) / "training" / f".{backbone}-{key}"


def forget_older(folder: Path, kept: int = 2) -> None:
    """Nothing, after of the states of other trainings of the same backbone only the latest `kept` are left."""
    others = [place for place in folder.parent.glob(folder.name.rpartition("-")[0] + "-*") if place != folder]
    for other in sorted(others, key=lambda place: place.stat().st_mtime_ns, reverse=True)[kept:]:
        shutil.rmtree(other)
