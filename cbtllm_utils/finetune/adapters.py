"""Adapters on disk: peft's directory, the same bytes for the same weights, with a card that says what it is."""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from transformers.distributed import DistributedConfig

from cbtllm_utils import files, hashing
from cbtllm_utils.finetune import adapter_card, stock_form
from cbtllm_utils.finetune import settings as recipe
from cbtllm_utils.finetune.settings import PUBLISHED, Settings
from cbtllm_utils.models import backbones, quantization, tokenizers
from cbtllm_utils.models.devices import DTYPES, device


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence for what peft still asks of transformers 5 by an old name: nobody here can mend it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".is_gradient_checkpointing. is deprecated", category=FutureWarning)
        yield


def load(
    model: str, deltas: list[str], run: str | Path, precision: str, kind: str | None = None
) -> tuple[torch.nn.Module, object]:
    """The backbone on this machine's device, and its tokenizer (the last delta's, where there are deltas).

    `kind` is that of `quantization.options`.
    """
    return backbone(model, deltas, run, precision, kind).to(device()).eval(), tokenizer(model, deltas, run)


def backbone(
    model: str, deltas: list[str], run: str | Path, precision: str, kind: str | None = None, shares: int = 1
) -> torch.nn.Module:
    """The backbone, where the loader puts it: in the machine's memory, unless it is quantised on a GPU.

    With `shares` above 1 as many processes call this together, and each reads and keeps its share on its device; a
    layer is gathered when it is computed (FSDP2).
    """
    first, *rest = [files.local_or_hub(name, run) for name in (model, *deltas)]
    dtype = DTYPES[precision]
    options = quantization.options(kind, dtype)
    if shares > 1:
        options |= {"distributed_config": DistributedConfig(fsdp_size=shares)}
    loaded = backbones.load_model(first, rest, dtype=dtype, **options)
    return quantization.differentiable(loaded)


def outline(model: str, deltas: list[str], run: str | Path) -> torch.nn.Module:
    """The backbone by its shapes alone, without weights, to tell what it will need."""
    first, *rest = (files.local_or_hub(name, run) for name in (model, *deltas))
    return backbones.outline(first, rest)


def files_hash(model: str, deltas: list[str], run: str | Path) -> str:
    """What tells a backbone from others without reading its weights: its files, large ones by size and last change."""
    return hashing.text(" ".join(hashing.content(Path(files.local_or_hub(name, run))) for name in (model, *deltas)))


def tokenizer(model: str, deltas: list[str], run: str | Path) -> object:
    """The tokenizer of a backbone: the last delta's, where there are deltas."""
    return tokenizers.load_tokenizer(files.local_or_hub([model, *deltas][-1], run))


def fresh(model: torch.nn.Module, settings: Settings, name: str) -> PeftModel:
    """The model with a fresh LoRA adapter (equation 2: W + (alpha / rank) · B·A, B = 0 at first), the rest frozen.

    But for `modules_to_save`: of these layers a copy in 32 bits is trained whole, and kept with the adapter. `name` is
    kept in it as the model that it belongs to. The same seed gives the same A.
    """
    transformers.set_seed(settings.seed)
    targets = backbones.lora_targets(model) if settings.targets == PUBLISHED else settings.targets
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        modules_to_save=list(settings.modules_to_save) or None,
        task_type="CAUSAL_LM",
    )
    try:
        with quiet():
            adapted = get_peft_model(model, config)
    except ValueError as error:
        raise files.InputError(f"targets = {targets}: {' '.join(str(error).split())[:200]}") from None
    adapted.peft_config["default"].base_model_name_or_path = files.public(name)
    trained = {name: weight for name, weight in adapted.named_parameters() if weight.requires_grad}
    for layer in settings.modules_to_save:
        if not any(f".{layer}.modules_to_save." in name for name in trained):
            raise files.InputError(f"modules_to_save: the model has no layer {layer}")
    for weight in trained.values():
        weight.data = weight.data.float()  # as peft does for A and B: steps are smaller than 16 bits can tell
    return adapted


def write(model: PeftModel, folder: str | Path, summary: dict, conditions: str) -> Path:
    """The folder, after the adapter was written there whole: weights, configuration, card, training.json, the same
    training as a recipe for LLaMA-Factory, and for fused projections the same adapter by other names (`namings`).

    peft writes sets in an order that differs from process to process; sorted, equal adapters are equal bytes.
    """
    with files.atomic(folder) as temporary:
        model.save_pretrained(temporary, save_embedding_layers=False)
        config = files.read_json(temporary / "adapter_config.json")
        named = isinstance(config["target_modules"], list)
        if named:
            config["target_modules"].sort()
        files.write_json(temporary / "adapter_config.json", config)
        fused = getattr(getattr(model.get_base_model(), "attention_class", None), "fused", None)
        if named and fused:
            stock_form.write(temporary, fused)
        files.write_text(temporary / "README.md", adapter_card.text(summary, conditions))
        files.write_json(temporary / "training.json", summary)
        modules = config["target_modules"] if named else ["all"]
        files.write_text(temporary / "llama_factory.yaml", recipe.llama_factory(summary, modules))
    return files.path(folder)


def attach(model: torch.nn.Module, folder: str | Path) -> torch.nn.Module:
    """The model with the adapter's weights merged into its own, ready to generate (as LLaMA-Factory did to predict).

    InputError when the folder holds no adapter or one that belongs to another backbone.
    """
    place = files.path(folder)
    if not (place / "adapter_config.json").is_file():
        raise files.InputError(f"{files.shown(folder)}: holds no adapter; run 04_lora_training for this backbone first")
    try:
        with quiet():
            return PeftModel.from_pretrained(model, str(place)).merge_and_unload().eval()
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise files.InputError(f"{files.shown(folder)}: does not fit this backbone ({reason})") from None


def check_template(folder: str | Path, asked: str) -> None:
    """Nothing, when an adapter is asked in the form in which it was trained; else InputError that names both.

    An adapter from elsewhere, without training.json, is taken at the user's word.
    """
    record = files.path(folder) / "training.json"
    trained = files.read_json(record)["settings"]["template"] if record.exists() else asked
    if asked != trained:
        raise files.InputError(
            f"template = {asked}, but {files.shown(folder)} was trained with {trained}; ask in the same form"
        )
