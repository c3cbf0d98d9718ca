"""Backbones as notebooks 04, 05 and 08 load them, and adapters on disk: peft's folder with a card in it."""

from pathlib import Path

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model

from cbtllm_utils import files
from cbtllm_utils.finetune import card, llama_factory, stock_form
from cbtllm_utils.finetune.settings import PUBLISHED, TrainingSettings
from cbtllm_utils.models import backbones, devices, fused_qkv, tokenizers


def load(
    model: str, deltas: list[str], run: str | Path, precision: str, kind: str | None = None
) -> tuple[torch.nn.Module, object]:
    """Return the backbone on this machine's device, in evaluation mode, and its tokenizer; `kind` as in `backbone`."""
    return backbone(model, deltas, run, precision, kind).to(devices.device()).eval(), tokenizer(model, deltas, run)


def backbone(
    model: str, deltas: list[str], run: str | Path, precision: str, kind: str | None = None
) -> torch.nn.Module:
    """Return the backbone where the loader puts it: in main memory, unless it is quantized on a GPU.

    Args:
        kind: None, or "nf4" for frozen weights in 4 bits.
    """
    first, *rest = [files.local_or_hub(name, run) for name in (model, *deltas)]
    dtype = devices.DTYPES[precision]
    loaded = backbones.load_model(first, rest, dtype=dtype, **devices.quantization(kind, dtype))
    return devices.differentiable(loaded)


def outline(model: str, deltas: list[str], run: str | Path) -> torch.nn.Module:
    """Return the backbone's shapes without weights (on the meta device), to estimate what it will need."""
    first, *rest = (files.local_or_hub(name, run) for name in (model, *deltas))
    return backbones.outline(first, rest)


def tokenizer(model: str, deltas: list[str], run: str | Path) -> object:
    """Return the tokenizer of a backbone: the last delta's, where there are deltas."""
    return tokenizers.load_tokenizer(files.local_or_hub([model, *deltas][-1], run))


def fresh(model: torch.nn.Module, settings: TrainingSettings) -> PeftModel:
    """Add a fresh LoRA adapter (equation 2: W + (alpha / rank) · B·A, B = 0 at first) and freeze the rest.

    A 32-bit copy of each layer of `modules_to_save` is trained whole. The same seed gives the same A.

    Raises:
        InputError: When the model has no layer of the names that the settings give.
    """
    transformers.set_seed(settings.seed)
    targets = backbones.lora_targets(model) if settings.targets == PUBLISHED else settings.targets
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=targets,
        modules_to_save=settings.modules_to_save or None,
        task_type="CAUSAL_LM",
    )
    try:
        with backbones.quiet():
            adapted = get_peft_model(model, config)
    except ValueError as error:
        raise files.InputError(f"targets = {targets}: {' '.join(str(error).split())[:200]}") from None
    adapted.peft_config["default"].base_model_name_or_path = files.public(settings.model)
    trained = {name: weight for name, weight in adapted.named_parameters() if weight.requires_grad}
    for layer in settings.modules_to_save:
        if not any(f".{layer}.modules_to_save." in name for name in trained):
            raise files.InputError(f"modules_to_save: the model has no layer {layer}")
    for weight in trained.values():
        weight.data = weight.data.float()  # as peft does for A and B: 16 bits would round small steps away
    return adapted


def write(model: PeftModel, folder: str | Path, summary: dict, conditions: str) -> Path:
    """Write an adapter's folder: weights, configuration, stock form, card, training.json and a LLaMA-Factory YAML."""
    with files.atomic(folder) as temporary:
        model.save_pretrained(temporary, save_embedding_layers=False)
        config = files.read_json(temporary / "adapter_config.json")
        named = isinstance(config["target_modules"], list)
        if named:
            config["target_modules"].sort()  # peft writes a set, in another order in each process
        files.write_json(temporary / "adapter_config.json", config)
        fused = fused_qkv.qkv_name(model.get_base_model())
        if named and fused:
            stock_form.write(temporary, fused)
        files.write_text(temporary / "README.md", card.text(summary, conditions))
        files.write_json(temporary / "training.json", summary)
        modules = config["target_modules"] if named else ["all"]
        files.write_text(temporary / "llama_factory.yaml", llama_factory.config(summary, modules))
    return files.path(folder)


def attach(model: torch.nn.Module, folder: str | Path) -> torch.nn.Module:
    """Merge an adapter into the model's weights, ready to generate (as LLaMA-Factory did to predict).

    Raises:
        InputError: When the folder does not hold an adapter, or holds one of another backbone.
    """
    place = files.path(folder)
    if not (place / "adapter_config.json").is_file():
        raise files.InputError(f"{files.shown(folder)}: holds no adapter; run 04_lora_training for this backbone first")
    try:
        with backbones.quiet():
            return PeftModel.from_pretrained(model, str(place)).merge_and_unload().eval()
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise files.InputError(f"{files.shown(folder)}: does not fit this backbone ({reason})") from None


def check_template(folder: str | Path, asked: str) -> None:
    """Raise InputError unless an adapter is asked in the form of prompt in which it was trained.

    An adapter from elsewhere, without training.json, is taken at the user's word.
    """
    record = files.path(folder) / "training.json"
    trained = files.read_json(record)["settings"]["template"] if record.exists() else asked
    if asked != trained:
        raise files.InputError(
            f"template = {asked}, but {files.shown(folder)} was trained with {trained}; ask in the same form"
        )
