"""Where a file is made before it takes its place: a folder of its own, gone at the end or at the next try."""

import contextlib
import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def beside(final: Path) -> Iterator[Path]:
    """A folder beside `final`, on its disk, for as long as the block lasts; others that a kill left there are gone.

    Who works in such a folder holds a lock on it, which dies with the process: an unlocked one is nobody's. Where a
    disk knows no locks, what was left stays.
    """
    sweep(final)
    folder, lock = locked(final)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def locked(final: Path) -> tuple[Path, int]:
    """A new folder and the lock on it."""
    while True:
        try:
            folder = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(final)) from None  # the temporary name says nothing
        lock = os.open(folder, os.O_RDONLY)
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder, lock
        os.close(lock)  # swept away between being made and being locked


def sweep(final: Path) -> None:
    """Nothing, after the folders of killed processes beside `final` are gone."""
    for left in final.parent.glob(f".{glob.escape(final.name)}-" + "[a-z0-9_]" * 8):
        with contextlib.suppress(OSError):
            lock = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left)
            finally:
                os.close(lock)
