"""What LoRA teaches the demo's stand-ins, and its spread over seeds: held-out loss, share of five-part replies."""

import statistics
import tempfile
from collections.abc import Iterator

from benchmarks.table import Row
from cbtllm_utils import adapters, answering, files, instructions, profiles, recipe, replies, training

RUN, SEEDS = "runs/demo", (42, 43, 44)
DECODED = ("max_new_tokens", "temperature", "top_p", "top_k", "seed")


def values(notebook: str, backbone: str) -> dict:
    """The demo's parameters of a notebook for one backbone."""
    return profiles.parameters(profiles.read("demo"), RUN, notebook, backbone)


def settings(chosen: dict, seed: int) -> recipe.Settings:
    """The settings of notebook 04 with another seed."""
    named = {name: chosen[name] for name in recipe.Settings.__dataclass_fields__ if name in chosen}
    return recipe.Settings(**named | {"precision": recipe.training_precision(chosen["precision"]), "seed": seed})


def five(model: object, tokenizer: object, test: list[dict], decoding: dict) -> float:
    """The share of a model's replies to the test items in which all five parts are found."""
    asked = [instructions.prompt(row, "card") for row in test]
    said = answering.generate(model, tokenizer, asked, batch_size=len(asked), **decoding)
    return float(replies.structure([reply | {"system": "it"} for reply in said])["all five"][0])


def trained(chosen: dict, seed: int, train: list[dict], test: list[dict], decoding: dict) -> tuple[float, float, float]:
    """The held-out loss before and after one training, and the share of five-part replies after it."""
    wanted = settings(chosen, seed)
    base, tokenizer = adapters.load(chosen["model"], chosen["deltas"], RUN, wanted.precision)
    examples, heldout = (instructions.encode(rows, tokenizer, "card", wanted.cutoff) for rows in (train, test))
    adapted = adapters.fresh(base, wanted, chosen["model"])
    with tempfile.TemporaryDirectory() as folder:
        log = training.train(adapted, examples, heldout, wanted, files.path(folder))
        adapted.save_pretrained(folder, save_embedding_layers=False)
        plain, _ = adapters.load(chosen["model"], chosen["deltas"], RUN, "fp32")
        share = five(adapters.attach(plain, folder), tokenizer, test, decoding)
    losses = [row["heldout_loss"] for row in log if "heldout_loss" in row]
    return losses[0], losses[-1], share


def spread(numbers: list[float], form: str) -> str:
    """The least and the largest, as text."""
    return f"{min(numbers):{form}} to {max(numbers):{form}}"


def rows() -> Iterator[Row]:
    """For each backbone the held-out loss and the five-part share, tuned beside untuned: means over seeds."""
    import torch

    torch.set_num_threads(1)
    train, test = (files.read_jsonl(f"{RUN}/cbt_qa/{split}.jsonl") for split in ("train", "test"))
    for backbone in profiles.read("demo")["backbones"]:
        chosen = values("04_lora_training", backbone)
        decoding = {name: values("05_answer_generation", backbone)[name] for name in DECODED}
        base, tokenizer = adapters.load(chosen["model"], chosen["deltas"], RUN, "fp32")
        untuned = five(base, tokenizer, test, decoding)
        before, after, shares = zip(*(trained(chosen, s, train, test, decoding) for s in SEEDS), strict=True)
        falls = [b - a for b, a in zip(before, after, strict=True)]
        name = f"{backbone}: held-out loss, nats a reply token (falls by {spread(falls, '.3f')} in {len(SEEDS)} seeds)"
        yield Row(name, statistics.mean(after), "untuned", statistics.mean(before))
        tuned = statistics.mean(shares)
        name = f"… share of {len(test)} replies with all five parts ({spread(shares, '.2f')})"
        yield Row(name, tuned, "untuned", untuned, "≥ 0.5, untuned ≤ 0.1", tuned >= 0.5 and untuned <= 0.1)
