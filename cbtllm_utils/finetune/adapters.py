"""Backbones as notebooks 04, 05 and 08 load them, and adapters on disk: peft's folder with a card in it."""

import json
import math
import re
import sys
from pathlib import Path

import pandas as pd
import torch
import transformers
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.other import get_pattern_key
from safetensors.torch import load_file, save_file

from cbtllm_utils import files, hashing, hub
from cbtllm_utils.finetune import card, llama_factory
from cbtllm_utils.finetune.settings import PUBLISHED, TrainingSettings
from cbtllm_utils.models import backbones, devices, fused_qkv, prompt_forms, tokenizers

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
PREFIX = "base_model.model."  # before each name in peft's files
QWEN_LAYERS = {"c_proj": ("o_proj", "down_proj"), "w1": ("up_proj",), "w2": ("gate_proj",), "wte": ("embed_tokens",)}
QKV = re.compile(r"\.[qkv]_proj\.lora_[AB]\.weight$")
PASSIVE = (  # fields of peft's configuration that decide no reply
    *("base_model_name_or_path", "revision", "auto_mapping", "task_type", "peft_version"),
    *("inference_mode", "lora_dropout"),
)
UNRECORDED = "from elsewhere, without training.json; the form of its prompts is not known"
ELSEWHERE = "is it this backbone's adapter, whole, under the names that peft or LLaMA-Factory gave it?"


def load(
    model: str, deltas: list[str], run: str | Path, precision: str, kind: str | None = None
) -> tuple[torch.nn.Module, object]:
    """Return the backbone on this machine's device, in evaluation mode, and its tokenizer; `kind` as in `backbone`.

    Raises:
        InputError: When the tokenizer has tokens for which the backbone has no embedding.
    """
    loaded, own = backbone(model, deltas, run, precision, kind), tokenizer(model, deltas, run)
    tokenizers.check_size(own, loaded.get_input_embeddings().num_embeddings, files.public([model, *deltas][-1]))
    return loaded.to(devices.device()).eval(), own


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
    named = adapted.peft_config["default"]
    named.base_model_name_or_path, named.revision = files.at_revision(files.public(settings.model))
    trained = {name: weight for name, weight in adapted.named_parameters() if weight.requires_grad}
    for layer in settings.modules_to_save:
        if not any(f".{layer}.modules_to_save." in name for name in trained):
            raise files.InputError(f"modules_to_save: the model has no layer {layer}")
    for weight in trained.values():
        weight.data = weight.data.float()  # as peft does for A and B: 16 bits would round small steps away
    return adapted


def matrices(model: PeftModel) -> pd.DataFrame:
    """Return the matrices of equation 2 in the first adapted layer, and how many weights are trained in all.

    Returns:
        what, shape, weights, trained (yes or no), and the largest absolute value of A and B.
    """
    name, layer = next((name, layer) for name, layer in model.named_modules() if hasattr(layer, "lora_A"))
    place = name.removeprefix("base_model.model.").removeprefix("model.")
    frozen = (layer.out_features, layer.in_features)
    rows = [(f"W of {place}", "{} × {}".format(*frozen), frozen[0] * frozen[1], "no", math.nan)]
    for letter, pairs in (("B", layer.lora_B), ("A", layer.lora_A)):
        weight = pairs["default"].weight
        shape = "{} × {}".format(*weight.shape)
        rows.append((letter, shape, weight.numel(), "yes", weight.abs().max().item()))
    trained = {name: weight.numel() for name, weight in model.named_parameters() if weight.requires_grad}
    whole = sum(number for name, number in trained.items() if ".modules_to_save." in name)
    rows.append(("A and B of all layers", "", sum(trained.values()) - whole, "yes", math.nan))
    rows += [("layers trained whole", "", whole, "yes", math.nan)] if whole else []
    return pd.DataFrame(rows, columns=["what", "shape", "weights", "trained", "largest value"])


def write(model: PeftModel, folder: str | Path, summary: dict, conditions: str) -> Path:
    """Write an adapter's folder: weights, configuration, stock form, card and training.json."""
    with files.atomic(folder) as temporary:
        model.save_pretrained(temporary, save_embedding_layers=False)
        config = files.read_json(temporary / CONFIG)
        config["target_modules"].sort()  # peft writes a set, in another order in each process
        fused = fused_qkv.qkv_name(model.get_base_model())
        plain = plain_base(summary, fused is not None)
        files.write_json(temporary / CONFIG, config if fused else config | plain)
        if fused:
            write_stock_form(temporary, fused, plain)
        files.write_text(temporary / "README.md", card.text(summary, conditions, plain=fused is not None))
        files.write_text(temporary / hub.LICENSE, card.LICENSE)
        files.write_json(temporary / "training.json", summary)
    return files.path(folder)


def plain_base(summary: dict, fused: bool) -> dict[str, str | None]:
    """Return the fields of peft's configuration that name the backbone on which plain peft puts an adapter.

    It is the model on the hub where that is all; else the stock directory, below the run as the adapter is: the files
    of 2023 need this package's reader, or deltas merged into them.
    """
    name, revision = files.at_revision(files.public(summary["model"]))
    if fused or summary["deltas"] or not hub.is_id(summary["model"]):
        name, revision = f"stock/{summary['backbone']}", None
    return {"base_model_name_or_path": name, "revision": revision}


def plain_form(folder: str | Path) -> Path:
    """Return the folder of an adapter that plain peft reads: `stock` below it where there is one, else its own."""
    place = files.path(folder)
    return place / card.PLAIN if (place / card.PLAIN).is_dir() else place


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


def write_stock_form(folder: Path, fused: str, base: dict[str, str | None]) -> None:
    """Write the adapter in a folder once more to `stock`, for classes without its layer `fused` of q, k and v.

    `base` are the fields of its configuration that name the backbone.
    """
    config = files.read_json(folder / CONFIG)
    targets = llama_factory.stock_targets(config["target_modules"], fused)
    (folder / card.PLAIN).mkdir()
    save_file(split_qkv(load_file(folder / WEIGHTS), fused), folder / card.PLAIN / WEIGHTS, {"format": "pt"})
    files.write_json(folder / card.PLAIN / CONFIG, config | base | {"target_modules": sorted(targets)})


def attach(model: torch.nn.Module, folder: str | Path) -> torch.nn.Module:
    """Merge an adapter into the model's weights, ready to generate (as LLaMA-Factory did to predict).

    Raises:
        InputError: As `fitted` does.
    """
    with backbones.quiet():
        return fitted(model, folder).merge_and_unload().eval()


def check(model: str, deltas: list[str], run: str | Path, folder: str | Path) -> None:
    """Raise InputError unless an adapter fits a backbone, of which no weights are read: to answer first takes hours.

    It is raised for a second adapter in the folder, as after `cp -r` to one that existed. Another backbone of the same
    shape cannot be told from its weights' names: where the adapter's record names another one, a warning says so.
    """
    for inner in files.path(folder).glob(f"*/{CONFIG}"):
        if inner.parent.name != card.PLAIN and not inner.parent.name.startswith("checkpoint-"):  # as trainers leave
            raise files.InputError(
                f"{files.shown(folder)}: holds a second adapter, {inner.parent.name}; was it copied to a folder that "
                "existed? Move the one that is not to answer away, and the other one to this folder"
            )
    fitted(outline(model, deltas, run), folder)
    here, record = [files.public(name) for name in (model, *deltas)], files.path(folder) / "training.json"
    trained = files.read_json(record) if record.exists() else {"model": here[0], "deltas": here[1:]}
    if (there := [trained["model"], *trained["deltas"]]) != here:
        names = " with ".join(there), " with ".join(here)
        print(
            f"warning: {files.shown(folder)} was trained on {names[0]}; here it is applied to {names[1]}",
            file=sys.stderr,
        )


def check_tuned(model: str, deltas: list[str], run: str | Path, folder: str | Path, whole: str | None) -> None:
    """Raise InputError unless the tuned system can be made: of an adapter as `check` says, or of whole weights."""
    if whole is None:
        check(model, deltas, run, folder)
    else:
        embeddings = outline(whole, [], run).get_input_embeddings().num_embeddings
        tokenizers.check_size(tokenizer(whole, [], run), embeddings, files.public(whole))


def identity(folder: str | Path) -> str | None:
    """Return the hash of an adapter's weights; None where there is no adapter."""
    found = backbones.weight_files(folder, "adapter")
    return hashing.sha256(found[0]) if found else None


def acting(folder: str | Path) -> str | None:
    """Return the hash of all in an adapter that decides a reply: its weights, scale, layers; None without an adapter.

    `identity` is the hash of the weights alone, as records hold it.
    """
    weights, place = identity(folder), files.path(folder) / CONFIG
    if weights is None or not place.is_file():
        return weights
    given = {name: value for name, value in files.read_json(place).items() if name not in PASSIVE}
    acts = {name: sorted(value, key=str) if isinstance(value, list) else value for name, value in given.items()}
    return hashing.text(json.dumps([weights, acts], sort_keys=True))


def fitted(model: torch.nn.Module, folder: str | Path) -> PeftModel:
    """Return the model with an adapter in it; names that certainly mean the same are translated (`named_here`).

    peft itself only warns of missing tensors and passes over those that have no place, and the model would answer as
    if it had never been tuned.

    Raises:
        InputError: When the folder does not hold a LoRA adapter, or one of another backbone, in part, or untrained.
    """
    place, where = files.path(folder), files.shown(folder)
    if not (place / CONFIG).is_file():
        raise files.InputError(f"{where}: holds no adapter; run 04_lora_training for this backbone first")
    named = files.read_json(place / CONFIG)
    if (kind := named.get("peft_type") if isinstance(named, dict) else named) != "LORA":
        raise files.InputError(f"{where}/{CONFIG}: an adapter of type {kind}; only LoRA is supported")
    weights = backbones.tensors(folder, "adapter", device="cpu")
    check_learned(weights, where)
    on_meta = next(model.parameters()).device.type == "meta"
    try:
        with backbones.quiet():
            config, weights = named_here(PeftConfig.from_pretrained(str(place)), weights, model)
            adapted = PeftModel(model, config)
            found = set_peft_model_state_dict(adapted, weights, low_cpu_mem_usage=on_meta)
    except KeyError as error:
        raise files.InputError(f"{where}: {error} is missing from its weights; {ELSEWHERE}") from None
    except backbones.IMPOSSIBLE as error:
        raise files.InputError(f"{where}: does not fit this backbone ({backbones.one_line(error)})") from None
    missing = [name for name in found.missing_keys if ".lora_" in name]  # peft lists the backbone's own, too
    odd = {"missing": missing, "not part of this backbone": found.unexpected_keys}
    if any(odd.values()):
        first = {
            kind: min(names).replace(".default.", ".").removeprefix(PREFIX) for kind, names in odd.items() if names
        }
        said = " and ".join(f"{len(odd[kind])} tensors are {kind} (first {name})" for kind, name in first.items())
        raise files.InputError(f"{where}: {said}; {ELSEWHERE}")
    return adapted


def check_learned(weights: dict[str, torch.Tensor], where: str) -> None:
    """Raise InputError for an adapter's tensors that hold NaN, or that change nothing because every B is 0."""
    if not all(tensor.isfinite().all() for tensor in weights.values()):
        raise files.InputError(f"{where}: its weights hold NaN or infinite values; train it again")
    if not any(tensor.any() for name, tensor in weights.items() if not re.search(r"lora_(embedding_)?A", name)):
        raise files.InputError(f"{where}: every B is 0, so that it changes nothing; was it saved before training?")


def named_here(
    config: PeftConfig, weights: dict[str, torch.Tensor], model: torch.nn.Module
) -> tuple[PeftConfig, dict[str, torch.Tensor]]:
    """Return an adapter's configuration and tensors under the names of this package's classes, where that is certain.

    peft's prefix is added where no name has it, the name that an adapter had in memory is left out, and names of
    Qwen-7B's own code (LLaMA-Factory's adapters have them) become those of the class that reads it here: c_attn is the
    same layer in both. Baichuan's W_pack needs nothing.
    """
    weights = {re.sub(r"(\.lora_\w+)\.default\b", r"\1", name): tensor for name, tensor in weights.items()}
    if not any(name.startswith(PREFIX) for name in weights):
        weights = {PREFIX + name: tensor for name, tensor in weights.items()}
    if isinstance(model, fused_qkv.QwenV1ForCausalLM):
        for there, here in backbones.QWEN_KEYS.items():
            weights = {name.replace(there, here): tensor for name, tensor in weights.items()}
        for field in ("target_modules", "modules_to_save"):
            if isinstance(names := getattr(config, field), list | set):
                layers = [layer for name in names for layer in QWEN_LAYERS.get(name, (name,))]
                setattr(config, field, type(names)(layers))
    if (fused := fused_qkv.qkv_name(model)) and any(QKV.search(name) for name in weights):
        return fuse_qkv(config, weights, model, fused)
    return config, weights


def fuse_qkv(
    config: PeftConfig, weights: dict[str, torch.Tensor], model: torch.nn.Module, fused: str
) -> tuple[PeftConfig, dict[str, torch.Tensor]]:
    """Return an adapter of separate q, k and v (a stock directory's) as one of the layer that holds all three.

    A of the adapted ones on top of one another, and B on a diagonal of blocks, each times its own scale, make the same
    B·A. The rank is the sum of theirs, and alpha such that peft multiplies by 1. The rows of B are 0 for one that
    `target_modules` does not name.

    Raises:
        KeyError: With the name of a tensor that is missing.
    """
    found, ranks, alphas = dict(weights), {}, {}
    for place in [name for name, _ in model.named_modules() if name.endswith(f".{fused}")]:
        three = [f"{place.removesuffix(fused)}{letter}_proj" for letter in "qkv"]
        adapted = [name for name in three if check_target_module_exists(config, name)]
        if not adapted:
            continue
        scales = {name: rank_and_scale(config, name) for name in adapted}
        a, b = ({name: found.pop(f"{PREFIX}{name}.lora_{matrix}.weight") for name in adapted} for matrix in "AB")
        none = torch.zeros(len(b[adapted[0]]), 0)
        blocks = [b[name].float() * scales[name][1] if name in b else none for name in three]
        found[f"{PREFIX}{place}.lora_A.weight"] = torch.cat(list(a.values()))
        found[f"{PREFIX}{place}.lora_B.weight"] = torch.block_diag(*blocks)
        ranks[place] = sum(rank for rank, _ in scales.values())
        alphas[place] = math.sqrt(ranks[place]) if config.use_rslora else ranks[place]
    if isinstance(config.target_modules, list | set):
        config.target_modules = {re.sub(r"\b[qkv]_proj$", fused, name) for name in config.target_modules}
    others = [
        name for name, _ in model.named_modules() if name not in ranks and check_target_module_exists(config, name)
    ]
    for field, own in (("rank_pattern", ranks), ("alpha_pattern", alphas)):
        given = getattr(config, field).items()  # peft warns of those that match nothing
        left = {key: value for key, value in given if any(get_pattern_key([key], name) == key for name in others)}
        setattr(config, field, own | left)  # of several that match a layer, peft takes the first
    return config, found


def rank_and_scale(config: PeftConfig, layer: str) -> tuple[int, float]:
    """Return the rank of a layer's adapter, and what peft multiplies its B·A by."""
    patterns = (config.rank_pattern, config.r), (config.alpha_pattern, config.lora_alpha)
    rank, alpha = (pattern.get(get_pattern_key(pattern, layer), default) for pattern, default in patterns)
    return rank, alpha / (math.sqrt(rank) if config.use_rslora else rank)


def tuned_folder(name: str | None, run: str | Path) -> str | Path | None:
    """Return where to look for the record of a tuned model: below the run, where a folder of its name is there."""
    below = files.path(run) / name if name else None
    return below if below and below.exists() else name


def trained_form(name: str | Path) -> str | None:
    """Return the form of prompt in which an adapter or a tuned model was trained, or None where nothing says so.

    An adapter and a merged model record it in training.json; of released weights `prompt_forms.RELEASED` knows it.
    """
    record = files.path(name) / "training.json"
    if record.exists():
        return files.read_json(record)["settings"]["template"]
    return prompt_forms.RELEASED.get(str(name).partition("@")[0])  # what follows is a commit


def unrecorded(folder: str | Path) -> str | None:
    """Return in words that an adapter has no record of a training here; None where it has one, or is not there."""
    place = files.path(folder)
    return UNRECORDED if (place / CONFIG).is_file() and not (place / "training.json").exists() else None


def check_template(name: str | Path, asked: str, tokenizer: object = None) -> None:
    """Raise InputError unless an adapter or a tuned model is asked in the form in which it was trained, word for word.

    What comes from elsewhere, without training.json, is used as the user says (`unrecorded`).

    Args:
        name: The adapter's folder, a merged model's, or a hub id.
        asked: The form of the prompts.
        tokenizer: That of the prompts; without it the texts of a chat template are not compared.
    """
    trained, record = trained_form(name) or asked, files.path(name) / "training.json"
    if asked != trained:
        raise files.InputError(
            f"template = {asked}, but {files.shown(name)} was trained with {trained}; ask in the same form"
        )
    text = files.read_json(record).get("prompt_form") if record.exists() else None
    if text is None or (asked == prompt_forms.CHAT and tokenizer is None):
        return
    if text != (now := prompt_forms.wording(asked, tokenizer)):
        raise files.InputError(
            f"template = {asked}: {files.shown(name)} was trained on prompts worded {text!r}; now they are {now!r}; "
            "train it again, or ask with the version of this package that trained it"
        )
