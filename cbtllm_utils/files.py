"""Paths, and files that are either whole or not there."""

import contextlib
import errno
import fcntl
import glob
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
TINY = "backbones/"  # where notebook 00 puts the demo's tiny models, below the run


class InputError(ValueError):
    """Something that a user gave cannot be used; the message says what, where and what to do, on one line."""


def path(name: str | Path) -> Path:
    """Return an absolute path; relative names are below the repository, wherever the notebook was started."""
    return ROOT / Path(name).expanduser()


def shown(name: str | Path) -> str:
    """Return a path to print: relative to the repository, or its last part alone outside, so that no folder of a
    user appears in an output."""
    full = path(name)
    return full.relative_to(ROOT).as_posix() if full.is_relative_to(ROOT) else full.name


def public(name: str) -> str:
    """Return a name as others may see it: a path outside the repository as its last part, a URL without a password."""
    kind, replay, rest = name.rpartition("replay:")
    if rest.startswith(("/", "~/", "../", "./")) or "/../" in rest:
        rest = shown(path(rest).resolve())
    return kind + replay + re.sub(r"(https?://)[^/@\s]+@", r"\1", rest)


@contextlib.contextmanager
def atomic(name: str | Path) -> Iterator[Path]:
    """Yield a temporary path that becomes `name` when the block ends well and vanishes when it does not.

    The block may make a file or a folder. A reader never sees half of either. What a killed process leaves behind is
    removed by the next one that makes the same.
    """
    final = path(name)
    final.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(final) as folder:
        made = folder / final.name
        yield made
        if not made.exists():
            raise FileNotFoundError(f"{shown(final)}: nothing was made to take its place")
        allow_reading(made)
        if final.is_dir() and not final.is_symlink():
            final.rename(folder / "replaced")  # a folder cannot be renamed over a full one
            try:
                made.rename(final)
            except OSError:
                (folder / "replaced").rename(final)
                raise
        else:
            made.replace(final)


@contextlib.contextmanager
def temporary_folder(final: Path) -> Iterator[Path]:
    """Yield a folder beside `final`, on the same disk, that is removed at the end.

    A process holds a lock on its folder, which ends with the process: unlocked folders are left over from killed
    processes and are removed first. On a disk without locks they stay.
    """
    remove_unlocked(final)
    folder, lock = make_locked(final)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def make_locked(final: Path) -> tuple[Path, int]:
    """Return a new folder beside `final` and the file descriptor that holds the lock on it."""
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
        os.close(lock)  # another process removed it between making and locking


def remove_unlocked(final: Path) -> None:
    """Remove the temporary folders of killed processes beside `final`."""
    for left in final.parent.glob(f".{glob.escape(final.name)}-" + "[a-z0-9_]" * 8):
        with contextlib.suppress(OSError):
            lock = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left)
            finally:
                os.close(lock)


def allow_reading(made: Path) -> None:
    """Give files that only their owner may read the usual mode: safetensors writes 0600, whatever the umask says."""
    every = [place for place in made.rglob("*") if place.is_file()] if made.is_dir() else [made]
    if private := [place for place in every if not place.stat().st_mode & 0o077]:
        usual = made.with_name(f"{made.name}.usual")
        usual.touch()
        for place in private:
            place.chmod(usual.stat().st_mode)


def write_text(name: str | Path, text: str) -> Path:
    """Write a text as UTF-8 and return its path.

    Half of a surrogate pair, which UTF-8 cannot hold, is written as \\ud83d, which JSON reads as the same half.
    """
    with atomic(name) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
    return path(name)


def write_json(name: str | Path, value: object) -> Path:
    """Write a value as indented JSON and return the path."""
    return write_text(name, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def read_text(name: str | Path, advice: str = "") -> str:
    """Return the text of a file in UTF-8; InputError for another one, and with `advice` for a missing one."""
    try:
        return path(name).read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"{shown(name)}: no such file{advice and '; '}{advice}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{shown(name)}: not UTF-8 at byte {error.start}; convert or restore the file") from None


def read_json(name: str | Path) -> object:
    """Return the value in a JSON file; InputError with the position where the file breaks."""
    text = read_text(name)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{shown(name)}: not JSON ({error}); restore the file or remove it and make it again"
        ) from None


def write_jsonl(name: str | Path, rows: Iterable[dict]) -> Path:
    """Write one JSON object per line and return the path."""
    return write_text(name, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_jsonl(name: str | Path) -> list[dict]:
    """Return the objects of a JSON Lines file; InputError with the number of the first line that is not one."""
    lines = read_text(name, "run the notebook that writes it first").split("\n")  # splitlines would cut at U+2028
    rows = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                raise InputError(f"{shown(name)}, line {number}: not JSON ({error})") from None
            if not isinstance(rows[-1], dict):
                raise InputError(f"{shown(name)}, line {number}: a {type(rows[-1]).__name__}, expected an object")
    return rows


def read_csv(name: str | Path, **options: object) -> "pd.DataFrame":
    """Return the table in a user's CSV; `options` are pandas'. InputError for a file that is not a CSV."""
    import pandas as pd

    try:
        return pd.read_csv(path(name), compression=None, **options)  # a packed file may unpack to any size
    except ValueError as error:  # not UTF-8, empty, lines of other lengths
        raise InputError(f"{shown(name)}: not a CSV in UTF-8 ({one_line(error)})") from None


def explain(error: OSError) -> str:
    """Return what went wrong with a file, where, and what to do, on one line, without a user's folders."""
    where = f"{shown(error.filename)}: " if error.filename else ""
    advice = {
        errno.ENOSPC: "; free some space and run again, what was finished is kept",
        **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "; make it writable, or name another `run`"),
    }
    return f"{where}{error.strerror or error}{advice.get(error.errno, '')}"


def one_line(text: object) -> str:
    """Return a text on one line that is safe on a terminal: white space as blanks, control characters as �."""
    return "".join(c if c.isprintable() else "�" for c in " ".join(str(text).split()))


def local_or_hub(name: str, run: str | Path) -> str:
    """Return the folder of a model, from the run, the repository, anywhere else, or the hub's local cache.

    Args:
        name: `backbones/qwen-7b` is what notebook 00 made in this run, `data/weights/llama-7b` is the user's, and
            `Qwen/Qwen-7B` is a hub id.
        run: The run's folder.

    Raises:
        InputError: When there is no such folder; nothing is downloaded here.
    """
    for candidate in (path(run) / name, path(name)):
        if candidate.is_dir():
            return str(candidate)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return snapshot_download(name, local_files_only=True)
    except (HFValidationError, LocalEntryNotFoundError, OSError):
        advice = f"`hf download {name}` fetches it" if name.count("/") == 1 else "check the path"
        raise InputError(f"model {name!r}: neither a directory nor in the hub's local cache; {advice}") from None


def is_tiny(name: str) -> bool:
    """Return whether a model's name is that of one of the demo's tiny models."""
    return name.startswith(TINY)


def environment(name: str) -> str | None:
    """Return an environment variable's value, or None when it is unset or blank."""
    return os.environ.get(name, "").strip() or None
