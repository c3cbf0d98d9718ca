"""One LoRA training (§3.4, §4.3): by Hugging Face's Trainer and peft, resumed from its last whole checkpoint.

It runs in this process, or in several, each with a device of its own: python -m cbtllm_utils.finetune.training FOLDER,
under torchrun, is one of these.
"""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from importlib import metadata
from pathlib import Path

import psutil
import torch
import transformers
from accelerate import PartialState
from datasets import Dataset, load_from_disk
from peft import PeftModel
from transformers.trainer_callback import PrinterCallback, TrainerCallback

from cbtllm_utils import files, finetune, models
from cbtllm_utils.finetune import adapters
from cbtllm_utils.finetune.live_log import LiveLog
from cbtllm_utils.finetune.settings import TrainingSettings
from cbtllm_utils.finetune.trainer import ReplyTrainer, collate
from cbtllm_utils.finetune.training_log import Progress
from cbtllm_utils.models import devices

PARENT = "CBTLLM_PARENT"  # environment variable: the process that started torchrun
COMPLETE = "complete"  # the last file of a checkpoint
LIBRARIES = ("torch", "transformers", "peft", "accelerate")


class OneDevice(transformers.TrainingArguments):
    """Arguments for one GPU per process: left to itself, the Trainer would multiply the batch by all visible ones."""

    @property
    def n_gpu(self) -> int:
        return min(super().n_gpu, 1)


class MarkComplete(TrainerCallback):
    """Mark a checkpoint once every process has written its files: a kill may leave one without."""

    def on_save(self, args: object, state: object, control: object, **_: object) -> None:
        PartialState().wait_for_everyone()
        if state.is_world_process_zero:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / COMPLETE).touch()


def arguments(settings: TrainingSettings, folder: Path) -> OneDevice:
    device = devices.device().type
    return OneDevice(
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
        use_cpu=device == "cpu",
        logging_steps=settings.logging_steps,
        logging_nan_inf_filter=False,
        save_strategy="steps" if settings.checkpoint_steps else "no",
        save_steps=settings.checkpoint_steps or 500,
        save_total_limit=2,
        remove_unused_columns=False,
        ddp_find_unused_parameters=False,
        dataloader_pin_memory=device == "cuda",
        disable_tqdm=True,
        report_to="none",
    )


def train(
    model: PeftModel, examples: Dataset, heldout: Dataset, settings: TrainingSettings, folder: Path
) -> list[dict]:
    """Train the model's adapter in place, here or in as many processes as `settings.processes` says.

    The processes read the backbone themselves; this one then loads their adapter. Each row of the log is seen at once
    in `live_log`'s file.

    Args:
        folder: Where the state is saved at the end, and every `settings.checkpoint_steps`. A run that finds state
            there continues from it; after the end, the adapter is loaded.

    Returns:
        The log by step: rows {step, epoch, loss, learning_rate}, where loss is the mean over the reply tokens since
        the last row, in nats; and {step, heldout_loss}, before training and after each epoch.

    Raises:
        InputError: For a loss or gradient that is NaN or infinite; where this machine has fewer GPUs than processes.
    """
    before, live = ended(folder), live_log(settings, folder)
    if before:  # The Trainer itself would take one more step after an end within an epoch.
        devices.use_threads(settings.threads)
        live.begin(state(folder)["log_history"])
        live.end()
    elif settings.processes == 1:
        train_here(model, examples, heldout, settings, folder)
    else:
        model.to("cpu")  # The processes need the GPUs' memory.
        torch.cuda.empty_cache()
        shutil.rmtree(folder / "job", ignore_errors=True)
        examples.save_to_disk(folder / "job" / "examples")
        heldout.save_to_disk(folder / "job" / "heldout")
        files.write_json(folder / "job" / "settings.json", settings.model_dump())
        launch(folder, settings.processes)
    if before or settings.processes > 1:
        load_result(model, folder)
        model.to(devices.device())
        shutil.rmtree(folder / "job", ignore_errors=True)  # It holds every example.
    print("trained before: " * before + cost(folder), file=sys.stderr)  # measured, so not part of a result
    live.write(state(folder)["log_history"])  # These are in it already, unless somebody changed or removed it.
    return losses(files.read_jsonl(live.file))


def live_log(settings: TrainingSettings, folder: Path) -> LiveLog:
    """Return the live log of the training in a folder: live/<backbone>.jsonl beside it, and tensorboard/<backbone>."""
    board = folder.parent / "tensorboard" / settings.backbone if settings.tensorboard else None
    return LiveLog(folder.parent / "live" / f"{settings.backbone}.jsonl", board)


def train_here(
    model: PeftModel, examples: Dataset, heldout: Dataset, settings: TrainingSettings, folder: Path
) -> list[dict]:
    """Train in this process, alone or as one of several with the same arguments."""
    devices.use_threads(settings.threads)
    given = arguments(settings, folder)  # First: they join the processes and give each its device.
    model.to(devices.device())
    trainer = ReplyTrainer(
        model=model,
        args=given,
        train_dataset=examples,
        data_collator=collate,
        callbacks=[Progress(heldout, settings.batch * 2, live_log(settings, folder)), MarkComplete()],
    )
    trainer.remove_callback(PrinterCallback)
    remove_incomplete(folder)
    trainer.train(resume_from_checkpoint=last_checkpoint(folder))
    return losses(trainer.state.log_history)


def losses(log_history: list[dict]) -> list[dict]:
    """Return the rows of a Trainer's log that hold a loss, with the columns that `train` promises."""
    keys = ("step", "epoch", "loss", "learning_rate", "heldout_loss")
    rows = [{key: row[key] for key in keys if key in row} for row in log_history]
    return [row for row in rows if "loss" in row or "heldout_loss" in row]


# Checkpoints.


def last_checkpoint(folder: Path) -> str | None:
    """Return the newest complete checkpoint, or None."""
    found = [place for place in folder.glob("checkpoint-*") if (place / COMPLETE).exists()]
    return str(max(found, key=lambda place: int(place.name.rpartition("-")[2]))) if found else None


def remove_incomplete(folder: Path) -> None:
    """Remove checkpoints that a kill left incomplete: the Trainer would count them."""
    for place in folder.glob("checkpoint-*"):
        if not (place / COMPLETE).exists():
            shutil.rmtree(place, ignore_errors=True)  # Several processes may do it at once.


def state(folder: Path) -> dict:
    """Return the Trainer's state at the newest complete checkpoint, or {}."""
    place = last_checkpoint(folder)
    return files.read_json(Path(place) / "trainer_state.json") if place else {}


def ended(folder: Path) -> bool:
    found = state(folder)
    return bool(found) and found["global_step"] >= found["max_steps"]


def cost(folder: Path) -> str:
    """Return time, throughput and peak memory of an ended training as text."""
    rows = [row for row in state(folder)["log_history"] if "seconds" in row]
    return "{seconds:.0f} s, {tokens_per_second:,.0f} tokens/s, {peak_memory_gb:.1f} GB peak memory".format(**rows[-1])


def load_result(model: PeftModel, folder: Path) -> None:
    """Load the adapter of an ended training into the model."""
    model.load_adapter(last_checkpoint(folder), "default", is_trainable=True)


def work_folder(
    run: str | Path, backbone: str, weights: str, examples: Dataset, heldout: Dataset, settings: TrainingSettings
) -> Path:
    """Return where the state of this training is saved: another folder for everything that could change its outcome.

    These are the backbone's weights (their hash), token ids and labels, settings, how often the loss is logged, the
    versions of the libraries that compute, and the VERSION of the rooms finetune and models.
    """
    libraries = [*LIBRARIES, *(["bitsandbytes"] if settings.quantization else [])]
    known = [
        [finetune.VERSION, models.VERSION],
        {name: metadata.version(name) for name in libraries},
        weights,
        settings.hyperparameters(),
        settings.logging_steps,
    ]
    digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode())
    for split in (examples, heldout):
        digest.update(f"{len(split)} examples".encode())
        for row in split.with_format("numpy", columns=["input_ids", "labels"]):
            digest.update(len(row["labels"]).to_bytes(4))
            digest.update(row["input_ids"].tobytes() + row["labels"].tobytes())
    return files.path(run) / "training" / f".{backbone}-{digest.hexdigest()[:16]}"


def remove_older(folder: Path) -> None:
    """Remove the state of other trainings of the same backbone but for the latest two."""
    others = [place for place in folder.parent.glob(folder.name.rpartition("-")[0] + "-*") if place != folder]
    for other in sorted(others, key=lambda place: place.stat().st_mtime_ns, reverse=True)[2:]:
        shutil.rmtree(other)


# Several processes.


def launch(folder: Path, processes: int) -> None:
    """Run so many processes on this machine by torchrun and wait for their end."""
    gpus = torch.cuda.device_count() or processes
    if gpus < processes:
        place = files.shown(folder) if folder.is_relative_to(files.ROOT) else folder
        each = max(number for number in range(1, gpus + 1) if processes % number == 0)  # as many on every machine
        raise files.InputError(
            f"processes = {processes}, and this machine has {gpus} GPUs. On each of several machines that share these "
            f"files run, in the repository: torchrun --nnodes={processes // each} --nproc-per-node={each} "
            "--rdzv-backend=c10d --rdzv-endpoint=FIRST_MACHINE:29500 -m cbtllm_utils.finetune.training "
            f"{place}; then this notebook again"
        )
    (folder / "error").unlink(missing_ok=True)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command += ["-m", "cbtllm_utils.finetune.training", str(folder)]
    environment = os.environ | {PARENT: str(os.getpid())}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, cwd=files.ROOT, env=environment, **pipes) as running:
        try:
            while output := running.stdout.read1():  # unlike lines, also a progress bar that has not ended
                sys.stderr.write(output.decode(errors="replace"))
                sys.stderr.flush()
        except BaseException:  # an interrupt: torchrun ends what it has started
            running.terminate()
            raise
    if (folder / "error").exists():
        raise files.InputError((folder / "error").read_text(encoding="utf-8"))
    if not ended(folder):  # A process that fails as it exits, after the last checkpoint, has lost nothing.
        code = running.returncode
        raise RuntimeError(
            f"training in {processes} processes ended with exit code {code}, perhaps because memory ran out"
        )


def end_with(parent: int) -> None:
    """End this process when its parent has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        while psutil.Process(parent).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.2)
    os._exit(1)


def work(folder: Path) -> None:
    """Do this process's part of the job in the folder, unless it has been done."""
    if ended(folder):
        return
    settings = TrainingSettings(**files.read_json(folder / "job" / "settings.json"))
    if os.environ["WORLD_SIZE"] != str(settings.processes):
        raise files.InputError(
            f"{os.environ['WORLD_SIZE']} processes were started where processes = {settings.processes}"
        )
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    examples, heldout = (load_from_disk(folder / "job" / name) for name in ("examples", "heldout"))
    base = adapters.backbone(settings.model, settings.deltas, settings.run, settings.precision, settings.quantization)
    train_here(adapters.fresh(base, settings), examples, heldout, settings, folder)


def main() -> int:
    """Run one of several processes; write errors that a user can solve to the folder's file `error`."""
    folder = files.path(sys.argv[1])
    if parent := os.environ.get(PARENT):
        threading.Thread(target=end_with, args=(int(parent),), daemon=True).start()
    try:
        work(folder)
    except files.InputError as error:
        files.write_text(folder / "error", str(error))
        print(f"error: {error}", file=sys.stderr)
        return 1
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()  # Its threads would abort a process that exits before they end.
    return 0


if __name__ == "__main__":
    sys.exit(main())
