"""LoRA fine-tuning on instruction triads (§3.4, §4.3): Hugging Face's Trainer and peft, loss on the reply alone."""

import hashlib
import json
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
import transformers
from peft import PeftModel
from tqdm import tqdm
from transformers.trainer_callback import PrinterCallback, TrainerCallback
from transformers.trainer_pt_utils import LengthGroupedSampler

from cbtllm_utils import files
from cbtllm_utils.instructions import IGNORED, TEMPLATES, encode, encode_example
from cbtllm_utils.recipe import Settings, device

__all__ = ["TEMPLATES", "Settings", "collate", "encode", "encode_example", "heldout_loss", "train"]


def collate(examples: list[dict], pad: int = 0) -> dict[str, torch.Tensor | int]:
    """A batch, padded on the right to its longest example; logits only where a reply is predicted.

    There is no attention mask: causal attention never looks to the right, where the padding is, and is faster without.
    `logits_to_keep` counts from the end: from the last token of the shortest prompt, whose logits predict the first
    token of a reply. With 200 of 750 tokens a prompt this saves a quarter of the logits, the largest part by far.
    """
    longest = max(len(e["input_ids"]) for e in examples)
    gaps = [longest - len(e["input_ids"]) for e in examples]
    first = min(next((i for i, label in enumerate(e["labels"]) if label != IGNORED), longest) for e in examples)
    keep = longest - max(first - 1, 0)
    labels = [e["labels"] + [IGNORED] * gap for e, gap in zip(examples, gaps, strict=True)]
    return {
        "input_ids": torch.tensor([e["input_ids"] + [pad] * gap for e, gap in zip(examples, gaps, strict=True)]),
        "labels": torch.tensor(labels)[:, -keep:],
        "logits_to_keep": keep,
    }


@torch.inference_mode()
def heldout_loss(model: torch.nn.Module, examples: list[dict], batch: int) -> float:
    """The mean of equation 3 over all reply tokens of the examples, in nats a token; exp of it is the perplexity."""
    model.eval()
    where, total, tokens = next(model.parameters()).device, 0.0, 0
    ordered = sorted(examples, key=lambda e: len(e["input_ids"]))
    for start in range(0, len(ordered), batch):
        inputs = collate(ordered[start : start + batch])
        count = int((inputs["labels"][:, 1:] != IGNORED).sum())
        inputs = {k: v.to(where) if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}
        total += model(**inputs).loss.item() * count
        tokens += count
    return total / tokens


class Grouped(LengthGroupedSampler):
    """Examples of like length together, in an order that depends on seed and epoch alone: a resumed run sees the same."""

    def __init__(self, batch: int, lengths: list[int], seed: int) -> None:
        super().__init__(batch, lengths=lengths, generator=torch.Generator())
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        self.generator.manual_seed(self.seed + self.epoch)
        return super().__iter__()


class ReplyTrainer(transformers.Trainer):
    """The Trainer, with `Grouped` order, which stops at the first loss that is no number instead of training on."""

    def _get_train_sampler(self, train_dataset: list[dict] | None = None) -> Grouped:
        lengths = [len(example["input_ids"]) for example in self.train_dataset]
        return Grouped(self._train_batch_size * self.args.gradient_accumulation_steps, lengths, self.args.seed)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        # Told not to save embeddings, peft does not ask the hub whether the base model lies there.
        self.model.save_pretrained(output_dir, state_dict=state_dict, save_embedding_layers=False)

    def training_step(self, *arguments: object, **named: object) -> torch.Tensor:
        loss = super().training_step(*arguments, **named)
        if not torch.isfinite(loss):
            raise files.InputError(
                f"training: the loss is {loss.item()} at step {self.state.global_step + 1}; the adapter was not "
                "written. Lower learning_rate, or set precision to bf16 or fp32"
            )
        return loss


class Watch(TrainerCallback):
    """One line on stderr while training runs, and the held-out loss after each epoch."""

    def __init__(self, heldout: list[dict], batch: int, tokens: int) -> None:
        self.heldout, self.batch, self.tokens = heldout, batch, tokens

    def on_train_begin(self, args: object, state: object, control: object, model: object, **named: object) -> None:
        if float(state.epoch or 0).is_integer() or state.global_step >= state.max_steps:
            self.note(model, state)  # before training; or a checkpoint came to disk and its note did not
        self.begin = state.global_step
        self.bar = tqdm(
            total=state.max_steps, initial=state.global_step, desc="training", file=sys.stderr, mininterval=5
        )
        self.start = time.monotonic()

    def on_step_end(self, args: object, state: object, control: object, **named: object) -> None:
        self.bar.update()

    def on_log(self, args: object, state: object, control: object, logs: dict, **named: object) -> None:
        if "loss" in logs:
            self.bar.set_postfix(loss=f"{logs['loss']:.3f}", refresh=False)

    def on_epoch_end(self, args: object, state: object, control: object, model: object, **named: object) -> None:
        self.note(model, state)
        control.should_save |= state.global_step >= state.max_steps  # the end is kept: the same training ends at once

    def note(self, model: object, state: object) -> None:
        """The held-out loss, once a step, into the log that checkpoints keep."""
        noted = any("heldout_loss" in row for row in state.log_history if row["step"] == state.global_step)
        if self.heldout and not noted:
            loss = heldout_loss(model, self.heldout, self.batch)
            state.log_history.append({"step": state.global_step, "heldout_loss": loss})

    def on_train_end(self, args: object, state: object, control: object, **named: object) -> None:
        self.bar.close()
        seconds, share = time.monotonic() - self.start, 1 - self.begin / state.max_steps
        speed = self.tokens * args.num_train_epochs * share / seconds
        print(f"{seconds:.0f} s, {speed:.0f} tokens/s" if share else "trained before", file=sys.stderr)


def arguments(settings: Settings, folder: Path, logging_steps: int, checkpoint_steps: int) -> object:
    """The Trainer's arguments that the settings mean."""
    return transformers.TrainingArguments(
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
    last = transformers.trainer_utils.get_last_checkpoint(str(folder)) if folder.is_dir() else None
    trainer.train(resume_from_checkpoint=last)
    keys = ("step", "epoch", "loss", "learning_rate", "heldout_loss")
    rows = [{key: row[key] for key in keys if key in row} for row in trainer.state.log_history]
    return [row for row in rows if "loss" in row or "heldout_loss" in row]


def work_folder(
    run: str | Path, backbone: str, model: torch.nn.Module, examples: list[dict], settings: Settings, code: str
) -> Path:
    """Where this training's state lies: other weights, data, settings or code mean another folder, so that none is
    taken for another's."""
    digest = hashlib.sha256(json.dumps([code, asdict(settings), [e["input_ids"] for e in examples]]).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
    return files.path(run) / "training" / f".{backbone}-{digest.hexdigest()[:16]}"


def forget_others(folder: Path) -> None:
    """Nothing, after the states of other trainings of the same backbone were removed."""
    for other in folder.parent.glob(folder.name.rpartition("-")[0] + "-*"):
        if other != folder:
            shutil.rmtree(other)
