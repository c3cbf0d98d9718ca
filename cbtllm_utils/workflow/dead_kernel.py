"""Why a notebook's kernel died: how it ended, how much memory it had taken, and how much there is."""

import signal
from pathlib import Path

GIB = 1 << 30
OUT_OF_MEMORY = (
    "most likely out of memory: its processes had up to {peak:.1f} GiB when last looked at, of {limit:.1f} GiB that "
    "{whose} has; run again with more memory, JOBS=1 or a smaller batch, what was finished is kept"
)
CRASHED = "in a library's compiled code, not in Python; run again, and if it stays so `make clean` and set up anew"


def reason(status: int, peak: int) -> str:
    """Return on one line how a kernel ended and what to do.

    Args:
        status: Its exit status; minus the number of the signal that ended it.
        peak: The most memory that its processes were seen with, in bytes.
    """
    if status >= 0:
        return f"the kernel ended itself (exit status {status}); run again"
    name = signal.Signals(-status).name
    if name == "SIGKILL":
        limit, whose = memory_limit()
        return f"the kernel was killed ({name}), " + OUT_OF_MEMORY.format(
            peak=peak / GIB, limit=limit / GIB, whose=whose
        )
    if name in ("SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT"):
        return f"the kernel crashed ({name}) {CRASHED}"
    return f"the kernel was ended from outside ({name}); run again"


def memory_limit(root: Path = Path("/")) -> tuple[int, str]:
    """Return how much memory there is in bytes, and whose limit that is: this machine's or this container's.

    A container or a Slurm job is a control group; the least limit of it and of the groups around it counts.
    """
    import psutil

    limits = [(psutil.virtual_memory().total, "this machine")]
    groups = root / "proc/self/cgroup"
    for line in groups.read_text().splitlines() if groups.exists() else []:
        _, kinds, path = line.split(":", 2)
        if kinds in ("", "memory") or "memory" in kinds.split(","):
            top = root / "sys/fs/cgroup" / ("memory" if kinds else "")
            place = top / path.lstrip("/")
            for group in (place, *place.parents):
                if group.is_relative_to(top):
                    limits += limit_of(group)
    return min(limits)


def limit_of(group: Path) -> list[tuple[int, str]]:
    """Return the limit of a control group (of version 2 or 1) where it has one."""
    for name in ("memory.max", "memory.limit_in_bytes"):
        try:
            return [(int((group / name).read_text()), "this container or job")]
        except (OSError, ValueError):  # there is none, or it says "max"
            continue
    return []
