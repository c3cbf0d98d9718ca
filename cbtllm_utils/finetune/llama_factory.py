"""This training beside LLaMA-Factory's, the paper's tool: its defaults of 2023, and the same training as its files."""

import csv
from pathlib import Path

import pandas as pd
import torch
import yaml
from datasets import Dataset, DatasetDict

from cbtllm_utils import files, published
from cbtllm_utils.finetune.settings import PUBLISHED, TrainingSettings
from cbtllm_utils.models import backbones, devices, fused_qkv
from cbtllm_utils.models.devices import BITS
from cbtllm_utils.models.prompt_forms import CHAT

DEFAULTS = Path(__file__).with_name("llama_factory_defaults.csv")  # at tag v0.2.2, and why we may deviate from them
ORDER = "grouped by length"  # trainer.LengthGrouped


def settings_table(settings: TrainingSettings) -> pd.DataFrame:
    """Return one row per setting: what the paper says, LLaMA-Factory's default, the value here, and why.

    What the paper says comes from `published`; "–" where it says nothing, as for most settings.
    """
    here, rows = settings.hyperparameters() | {"batch_order": ORDER}, []
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


def value_text(value: object) -> str:
    """Return a value as text: numbers short, lists joined."""
    if isinstance(value, list | tuple):
        return ", ".join(value) or "none"
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def stock_targets(targets: list[str], fused: str | None) -> list[str]:
    """Return names of adapted layers in a stock directory: the layer `fused` of q, k and v is three there.

    A name may hold its place in the model.
    """
    found = []
    for target in targets:
        place, dot, layer = target.rpartition(".")
        found += [f"{place}{dot}{letter}_proj" for letter in "qkv"] if layer == fused else [target]
    return found


def targets(settings: TrainingSettings, model: torch.nn.Module) -> list[str]:
    """Return the layers that LLaMA-Factory adapts on the stock form of a backbone; "all" is its name for all-linear."""
    if settings.targets == "all-linear":
        return ["all"]
    named = backbones.lora_targets(model) if settings.targets == PUBLISHED else settings.targets
    return stock_targets(named, fused_qkv.qkv_name(model))


def precision(settings: TrainingSettings) -> str:
    """Return the precision of a training on this machine, or the one that is set, which needs another machine."""
    return devices.precision("auto") if settings.precision == "auto" else settings.precision


def config(settings: TrainingSettings, model: torch.nn.Module) -> str:
    """Return a training as a YAML for `llamafactory-cli train`, run in the run's folder after `workflow.stock`.

    Its comments say what LLaMA-Factory cannot express, or means otherwise.

    Args:
        settings: Of notebook 04.
        model: The backbone, or its `adapters.outline`.
    """
    lines = [f"# {note}\n" for note in notes(settings, fused_qkv.qkv_name(model))]
    return "".join(lines) + yaml.safe_dump(recipe(settings, targets(settings, model)), sort_keys=False)


def recipe(settings: TrainingSettings, adapted: list[str]) -> dict:
    """Return settings under the names of LLaMA-Factory 0.9.5 (its hparams) and of transformers' TrainingArguments."""
    name, kind, whole = settings.backbone, precision(settings), settings.modules_to_save
    on_cpu = kind == "fp32" and devices.device().type == "cpu"
    values = {
        "model_name_or_path": f"stock/{name}",
        "trust_remote_code": False,
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "lora_rank": settings.rank,
        "lora_alpha": settings.alpha,
        "lora_dropout": settings.dropout,
        "lora_target": ",".join(adapted),
        "additional_target": ",".join(whole) or None,
        "quantization_bit": 4 if settings.quantization else None,
        "tokenized_path": f"llama_factory/{name}/examples",
        "dataset": "train",
        "eval_dataset": "validation",
        "template": "empty",
        "per_device_train_batch_size": settings.batch,
        "gradient_accumulation_steps": settings.accumulation,
        "train_sampling_strategy": "group_by_length",
        "num_train_epochs": settings.epochs,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": settings.schedule,
        "warmup_steps": settings.warmup_steps,
        "optim": settings.optimizer,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_gradient,
        "seed": settings.seed,
        "fp16": kind == "fp16" or None,
        "bf16": kind == "bf16" or None,
        "use_cpu": on_cpu or None,
        "disable_gradient_checkpointing": not settings.gradient_checkpointing,
        "use_reentrant_gc": False,
        "eval_strategy": "epoch",
        "eval_on_start": True,
        "per_device_eval_batch_size": 1,
        "logging_steps": settings.logging_steps,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps" if settings.checkpoint_steps else "no",
        "save_steps": settings.checkpoint_steps or None,
        "save_total_limit": 2,
        "report_to": "none",
        "output_dir": f"llama_factory/{name}/adapter",
    }
    return {key: value for key, value in values.items() if value is not None}


def notes(settings: TrainingSettings, fused: str | None) -> list[str]:
    """Return what is said beside a recipe: how it is run, and where it differs from notebook 04.

    Args:
        settings: Of notebook 04.
        fused: The backbone's layer of q, k and v, where they are one.
    """
    return [
        f"llamafactory-cli train llama_factory/{settings.backbone}/train.yaml   (in the run's folder)",
        f"tokenized_path: prompts in the form {settings.template}, cut at {settings.cutoff} tokens, labels on the reply "
        "alone; dataset and eval_dataset are names that LLaMA-Factory wants and does not read",
        "template: it does not act on these examples; "
        + (
            "ask the model in its own chat template"
            if settings.template == CHAT
            else "none words this prompt: ask with the whole text by `empty`, bos included"
        ),
        "train_sampling_strategy: as notebook 04, in an order from another generator",
        "eval_loss: the mean over examples; notebook 04 takes the mean over all reply tokens",
        "no check ends a training at a loss or gradient that is NaN; trainer_log.jsonl shows it",
        *([f"{fused} is three layers here, each with an A of its own; in notebook 04 they share one"] if fused else []),
        f"GPUs: all that it sees train together (CUDA_VISIBLE_DEVICES); in notebook 04 {settings.processes}",
    ]


def write_examples(train: Dataset, validation: Dataset, folder: str | Path) -> Path:
    """Write tokenized examples as LLaMA-Factory reads them by `tokenized_path`, and return the folder."""
    splits = DatasetDict()
    for name, split in (("train", train), ("validation", validation)):
        masks = [[1] * length for length in split["length"]]
        splits[name] = split.select_columns(["input_ids", "labels"]).add_column("attention_mask", masks)
    with files.atomic(folder) as temporary:
        splits.save_to_disk(temporary)
    return files.path(folder)
