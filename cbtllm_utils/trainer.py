"""The Trainer that learns replies: padded batches of like length, loss on the reply alone, one line while it runs."""

import sys
import time
from collections.abc import Iterator

import torch
import transformers
from tqdm import tqdm
from transformers.trainer_callback import TrainerCallback
from transformers.trainer_pt_utils import LengthGroupedSampler

from cbtllm_utils import files
from cbtllm_utils.instructions import IGNORED


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
