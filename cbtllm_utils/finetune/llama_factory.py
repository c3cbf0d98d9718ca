"""This training beside LLaMA-Factory's, the paper's tool: its defaults of 2023, and the same training as its YAML."""

import csv
from pathlib import Path

import pandas as pd
import yaml

from cbtllm_utils import files, published
from cbtllm_utils.finetune.settings import PUBLISHED, TrainingSettings
from cbtllm_utils.models.devices import BITS
from cbtllm_utils.models.prompt_forms import CHAT, form

DEFAULTS = Path(__file__).with_name("llama_factory_defaults.csv")  # at tag v0.2.2, and why we may deviate from them
TEMPLATE = (  # read in every version on PyPI from llmtuner 0.1.8 to llamafactory 0.9.5
    "template default is worded by version: to v0.2.0 an English system text and `Assistant: `; v0.2.1 to v0.4.0 the "
    "same and `Assistant:`; v0.5.0 to v0.8.2 no system text and `Assistant: `; v0.8.3 to v0.9.1 none and `Assistant:`; "
    "v0.9.2 `System: ` before a system text and eos after a reply; from v0.9.3 eos after each turn"
)


def settings_table(settings: TrainingSettings) -> pd.DataFrame:
    """Return one row per setting: what the paper says, LLaMA-Factory's default, the value here, and why.

    What the paper says comes from `published`; "–" where it says nothing, as for most settings.
    """
    here, rows = settings.hyperparameters(), []
    with DEFAULTS.open(encoding="utf-8", newline="") as file:
        for source in csv.DictReader(file):
            value = value_text(here[source["setting"]])
            paper = value_text(published.value("text", source["published"], "value")) if source["published"] else ""
            paper += " bits" if source["setting"] == "precision" else ""
            said = paper or source["said"] or "–"
            rows.append((source["setting"], said, source["default"], value, reason(source, paper, value)))
    return pd.DataFrame(rows, columns=["setting", "paper says", "LLaMA-Factory default", "here", "why"])


def reason(source: dict[str, str], paper: str, here: str) -> str:
    """Return where a value comes from: the paper, LLaMA-Factory, or why it deviates from both."""
    if here == paper or paper == f"{BITS.get(here)} bits" or source["said"].partition(" ")[0] == here:
        return "as the paper says"
    if here in (source["default"], PUBLISHED):
        return "LLaMA-Factory's default" if paper else "LLaMA-Factory's default; the paper does not say"
    return source["deviation"]


def worded(template: str) -> list[str]:
    """Return the comments on LLaMA-Factory's template `default` beside a form of ours."""
    return [f"trained in the form {template}, which is worded so by: {form(template).worded_by}", TEMPLATE]


def value_text(value: object) -> str:
    """Return a value as text: numbers short, lists joined."""
    if isinstance(value, list | tuple):
        return ", ".join(value) or "none"
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def config(summary: dict, modules: list[str]) -> str:
    """Return this training as a YAML for `llamafactory-cli train`, run in the run's folder on notebook 02's exports.

    Its comments say what it cannot: deltas are merged first, and which versions of LLaMA-Factory word the prompt like
    the form of this training; in others `default` is another prompt. Without a template it takes the tokenizer's own
    (get_template_and_fix_tokenizer in its data/template.py).
    """
    settings = summary["settings"]
    chat = settings["template"] == CHAT
    model, revision = files.at_revision(summary["model"])
    values = {
        "model_name_or_path": model,
        **({"model_revision": revision} if revision else {}),
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "lora_rank": settings["rank"],
        "lora_alpha": settings["alpha"],
        "lora_dropout": settings["dropout"],
        "lora_target": ",".join(modules),
        "dataset_dir": "cbt_qa/llama_factory",
        "dataset": f"cbt_qa_train_{'triad' if settings['template'].startswith('triad') else 'card'}",
        **({"enable_thinking": False} if chat else {"template": "default"}),
        "cutoff_len": settings["cutoff"],
        "per_device_train_batch_size": settings["batch"],
        "gradient_accumulation_steps": settings["accumulation"],
        "learning_rate": settings["learning_rate"],
        "lr_scheduler_type": settings["schedule"],
        "num_train_epochs": settings["epochs"],
        "optim": settings["optimizer"],
        "weight_decay": settings["weight_decay"],
        "warmup_steps": settings["warmup_steps"],
        "max_grad_norm": settings["max_gradient"],
        "seed": settings["seed"],
        "disable_gradient_checkpointing": not settings["gradient_checkpointing"],
        "trust_remote_code": True,
        "output_dir": f"llama_factory/{summary['backbone']}",
    }
    values |= {settings["precision"]: True} if settings["precision"] != "fp32" else {}
    values |= {"additional_target": ",".join(whole)} if (whole := settings["modules_to_save"]) else {}
    values |= {"quantization_bit": 4} if settings["quantization"] else {}
    notes = [
        f"llamafactory-cli train adapters/{summary['backbone']}/llama_factory.yaml   (in the run's folder)",
        "model_name_or_path as this run was given it: set it to where the weights are",
        "trust_remote_code: LLaMA-Factory runs the code beside Qwen-7B's and Baichuan-7B's weights; ours does not",
        *(["no template is named: the tokenizer's own is taken"] if chat else worded(settings["template"])),
        *([f"started by torchrun in {settings['processes']} processes"] if settings["processes"] > 1 else []),
        *(f"merge into the model first: {delta}" for delta in summary["deltas"]),
    ]
    return "".join(f"# {note}\n" for note in notes) + yaml.safe_dump(values, sort_keys=False)
