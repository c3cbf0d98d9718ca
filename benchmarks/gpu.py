"""Check a GPU in a few minutes, without a download: python -m benchmarks.gpu

Random weights in the shape of Qwen3-0.6B, with its vocabulary, are trained and asked as notebooks 04 and 05 do it: in
fp16 with a loss scaler, in bf16, and with frozen weights in 4 bits. Each row holds the memory that `finetune/memory.py`
estimates beside what was taken, and tokens per second. The last row asks for more prompts at a time than fit, and
halves their number until they do. `--device cpu` runs the same on a CPU with a tiny model, to check this script.
"""

import argparse
import gc
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch
import transformers
from datasets import Dataset

from benchmarks.page import machine
from benchmarks.small_estimate import SHAPES as MODELS
from cbtllm_utils import files
from cbtllm_utils.finetune import adapters, memory, training
from cbtllm_utils.finetune import examples as tokenized
from cbtllm_utils.finetune.settings import TrainingSettings
from cbtllm_utils.generate import answering
from cbtllm_utils.models import devices
from cbtllm_utils.plots import tables

SHAPES = {  # by device
    "cuda": MODELS["Qwen/Qwen3-0.6B"],
    "cpu": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": 2000,
        "tie_word_embeddings": True,
    },
}
SCALES = {  # by device: examples, tokens of a prompt and of a reply, prompts at a time, new tokens of an answer
    "cuda": (128, 250, 400, 32, 128),
    "cpu": (8, 20, 30, 4, 8),
}
CASES = (("fp16", None), ("bf16", None), ("bf16", "nf4"), ("fp32", None))
COLUMNS = ["case", "loss", "trained, tokens/s", "estimated, GB", "taken, GB", "answered, tokens/s", "note"]


def write(folder: Path, device: str) -> None:
    """Write a model with random weights, and a tokenizer with a token for each word w0, w1, …"""
    from tokenizers import Tokenizer, models, pre_tokenizers

    transformers.set_seed(0)
    config = transformers.Qwen3Config(**SHAPES[device], bos_token_id=None, eos_token_id=0)
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(config)
    model.to("cpu", torch.bfloat16).save_pretrained(folder)
    words = {"<end>": 0} | {f"w{number}": number for number in range(1, config.vocab_size)}
    backend = Tokenizer(models.WordLevel(words, unk_token="<end>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<end>", pad_token="<end>", clean_up_tokenization_spaces=False
    ).save_pretrained(folder)


def examples(device: str) -> Dataset:
    """Return random prompts of nearly the same length, all with one and the same reply, which can be learned."""
    number, asked, said, *_ = SCALES[device]
    draw = random.Random(0)
    reply = [draw.randrange(1, SHAPES[device]["vocab_size"]) for _ in range(said)]
    rows = []
    for place in range(number):
        prompt = [draw.randrange(1, SHAPES[device]["vocab_size"]) for _ in range(asked - place % 8)]
        rows.append({"input_ids": prompt + reply, "labels": [tokenized.IGNORED] * len(prompt) + reply})
    return tokenized.dataset(rows)


def case(run: Path, device: str, precision: str, quantization: str | None) -> dict[str, object]:
    """Train and ask in one precision; return the row, which says what failed where something did."""
    name = f"{precision}, {quantization} weights" if quantization else precision
    try:
        devices.check_quantization(quantization)
        devices.precision(precision)
        return {"case": name} | measured(run, device, precision, quantization)
    except (files.InputError, RuntimeError) as error:
        return {"case": name, "note": f"not measured: {files.one_line(error)[:150]}"}


def measured(run: Path, device: str, precision: str, quantization: str | None) -> dict[str, object]:
    """Return what training and answering took."""
    _, asked, said, at_a_time, new = SCALES[device]
    settings = TrainingSettings(
        model="model",
        run=str(run),
        rank=16,
        targets="all-linear",
        learning_rate=1e-3,
        epochs=1,
        batch=4,
        accumulation=1,
        precision=precision,
        quantization=quantization,
        gradient_checkpointing=False,
        logging_steps=1,
    )
    model = adapters.fresh(adapters.backbone("model", [], run, precision, quantization), settings)
    size = memory.size(model)
    estimated = memory.estimate(size, settings, asked + said, said + 1, device)["GB"].iloc[-1]
    folder = run / f"{precision}-{quantization}"
    log = training.train(model, examples(device), examples(device).select([]), settings, folder)
    losses = [row["loss"] for row in log if "loss" in row]
    cost = next(row for row in training.state(folder)["log_history"] if "seconds" in row)
    prompts = [" ".join(f"w{1 + (place + i) % 1000}" for i in range(asked)) for place in range(at_a_time)]
    tokenizer = adapters.tokenizer("model", [], run)
    model = model.eval()
    start = time.monotonic()
    replies = answering.generate(model, tokenizer, prompts, max_new_tokens=new, batch_size=at_a_time)
    seconds = time.monotonic() - start
    scaler = next(folder.glob("checkpoint-*/scaler.pt"), None)
    return {
        "loss": f"{losses[0]:.2f} → {losses[-1]:.2f}",
        "trained, tokens/s": round(cost["tokens_per_second"]),
        "estimated, GB": round(estimated, 2),
        "taken, GB": round(cost["peak_memory_gb"], 2) if device == "cuda" else None,  # of a CPU: of the whole process
        "answered, tokens/s": round(sum(reply["tokens"] for reply in replies) / seconds),
        "note": f"loss scale {torch.load(scaler, weights_only=True)['scale']:g}" if scaler else "",
    }


def halved(run: Path, device: str) -> dict[str, object]:
    """Ask with too many prompts at a time for a part of the memory, halve their number until they fit.

    The package does not halve by itself: the number decides how 16 bits round, and is part of what a reply is known by.
    It says on one line what to lower.
    """
    row = {"case": "too many prompts at a time"}
    if device != "cuda":
        return row | {"note": "not measured: main memory has no limit that torch would report"}
    model, tokenizer = adapters.load("model", [], run, "fp16")
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_allocated() + 4e9) / total))
    prompts = [" ".join(f"w{1 + (place + i) % 1000}" for i in range(200)) for place in range(1024)]
    sizes, said = [1024], ""
    try:
        while sizes[-1]:
            try:
                answering.generate(model, tokenizer, prompts[: sizes[-1]], max_new_tokens=16, batch_size=sizes[-1])
                break
            except files.InputError as error:
                said = str(error)
                torch.cuda.empty_cache()
                sizes.append(sizes[-1] // 2)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    return row | {"note": f"{' → '.join(map(str, sizes))} of 1,024 in 4 GB; “{said}”"}


def rows(device: str, seconds: float) -> Iterator[dict[str, object]]:
    """Yield the rows of the table; none begins once so many seconds have passed."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as run:
        write(Path(run) / "model", device)
        for check in (
            *(lambda one=one: case(Path(run), device, *one) for one in CASES),
            lambda: halved(Path(run), device),
        ):
            if time.monotonic() - start < seconds:
                yield check()
            gc.collect()
            if device == "cuda":
                torch.cuda.empty_cache()


def main(argv: list[str] | None = None) -> int:
    """Print the table and write it as JSON; return 0, or 1 with one line where there is no such device."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="Check a GPU in a few minutes.")
    parser.add_argument("--device", choices=list(SHAPES), default="cuda", help="cpu checks this script (cuda)")
    parser.add_argument("--seconds", type=float, default=360, help="after so many no further check begins (360)")
    parser.add_argument("--out", default="runs/gpu.json", help="where the rows are written as JSON (runs/gpu.json)")
    given = parser.parse_args(argv)
    if given.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    here = devices.gpu_problem() or ("" if torch.cuda.is_available() else "no NVIDIA GPU is visible to torch")
    if given.device == "cuda" and here:
        print(f"error: {here}; --device cpu checks this script alone", file=sys.stderr)
        return 1
    name = torch.cuda.get_device_name() if given.device == "cuda" else "a CPU, with a tiny model"
    found = list(rows(given.device, given.seconds))
    shown = [{column: "–" if row.get(column) is None else str(row[column]) for column in COLUMNS} for row in found]
    print(tables.markdown(pd.DataFrame(shown)))
    print(f"{name}; torch {torch.__version__}; {machine()}")
    files.write_json(given.out, {"device": name, "torch": torch.__version__, "machine": machine(), "rows": found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
