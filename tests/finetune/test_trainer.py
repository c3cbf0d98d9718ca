"""Batches, their order, and the loss, by hand; NaN is named."""

import math
import re

import pytest
import torch
from tiny import llama
from training_run import encoded, settings

from cbtllm_utils import files
from cbtllm_utils.finetune import adapters, examples, trainer, training


def tensors(ids, labels):
    return {"input_ids": torch.tensor(ids), "labels": torch.tensor(labels), "questionID": str(len(ids))}


def test_a_batch_is_padded_on_the_right_and_keeps_logits_from_where_a_reply_is_predicted():
    long, short = tensors([5, 6, 7, 8, 9], [-100, -100, 7, 8, 9]), tensors([5, 6, 7], [-100, -100, 7])
    batch = trainer.collate([long, short])
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9], [5, 6, 7, 0, 0]]
    assert batch["logits_to_keep"] == 4 and batch["labels"].tolist() == [[-100, 7, 8, 9], [-100, 7, -100, -100]]
    assert batch["question_ids"] == ["5", "3"]


def test_the_loss_is_equation_3_over_the_reply():
    model, rows = llama(), encoded(5)
    total, tokens = 0.0, 0
    for example in rows:  # one by one, by hand: -log P(x_t | x_1 … x_t-1) wherever there is a label
        logs = model(torch.tensor([example["input_ids"]])).logits[0].log_softmax(-1)
        for t, label in enumerate(example["labels"]):
            if label != -100:
                total -= logs[t - 1, label].item()
                tokens += 1
    assert trainer.heldout_loss(model, rows, 2) == pytest.approx(total / tokens, rel=1e-5)


def test_an_epochs_order_depends_on_seed_and_epoch_alone():
    lengths, now = [5, 3, 8, 2, 9, 4, 7, 1], [0]
    order = trainer.LengthGrouped(lengths, 2, 42, lambda: now[0], multiple=3)
    first = list(order)
    torch.rand(1)  # the global generator does not matter
    assert list(order) == first and first[8:] == [8] and len(order) == 9 and sorted(first) == list(range(9))
    now[0] = 1
    assert list(order) != first


def test_a_loss_that_is_not_finite_stops_with_its_step(tmp_path):
    wanted = settings(learning_rate=1e30)
    rows = encoded()
    said = r"the (loss|gradient) is nan at step \d+, on the examples \(questionID\) \d.* lower learning_rate"
    with pytest.raises(files.InputError, match=said):
        training.train(adapters.fresh(llama(), wanted), rows, rows.select([]), wanted, tmp_path / "work")


def nan_at(model, calls):
    """Make the gradient of a weight NaN in these backward passes."""
    seen = []
    last = [weight for weight in model.parameters() if weight.requires_grad][-1]
    last.register_hook(lambda grad: grad * math.nan if seen.append(1) or len(seen) in calls else None)


def test_a_gradient_that_is_not_finite_stops_with_the_examples_of_its_step(tmp_path):
    """Breaks when transformers no longer calls `on_pre_optimizer_step` after clipping and before the step."""
    wanted, rows = settings(), encoded()
    model = adapters.fresh(llama(), wanted)
    nan_at(model, {3})
    rows = examples.dataset(row | {"questionID": 100 + place} for place, row in enumerate(rows))
    said = r"the gradient is nan at step 2, on the examples \(questionID\) "
    with pytest.raises(files.InputError, match=said) as error:
        training.train(model, rows, rows.select([]), wanted, tmp_path / "work")
    order = list(trainer.LengthGrouped(list(rows["length"]), 4, wanted.seed, lambda: 0))
    assert [int(number) for number in re.findall(r"\b1\d\d\b", str(error.value))] == [100 + n for n in order[4:8]]


def test_in_fp16_some_overflows_in_a_row_are_the_scalers_business():
    arguments, state = type("A", (), {"fp16": True}), type("S", (), {"global_step": 6})
    model = torch.nn.Linear(1, 1)
    check = trainer.FiniteGradients()

    def step(gradient):
        model.weight.grad = torch.full((1, 1), gradient)
        check.question_ids = ["7"]
        check.on_pre_optimizer_step(arguments, state, None, model=model)

    for gradient in [math.nan] * 25 + [1.0] + [math.nan] * 25:
        step(gradient)
    with pytest.raises(files.InputError, match=r"the gradient is nan at step 7, on the examples \(questionID\) 7;"):
        step(math.nan)
