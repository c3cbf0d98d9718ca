"""The Trainer for replies: batches of similar length, loss on the reply alone, on one device or several."""

from collections.abc import Callable, Iterator, Sequence

import torch
import transformers
from accelerate.utils import gather_object
from datasets import Dataset, concatenate_datasets
from torch import distributed
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Sampler
from transformers.trainer_callback import TrainerCallback
from transformers.trainer_pt_utils import get_length_grouped_indices

from cbtllm_utils import files
from cbtllm_utils.finetune import examples as tokenized
from cbtllm_utils.finetune.examples import IGNORED

COLUMNS = ["input_ids", "labels", "questionID"]  # what a batch is made of
FILLER = {"input_ids": [0], "labels": [IGNORED]}  # an example without a label, to make processes' batches even
OVERFLOWS = 25  # fp16 steps that may overflow in a row: by then the loss scale has fallen from 65,536 to 0.002


def collate(rows: Sequence[dict]) -> dict[str, torch.Tensor | int | list]:
    """Return a batch, padded on the right to its longest example, with logits only where a reply is predicted.

    There is no attention mask: causal attention never looks to the right, where the padding is, and is faster without.
    `logits_to_keep` counts from the end: from the last token of the shortest prompt, whose logits predict the first
    token of a reply. With 200 of 750 tokens in the prompt this saves a quarter of the logits, the largest tensor.
    """
    ids = pad_sequence([row["input_ids"] for row in rows], batch_first=True)
    labels = pad_sequence([row["labels"] for row in rows], batch_first=True, padding_value=IGNORED)
    labeled = (labels != IGNORED).any(0).nonzero()
    longest = ids.shape[1]
    first = int(labeled[0]) if len(labeled) else longest
    keep = longest - max(first - 1, 0)
    named = [row["questionID"] for row in rows if row.get("questionID") is not None]
    tokens = sum(len(row["input_ids"]) for row in rows)
    batch = {"input_ids": ids, "labels": labels[:, -keep:], "logits_to_keep": keep}
    return batch | {"question_ids": named, "tokens": tokens}


def heldout_loss(model: torch.nn.Module, examples: Dataset, batch: int) -> float:
    """Return the mean of equation 3 over all reply tokens, in nats per token; exp of it is the perplexity.

    Several processes take the batches in turn and add up their sums at the end.
    """
    model.eval()
    several = distributed.is_initialized()
    rank, processes = (distributed.get_rank(), distributed.get_world_size()) if several else (0, 1)
    lengths = list(examples["length"])
    by_length = examples.with_format("torch", columns=COLUMNS).select(
        sorted(range(len(lengths)), key=lengths.__getitem__)
    )
    starts = range(rank * batch, len(lengths), batch * processes)
    sums = [summed_loss(model, [by_length[i] for i in range(s, min(s + batch, len(lengths)))]) for s in starts]
    total, tokens = (sum(column) for column in zip((0.0, 0), *sums, strict=True))
    if several:
        both = torch.tensor([total, tokens], dtype=torch.float64, device=next(model.parameters()).device)
        distributed.all_reduce(both)
        total, tokens = both.tolist()
    return total / tokens


@torch.no_grad()
def summed_loss(model: torch.nn.Module, rows: Sequence[dict]) -> tuple[float, int]:
    """Return the sum of the losses of the rows' reply tokens, and their number."""
    weight = next(model.parameters())
    batch = collate(rows)
    ids, labels = batch["input_ids"].to(weight.device), batch["labels"].to(weight.device)
    count = int((labels[:, 1:] != IGNORED).sum())
    half = weight.dtype in (torch.float16, torch.bfloat16)  # What is trained has 32 bits all the same.
    with torch.autocast(weight.device.type, weight.dtype, enabled=half):
        loss = model(input_ids=ids, labels=labels, logits_to_keep=batch["logits_to_keep"]).loss
    return (loss.item() * count, count) if count else (0.0, 0)


class LengthGrouped(Sampler):
    """Transformers' order for `group_by_length`, from seed and epoch alone, so that a resumed run sees the same.

    Its own sampler draws from the global generator: resumed within an epoch, it gives another order. The epoch is asked
    for, because accelerate does not hand it on to a sampler when it skips batches to resume.

    Args:
        lengths: Tokens of each example.
        step: Examples of one step, over all processes.
        seed: Of the order.
        epoch: Returns the number of the epoch that begins.
        multiple: The order is filled up to a multiple of this with the index after the last, a filler's.
    """

    def __init__(
        self, lengths: Sequence[int], step: int, seed: int, epoch: Callable[[], int], multiple: int = 1
    ) -> None:
        self.lengths, self.step, self.seed, self.epoch = lengths, step, seed, epoch
        self.fillers = -len(lengths) % multiple

    def __len__(self) -> int:
        return len(self.lengths) + self.fillers

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch())
        order = get_length_grouped_indices(self.lengths, self.step, generator=generator)
        return iter(order + [len(self.lengths)] * self.fillers)


class FiniteGradients(TrainerCallback):
    """Raise on the first NaN or infinite gradient and name the question IDs of its step.

    In fp16 the loss scaler skips a step that overflows and takes the next with a smaller factor: so many in a row are
    allowed.
    """

    def __init__(self) -> None:
        self.question_ids, self.overflows = [], 0

    def on_pre_optimizer_step(self, args: object, state: object, control: object, model: object, **_: object) -> None:
        gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        self.overflows = 0 if torch.isfinite(norm) else self.overflows + 1
        if self.overflows > (OVERFLOWS if args.fp16 else 0):
            raise not_finite("the gradient", norm.item(), state, gather_object(self.question_ids))
        self.question_ids = []


class ReplyTrainer(transformers.Trainer):
    """The Trainer in the order of `LengthGrouped`; it stops at the first loss or gradient that is NaN or infinite.

    Several processes take the batches of a step in turn: together they see the examples that one process would see,
    and the loss is the mean over the reply tokens of them all.
    """

    def __init__(self, *, train_dataset: Dataset, **named: object) -> None:
        self.lengths = list(train_dataset["length"])
        rows = train_dataset
        if named["args"].world_size > 1:
            rows = concatenate_datasets([train_dataset, tokenized.dataset([FILLER])])
        super().__init__(train_dataset=rows.with_format("torch", columns=COLUMNS), **named)
        self.gradients = FiniteGradients()
        self.add_callback(self.gradients)

    def get_train_dataloader(self) -> DataLoader:
        """Return the batches in the order of `LengthGrouped`, shared among the processes."""
        together = self.args.train_batch_size * self.args.world_size
        order = LengthGrouped(
            self.lengths,
            together * self.args.gradient_accumulation_steps,
            self.args.seed,
            epoch=lambda: int(self.state.epoch or 0),
            multiple=together if self.args.world_size > 1 else 1,
        )
        loader = DataLoader(
            self.train_dataset,
            batch_size=self.args.train_batch_size,
            sampler=order,
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
        )
        return self.accelerator.prepare(loader)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the adapter without embeddings: left to decide, peft asks the hub for the base model's vocabulary."""
        if self.args.should_save:
            self.model.save_pretrained(output_dir, save_embedding_layers=False)

    def training_step(self, model: torch.nn.Module, inputs: dict, *arguments: object) -> torch.Tensor:
        """Return the loss of a batch, after its backward pass."""
        question_ids = inputs.pop("question_ids")
        self.state.num_input_tokens_seen += inputs.pop("tokens")  # of this process, without padding
        self.gradients.question_ids += question_ids
        loss = super().training_step(model, inputs, *arguments)
        if not torch.isfinite(loss):
            raise not_finite("the loss", loss.item(), self.state, question_ids)
        return loss


def not_finite(what: str, value: float, state: object, question_ids: list) -> files.InputError:
    """Return the error that names step and question IDs."""
    return files.InputError(
        f"training: {what} is {value} at step {state.global_step + 1}, on the examples (questionID) "
        f"{', '.join(question_ids)}; the adapter was not written. Look at these examples; else lower learning_rate, or "
        "set precision to bf16 or fp32"
    )
