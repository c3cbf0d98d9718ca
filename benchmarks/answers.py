"""Generation with the demo's tiny models: batches sorted by length beside single prompts and unsorted batches."""

import time
from collections.abc import Callable, Iterator

from benchmarks.table import Row
from cbtllm_utils import adapters, answering, files, instructions

RUN, BACKBONE, BATCH = "runs/demo", "baichuan-7b", 12
DECODING = {"max_new_tokens": 512, "temperature": 0.95, "top_p": 0.7, "top_k": 50, "seed": 42}


def loaded() -> tuple:
    """The tuned demo model and its tokenizer. InputError where the demo has not run."""
    base, tokenizer = adapters.load(f"backbones/{BACKBONE}", [], RUN, "fp32")
    return adapters.attach(base, f"{RUN}/adapters/{BACKBONE}"), tokenizer


def timed(work: Callable) -> tuple[float, object]:
    """Seconds of the processor on one thread, which others' work disturbs least, and what came out."""
    start = time.process_time()
    found = work()
    return time.process_time() - start, found


def in_order(model: object, tokenizer: object, prompts: list[str], size: int) -> list[dict]:
    """Batches as the file has them."""
    parts = [prompts[start : start + size] for start in range(0, len(prompts), size)]
    return [reply for part in parts for reply in answering.batch(model, tokenizer, part, **DECODING)]


def rows() -> Iterator[Row]:
    """The same prompts, the same replies, three ways."""
    import torch

    torch.set_num_threads(1)
    model, tokenizer = loaded()
    test = files.read_jsonl(f"{RUN}/cbt_qa/test.jsonl")
    prompts = [instructions.prompt(row, "card") for row in test]
    in_order(model, tokenizer, prompts[:BATCH], BATCH)  # what is slow the first time
    ours, sorted_ones = timed(lambda: answering.generate(model, tokenizer, prompts, batch_size=BATCH, **DECODING))
    single, alone = timed(lambda: in_order(model, tokenizer, prompts, 1))
    unsorted, batched = timed(lambda: in_order(model, tokenizer, prompts, BATCH))
    same = sum(a == b == c for a, b, c in zip(sorted_ones, alone, batched, strict=True))
    larger, _ = timed(lambda: answering.generate(model, tokenizer, prompts, batch_size=3 * BATCH, **DECODING))
    name = (
        f"{len(prompts)} replies of {BACKBONE}'s tiny stand-in, batches of {BATCH} ({same} the same in all three ways)"
    )
    yield Row(name, ours, "one by one", single, "≥ 4 x", single >= 4 * ours)
    yield Row(f"… all {3 * BATCH} at a time", larger, "one by one", single, "≥ 4 x", single >= 4 * larger)
    yield Row("… sorted by length", ours, "batches as the file has them", unsorted, "≥ 1.3 x", unsorted >= 1.3 * ours)
