"""Qwen3 and Qwen3.5 with vocabularies of their real size: trained on a row and asked in their chat template, tiny."""

import chat_models
import pytest
import torch

from cbtllm_utils.finetune import adapters, examples, memory, trainer, training
from cbtllm_utils.finetune.settings import TrainingSettings
from cbtllm_utils.generate import answering
from cbtllm_utils.models import prompt_forms

torch.set_num_threads(1)  # so small a model is slower on several threads

ROW = {"questionID": 1, "question": "怎么办", "description": "我睡不着", "reply": "你好。"}
FAMILIES = {  # what writes one, entries of its vocabulary, layers that hold q and v
    "qwen3": (
        lambda folder: chat_models.write(folder, "qwen3", vocab_size=151936, tie_word_embeddings=True),
        151936,
        2,
    ),
    "qwen3.5": (chat_models.write_qwen35, 248320, 1),
}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    write, vocabulary, layers = FAMILIES[request.param]
    run = tmp_path_factory.mktemp(request.param)
    write(run / "backbones/tiny")
    return run, vocabulary, layers


def load(run):
    return adapters.load("backbones/tiny", [], run, "fp32")


def test_the_outline_counts_what_is_loaded(family):
    """The estimate before weights are read counts the language model alone, without the tower for images beside it."""
    run, vocabulary, layers = family
    wanted = TrainingSettings(targets="published", precision="fp32", rank=2)
    outlined = memory.size(adapters.fresh(adapters.outline("backbones/tiny", [], run), wanted))
    adapted = adapters.fresh(load(run)[0], wanted)
    assert outlined == memory.size(adapted) and outlined.vocabulary == vocabulary
    names = {name for name, weight in adapted.named_parameters() if weight.requires_grad}
    assert len(names) == layers * 2 * 2, "A and B of q and v"


def test_a_prompt_alone_and_among_longer_ones_have_one_reply(family):
    """The padding on the left leaves no trace in full attention nor in a state that is carried from token to token."""
    model, tokenizer = load(family[0])
    posts = [ROW | {"description": "我" * length} for length in (1, 40, 9)]
    prompts = [prompt_forms.prompt(post, "chat", tokenizer) for post in posts]
    options = {"max_new_tokens": 12, "seed": 1, "temperature": 0, "top_p": 1, "top_k": 0}
    together = answering.new_tokens(model, tokenizer, prompts, **options)
    assert together == [answering.new_tokens(model, tokenizer, [prompt], **options)[0] for prompt in prompts]
    assert len(set(map(tuple, together))) == 3, "or padding could not be told from a post"


def test_what_an_adapter_has_learned_is_there_when_it_is_attached_to_answer(family, tmp_path):
    run = family[0]
    model, tokenizer = load(run)
    wanted = {"template": "chat", "rank": 8, "dropout": 0, "targets": "all-linear", "learning_rate": 1e-2}
    wanted |= {"epochs": 12, "batch": 1, "accumulation": 1, "precision": "fp32", "schedule": "constant"}
    rows = examples.encode([ROW], tokenizer, "chat", 1024)
    adapted = adapters.fresh(model, TrainingSettings(**wanted))
    log = training.train(adapted, rows, rows, TrainingSettings(**wanted), tmp_path / "work")
    losses = [row["heldout_loss"] for row in log if "heldout_loss" in row]
    assert losses[-1] < losses[0] / 2
    adapted.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    tuned = adapters.attach(load(run)[0], tmp_path / "adapter")
    assert trainer.heldout_loss(tuned, rows, 1) == pytest.approx(losses[-1], rel=1e-3)
    assert [row["input_ids"][-1] for row in rows] == [tokenizer.convert_tokens_to_ids("<|im_end|>")]
