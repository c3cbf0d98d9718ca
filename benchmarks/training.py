"""LoRA training compared with LLaMA-Factory, the paper's tool, on the same token ids and the same weights.

LLaMA-Factory is installed once into an environment of its own, `.bench/llama-factory` (2 GB). Each side trains in a
process of its own, on one thread; compared are the CPU seconds of the training, which other work on the machine
disturbs least, and the peak memory of the process.
"""

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import transformers
from datasets import Dataset, DatasetDict, load_from_disk

from benchmarks.table import Row
from cbtllm_utils import files
from cbtllm_utils.finetune import adapters, training
from cbtllm_utils.finetune import examples as tokenized
from cbtllm_utils.finetune.settings import TrainingSettings
from cbtllm_utils.models import prompt_forms

VERSION = "0.9.5"
ENVIRONMENT = files.ROOT / ".bench/llama-factory"
EXAMPLES, VOCABULARY = 240, 4000
CHARACTERS = 1.3  # per token: what a tokenizer of so many tokens makes of the sample
ROUNDS = 2  # of all sides in turn; the least of each counts
SETTINGS = TrainingSettings(
    rank=16,
    dropout=0.0,
    targets="all-linear",
    learning_rate=1e-2,
    epochs=1,
    batch=4,
    accumulation=1,
    precision="fp32",
    gradient_checkpointing=False,
    logging_steps=5,
)


def examples() -> Dataset:
    """Return random tokens of the lengths that the sample's prompts and replies have."""
    posts = {post["questionID"]: post for post in files.read_json("data/sample/psyqa_sample.json")}
    draw, found = random.Random(0), []
    for row in files.read_jsonl("data/sample/recorded_replies.jsonl")[:EXAMPLES]:
        prompt = prompt_forms.prompt(posts[row["questionID"]], "card")
        reply = "".join(text for _, text in row["sections"])
        asked, said = (round(len(text) / CHARACTERS) for text in (prompt, reply))
        ids = [draw.randrange(4, VOCABULARY) for _ in range(asked + said)]
        found.append({"input_ids": ids, "labels": [tokenized.IGNORED] * asked + ids[asked:]})
    return tokenized.dataset(found)


def prepare(folder: Path) -> int:
    """Write a LLaMA as wide as the demo's and twice as deep, and the examples for both sides; return their tokens."""
    torch.manual_seed(0)
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 128, "intermediate_size": 344, "num_hidden_layers": 4}
    config = transformers.LlamaConfig(num_attention_heads=4, bos_token_id=1, eos_token_id=2, pad_token_id=0, **sizes)
    transformers.LlamaForCausalLM(config).save_pretrained(folder / "model")
    words = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3} | {f"w{i}": i for i in range(4, VOCABULARY)}
    from tokenizers import Tokenizer, models

    transformers.PreTrainedTokenizerFast(  # LLaMA-Factory reads a tokenizer, though nothing is left to tokenize.
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="<unk>")),
        **{"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
    ).save_pretrained(folder / "model")
    rows = examples()
    rows.save_to_disk(folder / "ours")
    theirs = rows.select_columns(["input_ids", "labels"])
    theirs = theirs.map(lambda row: {"attention_mask": [1] * len(row["input_ids"])}, keep_in_memory=True)
    DatasetDict({"train": theirs}).save_to_disk(folder / "theirs")
    return sum(rows["length"])


def install() -> Path:
    """Return the Python of LLaMA-Factory's environment, made when it is missing."""
    python = ENVIRONMENT / "bin/python"
    if not (ENVIRONMENT / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", ENVIRONMENT], check=True)
        torch_here = torch.__version__.partition("+")[0]
        packages = [f"llamafactory=={VERSION}", f"torch=={torch_here}"]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        # Built for GPUs, they do not load beside torch's CPU build; text needs neither.
        subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "--yes", "torchvision", "torchaudio"], check=True)
        (ENVIRONMENT / "complete").touch()
    return python


def ours(folder: Path) -> dict:
    """Train as notebook 04 does."""
    model = adapters.fresh(transformers.LlamaForCausalLM.from_pretrained(folder / "model"), SETTINGS)
    rows = load_from_disk(folder / "ours")
    start = time.process_time()
    with tempfile.TemporaryDirectory() as work:
        log = training.train_here(model, rows, rows.select([]), SETTINGS, Path(work))
    losses = [row["loss"] for row in log]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"cpu": time.process_time() - start, "peak": peak, "loss": sum(losses) / len(losses)}


def measure(command: list, folder: Path) -> dict:
    """Run one side in a process of its own and return what it prints: CPU seconds, MiB at most, mean loss."""
    alone = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(files.ROOT)}
    done = subprocess.run(command, env=os.environ | alone, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"error: {command[1:]}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def rows() -> Iterator[Row]:
    """Measure: ours, LLaMA-Factory with length grouping, LLaMA-Factory as it comes."""
    python, other = install(), files.ROOT / "benchmarks/llama_factory.py"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokens = prepare(folder)
        sides = {
            "ours": [sys.executable, "-m", "benchmarks.training", str(folder)],
            "grouped": [python, other, str(folder), "group_by_length"],
            "as it comes": [python, other, str(folder), "random"],
        }
        runs = [{side: measure(command, folder) for side, command in sides.items()} for _ in range(ROUNDS)]
    best = {side: {key: min(run[side][key] for run in runs) for key in ("cpu", "peak")} for side in sides}
    losses = {side: runs[0][side]["loss"] for side in sides}
    if max(losses.values()) - min(losses.values()) > 0.05:
        sys.exit(f"error: the sides do not train the same: mean losses {losses}")
    mine = best["ours"]["cpu"]
    what = f"LoRA on {EXAMPLES} examples, {tokens:,} tokens ({tokens / mine:,.0f} per CPU second), batches of 4"
    for side, least in (("grouped", 1.2), ("as it comes", 1.2)):
        theirs = best[side]["cpu"]
        against = f"LLaMA-Factory {VERSION}, {'length grouping' if side == 'grouped' else 'as it comes'}"
        yield Row(what, mine, against, theirs, f"≥ {least} × its tokens per CPU second", theirs >= least * mine)
        what = "… the same"
    peak, theirs = best["ours"]["peak"], best["grouped"]["peak"]
    yield Row("… peak memory, MiB", peak, f"LLaMA-Factory {VERSION}, length grouping", theirs, "≤ its", peak <= theirs)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(ours(Path(sys.argv[1]))))
