"""The card beside an adapter's weights: what it was trained on, how to prompt and load it, what it is not for."""

from cbtllm_utils import safety
from cbtllm_utils.chats import DAY
from cbtllm_utils.instructions import CHAT, INSTRUCTION, TEMPLATES

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


def text(summary: dict, conditions: str) -> str:
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
