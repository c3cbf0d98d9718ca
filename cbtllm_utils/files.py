"""Paths, and files that are either whole or not there."""

import contextlib
import errno
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cbtllm_utils import temporary_folder

if TYPE_CHECKING:
    import pandas as pd

ROOT = Path(__file__).resolve().parents[1]


class InputError(ValueError):
    """Something a user gave cannot be used. The message says what, where and what to do, on one line."""


def path(name: str | Path) -> Path:
    """An absolute path: relative names are below the repository, wherever the notebook was started."""
    return ROOT / Path(name).expanduser()


def shown(name: str | Path) -> str:
    """The name to print: relative to the repository where it lies there, so that no output holds a user's folders."""
    full = path(name)
    return full.relative_to(ROOT).as_posix() if full.is_relative_to(ROOT) else full.name


@contextlib.contextmanager
def atomic(name: str | Path) -> Iterator[Path]:
    """A temporary path beside `name` that takes its place when the block ends well, and vanishes when it does not.

    The block may make a file or a directory. A reader never sees half of either. What a kill leaves is taken away by
    the next that makes the same.
    """
    final = path(name)
    final.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder.beside(final) as folder:
        made = folder / final.name
        yield made
        if not made.exists():
            raise FileNotFoundError(f"{shown(final)}: nothing was made to take its place")
        readable(made)
        if final.is_dir() and not final.is_symlink():
            final.rename(folder / "replaced")  # a directory cannot be renamed over a full one
            try:
                made.rename(final)
            except OSError:
                (folder / "replaced").rename(final)
                raise
        else:
            made.replace(final)


def readable(made: Path) -> None:
    """Nothing, after what was made for its owner alone can be read by all whom the umask allows: safetensors writes so,
    and nobody else of a lab could load the weights."""
    every = [place for place in made.rglob("*") if place.is_file()] if made.is_dir() else [made]
    if own := [place for place in every if not place.stat().st_mode & 0o077]:
        usual = made.with_name(f"{made.name}.usual")
        usual.touch()
        for place in own:
            place.chmod(usual.stat().st_mode)


def write_text(name: str | Path, text: str) -> Path:
    """The path, after the text has been written there as UTF-8.

    UTF-8 cannot hold half of a surrogate pair: it stands there as \\ud83d, which JSON reads as the same half.
    """
    with atomic(name) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
    return path(name)


def write_json(name: str | Path, value: object) -> Path:
    """The path, after the value has been written there as indented JSON."""
    return write_text(name, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def read_json(name: str | Path) -> object:
    """The value in a JSON file; InputError with the position where it breaks."""
    try:
        return json.loads(path(name).read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"{shown(name)}: no such file") from None
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{shown(name)}: not JSON ({error}); restore the file or remove it and make it again"
        ) from None


def write_jsonl(name: str | Path, rows: Iterable[dict]) -> Path:
    """The path, after one JSON object a line has been written there."""
    return write_text(name, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_jsonl(name: str | Path) -> list[dict]:
    """The objects of a JSON Lines file; InputError with the number of the first line that is none."""
    try:
        lines = path(name).read_text(encoding="utf-8-sig").split("\n")  # not splitlines: U+2028 may stand in a text
    except FileNotFoundError:
        raise InputError(f"{shown(name)}: no such file; run the notebook that writes it first") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{shown(name)}: not UTF-8 at byte {error.start}; restore the file") from None
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
    """The table in a user's CSV, read by pandas with its `options`; InputError for a file that is none."""
    import pandas as pd

    try:
        return pd.read_csv(path(name), compression=None, **options)  # of a packed file nobody knows what it unpacks to
    except FileNotFoundError:
        raise InputError(f"{shown(name)}: no such file") from None
    except ValueError as error:  # not UTF-8, empty, lines of other lengths
        raise InputError(f"{shown(name)}: no CSV in UTF-8 ({one_line(error)})") from None


def public(name: str) -> str:
    """A name as others may see it: what a user wrote, but of a path that leaves the repository only its last part, and
    of a URL nothing that could be a password."""
    kind, replay, rest = name.rpartition("replay:")
    if rest.startswith(("/", "~/", "../", "./")) or "/../" in rest:
        rest = shown(path(rest).resolve())
    return kind + replay + re.sub(r"(https?://)[^/@\s]+@", r"\1", rest)


def fault(error: OSError) -> str:
    """What went wrong with a file, where, and what to do, on one line, without a user's folders."""
    where = f"{shown(error.filename)}: " if error.filename else ""
    advice = {
        errno.ENOSPC: "; free some space and run again, what was finished is kept",
        **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "; make it writable, or name another `run`"),
    }
    return f"{where}{error.strerror or error}{advice.get(error.errno, '')}"


def one_line(text: object) -> str:
    """The text on one line that a terminal only shows: white space as blanks, what would steer it as �."""
    return "".join(c if c.isprintable() else "�" for c in " ".join(str(text).split()))


def free_bytes(name: str | Path) -> int:
    """The free space of the disk on which `name` lies or will lie."""
    full = path(name)
    while not full.exists():
        full = full.parent
    return shutil.disk_usage(full).free


def local_or_hub(name: str, run: str | Path) -> str:
    """Where a model lies: a directory below the run, below the repository, anywhere, or else the hub id as given.

    `backbones/qwen-7b` is what notebook 00 made in this run; `data/weights/llama-7b` is the user's; `Qwen/Qwen-7B` is
    a hub id and is answered from the hub's local cache (a download needs the user's own `hf download`).
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


def stand_in(name: str) -> bool:
    """Whether a model's name is that of a tiny stand-in, which notebook 00 made below the run."""
    return name.startswith("backbones/")


def environment(name: str) -> str | None:
    """An environment variable's value, or None when it is unset or blank."""
    return os.environ.get(name, "").strip() or None
