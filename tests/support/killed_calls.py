"""What writes to the disk here, and how to kill it at every system call that changes the disk.

strace kills (Debian: apt-get install strace). At a call that only reads, a disk is as it is at the next that writes.
"""

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from cbtllm_utils import files, response_cache
from cbtllm_utils.workflow import locks

KILLED = (-9, 137)

CALLS = (
    *("mkdir", "mkdirat", "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat"),
    *("unlink", "unlinkat", "rmdir", "chmod", "fchmod", "fchmodat", "flock"),
    *("write", "pwrite64", "writev", "truncate", "ftruncate", "fsync", "fdatasync"),
)


def folder(place: Path, content: str = "new") -> None:
    with files.atomic(place / "made") as made:
        (made / "sub").mkdir(parents=True)
        for name in ("a", "sub/b"):
            (made / name).write_text(content)
            (made / name).chmod(0o600)  # which `atomic` makes the usual mode


def file(place: Path, content: str = "new") -> None:
    files.write_text(place / "made", content)


def tidy(place: Path) -> None:
    files.clear_leftovers(place.rglob(".*"))


def answers(place: Path, names: str = "cd") -> None:
    with response_cache.appending(place / "cache" / "responses.jsonl") as cache:
        for name in names:
            response_cache.append(cache, {"hash": name, "text": "答" * 5000})


def held(place: Path) -> None:
    with locks.whole_run(str(place)), locks.one_step(str(place / "other"), "03"):
        folder(place)


def forget(place: Path) -> None:
    from cbtllm_utils.workflow import provenance  # what it imports takes longer than the rest together

    provenance.forget(place, "02")


def strace(step: Callable, place: Path, *options: str) -> subprocess.CompletedProcess:
    """Run a function of this file under strace."""
    program = f"import sys, pathlib, killed_calls; killed_calls.{step.__name__}(pathlib.Path(sys.argv[1]))"
    calls = ",".join(f"?{call}" for call in CALLS)  # ?: where this machine has it
    command = ["strace", f"--trace={calls}", *options, sys.executable, "-B", "-c", program, str(place)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(files.ROOT), str(Path(__file__).parent)])}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def killed_at_each(step: Callable, begin: Callable[[str], Path]) -> Iterator[Path]:
    """Yield folders in which `step` was killed at its first call, at its second, …, at its last.

    Args:
        step: A function of this file.
        begin: Returns a folder of this name as it is before.
    """
    log = begin(f"{step.__name__}-whole").with_suffix(".log")
    assert strace(step, log.with_suffix(""), f"--output={log}").returncode == 0
    counted: Counter[str] = Counter()
    for call in re.findall(r"^(\w+)\(", log.read_text(), re.MULTILINE):
        counted[call] += 1
        place = begin(f"{step.__name__}-{call}-{counted[call]}")
        killed = strace(step, place, f"--inject={call}:signal=KILL:when={counted[call]}")
        assert killed.returncode in KILLED
        yield place


def works() -> bool:
    """Return whether strace is there and may kill: containers often forbid ptrace."""
    try:
        return strace(file, Path("/proc"), "--inject=all:signal=KILL").returncode in KILLED
    except OSError:
        return False
