"""A training as LLaMA-Factory's files: the recipe, the tokenized examples, and names of layers.

Its own runs are in benchmarks/tools/llama_factory.py.
"""

import yaml
from datasets import load_from_disk
from original_files import FAMILIES, write
from training_run import encoded, settings

from cbtllm_utils.finetune import adapters, llama_factory


def recipe(folder, family, **values):
    write(folder / family, *FAMILIES[family][:2])
    chosen = settings(backbone="mine", model=family, **values)
    text = llama_factory.config(chosen, adapters.outline(family, [], folder))
    return yaml.safe_load(text), text


def test_the_recipe_says_what_the_settings_say(tmp_path):
    """Names of LLaMA-Factory's hparams and of transformers' TrainingArguments."""
    values, text = recipe(tmp_path, "llama", logging_steps=8, checkpoint_steps=200, epochs=2, seed=3)
    assert (values["model_name_or_path"], values["trust_remote_code"]) == ("stock/mine", False)
    assert (values["lora_rank"], values["lora_alpha"], values["lora_dropout"], values["lora_target"]) == (
        4,
        32,
        0.1,
        "all",
    )
    assert (values["learning_rate"], values["num_train_epochs"], values["seed"]) == (1e-2, 2, 3)
    assert (values["per_device_train_batch_size"], values["gradient_accumulation_steps"]) == (2, 2)
    assert (values["logging_steps"], values["save_strategy"], values["save_steps"]) == (8, "steps", 200)
    assert (values["eval_strategy"], values["eval_on_start"], values["report_to"]) == ("epoch", True, "none")
    assert values["disable_gradient_checkpointing"] is True
    assert not values.keys() & {"fp16", "bf16", "quantization_bit", "additional_target", "cutoff_len", "packing"}
    assert "in the form triad-v0.2.0, cut at 400 tokens" in text


def test_precision_four_bits_and_whole_layers(tmp_path):
    values, _ = recipe(tmp_path, "llama", quantization="nf4", precision="fp16", modules_to_save=["lm_head"])
    assert (values["quantization_bit"], values["fp16"], values["additional_target"]) == (4, True, "lm_head")
    assert "use_cpu" not in values and values["save_strategy"] == "no"


def test_layers_have_the_names_of_the_stock_directory(tmp_path):
    """What was one layer of q, k and v in 2023 is three there: an unknown name would be left out in silence."""
    for family, fused in (("qwen", "c_attn"), ("baichuan", "W_pack")):
        values, text = recipe(tmp_path, family, targets="published")
        assert values["lora_target"] == "q_proj,k_proj,v_proj" and f"# {fused} is three layers here" in text
    placed = [f"model.layers.0.self_attn.{fused}", "down_proj"]
    values, _ = recipe(tmp_path, "baichuan", targets=placed)
    assert values["lora_target"] == ",".join(f"model.layers.0.self_attn.{x}_proj" for x in "qkv") + ",down_proj"
    values, text = recipe(tmp_path, "llama", targets="published")
    assert values["lora_target"] == "q_proj,v_proj" and "three layers" not in text


def test_the_tokenized_examples_are_those_of_the_training(tmp_path):
    train, heldout = encoded(5), encoded(3)
    found = load_from_disk(llama_factory.write_examples(train, heldout, tmp_path / "examples"))
    assert set(found) == {"train", "validation"}
    for split, ours in (("train", train), ("validation", heldout)):
        assert found[split].column_names == ["input_ids", "labels", "attention_mask"]
        assert found[split]["input_ids"][:] == ours["input_ids"][:] and found[split]["labels"][:] == ours["labels"][:]
        assert found[split]["attention_mask"][:] == [[1] * length for length in ours["length"]]
