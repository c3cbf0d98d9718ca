"""The Trainer that learns replies: batches of like length, loss on the reply alone, on one device or on several."""

from collections.abc import Callable, Iterator

import torch
import transformers
from accelerate.utils import gather_object
from torch import distributed
from transformers.trainer_pt_utils import LengthGroupedSampler

from cbtllm_utils import files
from cbtllm_utils.models.prompt_forms import IGNORED

Batch = dict[str, torch.Tensor | int | bool | list]
FILLER = {"input_ids": [0], "labels": [IGNORED]}  # an example from which nothing is learnt
SKIPPED = 25  # steps of fp16 in a row that overflow: the factor on the loss has then come from 65,536 down to 0.002


def collate(examples: list[dict], pad: int = 0) -> Batch:
    """A batch, padded on the right to its longest example; logits only where a reply is predicted.

    There is no attention mask: causal attention never looks to the right, where the padding is, and is faster without.
    `logits_to_keep` counts from the end: from the last token of the shortest prompt, whose logits predict the first
    token of a reply. With 200 of 750 tokens a prompt this saves a quarter of the logits, the largest part by far.
    `items` says which they are.
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
        "items": [e.get("questionID") for e in examples if e is not FILLER],
    }


def pack(examples: list[dict]) -> Batch:
    """The same batch as one row without padding, with logits at the very tokens that predict one of a reply.

    Positions begin anew with each example; where they do, and neither a mask nor a cache is given, attention in
    transformers stays within an example. The model moves labels on by one: the first stands for nothing, and the last
    logits predict nothing.
    """
    ids = [token for e in examples for token in e["input_ids"]]
    labels = [label for e in examples for label in (IGNORED, *e["labels"][1:])]
    learnt = [place for place, label in enumerate(labels) if label != IGNORED]
    return {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.tensor([[place for e in examples for place in range(len(e["input_ids"]))]]),
        "labels": torch.tensor([[IGNORED, *(labels[place] for place in learnt)]]),
        "logits_to_keep": torch.tensor([*(place - 1 for place in learnt), len(ids) - 1]),
        "use_cache": False,
        "items": [e.get("questionID") for e in examples if e is not FILLER],
    }


@torch.no_grad()
def check_apart(model: torch.nn.Module, examples: list[dict]) -> None:
    """Nothing, when an example's logits do not depend, to the last bit, on the tokens of the one packed before it."""
    model.eval()
    where, logits = next(model.parameters()).device, []
    computed = computing(model)
    short = sorted(examples, key=lambda e: len(e["input_ids"]))[:2]
    other = short[0] | {"input_ids": short[0]["input_ids"][::-1]}
    for pair in (short, [other, *short[1:]]):
        batch = pack(pair)
        batch = {name: batch[name].to(where) for name in ("input_ids", "position_ids")}
        with computed:
            logits.append(model(**batch, use_cache=False).logits[:, len(other["input_ids"]) :])
    if not torch.equal(*logits):
        raise files.InputError(
            "packing = true: this model's layers see from one example into the next; set it to false"
        )


def computing(model: torch.nn.Module) -> torch.autocast:
    """The precision in which the model computes while it trains: what is trained has 32 bits, the rest may have 16."""
    weight = next(model.parameters())
    return torch.autocast(weight.device.type, weight.dtype, enabled=weight.dtype in (torch.float16, torch.bfloat16))


def heldout_loss(model: torch.nn.Module, examples: list[dict], batch: int) -> float:
    """The mean of equation 3 over all reply tokens of the examples, in nats a token; exp of it is the perplexity.

    Several processes share the batches; each does as many, since sharded weights are gathered by all together.
    """
    model.eval()
    several = distributed.is_initialized()
    rank, processes = (distributed.get_rank(), distributed.get_world_size()) if several else (0, 1)
    ordered = sorted(examples, key=lambda e: len(e["input_ids"]))
    batches = [ordered[start : start + batch] for start in range(0, len(ordered), batch)]
    batches += [[FILLER]] * (-len(batches) % processes)
    sums = [sum_of_losses(model, part) for part in batches[rank::processes]]
    total, tokens = (sum(column) for column in zip(*sums, strict=True))
    if several:
        both = torch.tensor([total, tokens], dtype=torch.float64, device=next(model.parameters()).device)
        distributed.all_reduce(both)
        total, tokens = both.tolist()
    return total / tokens


@torch.no_grad()  # and not inference mode, whose tensors sharded weights could not use again
def sum_of_losses(model: torch.nn.Module, examples: list[dict]) -> tuple[float, int]:
    """The sum of the losses of the examples' reply tokens, and the number of these."""
    where = next(model.parameters()).device
    inputs = {k: v.to(where) if isinstance(v, torch.Tensor) else v for k, v in collate(examples).items()}
    del inputs["items"]
    count = int((inputs["labels"][:, 1:] != IGNORED).sum())
    with computing(model):
        loss = model(**inputs).loss
    return (loss.item() * count, count) if count else (0.0, 0)


class Grouped(LengthGroupedSampler):
    """Examples of like length together, in an order that depends on seed and epoch alone: a resumed run sees the same.

    `step` examples make a step, over all processes; the order is filled up to `full`, with the place after the last.
    The epoch is asked for: what wraps samplers for several processes does not hand it on when a run is resumed.
    """

    def __init__(self, step: int, lengths: list[int], seed: int, epoch: Callable[[], int], full: int = 1) -> None:
        super().__init__(step, lengths=lengths, generator=torch.Generator())
        self.seed, self.asked, self.fillers = seed, epoch, -len(lengths) % full

    def __len__(self) -> int:
        return len(self.lengths) + self.fillers

    def __iter__(self) -> Iterator[int]:
        self.generator.manual_seed(self.seed + self.asked())
        return iter([*super().__iter__(), *[len(self.lengths)] * self.fillers])


def padding(examples: list[dict], batch: int, step: int, seed: int) -> float:
    """The share of an epoch's tokens that pads batches of `batch` examples, `step` of them a step (`Grouped`)."""
    lengths = [len(example["input_ids"]) for example in examples]
    order = [lengths[place] for place in Grouped(step, lengths, seed, lambda: 0)]
    batches = [order[start : start + batch] for start in range(0, len(order), batch)]
    return 1 - sum(lengths) / sum(max(part) * len(part) for part in batches)


class ReplyTrainer(transformers.Trainer):
    """The Trainer, with `Grouped` order, which stops at the first number that is none and names the items.

    Several processes take the batches of a step in turn: together they see the items that one process would see, and
    the loss is the mean over the reply tokens of them all.
    """

    def __init__(self, *, train_dataset: list[dict], **named: object) -> None:
        self.lengths = [len(example["input_ids"]) for example in train_dataset]
        several = named["args"].world_size > 1
        super().__init__(train_dataset=[*train_dataset, FILLER] if several else train_dataset, **named)
        self.seen, self.skipped = [], 0

    def _get_train_sampler(self, train_dataset: list[dict] | None = None) -> Grouped:
        together = self._train_batch_size * self.args.world_size
        step = together * self.args.gradient_accumulation_steps
        full = together if self.args.world_size > 1 else 1
        return Grouped(step, self.lengths, self.args.seed, lambda: int(self.state.epoch or 0), full)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        # Told not to save embeddings, peft does not ask the hub whether the base model lies there; shown the adapter
        # alone, it does not gather a backbone that is shared out.
        if self.args.should_save:
            adapter = {name: weight for name, weight in self.model.named_parameters() if weight.requires_grad}
            self.model.save_pretrained(output_dir, state_dict=adapter, save_embedding_layers=False)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()  # what is written next says that the checkpoint is whole

    def training_step(self, model: torch.nn.Module, inputs: Batch, *arguments: object, **named: object) -> torch.Tensor:
        items = inputs.pop("items")
        self.seen.extend(items)
        loss = super().training_step(model, inputs, *arguments, **named)
        if not torch.isfinite(loss):
            self.stop("the loss", loss.item(), items)
        return loss

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: torch.Tensor | None = None) -> torch.Tensor:
        norm = super()._get_grad_norm(model, grad_norm)
        # In fp16 the scaler leaves out a step that overflows and takes the next with a smaller factor.
        self.skipped = 0 if torch.isfinite(norm) else self.skipped + 1
        if self.skipped > (SKIPPED if self.args.fp16 else 0):
            self.stop("the gradient", norm.item(), gather_object(self.seen))
        self.seen = []
        return norm

    def stop(self, what: str, value: float, items: list) -> None:
        """InputError that names step and items."""
        raise files.InputError(
            f"training: {what} is {value} at step {self.state.global_step + 1}, on the items (questionID) "
            f"{', '.join(map(str, items))}; the adapter was not written. Look at these items; else lower "
            "learning_rate, or set precision to bf16 or fp32"
        )
