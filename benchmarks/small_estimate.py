"""What the profile `small` will take on a CPU: throughput of a model of its size, measured here and multiplied out.

python -m benchmarks.small_estimate measures for some minutes, and writes benchmarks/measured_small.json and its section
of benchmarks/README.md. The weights are random, which changes neither time nor memory; no reply is read.
"""

import datetime
import json
import math
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean

import torch
import transformers
from datasets import Dataset

from benchmarks import page
from cbtllm_utils import files
from cbtllm_utils.data import prompts
from cbtllm_utils.finetune import adapters, trainer, training
from cbtllm_utils.finetune import examples as tokenized
from cbtllm_utils.finetune.settings import TrainingSettings
from cbtllm_utils.generate import answering
from cbtllm_utils.generate.settings import AnswerSettings
from cbtllm_utils.models import devices, prompt_forms
from cbtllm_utils.workflow import profiles

SHAPES = {  # config.json of the model at the hub
    "Qwen/Qwen3-0.6B": {
        "vocab_size": 151936,
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 40960,
        "rope_theta": 1000000,
        "tie_word_embeddings": True,
    }
}
# Of the 324 training replies: 177,910 characters in 122,878 tokens of Qwen's vocabulary of 151,643 (qwen.tiktoken, in
# PyPI's dashscope 2.0.2), which Qwen3 has kept.
CHARACTERS = 1.45
CHAT_TOKENS = 20  # what the chat template puts around instruction, post and reply
TEST_SHARE = 10  # every tenth post is a test post
STEPS = 1  # optimizer steps that are measured
NEW_TOKENS = 24  # tokens of a reply that are measured


class Counts:
    """A tokenizer whose prompts are numbers of tokens: `answering` needs no more."""

    bos_token = chat_template = None
    eos_token_id = pad_token_id = 0

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary, self.stops = vocabulary, [10**9]  # no reply ends early

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Return as many random tokens as the text says."""
        draw = random.Random(text)
        return [draw.randrange(1, self.vocabulary) for _ in range(int(text))]


def chosen() -> tuple[TrainingSettings, AnswerSettings]:
    """Return what the profile gives notebooks 04 and 05 for its first backbone."""
    content = profiles.read("small")
    backbone = next(iter(content["backbones"]))
    given = {
        notebook: profiles.flat(profiles.parameters(content, "runs/small", notebook, backbone))
        for notebook in ("04_lora_training", "05_answer_generation")
    }
    training_settings = TrainingSettings(**given["04_lora_training"])
    here = {"precision": devices.precision(training_settings.precision)}
    return training_settings.model_copy(update=here), AnswerSettings(**given["05_answer_generation"])


def shape(settings: TrainingSettings | AnswerSettings) -> dict:
    """Return the dimensions of the profile's model, whose revision does not change them."""
    return SHAPES[settings.model.partition("@")[0]]


def tokens(characters: int) -> int:
    return round(characters / CHARACTERS)


def lengths() -> list[tuple[int, int]]:
    """Return (tokens of the prompt, tokens of the reply) of the sample's posts with a recorded reply."""
    posts = {post["questionID"]: post for post in files.read_json("data/sample/psyqa_sample.json")}
    found = []
    for row in files.read_jsonl("data/sample/recorded_replies.jsonl"):
        asked = prompt_forms.INSTRUCTION + prompt_forms.passage(posts[row["questionID"]])
        said = "".join(text for _, text in row["sections"])
        found.append((tokens(len(asked)) + CHAT_TOKENS, tokens(len(said)) + 1))
    return found


def model(settings: TrainingSettings | AnswerSettings) -> torch.nn.Module:
    """Return a model of the profile's dimensions with random weights, in the precision that is used here."""
    torch.manual_seed(0)
    config = transformers.Qwen3Config(**shape(settings))
    dtype = devices.DTYPES[devices.precision(settings.precision)]
    return transformers.AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


def encoded(chosen_lengths: list[tuple[int, int]], cutoff: int, vocabulary: int) -> Dataset:
    """Return examples of random tokens of these lengths."""
    draw, rows = random.Random(0), []
    for asked, said in chosen_lengths:
        asked, said = tokenized.truncated(asked, said, cutoff)
        ids = [draw.randrange(1, vocabulary) for _ in range(asked + said)]
        rows.append({"input_ids": ids, "labels": [tokenized.IGNORED] * asked + ids[asked:]})
    return tokenized.dataset(rows)


def peak() -> float:
    """Return this process's largest resident memory so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def train() -> dict:
    """Train for some steps as notebook 04 does, on examples of every length; measure held-out losses as well."""
    settings = chosen()[0].model_copy(update={"epochs": 1, "checkpoint_steps": 0, "threads": 1})
    every = sorted(lengths(), key=sum)
    number = STEPS * settings.examples_per_step
    some = [every[round((i + 0.5) * len(every) / number)] for i in range(number)]
    vocabulary = shape(settings)["vocab_size"]
    rows = encoded(some, settings.cutoff, vocabulary)
    adapted = adapters.fresh(model(settings), settings)
    per_second = throughput(lambda: steps(adapted, rows, settings), rows)
    heldout = throughput(lambda: trainer.heldout_loss(adapted, rows, settings.batch * 2), rows)
    # The longest examples come together at some step, and decide on the memory.
    steps(adapted, encoded(every[-settings.batch :], settings.cutoff, vocabulary), settings)
    counted = {"examples": number, "tokens": sum(rows["length"]), "longest": sum(every[-1])}
    return counted | {"per_second": per_second, "heldout_per_second": heldout, "peak_gb": peak()}


def steps(adapted: torch.nn.Module, rows: Dataset, settings: TrainingSettings) -> None:
    """Train on the rows once."""
    with tempfile.TemporaryDirectory() as work:
        training.train_here(adapted, rows, rows.select([]), settings, Path(work))


def throughput(work: Callable[[], object], rows: Dataset) -> float:
    """Return the tokens of the rows per CPU second of the work."""
    start = time.process_time()
    work()
    return sum(rows["length"]) / (time.process_time() - start)


def prompt_tokens() -> dict[str, int]:
    """Return the mean tokens of a prompt, with the short instruction and with the full CBT prompt."""
    usual = round(mean(length for length, _ in lengths()))
    text = prompts.read("params/prompts/cbt_prompt.zh.md").text
    return {"short": usual, "full": usual + tokens(len(text) - len(prompt_forms.INSTRUCTION))}


def answer() -> dict:
    """Answer a batch as notebook 05 does, prompts with the full CBT prompt and half of a reply behind it."""
    _, settings = chosen()
    torch.set_num_threads(1)
    asked, config, times = model(settings), shape(settings), [time.process_time()]
    asked.register_forward_hook(lambda *_: times.append(time.process_time()))
    length = prompt_tokens()["full"] + settings.max_new_tokens // 2
    options = {"max_new_tokens": 1 + NEW_TOKENS, "seed": 0, "temperature": 0.95, "top_p": 0.7, "top_k": 50}
    answering.new_tokens(asked, Counts(config["vocab_size"]), [str(length)] * settings.batch_size, **options)
    of_token = 2 * config["num_hidden_layers"] * config["num_key_value_heads"] * config["head_dim"]  # keys and values
    rest = settings.batch_size * settings.max_new_tokens / 2 * of_token * asked.dtype.itemsize
    return {
        "length": length,
        "read_per_second": settings.batch_size * length / (times[1] - times[0]),
        "token": (times[-1] - times[1]) / NEW_TOKENS,
        "peak_gb": peak() + rest / 1e9,
    }


def measure(part: str) -> dict:
    """Return what a part measures, in a process of its own, so that its peak of memory is its own."""
    environment = os.environ | {"PYTHONPATH": str(files.ROOT), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "benchmarks.small_estimate", part]
    done = subprocess.run(command, env=environment, cwd=files.ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def computed(training_here: dict, answering_here: dict) -> list[list[str]]:
    """Return (what, arithmetic, hours of CPU time) for everything that takes hours, and the sum."""
    settings, asking = chosen()
    every = lengths()
    test = len(every) // TEST_SHARE
    train_tokens, test_tokens = (round(mean(cut(every, settings.cutoff)) * n) for n in (len(every) - test, test))
    passes = math.ceil(settings.epochs) + 1  # before training and after each epoch
    replies = min(test, asking.limit or test)
    batches = math.ceil(replies / asking.batch_size)
    trained = f"{settings.epochs:g} × {train_tokens:,} / {training_here['per_second']:.1f}"
    heldout = f"{passes} × {test_tokens:,} / {training_here['heldout_per_second']:.1f}"
    made = f"{batches} × {asking.max_new_tokens} × {answering_here['token']:.2f}"
    read = {
        kind: f"{replies} × {length:,} / {answering_here['read_per_second']:.1f}"
        for kind, length in prompt_tokens().items()
    }
    found = {
        "training (04): epochs × tokens / tokens per second": trained,
        "held-out losses (04): passes × tokens / tokens per second": heldout,
        "untuned answers (05): prompts × tokens / tokens per second + batches × new tokens × seconds": f"{read['short']} + {made}",
        "prompted answers (05)": f"{read['full']} + {made}",
        "tuned answers (05)": f"{read['short']} + {made}",
    }
    hours = [value(arithmetic) / 3600 for arithmetic in found.values()]
    rows = [[*both, f"{one:.2f}"] for both, one in zip(found.items(), hours, strict=True)]
    both_cores = sum(hours) / (os.cpu_count() or 1)
    return [*rows, ["sum", "", f"{sum(hours):.1f}"], [f"on {os.cpu_count()} cores", "", f"{both_cores:.1f}"]]


def value(arithmetic: str) -> float:
    """Return the value of a text such as "3 × 1,200 / 24.5 + 2"."""
    terms = [re.split(r" ([×/]) ", term.replace(",", "")) for term in arithmetic.split(" + ")]
    total = 0.0
    for first, *rest in terms:
        product = float(first)
        for sign, number in zip(rest[::2], rest[1::2], strict=True):
            product = product * float(number) if sign == "×" else product / float(number)
        total += product
    return total


def cut(every: list[tuple[int, int]], cutoff: int) -> list[int]:
    """Return the tokens that remain of each example."""
    return [sum(tokenized.truncated(*both, cutoff)) for both in every]


def measured(training_here: dict, answering_here: dict) -> list[list[str]]:
    """Return (what, value with its unit) as the page shows it."""
    settings, asking = chosen()
    examples = f"{training_here['examples']} examples of {training_here['tokens']:,} tokens together"
    prompted = f"{asking.batch_size} prompts of {answering_here['length']:,} tokens"
    return [
        [
            f"training, {settings.batch} at a time: {examples}",
            f"{training_here['per_second']:.1f} tokens per CPU second",
        ],
        ["their loss, as held-out ones", f"{training_here['heldout_per_second']:.1f} tokens per CPU second"],
        [f"peak memory, with an example of {training_here['longest']:,} tokens", f"{training_here['peak_gb']:.1f} GB"],
        [f"reading {prompted} at a time", f"{answering_here['read_per_second']:.1f} tokens per CPU second"],
        ["one more token for each of them", f"{answering_here['token']:.2f} CPU seconds"],
        ["peak memory, half of a reply's keys and values added", f"{answering_here['peak_gb']:.1f} GB"],
    ]


def assumed() -> list[str]:
    """Return what the arithmetic takes for granted, a sentence each."""
    _, asking = chosen()
    return [
        f"{CHARACTERS} characters per token: the 324 training replies in Qwen's vocabulary (`qwen.tiktoken` of PyPI's "
        "dashscope 2.0.2), whose merges Qwen3 has kept; prompts alike",
        f"every batch of replies goes on to the limit of {asking.max_new_tokens} tokens; replies as long as the sample's "
        "(379 tokens on average, 483 at most) take less",
        "several cores share the work evenly. Making tokens one by one waits for memory and gains less: count up to "
        "twice the hours for answers",
    ]


def main() -> None:
    """Measure both parts, each in a process of its own, and write the result and its page."""
    settings, _ = chosen()
    training_here, answering_here = measure("train"), measure("answer")
    with torch.device("meta"):
        weights = sum(weight.numel() for weight in model(settings).parameters())
    result = {
        "date": str(datetime.date.today()),
        "machine": page.machine(),
        "model": settings.model.partition("@")[0],
        "weights": weights,
        "precision": settings.precision,
        "training": training_here,
        "answering": answering_here,
        "measured": measured(training_here, answering_here),
        "computed": computed(training_here, answering_here),
        "assumed": assumed(),
    }
    files.write_json(page.SMALL, result)
    page.write()


if __name__ == "__main__":
    if sys.argv[1:]:
        print(json.dumps({"train": train, "answer": answer}[sys.argv[1]]()))
    else:
        main()
