"""Backbones for other programs, from the command line and in a run of untrained models."""

import small_run
import yaml
from datasets import load_from_disk
from transformers import AutoModelForCausalLM

from cbtllm_utils import files
from cbtllm_utils.finetune import examples
from cbtllm_utils.models import tokenizers
from cbtllm_utils.workflow import stock


def test_what_the_recipe_names_is_there(tmp_path):
    small_run.make(tmp_path)
    adapter = tmp_path / "llama_factory/baichuan-7b/adapter/adapter_model.safetensors"
    files.write_text(adapter, "an adapter that LLaMA-Factory trained")
    for _ in range(2):
        places = stock.write("demo", "baichuan-7b", tmp_path)
    assert adapter.exists(), "who writes the backbone again keeps what was trained"
    recipe = yaml.safe_load(places[-1].read_text(encoding="utf-8"))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / recipe["model_name_or_path"])
    assert hasattr(model.model.layers[0].self_attn, "q_proj")
    tokenized = load_from_disk(tmp_path / recipe["tokenized_path"])
    rows = files.read_jsonl(tmp_path / "cbt_qa/train.jsonl")
    own = tokenizers.load_tokenizer(tmp_path / "backbones/baichuan-7b")
    assert tokenized["train"]["input_ids"][:] == examples.encode(rows, own, "card", 1024)["input_ids"][:]
    assert (len(tokenized["train"]), len(tokenized["validation"])) == (2, 1)
    assert (recipe["lora_target"], recipe["additional_target"]) == ("all", "lm_head")


def test_an_unknown_backbone_is_one_line(capsys):
    assert stock.main(["--profile", "demo", "qwen-7b", "qwen-7B"]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("error: params/demo.yaml: unknown backbone 'qwen-7B'; did you mean qwen-7b?")
    assert "baichuan-7b" in said.err and not said.out, "all names are checked before the first is written"
