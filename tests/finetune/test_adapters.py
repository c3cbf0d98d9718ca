"""Adapters on disk, their cards, and what does not fit."""

import json
import math

import peft
import pytest
import torch
import transformers
from tiny import llama
from training_run import encoded, settings, summary, trained, written

from cbtllm_utils import files
from cbtllm_utils.finetune import adapters, card
from cbtllm_utils.finetune.settings import TrainingSettings
from cbtllm_utils.models import backbones
from cbtllm_utils.workflow import profiles


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    model, log = trained(tmp_path_factory.mktemp("training"))
    return model, log, written(model, log, tmp_path_factory.mktemp("made") / "adapter")


def test_the_adapter_loads_with_plain_peft_and_merges(run):
    model, _, folder = run
    ids = torch.tensor([encoded(1)[0]["input_ids"]])
    expected = model.eval()(ids).logits
    with backbones.quiet():
        plain = peft.PeftModel.from_pretrained(llama(), str(folder)).eval()
    assert torch.equal(plain(ids).logits, expected)
    torch.testing.assert_close(adapters.attach(llama(), folder)(ids).logits, expected, atol=1e-5, rtol=1e-5)
    config = files.read_json(folder / "adapter_config.json")
    assert config["base_model_name_or_path"] == "backbones/tiny"
    assert config["target_modules"] == sorted(config["target_modules"])


def test_no_folder_of_a_user_gets_into_an_adapter():
    adapted = adapters.fresh(llama(), settings(model="/home/someone/models/llama-7b"))
    assert adapted.peft_config["default"].base_model_name_or_path == "llama-7b"


def test_layers_that_the_model_does_not_have():
    with pytest.raises(files.InputError, match=r"targets = .*c_attn"):
        adapters.fresh(llama(), settings(targets=["c_attn"]))
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    other = transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**sizes))  # calls it embed_in
    with pytest.raises(files.InputError, match=r"modules_to_save: the model has no layer embed_tokens"):
        adapters.fresh(other, settings(modules_to_save=["embed_tokens"]))


def test_an_adapter_is_asked_in_the_form_in_which_it_was_trained(run):
    adapters.check_template(run[2], "triad")
    with pytest.raises(files.InputError, match=r"template = card, but adapter was trained with triad"):
        adapters.check_template(run[2], "card")


def test_a_folder_without_an_adapter_or_with_another_backbones(run, tmp_path):
    with pytest.raises(files.InputError, match="holds no adapter; run 04_lora_training"):
        adapters.attach(llama(), tmp_path)
    config = transformers.LlamaConfig(vocab_size=259, hidden_size=16, num_hidden_layers=2, num_attention_heads=2)
    with pytest.raises(files.InputError, match="does not fit this backbone"):
        adapters.attach(transformers.LlamaForCausalLM(config), run[2])


def test_the_summary_and_the_card_say_what_it_is(run):
    made, folder = summary(run[1]), run[2]
    assert (made["steps"], made["examples"]) == (12, 14)
    assert made["perplexity_after"] == pytest.approx(math.exp(made["heldout_loss_after"]))
    assert files.read_json(folder / "training.json") == json.loads(json.dumps(made))
    readme = (folder / "README.md").read_text(encoding="utf-8")
    for text in ("made for a test", "12356", "PsyQA", "backbones/qwen-7b", "Assistant: ", "| rank | 4 | 8 |", "`abc`"):
        assert text in readme
    differing = "template, rank, targets, learning_rate, batch, accumulation, cutoff, precision, gradient_checkpointing"
    found = set(readme.split(" of 21 differ: ")[1].split(".\n")[0].split(", "))
    assert found == set(differing.split(", "))
    assert "# qwen-7b (tiny): " in readme and "{" not in readme.replace("{input}", "")


def test_the_card_of_the_papers_settings_on_its_own_backbone(run):
    given = profiles.parameters(profiles.read("paper"), "runs/paper", "04_lora_training", "qwen-7b")
    chosen = TrainingSettings(**profiles.flat(given))
    readme = card.text(summary(run[1]) | {"model": "Qwen/Qwen-7B", "settings": chosen.hyperparameters()}, "")
    assert "prompt), none differs." in readme and "tiny" not in readme and "whole" not in readme.split("## ")[0]


def test_the_card_names_layers_trained_whole(run):
    readme = card.text(summary(run[1], modules_to_save=["lm_head"]), "")
    assert "with lm_head trained whole beside it," in readme and "| modules_to_save | lm_head | none |" in readme
