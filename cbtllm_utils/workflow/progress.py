"""What a terminal shows while the study runs: which notebook, how far, what is next."""

import time
from typing import TextIO


def spoken(seconds: float) -> str:
    """A duration as one says it: seconds up to two minutes, then minutes."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


class Progress:
    """doit's reporter: one line when a task starts, ends or is up to date, and a last line with the sum."""

    desc = "one line a task"

    def __init__(self, outstream: TextIO, options: dict) -> None:
        self.out, self.started, self.counts = outstream, {}, {"run": 0, "up to date": 0, "failed": 0, "not run": 0}
        self.waiting: list[str] = []

    def say(self, text: str) -> None:
        """Print a line at once, also into a pipe."""
        self.out.write(text + "\n")
        self.out.flush()

    def initialize(self, tasks: dict, selected: list[str]) -> None:
        self.waiting = [name.partition(":")[2] for name in tasks if ":" in name]
        self.needs = {name.partition(":")[2]: task.task_dep for name, task in tasks.items()}
        self.total = len(self.waiting)
        self.begin = time.monotonic()

    def done(self, task: object) -> str:
        name = task.name.partition(":")[2]
        if name in self.waiting:
            self.waiting.remove(name)
        return f"[{self.total - len(self.waiting)}/{self.total}] {name}"

    def get_status(self, task: object) -> None:
        """Nothing: what doit looks at is not worth a line."""

    def execute_task(self, task: object) -> None:
        if ":" in task.name:
            name = task.name.partition(":")[2]
            self.started[task.name] = time.monotonic()
            following = self.following()
            self.say(f"  ▶ {name}" + (f"   (next: {following})" if following else ""))

    def following(self) -> str | None:
        """The task to start next: of those not started, the first whose needs are done, or are at work."""
        free = [name for name in self.waiting if f"study:{name}" not in self.started]
        for unready in (self.waiting, [name for name in self.waiting if name in free]):
            for name in free:
                if not any(need.partition(":")[2] in unready for need in self.needs[name]):
                    return name
        return None

    def add_success(self, task: object) -> None:
        if ":" in task.name:
            self.counts["run"] += 1
            self.say(f"{self.done(task)}: {spoken(time.monotonic() - self.started[task.name])}")

    def skip_uptodate(self, task: object) -> None:
        if ":" in task.name:
            self.counts["up to date"] += 1
            self.done(task)

    def skip_ignore(self, task: object) -> None:
        self.skip_uptodate(task)

    def add_failure(self, task: object, fail: object) -> None:
        if ":" in task.name:
            kind = "not run" if task.name not in self.started else "failed"
            self.counts[kind] += 1
            why = "failed, see the line above" if kind == "failed" else "not run: what it needs is missing"
            self.say(f"{self.done(task)}: {why}")

    def cleanup_error(self, exception: object) -> None:
        self.say(f"error: {exception}")

    def runtime_error(self, message: str) -> None:
        self.say(f"error: {message}")

    def teardown_task(self, task: object) -> None:
        """Nothing: no task leaves anything to clear away."""

    def complete_run(self) -> None:
        parts = [f"{number} {kind}" for kind, number in self.counts.items() if number]
        self.say(f"{', '.join(parts) or 'nothing ran'} in {spoken(time.monotonic() - self.begin)}")
