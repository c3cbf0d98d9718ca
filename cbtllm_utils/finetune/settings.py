"""The recipe of a training: settings beside the paper's and LLaMA-Factory's, steps, and as one for LLaMA-Factory."""

import csv
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import yaml

from cbtllm_utils import files, published
from cbtllm_utils.models.devices import BITS
from cbtllm_utils.models.prompt_forms import CHAT, TEMPLATES

SOURCES = Path(__file__).with_name("recipe.csv")  # LLaMA-Factory's defaults at tag v0.2.2, and why we may differ
EMBEDDINGS = ("lm_head", "embed_tokens")  # layers that can be trained whole: of words, after and before all others
PUBLISHED = "published"  # as `targets`: the layers that LLaMA-Factory adapted by default


@dataclass(frozen=True)
class Settings:
    """Everything that decides on a training. The values are the paper's (§4.3) or LLaMA-Factory's defaults of 2023."""

    template: str = "card"
    rank: int = 8
    alpha: float = 32.0
    dropout: float = 0.1
    targets: str | tuple[str, ...] | list[str] = PUBLISHED  # "published", "all-linear", or names of layers
    learning_rate: float = 5e-5
    schedule: str = "cosine"
    epochs: float = 3
    batch: int = 4  # on one device
    accumulation: int = 4  # batches whose gradients are added up for one step
    cutoff: int = 1024  # tokens of an example
    precision: str = "fp16"
    gradient_checkpointing: bool = True
    optimizer: str = "adamw_torch"
    weight_decay: float = 0.0
    warmup_steps: int = 0
    max_gradient: float = 1.0  # the norm to which gradients are clipped
    seed: int = 42
    packing: bool = False  # the items of a batch in one row instead of padded rows
    quantization: str | None = None  # "nf4": the frozen weights in 4 bits
    processes: int = 1  # each on a device of its own, with a batch of its own
    sharded: bool = False  # whether the processes share out the frozen weights
    modules_to_save: tuple[str, ...] | list[str] = ()  # layers trained whole beside the adapter, and kept with it

    def __post_init__(self) -> None:
        if self.template not in (*TEMPLATES, CHAT):
            raise files.InputError(f"template = {self.template!r}: expected one of {', '.join([*TEMPLATES, CHAT])}")
        if self.precision not in BITS:
            raise files.InputError(f"precision = {self.precision!r}: expected one of {', '.join(BITS)}")
        if min(self.rank, self.batch, self.accumulation, self.cutoff) < 1 or self.epochs <= 0:
            raise files.InputError("rank, batch, accumulation, cutoff and epochs must be above 0")
        if set(self.modules_to_save) - set(EMBEDDINGS):
            raise files.InputError(
                f"modules_to_save = {self.modules_to_save}: expected some of {', '.join(EMBEDDINGS)}; other layers can be "
                "among the targets"
            )
        if self.processes < 1:
            raise files.InputError("processes must be above 0")
        if self.sharded and (self.processes == 1 or self.quantization or self.modules_to_save):
            raise files.InputError(
                "sharded = true needs processes above 1, quantization = null and modules_to_save = []: what is trained "
                "whole cannot be shared out"
            )

    @property
    def items(self) -> int:
        """Items of one step, over all devices."""
        return self.batch * self.accumulation * self.processes


def table(settings: Settings) -> pd.DataFrame:
    """Columns setting, paper says, LLaMA-Factory default, here, why: one row a setting.

    What the paper says comes from `published`; "–" where it says nothing, as it does for most of them.
    """
    rows = []
    with SOURCES.open(encoding="utf-8", newline="") as file:
        for source in csv.DictReader(file):
            here = value_text(asdict(settings)[source["setting"]])
            paper = value_text(published.value("text", source["published"], "value")) if source["published"] else ""
            paper += " bits" if source["setting"] == "precision" else ""
            said = paper or source["said"] or "–"
            rows.append((source["setting"], said, source["default"], here, why(source, paper, here)))
    return pd.DataFrame(rows, columns=["setting", "paper says", "LLaMA-Factory default", "here", "why"])


def why(source: dict[str, str], paper: str, here: str) -> str:
    """Where a setting comes from: the paper, LLaMA-Factory, or the reason for which it deviates from both."""
    if here == paper or (paper == f"{BITS.get(here)} bits") or (source["said"].partition(" ")[0] == here):
        return "as the paper says"
    if here in (source["default"], PUBLISHED):
        return "LLaMA-Factory's default; the paper does not say" if not paper else "LLaMA-Factory's default"
    return source["deviation"]


def value_text(value: object) -> str:
    """A setting's value as text: numbers short, lists joined."""
    if isinstance(value, list | tuple):
        return ", ".join(value) or "none"
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def steps(items: int, settings: Settings) -> tuple[int, int]:
    """Optimizer steps of one epoch and of the whole training; the last step of an epoch may hold fewer items.

    The paper's: 20,094 items / (4 × 4) = 1,255.9 → 1,256 an epoch, 3,768 in all.
    """
    epoch = math.ceil(items / settings.items)
    return epoch, math.ceil(settings.epochs * epoch)


WORDED = "template default: later versions word it otherwise than in 2023; compare with the prompt in README.md"


def llama_factory(summary: dict, modules: list[str]) -> str:
    """This training as a recipe for `llamafactory-cli train`, run in the run's folder, on the exports of notebook 02.

    What it cannot say stands in its comments: deltas are merged first, and LLaMA-Factory's template `default` is not
    what it was in 2023, so the prompt must be compared with ours. Told no template, it takes the tokenizer's own
    (get_template_and_fix_tokenizer in its data/template.py).
    """
    settings = summary["settings"]
    chat = settings["template"] == CHAT
    values = {
        "model_name_or_path": summary["model"],
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "lora",
        "lora_rank": settings["rank"],
        "lora_alpha": settings["alpha"],
        "lora_dropout": settings["dropout"],
        "lora_target": ",".join(modules),
        "dataset_dir": "cbt_qa/llama_factory",
        "dataset": f"cbt_qa_train_{'card' if chat else settings['template']}",  # card: the instruction as system text
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
    values |= {"additional_target": ",".join(saved)} if (saved := settings.get("modules_to_save")) else {}
    values |= {"quantization_bit": 4} if settings.get("quantization") else {}
    values |= {"packing": True, "neat_packing": True} if settings.get("packing") else {}  # neat: examples kept apart
    notes = [
        f"llamafactory-cli train adapters/{summary['backbone']}/llama_factory.yaml   (in the run's folder)",
        "model_name_or_path as this run was given it: set it to where the weights lie",
        "trust_remote_code: LLaMA-Factory runs the code beside Qwen-7B's and Baichuan-7B's weights; ours does not",
        "no template is named: the tokenizer's own is taken" if chat else WORDED,
        *([f"started by torchrun in {settings['processes']} processes"] if settings.get("processes", 1) > 1 else []),
        *(f"merge into the model first: {delta}" for delta in summary["deltas"]),
    ]
    return "".join(f"# {note}\n" for note in notes) + yaml.safe_dump(values, sort_keys=False)
