"""Progress on the terminal while the study runs: which notebook, how far, what is next."""

import re
import sys
import threading
import time
from typing import TextIO

from doit.reporter import ZeroReporter

from cbtllm_utils import files

BEAT = 0.5  # seconds between two looks at the memory
LONGEST = 1000  # characters of a line without an end that are kept
SAID_EVERY = 40  # beats between two lines: 20 seconds
# tqdm's: "training:  51%|█████     | 83/162 [00:05<00:04, 16.5it/s, loss=5.677]"; "3it [00:01, 2.9it/s]" without an end
# A bar begins its line; what may come before its numbers is bounded, and so is the time that a long line takes.
BAR = re.compile(
    r"(?:.{0,500}?[\s:|])?\d[\d.]*[a-zA-Z]{0,20}(?:/\d[\d.]*[a-zA-Z]{0,20})? \[(?:\d+:)?\d+:\d\d[<,][^\]]*\]"
)
COLORS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # and the movements of a terminal's cursor


def in_words(seconds: float) -> str:
    """Return a duration in seconds up to two minutes, then in minutes."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


class NotebookProgress(threading.Thread):
    """Say every 20 seconds how far one notebook is, and record the peak memory of its processes together.

    It is the file to which papermill copies the notebook's stderr, where progress bars write.
    """

    def __init__(self, name: str, cells: int) -> None:
        super().__init__(daemon=True)
        self.name, self.cells, self.peak = name, cells, 0
        self.begin(0)
        self.exit_status: int | None = None  # of the kernel, once it is seen dead
        self.written: list[str] = []  # the paths that the notebook wrote
        self.notes: list[str] = []  # what the notebook says to whoever waits (`files.tell`)
        self.start_time, self.done = time.monotonic(), threading.Event()

    def begin(self, cell: int) -> None:
        """Start to follow a cell, the first is 1."""
        self.cell, self.line, self.open = cell, "", ""

    def write(self, text: str) -> None:
        """Take what a cell writes to stderr: its notes, and where its progress bar is. The rest stays in the notebook.

        Text comes in pieces, cut anywhere. A bar ends without a new line: what a library says next is on its line.
        """
        text = COLORS.sub("", text).replace("\r", "\n")
        self.notes += [files.one_line(line) for line in text.split("\n") if line.startswith(files.NOTE)]
        lines = (self.open + text).split("\n")
        self.open = lines[-1][:LONGEST]
        if bars := [found.group() for found in map(BAR.match, lines) if found]:
            self.line = files.one_line(bars[-1])

    def flush(self) -> None:
        """Do not write anything: the line is shown at the next beat."""

    def run(self) -> None:
        """Measure and print until `done` is set."""
        beat = 0
        while not self.done.wait(BEAT):
            self.peak, beat = max(self.peak, memory_of_children()), beat + 1
            if beat % SAID_EVERY == 0:
                seconds = time.monotonic() - self.start_time
                where = f"{self.name}: cell {self.cell} of {self.cells}, {seconds:.0f} s"
                print(f"      {where}  {without_bar(self.line)[:100]}".rstrip(), file=sys.stderr, flush=True)


def memory_of_children() -> int:
    """Return the resident memory of all processes that this one started, in bytes."""
    import psutil

    memory = 0
    for process in psutil.Process().children(recursive=True):
        try:
            memory += process.memory_info().rss
        except psutil.Error:
            continue  # it ended in the meantime
    return memory


def without_bar(line: str) -> str:
    """Return a progress bar's numbers without the bar."""
    return re.sub(r"\|[^|]*\| ", " ", line)


class Progress(ZeroReporter):
    """doit's reporter: one line when a task starts, ends or fails, and a last line with the sum."""

    desc = "one line per task"

    def __init__(self, outstream: TextIO, options: dict) -> None:
        super().__init__(outstream, options)
        self.out, self.started, self.counts = outstream, {}, {"run": 0, "up to date": 0, "failed": 0, "not run": 0}
        self.waiting: list[str] = []

    def say(self, text: str) -> None:
        """Print a line at once, even into a pipe."""
        self.out.write(text + "\n")
        self.out.flush()

    def initialize(self, tasks: dict, selected: list[str]) -> None:
        """Take the tasks to come; doit calls this once."""
        self.waiting = [name.partition(":")[2] for name in tasks if ":" in name]
        self.needs = {name.partition(":")[2]: task.task_dep for name, task in tasks.items()}
        self.total = len(self.waiting)
        self.begin = time.monotonic()

    def finished(self, task: object) -> str:
        """Take a task from the waiting ones; return its place and name."""
        name = task.name.partition(":")[2]
        if name in self.waiting:
            self.waiting.remove(name)
        return f"[{self.total - len(self.waiting)}/{self.total}] {name}"

    def execute_task(self, task: object) -> None:
        """Say that a task starts, and which one is next."""
        if ":" in task.name:
            name = task.name.partition(":")[2]
            self.started[task.name] = time.monotonic()
            following = self.following()
            self.say(f"  ▶ {name}" + (f"   (next: {following})" if following else ""))

    def following(self) -> str | None:
        """Return the task to start next: the first whose needs are met, else the first whose needs are running."""
        free = [name for name in self.waiting if f"study:{name}" not in self.started]
        for unready in (self.waiting, free):
            for name in free:
                if not any(need.partition(":")[2] in unready for need in self.needs[name]):
                    return name
        return None

    def add_success(self, task: object) -> None:
        """Say that a task ended, and how long it took."""
        if ":" in task.name:
            self.counts["run"] += 1
            self.say(f"{self.finished(task)}: {in_words(time.monotonic() - self.started[task.name])}")

    def skip_uptodate(self, task: object) -> None:
        """Count a task that is up to date."""
        if ":" in task.name:
            self.counts["up to date"] += 1
            self.finished(task)

    def add_failure(self, task: object, fail: object) -> None:
        """Say that a task failed, or could not start."""
        if ":" in task.name:
            kind = "not run" if task.name not in self.started else "failed"
            self.counts[kind] += 1
            why = "failed, see the line above" if kind == "failed" else "not run: what it needs is missing"
            self.say(f"{self.finished(task)}: {why}")

    def cleanup_error(self, exception: object) -> None:
        """Say what went wrong when doit ended."""
        self.say(f"error: {exception}")

    def runtime_error(self, message: str) -> None:
        """Say what is wrong with the graph."""
        self.say(f"error: {message}")

    def complete_run(self) -> None:
        """Say how many tasks ran, failed or were up to date."""
        parts = [f"{number} {kind}" for kind, number in self.counts.items() if number]
        self.say(f"{', '.join(parts) or 'nothing ran'} in {in_words(time.monotonic() - self.begin)}")
