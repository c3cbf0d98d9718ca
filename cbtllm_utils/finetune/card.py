"""The card beside an adapter's weights: what it was trained on, how to prompt and load it, what it is not for."""

from cbtllm_utils import files, hub, notices
from cbtllm_utils.finetune.llama_factory import value_text
from cbtllm_utils.finetune.settings import TrainingSettings
from cbtllm_utils.models.chat_templates import DAY
from cbtllm_utils.models.prompt_forms import CHAT, FORMS, INSTRUCTION

PLAIN = "stock"  # the folder of the form for plain peft, below an adapter whose own form needs this package
LICENSE_NAME = "backbone-and-psyqa"  # of an adapter and of a merged model
TERMS = """That of the backbone and, for what was learned, that of the posts and replies: PsyQA's agreement where they are PsyQA's.
Whoever passes this on answers for both. The posts of the bundled sample are invented, and free with their replies.
"""
LICENSE = f"# License\n{TERMS}"
CARD = """# {backbone}{tiny}: an adapter trained on CBT QA
{conditions}

> {english}
>
> {chinese}
>
> {psyqa}

A LoRA adapter{whole} for `{model}`{deltas}, trained as §3.4 of CBT-LLM (arXiv 2403.16008) describes: on {examples}
instruction triads, {steps} steps, loss on the reply alone. On {heldout_examples} held-out examples the loss went from {before} to
{after} nats per reply token.{about_tiny}

## What it was trained on
| | |
|---|---|
| training examples, SHA-256 | `{data}` |
| prompt of the replies | `{prompt}` |
| replies written by | {author} |

## Settings
Compared with the paper's settings (§4.3; where it is silent, its tool's defaults of autumn 2023 and the released model's
form of prompt), {differing}.

| setting | here | paper and its tool |
|---|---|---|
{settings}

## How to prompt it
{prompting} `{{input}}` is question, "?" and description in one line:

```
{template}
```

## How to load it
With plain peft, on the backbone as a stock directory (`make stock` writes it to `stock/{backbone}` below the run):

```
model = AutoModelForCausalLM.from_pretrained("stock/{backbone}")
model = PeftModel.from_pretrained(model, "{folder}")
```

{naming}{served}

## What it must not be used for
Counseling, triage, diagnosis or any talk with people in distress without professional supervision. Replies come from
a language model that imitates the replies of another; nobody has checked them.

## License
{terms}"""
OWN = (  # with a layer of q, k and v together
    "The folder `stock` holds the adapter for classes whose q, k and v are separate layers. The files beside this card hold "
    "it for the layers of the original checkpoints, as `cbtllm_utils.models.backbones.load_model` reads them."
)
SAME = "The layers have the same names in the original checkpoint, in the stock directory and here."
TINY = (
    " The model is tiny, made by notebook 00 in the file format of the original; it shares neither its size "
    "nor its abilities."
)
TEXT = "The text below to its last character ({ending}); with another ending the first token of a reply is another one."
CHATTED = (
    "The tokenizer's own chat template over the messages below, up to where a reply begins, with thinking switched off:"
)
MESSAGES = """tokenizer.apply_chat_template(
    [{"role": "system", "content": "{instruction}"}, {"role": "user", "content": "{input}"}],
    add_generation_prompt=True, enable_thinking=False, date_string="{day}",
)""".replace("{day}", DAY)  # Llama 3.2's template would write today's date.


def ending(text: str) -> str:
    """Return in words how a form of prompt ends."""
    return "`Assistant:` and one space" if text.endswith(" ") else "`Assistant:` without a space"


def text(summary: dict, conditions: str, plain: bool = False) -> str:
    """Return the README of an adapter.

    Args:
        summary: The summary row of its training.
        conditions: As on every table and figure.
        plain: Whether a folder `stock` below it holds the form for plain peft.
    """
    defaults = TrainingSettings().hyperparameters()
    settings, theirs = ({k: value_text(v) for k, v in s.items()} for s in (summary["settings"], defaults))
    lines = "\n".join(f"| {name} | {value} | {theirs[name]} |" for name, value in settings.items())
    differing = [name for name, value in settings.items() if value != theirs[name]]
    form = None if settings["template"] == CHAT else FORMS[settings["template"]]
    whole = ", ".join(summary["settings"]["modules_to_save"])
    tiny = files.is_tiny(summary["model"])
    deltas = " with the deltas " + ", ".join(f"`{d}`" for d in summary["deltas"]) if summary["deltas"] else ""
    metadata = hub.model_header(
        "peft", [summary["model"], *summary["deltas"]], "adapter", LICENSE_NAME, tags=["lora", *hub.TAGS]
    )
    return metadata + CARD.format(
        **{key: summary[key] for key in ("backbone", "model", "examples", "steps", "heldout_examples", "data")},
        conditions=conditions,
        terms=TERMS,
        whole=f", with {whole} trained whole beside it," if whole else "",
        served=" vLLM takes no adapter with layers trained whole: serve the merged model." if whole else "",
        deltas=deltas,
        folder=f"adapters/{summary['backbone']}" + (f"/{PLAIN}" if plain else ""),
        naming=OWN if plain else SAME,
        prompt=", ".join(summary["prompts"]),
        author=", ".join(summary["models"]),
        before=f"{summary['heldout_loss_before']:.3f}",
        after=f"{summary['heldout_loss_after']:.3f}",
        tiny=" (tiny)" if tiny else "",
        about_tiny=TINY if tiny else "",
        settings=lines,
        differing=f"{len(differing)} of {len(settings)} differ: {', '.join(differing)}"
        if differing
        else "none differs",
        prompting=CHATTED if form is None else TEXT.format(ending=ending(form.text)),
        template=(MESSAGES if form is None else form.text).replace("{instruction}", INSTRUCTION),
        english=notices.notice("en"),
        chinese=notices.notice("zh"),
        psyqa=notices.notice("psyqa"),
    )
