"""Generation shared by several processes, each with the model, a part of the prompts and, if it can, its own GPU."""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cbtllm_utils import files, response_cache
from cbtllm_utils.finetune import adapters
from cbtllm_utils.generate import answering, workers


def part(name: Path, number: int) -> Path:
    """Where process `number` keeps its replies until all are brought together."""
    return name.with_name(f"{name.name}.part{number}")


def gather(path: Path) -> None:
    """Nothing, after the replies of all parts stand in the journal at `path`, and the parts are gone."""
    known = response_cache.read(path)
    for place in sorted(path.parent.glob(f"{path.name}.part*")):
        with response_cache.appending(path) as file:
            for mark, entry in response_cache.read(place).items():
                if mark not in known:
                    response_cache.append(file, entry)
        place.unlink()


def share(
    load: Callable[[], tuple],
    adapter: str | None,
    rows: Sequence[Mapping],
    prompts: Sequence[str],
    system: str,
    path: Path,
    number: int,
    tick: Callable[[], None],
    **options: object,
) -> None:
    """Nothing, after the prompts were answered into a journal: what one process does."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(number % torch.cuda.device_count())
    model, tokenizer = load()
    model = adapters.attach(model, adapter) if adapter else model
    answering.answer(model, tokenizer, rows, prompts, system, path, tick=tick, **options)


def fill(
    load: Callable[[], tuple],
    adapter: str | None,
    rows: Sequence[Mapping],
    prompts: Sequence[str],
    system: str,
    path: str | Path,
    processes: int,
    **options: object,
) -> None:
    """Nothing, after so many processes have answered what the journal at `path` lacked: `answering.answer`, given the
    same, then finds every reply there and makes none.

    `load` gives model and tokenizer and can be pickled. A reply depends on its prompt and the seed alone, so that it
    does not matter who makes it, but for rounding in batches of other company. Every process gets prompts of all
    lengths. A run that was broken off goes on where each stopped.
    """
    place = files.path(path)
    gather(place)
    marks = answering.marks(system, prompts, **options)
    known = response_cache.read(place)
    missing = sorted((i for i, mark in enumerate(marks) if mark not in known), key=lambda i: -len(prompts[i]))
    jobs = {}
    for number in range(min(processes, len(missing))):
        own = missing[number::processes]
        given = ([rows[i] for i in own], [prompts[i] for i in own], system, part(place, number), number)
        jobs[f"{system} {number + 1}/{processes}"] = functools.partial(share, load, adapter, *given, **options)
    workers.run(jobs, total=len(missing), processes=processes)
    gather(place)
