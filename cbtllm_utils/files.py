"""Paths, and files that are either whole or not there."""

import contextlib
import errno
import fcntl
import glob
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
REPLACED = ".replaced"  # the old one, in a temporary folder, while the new one takes its place
LEFTOVER = re.compile(r"\.(.+)-[a-z0-9_]{8}\.tmp", re.DOTALL)  # a temporary folder beside the file in group 1
SERVED_FILE = re.compile(r"(file:|~|\.{0,2}[/\\]|[a-z]:[/\\]|.*[/\\].*\.(gguf|safetensors|bin)$)", re.IGNORECASE)
WRITTEN = "CBTLLM_WRITTEN"  # environment variable: a file to which each path that `atomic` made is added
NOTE = "note: "  # how a line for the terminal begins
TINY = "backbones/"  # where notebook 00 puts the demo's tiny models, below the run


class InputError(ValueError):
    """An input that cannot be used; the message says on one line what, where and what to do."""


def path(name: str | Path) -> Path:
    """Return an absolute path; relative names are below the repository, wherever the notebook was started."""
    return ROOT / Path(name).expanduser()


def shown(name: str | Path) -> str:
    """Return a path to print: relative to the repository or, outside it, its last part alone.

    So no folder of a user appears in an output."""
    full = path(name)
    return full.relative_to(ROOT).as_posix() if full.is_relative_to(ROOT) else full.name


def missing(run: str | Path, step: str) -> Path:
    """Return where a step lists its requests without an answer; while the file exists, the step is out of date."""
    return path(run) / "missing" / f"{step}.csv"


def public(name: str) -> str:
    """Return a name without private parts: of a path outside the repository the last part, of a URL no password."""
    kind, replay, rest = name.rpartition("replay:")
    if rest.startswith(("/", "~/", "../", "./")) or "/../" in rest:
        rest = shown(path(rest).resolve())
    return kind + replay + re.sub(r"(https?://)[^/@\s]+@", r"\1", rest)


def model_name(name: str) -> str:
    """Return the name of a server's model without the server's folders: /models/x.gguf is x.gguf; a hub id stays."""
    return re.split(r"[/\\]", name.rstrip("/\\"))[-1] if SERVED_FILE.match(name) else name


@contextlib.contextmanager
def atomic(name: str | Path) -> Iterator[Path]:
    """Yield a temporary path that becomes `name` when the block ends well and vanishes when it does not.

    The block may make a file or a folder. A reader sees the old one or the new one, never half of either; between
    the two renames of a folder it briefly sees nothing. After a kill at any point, either the old or the new one is
    complete: `clear_leftovers` puts it back and removes the rest. A power loss is different: `write_text` and the
    response cache return once their content is on disk, but a new folder may not be on disk yet.
    """
    final = path(name)
    final.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(final) as folder:
        made = folder / final.name
        try:
            yield made
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT) and error.filename is None:
                error.filename = str(final)  # writing does not say where
            raise
        if not made.exists():
            raise FileNotFoundError(f"{shown(final)}: the new version was not written")
        allow_reading(made)
        replace(made, final)
    if log := os.environ.get(WRITTEN):
        with contextlib.suppress(OSError), Path(log).open("a", encoding="utf-8") as written:  # the file itself is whole
            written.write(f"{final}\0")


def replace(made: Path, final: Path) -> None:
    """Put `made` in the place of `final`.

    A folder cannot be renamed over a full one, nor a file over a folder: the old one is renamed first, and
    `discard` puts it back when the new one is not written. Every file system can rename; few can exchange two names.
    """
    old = made.with_name(REPLACED)
    if os.path.lexists(final) and (made.is_dir() or final.is_dir()):
        final.rename(old)
    made.replace(final)


@contextlib.contextmanager
def temporary_folder(final: Path) -> Iterator[Path]:
    """Yield a folder beside `final`, on the same disk, that is removed at the end.

    A process holds a lock on its folder until it ends, so a folder without a lock belongs to a killed process.
    """
    clear_leftovers(final.parent.glob(f".{glob.escape(final.name)}-*.tmp"))
    folder, lock = make_locked(final)
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):  # the next one that makes the same tries again
            discard(folder)
        os.close(lock)


def make_locked(final: Path) -> tuple[Path, int]:
    """Return a new folder beside `final` and the file descriptor that holds the lock on it."""
    while True:
        try:
            folder = Path(tempfile.mkdtemp(prefix=f".{final.name}-", suffix=".tmp", dir=final.parent))
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(final)) from None  # the temporary name says nothing
        lock = os.open(folder, os.O_RDONLY)
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder, lock
        os.close(lock)  # another process removed it between making and locking


def clear_leftovers(folders: Iterable[Path]) -> None:
    """Discard the temporary folders of killed processes: those that nobody holds a lock on.

    On a disk without locks, what was replaced is put back, and the folder stays.
    """
    for left in list(folders):
        if not LEFTOVER.fullmatch(left.name):
            continue
        with contextlib.suppress(OSError):
            lock = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                discard(left)
            except BlockingIOError:
                pass  # its process is at work
            except OSError:
                put_back(left)
            finally:
                os.close(lock)


def discard(folder: Path) -> None:
    """Remove a temporary folder, first putting back what it replaced if nothing took its place."""
    put_back(folder)
    shutil.rmtree(folder)


def put_back(folder: Path) -> None:
    """Rename what a temporary folder replaced to its own name or, if that is taken, to `.old`."""
    old, final = folder / REPLACED, folder.with_name(LEFTOVER.fullmatch(folder.name)[1])
    if os.path.lexists(old):
        old.rename(folder / ".old" if os.path.lexists(final) else final)


def allow_reading(made: Path) -> None:
    """Give files that only their owner may read the usual mode: safetensors writes 0600, whatever the umask says."""
    every = [place for place in made.rglob("*") if place.is_file()] if made.is_dir() else [made]
    if private := [place for place in every if not place.stat().st_mode & 0o077]:
        usual = made.with_name(f"{made.name}.usual")
        usual.touch()
        for place in private:
            place.chmod(usual.stat().st_mode)


def write_text(name: str | Path, text: str) -> Path:
    """Write a text as UTF-8 and return its path, once it is on disk: after a power loss the old or the new is whole.

    Half of a surrogate pair, which UTF-8 cannot hold, is written as \\ud83d, which JSON reads as the same half.
    """
    with (
        atomic(name) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file,
    ):
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    sync_names(path(name).parent)
    return path(name)


def sync_names(folder: Path) -> None:
    """Wait until the names in a folder are on disk, where the file system supports that."""
    place = os.open(folder, os.O_RDONLY)
    with contextlib.suppress(OSError):
        os.fsync(place)
    os.close(place)


def write_json(name: str | Path, value: object) -> Path:
    """Write a value as indented JSON and return the path."""
    return write_text(name, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def read_text(name: str | Path, advice: str = "") -> str:
    """Return the text of a UTF-8 file; raise InputError for another encoding, or with `advice` for a missing file."""
    try:
        return path(name).read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"{shown(name)}: no such file{advice and '; '}{advice}") from None
    except UnicodeDecodeError as error:
        packed = "a workbook or compressed file, " if error.object.startswith(b"PK") else ""
        reason = f"{packed}not UTF-8 at byte {error.start}"
        raise InputError(f"{shown(name)}: {reason}; convert or restore the file") from None


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
        **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "; free some space and run again: finished work is kept"),
        **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "; make it writable, or name another `run`"),
    }
    return f"{where}{error.strerror or error}{advice.get(error.errno, '')}"


def one_line(text: object) -> str:
    """Return a text on one line that is safe on a terminal: white space as blanks, control characters as �."""
    return "".join(c if c.isprintable() else "�" for c in " ".join(str(text).split()))


def local_or_hub(name: str, run: str | Path) -> str:
    """Return the folder of a model, from the run, the repository, anywhere else, or the hub's local cache.

    Args:
        name: `backbones/qwen-7b` is what notebook 00 made in this run, `data/weights/llama-7b` is the user's,
            `Qwen/Qwen-7B` is a hub id, and `Qwen/Qwen-7B@<commit>` one at a commit, a tag or a branch.
        run: The run's folder.

    Raises:
        InputError: When there is no such folder; nothing is downloaded here.
    """
    for candidate in (path(run) / name, path(name)):
        if candidate.is_dir():
            return str(candidate)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    hub_id, revision = at_revision(name)
    try:  # asked for every file, the library misses the formats that nobody downloaded
        found = {"revision": revision, "allow_patterns": ["config.json", "adapter_config.json"]}
        return snapshot_download(hub_id, local_files_only=True, **found)
    except (HFValidationError, LocalEntryNotFoundError, OSError):
        wanted = f"{hub_id} --revision {revision}" if revision else hub_id
        advice = f"`hf download {wanted}` fetches it" if hub_id.count("/") == 1 else "check the path"
        raise InputError(f"model {name!r}: neither a directory nor in the hub's local cache; {advice}") from None


def at_revision(name: str) -> tuple[str, str | None]:
    """Return a model's name and the revision behind its @, None where there is none; a folder's name is whole."""
    hub_id, sign, revision = name.partition("@")
    return (hub_id, revision) if sign and not path(name).exists() else (name, None)


def hub_commit(name: str) -> str | None:
    """Return the commit at which the hub's local cache holds a model; None for a folder and for what is not there."""
    if path(name).exists() or is_tiny(name) or at_revision(name)[0].count("/") != 1:
        return None
    try:
        place = Path(local_or_hub(name, "runs"))
    except InputError:
        return None
    return place.name if place.parent.name == "snapshots" else None


def is_tiny(name: str) -> bool:
    """Return whether a model's name is that of one of the demo's tiny models."""
    return name.startswith(TINY)


def tell(text: str) -> None:
    """Write a note for the terminal, where papermill would show it in the notebook alone; "" writes nothing.

    The runner prints lines of stderr with this beginning once the notebook has ended.
    """
    if text:
        print(f"{NOTE}{one_line(text)}", file=sys.stderr)


def environment(name: str) -> str | None:
    """Return an environment variable's value, or None when it is unset or blank."""
    return os.environ.get(name, "").strip() or None
