"""A packed row gives what its examples give alone: for stock LLaMA and for the fused layers of Qwen v1 and Baichuan."""

import pytest
import torch
from test_backbones import WORDS, every_family, loaded
from test_training import items, losses_of, settings, trained
from tiny import llama

from cbtllm_utils import files
from cbtllm_utils.finetune import trainer
from cbtllm_utils.models.prompt_forms import IGNORED


def examples(number=5):
    draw, found = torch.Generator().manual_seed(1), []
    for place in range(number):
        ids = torch.randint(WORDS, (6 + 5 * place,), generator=draw).tolist()
        found.append({"input_ids": ids, "labels": [IGNORED] * (3 + place) + ids[3 + place :]})
    return found


def logits_and_loss(model, batch):
    inputs = {name: value for name, value in batch.items() if name != "items"}
    out = model(**inputs)
    return out.logits, out.loss


def test_a_packed_row_by_hand():
    batch = trainer.pack(
        [
            {"input_ids": [5, 6, 7, 8], "labels": [IGNORED, IGNORED, 7, 8], "questionID": 3},
            {"input_ids": [9, 10, 11], "labels": [9, 10, 11], "questionID": 4},  # its first token is not predicted
            trainer.FILLER,
        ]
    )
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9, 10, 11, 0]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1, 2, 0]]
    assert batch["logits_to_keep"].tolist() == [1, 2, 4, 5, 7] and batch["labels"].tolist() == [[-100, 7, 8, 10, 11]]
    assert batch["items"] == [3, 4]


@every_family
def test_logits_and_losses_are_those_of_the_examples_alone(tmp_path, family):
    model, rows = loaded(tmp_path, family), examples()
    alone = [(model(torch.tensor([e["input_ids"]])).logits[0], e["labels"]) for e in rows]
    expected = torch.cat([logits[[i - 1 for i, label in enumerate(labels) if label >= 0]] for logits, labels in alone])
    ours, loss = logits_and_loss(model, trainer.pack(rows))
    torch.testing.assert_close(ours[0, :-1], expected, atol=1e-5, rtol=1e-5)
    padded = logits_and_loss(model, trainer.collate(rows))[1]
    assert loss.item() == pytest.approx(padded.item(), abs=1e-5)
    trainer.check_apart(model, rows)


@every_family
def test_gradients_are_those_of_the_padded_batch(tmp_path, family):
    model, rows, found = loaded(tmp_path, family), examples(), []
    for make in (trainer.pack, trainer.collate):
        model.zero_grad()
        logits_and_loss(model, make(rows))[1].backward()
        found.append([p.grad.clone() for p in model.parameters()])
    for packed, padded in zip(*found, strict=True):
        torch.testing.assert_close(packed, padded, atol=1e-5, rtol=1e-4)


def test_a_training_is_the_same_but_for_rounding(tmp_path):
    plain, packed = (losses_of(trained(tmp_path, dropout=0.0, **more)[1]) for more in ({}, {"packing": True}))
    assert packed == pytest.approx(plain, abs=1e-5)


def test_a_model_that_sees_across_examples_is_refused():
    model = llama()
    forward = model.forward
    model.forward = lambda input_ids, position_ids, use_cache: forward(input_ids, use_cache=use_cache)
    with pytest.raises(files.InputError, match="packing = true: this model's layers see"):
        trainer.check_apart(model, items())
    assert settings().packing is False
