"""Reading PsyQA's file: ours, a record at a time, beside json and pandas, all at once."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.table import Row

RECORDS = 22_341  # of the full file; the paper used 22,327
PROGRAM = """
import resource, sys, time
path = sys.argv[1]
{before}
start = time.monotonic()
{work}
print(number, time.monotonic() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
OURS = ("from cbtllm_utils import questions", "number = len(questions.read(path)[0])")
PANDAS = ("import json, pandas", "number = len(pandas.DataFrame(json.load(open(path, encoding='utf-8'))))")


def like_psyqa(path: Path) -> None:
    """A file of PsyQA's shape and size, made of the bundled posts: about 110 MB."""
    from cbtllm_utils import files

    sample = files.read_json("data/sample/psyqa_sample.json")
    with path.open("w", encoding="utf-8") as file:
        file.write("[")
        for place in range(RECORDS):
            record = sample[place % len(sample)]
            texts = [answer["answer_text"] for answer in record["answers"]]
            answers = [{"answer_text": text, "has_label": False, "labels_sequence": None} for text in texts * 9]
            line = json.dumps(record | {"questionID": place, "answers": answers}, ensure_ascii=False)
            file.write((",\n" if place else "") + line)
        file.write("]")


def measured(program: tuple[str, str], path: Path) -> tuple[float, float]:
    """Seconds and peak memory in MiB of a program that reads the file, in a process of its own."""
    source = PROGRAM.format(before=program[0], work=program[1])
    done = subprocess.run([sys.executable, "-c", source, str(path)], capture_output=True, text=True, check=True)
    number, seconds, memory = done.stdout.split()
    assert int(number) == RECORDS
    return float(seconds), float(memory)


def rows() -> Iterator[Row]:
    """Time and memory."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "psyqa.json"
        like_psyqa(path)
        ours, theirs = (measured(program, path) for program in (OURS, PANDAS))
        size = path.stat().st_size / 1e6
    name = f"PsyQA's shape, {RECORDS:,} records, {size:.0f} MB"
    yield Row(name, ours[0], "json.load + pandas", theirs[0], "< 5 s", ours[0] < 5)
    yield Row("… peak memory, MiB", ours[1], "json.load + pandas", theirs[1])
