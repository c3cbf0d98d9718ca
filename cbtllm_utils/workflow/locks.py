"""Locks on a run's folder: two runs of one profile, or of one notebook, would write into each other's files.

`make reproduce` holds the run alone. Notebooks that are run by hand share it, each alone with its own step, so that two
GPUs can train two backbones; none of them runs beside `make reproduce`. A lock ends with the processes that hold it.
"""

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from cbtllm_utils import files


@contextlib.contextmanager
def whole_run(run: str) -> Iterator[None]:
    """Hold a run's folder alone. Processes that are started with the descriptors open hold it as well, so that steps
    which outlive a killed `make reproduce` keep a second one out."""
    with held(files.path(run) / ".lock", fcntl.LOCK_EX, f"{files.shown(run)}: another run of this profile") as lock:
        os.set_inheritable(lock, True)
        tidy(run)
        yield


@contextlib.contextmanager
def one_step(run: str, name: str) -> Iterator[None]:
    """Hold one step of a run, beside others that were started by hand."""
    folder, what = files.path(run), files.shown(run)
    with (
        held(folder / ".lock", fcntl.LOCK_SH, f"{what}: another run of this profile"),
        held(folder / f".{name}.lock", fcntl.LOCK_EX, f"{what}: another run of {name}"),
    ):
        tidy(run)
        yield


@contextlib.contextmanager
def held(place: Path, kind: int, who: str) -> Iterator[int]:
    """Hold a lock on a file and yield its descriptor; InputError where another process holds it.

    On a disk without file locks, such as some NFS, a warning is printed: nothing keeps two runs apart there.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = os.open(place, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(place.parent)) from None
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise files.InputError(f"{who} is running; wait for it or stop it") from None
    except OSError as error:
        why = f"this disk has no file locks ({error.strerror})"
        print(
            f"{files.shown(place.parent)}: {why}; do not start anything else in this folder meanwhile", file=sys.stderr
        )
    try:
        yield lock
    finally:
        os.close(lock)


@contextlib.contextmanager
def in_turn(place: Path) -> Iterator[None]:
    """Wait until no other process is within this block with the same file."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("a") as lock:
        with contextlib.suppress(OSError):  # a disk without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def tidy(run: str) -> None:
    """Put back what killed processes had moved aside in a run's folder, and remove what they had half made."""
    files.clear_leftovers(files.path(run).rglob(".*.tmp"))
