"""Backbones as notebooks 04, 05 and 08 load them, and adapters on disk: peft's folder with a card in it."""

from pathlib import Path

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from cbtllm_utils import files
from cbtllm_utils.finetune import card, llama_factory
from cbtllm_utils.finetune.settings import PUBLISHED, TrainingSettings
from cbtllm_utils.models import backbones, devices, fused_qkv, tokenizers

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def load(
    model: str, deltas: list[str], run: str | Path, precision: str, kind: str | None = None
) -> tuple[torch.nn.Module, object]:
    """Return the backbone on this machine's device, in evaluation mode, and its tokenizer; `kind` as in `backbone`."""
    return backbone(model, deltas, run, precision, kind).to(devices.device()).eval(), tokenizer(model, deltas, run)


def backbone(
    model: str, deltas: list[str], run: str | Path, precision: str, kind: str | None = None
) -> torch.nn.Module:
    """Return the backbone where the loader puts it: in main memory, unless `kind` ("nf4") quantizes it on a GPU."""
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
        config = files.read_json(temporary / CONFIG)
        config["target_modules"].sort()  # peft writes a set, in another order in each process
        files.write_json(temporary / CONFIG, config)
        if fused := fused_qkv.qkv_name(model.get_base_model()):
            write_stock_form(temporary, fused)
        files.write_text(temporary / "README.md", card.text(summary, conditions))
        files.write_json(temporary / "training.json", summary)
        files.write_text(temporary / "llama_factory.yaml", llama_factory.config(summary, config["target_modules"]))
    return files.path(folder)


def split_qkv(tensors: dict[str, torch.Tensor], fused: str) -> dict[str, torch.Tensor]:
    """Return the adapter's tensors for q, k and v: each has the fused layer's A, and its third of the rows of B.

    B·A stays the same to the last bit; A is stored three times.
    """
    found = {}
    for name, tensor in tensors.items():
        if f".{fused}." not in name:
            found[name] = tensor
            continue
        thirds = tensor.chunk(3) if ".lora_B." in name else [tensor] * 3
        for letter, third in zip("qkv", thirds, strict=True):
            found[name.replace(f".{fused}.", f".{letter}_proj.")] = third.clone()
    return found


def write_stock_form(folder: Path, fused: str) -> None:
    """Write the adapter in a folder once more to `stock`, for classes without its layer `fused` of q, k and v."""
    config = files.read_json(folder / CONFIG)
    targets = []  # names of layers, some with their place in the model
    for target in config["target_modules"]:
        place, _, layer = target.rpartition(".")
        prefix = f"{place}." if place else ""
        targets += [f"{prefix}{letter}_proj" for letter in "qkv"] if layer == fused else [target]
    (folder / "stock").mkdir()
    save_file(split_qkv(load_file(folder / WEIGHTS), fused), folder / "stock" / WEIGHTS, {"format": "pt"})
    files.write_json(folder / "stock" / CONFIG, config | {"target_modules": sorted(targets)})


def attach(model: torch.nn.Module, folder: str | Path) -> torch.nn.Module:
    """Merge an adapter into the model's weights, ready to generate (as LLaMA-Factory did to predict).

    Raises:
        InputError: When the folder does not hold an adapter, or holds one of another backbone.
    """
    place = files.path(folder)
    if not (place / CONFIG).is_file():
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
