"""Adapters on disk: peft's directory, the same bytes for the same weights, with a card that says what it is."""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model

from cbtllm_utils import backbones, files, namings, quantization, recipe, safety, tokenizers
from cbtllm_utils.chats import DAY
from cbtllm_utils.instructions import CHAT, INSTRUCTION, TEMPLATES
from cbtllm_utils.recipe import DTYPES, PUBLISHED, Settings, device

CARD = """---
library_name: peft
pipeline_tag: text-generation
language: zh
tags: [lora, mental-health, cognitive-behavioral-therapy, research-only]
---
# {backbone}: an adapter trained on CBT QA
{conditions}

> {english}
>
> {chinese}
>
> {psyqa}

A LoRA adapter for `{model}`{deltas}, trained as CBT-LLM (arXiv 2403.16008, §3.4 and §4.3) describes: on {items} instruction
triads, {steps} steps, loss on the reply alone. On {heldout_items} held-out items the loss of a reply token went from
{before} to {after} nats.

## What it was trained on
| | |
|---|---|
| training items, SHA-256 | `{data}` |
| prompt of the replies | `{prompt}` |
| replies written by | {author} |

## Settings
| setting | value |
|---|---|
{settings}

## How to prompt it
{prompting} `{{input}}` is question, "?" and description in one line:

```
{template}
```

## How to load it
`peft.PeftModel.from_pretrained(model, folder)` on the backbone above, read with `cbtllm_utils.backbones.load_model`
(fused projections keep the names of the original checkpoints, on which this adapter depends). Where there is a folder
`stock`, it holds the same adapter for the built-in class whose q, k and v are split (`AutoModelForCausalLM` on what
`load_model(…).save_pretrained` writes); `original` the same for the code beside Qwen-7B's weights.

## What it must not be used for
Counselling, triage, diagnosis or any talk with people in distress without professional supervision. Replies come from
a language model that imitates the replies of another; nobody has checked them.
"""
TEXT = "The text below up to and with `Assistant: `:"
CHATTED = (
    "The tokenizer's own chat template, thinking switched off, over the messages below, up to where a reply begins:"
)
MESSAGES = """tokenizer.apply_chat_template(
    [{"role": "system", "content": "{instruction}"}, {"role": "user", "content": "{input}"}],
    add_generation_prompt=True, enable_thinking=False, date_string="{day}",
)""".replace("{day}", DAY)  # Llama 3.2's would write today's


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
    model: str, deltas: list[str], run: str | Path, precision: str, kind: str | None = None
) -> torch.nn.Module:
    """The backbone, where the loader puts it: in the machine's memory, unless it is quantised on a GPU."""
    first, *rest = [files.local_or_hub(name, run) for name in (model, *deltas)]
    dtype = DTYPES[precision]
    loaded = backbones.load_model(first, rest, dtype=dtype, **quantization.options(kind, dtype))
    return quantization.differentiable(loaded)


def outline(model: str, deltas: list[str], run: str | Path) -> torch.nn.Module:
    """The backbone by its shapes alone, without weights, to tell what it will need."""
    first, *rest = (files.local_or_hub(name, run) for name in (model, *deltas))
    return backbones.outline(first, rest)


def tokenizer(model: str, deltas: list[str], run: str | Path) -> object:
    """The tokenizer of a backbone: the last delta's, where there are deltas."""
    return tokenizers.load_tokenizer(files.local_or_hub([model, *deltas][-1], run))


def fresh(model: torch.nn.Module, settings: Settings, name: str) -> PeftModel:
    """The model with a fresh LoRA adapter (equation 2: W + (alpha / rank) · B·A, B = 0 at first), the rest frozen.

    `name` is kept in the adapter as the model that it belongs to. The same seed gives the same A.
    """
    transformers.set_seed(settings.seed)
    targets = backbones.lora_targets(model) if settings.targets == PUBLISHED else settings.targets
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type="CAUSAL_LM",
    )
    try:
        with quiet():
            adapted = get_peft_model(model, config)
    except ValueError as error:
        raise files.InputError(f"targets = {targets}: {' '.join(str(error).split())[:200]}") from None
    adapted.peft_config["default"].base_model_name_or_path = files.public(name)
    return adapted


def card(summary: dict, conditions: str) -> str:
    """The README of an adapter, from the summary row of its training."""
    settings = summary["settings"]
    lines = "\n".join(f"| {name} | {value} |" for name, value in settings.items())
    deltas = " with the deltas " + ", ".join(f"`{d}`" for d in summary["deltas"]) if summary["deltas"] else ""
    return CARD.format(
        **{key: summary[key] for key in ("backbone", "model", "items", "steps", "heldout_items", "data")},
        conditions=conditions,
        deltas=deltas,
        prompt=", ".join(summary["prompts"]),
        author=", ".join(summary["models"]),
        before=f"{summary['heldout_loss_before']:.3f}",
        after=f"{summary['heldout_loss_after']:.3f}",
        settings=lines,
        prompting=CHATTED if settings["template"] == CHAT else TEXT,
        template=TEMPLATES.get(settings["template"], MESSAGES).replace("{instruction}", INSTRUCTION),
        english=safety.notice("en"),
        chinese=safety.notice("zh"),
        psyqa=safety.notice("psyqa"),
    )


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
            namings.write(temporary, fused)
        files.write_text(temporary / "README.md", card(summary, conditions))
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
