"""python -m benchmarks.learning: what LoRA teaches the demo's stand-ins, with its spread over seeds.

It takes half an hour; nothing is timed, so other work may go on beside it.
"""

import statistics
import tempfile

import pandas as pd
import torch

from cbtllm_utils import files
from cbtllm_utils.finetune import adapters, training
from cbtllm_utils.finetune import settings as recipe
from cbtllm_utils.generate import answering
from cbtllm_utils.models import devices, prompt_forms
from cbtllm_utils.plots import tables
from cbtllm_utils.text import reply_statistics
from cbtllm_utils.workflow import profiles

RUN, SEEDS = "runs/demo", (42, 43, 44)
README = """# What LoRA teaches the stand-ins
Made by `python -m benchmarks.learning` from the stand-ins of a finished demo run: notebook 04's training on {train} items
and notebook 05's answers to {test}, with the seeds {seeds} of the training: mean (least to largest). Losses are in nats a
reply token and cannot be compared between backbones; "five parts" is the share of replies in which all five are found.
Invented posts, tiny models: nothing follows for the paper's backbones.

{table}
"""
DECODED = ("max_new_tokens", "temperature", "top_p", "top_k", "seed")


def values(notebook: str, backbone: str) -> dict:
    """The demo's parameters of a notebook for one backbone."""
    return profiles.parameters(profiles.read("demo"), RUN, notebook, backbone)


def settings(chosen: dict, seed: int) -> recipe.Settings:
    """The settings of notebook 04 with another seed."""
    named = {name: chosen[name] for name in recipe.Settings.__dataclass_fields__ if name in chosen}
    return recipe.Settings(**named | {"precision": devices.precision(chosen["precision"]), "seed": seed})


def five(model: object, tokenizer: object, test: list[dict], decoding: dict) -> float:
    """The share of a model's replies to the test items in which all five parts are found."""
    asked = [prompt_forms.prompt(row, "card") for row in test]
    said = answering.generate(model, tokenizer, asked, batch_size=len(asked), **decoding)
    return float(reply_statistics.structure([reply | {"system": "it"} for reply in said])["all five"][0])


def trained(chosen: dict, seed: int, train: list[dict], test: list[dict], decoding: dict) -> tuple[float, float, float]:
    """The held-out loss before and after one training, and the share of five-part replies after it."""
    wanted = settings(chosen, seed)
    base, tokenizer = adapters.load(chosen["model"], chosen["deltas"], RUN, wanted.precision)
    examples, heldout = (prompt_forms.encode(rows, tokenizer, "card", wanted.cutoff) for rows in (train, test))
    adapted = adapters.fresh(base, wanted, chosen["model"])
    with tempfile.TemporaryDirectory() as folder:
        log = training.train(adapted, examples, heldout, wanted, files.path(folder))
    share = five(adapted.merge_and_unload().eval(), tokenizer, test, decoding)
    losses = [row["heldout_loss"] for row in log if "heldout_loss" in row]
    return losses[0], losses[-1], share


def spread(numbers: list[float], form: str) -> str:
    """The mean, and the least and the largest, as text."""
    return f"{statistics.mean(numbers):{form}} ({min(numbers):{form}} to {max(numbers):{form}})"


def row(backbone: str, train: list[dict], test: list[dict]) -> dict[str, str]:
    """One backbone: held-out loss and five-part share, untuned and after training with each seed."""
    chosen, asking = values("04_lora_training", backbone), values("05_answer_generation", backbone)
    decoding = {name: asking[name] for name in DECODED}
    base, tokenizer = adapters.load(chosen["model"], chosen["deltas"], RUN, devices.precision(chosen["precision"]))
    untuned = five(base, tokenizer, test, decoding)
    before, after, shares = zip(*(trained(chosen, s, train, test, decoding) for s in SEEDS), strict=True)
    falls = [b - a for b, a in zip(before, after, strict=True)]
    losses = {"loss untuned": f"{before[0]:.3f}", "tuned": spread(after, ".3f"), "falls by": spread(falls, ".3f")}
    return {"backbone": backbone, **losses, "five parts untuned": f"{untuned:.2f}", "five parts": spread(shares, ".2f")}


def main() -> None:
    """Print the table and keep it in benchmarks/learning.md."""
    torch.set_num_threads(1)
    train, test = (files.read_jsonl(f"{RUN}/cbt_qa/{split}.jsonl") for split in ("train", "test"))
    rows = []
    for backbone in profiles.read("demo")["backbones"]:
        rows.append(row(backbone, train, test))
        print(rows[-1], flush=True)
    seeds, table = ", ".join(map(str, SEEDS)), tables.markdown(pd.DataFrame(rows))
    files.write_text(
        "benchmarks/learning.md", README.format(train=len(train), test=len(test), seeds=seeds, table=table)
    )


if __name__ == "__main__":
    main()
