"""Generation with the demo's tiny models: rows that take the next prompt beside single prompts and unsorted batches."""

import time
from collections.abc import Callable, Iterator
from statistics import median

from benchmarks.table import Row
from cbtllm_utils import files
from cbtllm_utils.finetune import adapters
from cbtllm_utils.generate import answering, batching, sampling
from cbtllm_utils.models import prompt_forms

RUN, BACKBONE, BATCH, REPEATS = "runs/demo", "baichuan-7b", 12, 3
CHOICE = {"temperature": 0.95, "top_p": 0.7, "top_k": 50}


def loaded() -> tuple:
    """The tuned demo model and its tokenizer. InputError where the demo has not run."""
    base, tokenizer = adapters.load(f"backbones/{BACKBONE}", [], RUN, "fp32")
    return adapters.attach(base, f"{RUN}/adapters/{BACKBONE}"), tokenizer


def timed(work: Callable) -> tuple[float, list]:
    """Seconds of the processor on one thread, which others' work disturbs least, and what came out, by place."""
    start = time.process_time()
    found = dict(work())
    return time.process_time() - start, [found[i] for i in range(len(found))]


def rows() -> Iterator[Row]:
    """The same prompts, the same replies, in four ways in turn; medians. The other side is transformers' `generate`,
    which draws by our numbers so that its replies are the same."""
    import torch

    torch.set_num_threads(1)
    model, tokenizer = loaded()
    prompts = [prompt_forms.prompt(row, "card") for row in files.read_jsonl(f"{RUN}/cbt_qa/test.jsonl")]
    asked = [batching.Asked(tokenizer.encode(p), sampling.numbers(p, 512, 42)) for p in prompts]
    given, order = (*answering.ends(tokenizer),), list(range(len(asked)))
    ways = {
        "ours": lambda: batching.written(model, asked, BATCH, *given, **CHOICE),
        "larger": lambda: batching.written(model, asked, 3 * BATCH, *given, **CHOICE),
        "single": lambda: batching.in_turn(model, asked, order, 1, *given, **CHOICE),
        "unsorted": lambda: batching.in_turn(model, asked, order, BATCH, *given, **CHOICE),
    }
    for way in ways.values():
        next(iter(way()))  # what is slow the first time
    found = [{name: timed(way) for name, way in ways.items()} for _ in range(REPEATS)]
    took = {name: median(each[name][0] for each in found) for name in ways}
    replies = [
        [answering.finished(tokenizer, tokens) for tokens in tried[1]] for each in found for tried in each.values()
    ]
    same = sum(len({str(reply) for reply in versions}) == 1 for versions in zip(*replies, strict=True))
    all_same = same == len(prompts)
    name = f"{len(prompts)} replies of {BACKBONE}'s tiny stand-in, {BATCH} at a time ({same} the same in all ways)"
    for label, own, other, against, factor in (
        (name, "ours", "single", "one by one", 4),
        (f"… {3 * BATCH} at a time", "larger", "single", "one by one", 4),
        ("… a row goes on with the next prompt", "ours", "unsorted", "batches as the file has them", 1.3),
    ):
        met = all_same and took[other] >= factor * took[own]
        yield Row(label, took[own], against, took[other], f"≥ {factor} x", met)
