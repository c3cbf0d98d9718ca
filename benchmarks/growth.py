"""How time and memory grow from the bundled sample's size to sixty times as much, about the paper's, step by step."""

import functools
import json
import math
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.table import Row
from cbtllm_utils import files

ITEMS, TIMES, WARM = 360, 60, 30
WORST = 1.2  # the exponent that a step may have: 60 times the items in 136 times the time
PROGRAM = "from benchmarks import growth; growth.report({name!r}, {items})"
Work = Callable[[], object]


def posts(number: int) -> list[dict]:
    """Posts put together from sentences of the bundled ones, hardly two of them near duplicates, and their replies."""
    draw = random.Random(1)
    sample = files.read_json("data/sample/psyqa_sample.json")
    said = [s for row in sample for s in re.findall(r"[^。？！]+[。？！]", row["question"] + row["description"])]
    recorded = files.read_jsonl("data/sample/recorded_replies.jsonl")

    def one(place: int) -> dict:
        rows = draw.choices(recorded, k=5)
        reply = [row["sections"][i % len(row["sections"])] for i, row in enumerate(rows)]
        texts = {"question": draw.choice(sample)["question"], "description": "".join(draw.choices(said, k=6))}
        return {"questionID": place, **texts, "answers": [{"answer_text": "抱抱"}], "sections": reply}

    return [one(place) for place in range(number)]


def replies(number: int) -> list[str]:
    """The replies alone."""
    return ["".join(text for _, text in row["sections"]) for row in posts(number)]


def items(number: int) -> list[dict]:
    """Items as notebook 02 makes them; every tenth is for test."""
    more = {"topic": "t", "risk": False, "advice": False, "model": "m", "prompt": "0", "near_duplicate_of": None}
    own = [{name: row[name] for name in ("questionID", "question", "description")} for row in posts(number)]
    told = [{"reply": text, "split": "train" if i % 10 else "test"} for i, text in enumerate(replies(number))]
    return [one | other | more for one, other in zip(own, told, strict=True)]


def reading(number: int, folder: Path) -> Work:
    """Questions of a file."""
    from cbtllm_utils.data import psyqa

    files.write_json(folder / "posts.json", posts(number))
    return lambda: psyqa.read(folder / "posts.json")


def splitting(number: int, folder: Path) -> Work:
    """Near duplicates, then the split."""
    from cbtllm_utils.data import splits

    texts = [f"{row['question']}\n{row['description']}" for row in posts(number)]
    return lambda: splits.assign(range(number), texts)


def generating(number: int, folder: Path) -> Work:
    """Every post asked of a recording, journalled, checked."""
    from cbtllm_utils.cbt_qa import dataset
    from cbtllm_utils.data import prompts, psyqa
    from cbtllm_utils.llm import client
    from cbtllm_utils.text import reply_checks

    files.write_json(folder / "psyqa_sample.json", posts(number))
    files.write_jsonl(folder / "replies.jsonl", posts(number))
    found, prompt = psyqa.read(folder / "psyqa_sample.json")[0], prompts.read("params/prompts/cbt_prompt.zh.md")
    to = {"endpoint": f"replay:{folder / 'replies.jsonl'}", "cache_path": folder / "journal.jsonl"}
    options = {"model": "m", "sampling": {}, "rules": reply_checks.Rules(min_parts=0), "max_attempts": 1}
    return lambda: dataset.generate(found, prompt, functools.partial(client.complete, **to), **options)


def distorting(number: int, folder: Path) -> Work:
    """Distortions in both modes."""
    from cbtllm_utils.text import distortions

    texts = replies(number)
    return lambda: [distortions.table(texts, mode) for mode in ("named", "attributed")]


def segmenting(number: int, folder: Path) -> Work:
    """The five components of each reply."""
    from cbtllm_utils.text import sections

    texts = replies(number)
    return lambda: [sections.structure(text) for text in texts]


def exporting(number: int, folder: Path) -> Work:
    """Every form of the data set."""
    from cbtllm_utils.cbt_qa import exports

    rows = items(number)
    made = (exports.write_rows, exports.llama_factory, exports.dataset)
    return lambda: [f(rows, folder / f.__name__) for f in made] + [exports.release(rows, folder / "release.jsonl")]


def encoding(number: int, folder: Path) -> Work:
    """Training examples, by a tokenizer of Baichuan's kind."""
    from cbtllm_utils.demo import formats, vocabularies
    from cbtllm_utils.models import prompt_forms, tokenizers

    model = vocabularies.pieces(replies(ITEMS), 4000, 0.9995, prefix_space=False)
    formats.write_pieces(folder / "baichuan-7b", model, begin=False)
    files.write_json(folder / "baichuan-7b" / "config.json", {"model_type": "baichuan"})
    tokenizer, rows = tokenizers.load_tokenizer(folder / "baichuan-7b"), items(number)
    return lambda: prompt_forms.encode(rows, tokenizer, "card", 1024)


def scoring(number: int, folder: Path) -> Work:
    """BLEU, METEOR and chrF of a tenth: the test items."""
    from cbtllm_utils.evaluate import metrics

    texts, scorers = replies(number)[::10], metrics.load()
    return lambda: metrics.evaluate(scorers, texts[1:], texts[:-1])


def resampling(number: int, folder: Path) -> Work:
    """2,000 resamples of a tenth's counts."""
    from cbtllm_utils.evaluate import metrics

    texts, scorers = (replies(ITEMS)[::10] * TIMES)[: number // 10], metrics.load()
    found = metrics.evaluate(scorers, texts[1:], texts[:-1])
    return lambda: metrics.intervals(found, metrics.draws(found, 2000, 42))


def rating(number: int, folder: Path) -> Work:
    """A rater's forms of two systems' replies to a tenth."""
    from cbtllm_utils.human import blinding, forms

    rows = items(number)[::10]
    answers = [{"system": s, "questionID": row["questionID"], "reply": row["reply"] + s} for row in rows for s in "ab"]
    return lambda: forms.write(
        blinding.sheets(blinding.sample(rows, answers, ["a", "b"], len(rows), 1), 1, 0, 1)[0], folder / "f"
    )


def tabling(number: int, folder: Path) -> Work:
    """A table with a line an item, in its three forms and shown."""
    import pandas as pd

    from cbtllm_utils.plots import tables

    table = pd.DataFrame(items(number))[["questionID", "question", "split"]].assign(score=0.5)
    return lambda: tables.save(table, folder, "items", "Items", "made up")._repr_html_()


STEPS = {
    "reading questions": reading,
    "near duplicates and split": splitting,
    "distortions, both modes": distorting,
    "sections": segmenting,
    "exports": exporting,
    "encoding examples": encoding,
    "rating forms of a tenth": rating,
    "a table of all items": tabling,
    "2,000 resamples of a tenth": resampling,
    "BLEU, METEOR, chrF of a tenth": scoring,
    "generation, replayed": generating,
}


def peak() -> float:
    """The most memory that this process had, in MiB; Linux counts in getrusage what its parent had before."""
    import resource  # not on Windows

    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def report(name: str, number: int) -> None:
    """Print seconds of the processor, and MiB at most, of one step with so many items."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as first:
        STEPS[name](WARM, Path(first))()  # what is slow the first time
        work = STEPS[name](number, Path(folder))
        start = time.process_time()
        work()
        seconds = time.process_time() - start
    print(json.dumps([seconds, peak()]))


def measured(name: str, number: int) -> tuple[float, float]:
    """Seconds and MiB of a step in a process of its own; of a short one the fastest of three."""
    program, found = PROGRAM.format(name=name, items=number), []
    while len(found) < (1 if number > ITEMS else 3):
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=files.ROOT
        )
        found.append(json.loads(done.stdout.splitlines()[-1]))
    return min(seconds for seconds, _ in found), min(memory for _, memory in found)


def rows() -> Iterator[Row]:
    """Each step at both sizes."""
    for name in STEPS:
        (short, small), (long, large) = measured(name, ITEMS), measured(name, ITEMS * TIMES)
        power = math.log(long / short) / math.log(TIMES)
        what = f"{name}: {ITEMS * TIMES:,} items (n^{power:.2f}; {small:,.0f} → {large:,.0f} MiB)"
        yield Row(what, long, f"{ITEMS} items", short, f"≤ n^{WORST}", power <= WORST)
