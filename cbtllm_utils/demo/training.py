"""Train language models of about a million parameters in minutes on a CPU."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch.nn import functional
from transformers import PreTrainedModel


def train(
    model: PreTrainedModel,
    documents: Sequence[Sequence[int]],
    *,
    steps: int,
    batch: int,
    length: int,
    learning_rate: float,
    seed: int,
) -> None:
    """Train the model's trainable weights on documents of token ids.

    A step sees `batch` windows of `length` tokens of the shuffled documents in a row. The same arguments on the same
    machine with one thread give the same weights.
    """
    torch.manual_seed(seed)
    update = updater(model, learning_rate, steps)
    model.train()
    for ids in windows(documents, steps, batch, length, seed):
        with precision():
            hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
            logits = model.lm_head(hidden)
        update(functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten()))
    model.eval()


def precision() -> AbstractContextManager:
    """Return automatic bfloat16 where the CPU multiplies in it, which is a fifth faster there; else no context."""
    fast = torch.cpu.get_capabilities().get("avx512_bf16", False)
    return torch.autocast("cpu", torch.bfloat16) if fast else nullcontext()


def windows(
    documents: Sequence[Sequence[int]], steps: int, batch: int, length: int, seed: int
) -> Iterator[torch.Tensor]:
    """Yield batches of `batch` × (`length` + 1) ids: the documents in a row, shuffled again each time they run out."""
    draw, stream, size = torch.Generator().manual_seed(seed), [], batch * (length + 1)
    for _ in range(steps):
        while len(stream) < size:
            for index in torch.randperm(len(documents), generator=draw).tolist():
                stream.extend(documents[index])
        yield torch.tensor(stream[:size]).view(batch, length + 1)
        del stream[:size]


def updater(model: PreTrainedModel, learning_rate: float, steps: int) -> Callable[[torch.Tensor], None]:
    """Return a function that takes one training step down a loss.

    Muon for matrices, which needs half the tokens of AdamW; AdamW for embeddings, norms and biases. The learning rate
    falls linearly to zero after a short warm-up.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    matrices = [p for name, p in trained.items() if p.ndim == 2 and "embed" not in name and "lm_head" not in name]
    rest = [p for p in trained.values() if all(p is not m for m in matrices)]
    optimizers = [torch.optim.AdamW(rest, lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.0)] if rest else []
    if matrices:
        options = {"lr": learning_rate, "weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"}
        optimizers.append(torch.optim.Muon(matrices, **options))
    warm = max(1, steps // 20)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(o, lambda step: min((step + 1) / warm, (steps - step) / steps))
        for o in optimizers
    ]

    def update(loss: torch.Tensor) -> None:
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained.values(), 1.0)
        for stepped in (*optimizers, *schedules):
            stepped.step()
        model.zero_grad()

    return update


@torch.inference_mode()
def loss(model: PreTrainedModel, documents: Sequence[Sequence[int]]) -> float:
    """Return the mean loss of the documents' tokens after the first, in nats per token."""
    total, count = 0.0, 0
    for ids in documents:
        logits = model(input_ids=torch.tensor([ids])).logits[0]
        total += functional.cross_entropy(logits[:-1].float(), torch.tensor(ids[1:]), reduction="sum").item()
        count += len(ids) - 1
    return total / count
