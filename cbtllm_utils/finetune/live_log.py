"""The log of a training while it runs: a file for `tail -f`, and TensorBoard where it is asked for."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

FIELDS = ["step", "epoch", "loss", "heldout_loss", "learning_rate", "tokens_per_second", "peak_memory_gb"]
FIELDS += ["heldout_seconds", "seconds_left", "time"]  # what docs/training.md explains, in the order of a line


class LiveLog:
    """One JSON line per row of a training's log, written at once.

    The rows of the last checkpoint are the truth: a training that continues begins the file anew with these, so a step
    that is taken again after a kill is in it once.

    Args:
        file: Where the lines go. Times and memory vary from run to run: it is not part of the results.
        board: Folder of TensorBoard's files, or None for none.
    """

    def __init__(self, file: Path, board: Path | None = None) -> None:
        self.file, self.board = file, board

    def begin(self, rows: Iterable[dict]) -> None:
        """Begin with these rows and no other: nothing of what a killed training added, nor half of a line."""
        self.write(rows)
        if self.board:
            from torch.utils.tensorboard import SummaryWriter  # of an extra

            shutil.rmtree(self.board, ignore_errors=True)
            self.writer = SummaryWriter(self.board)
            for row in rows:
                self.draw(row)

    def write(self, rows: Iterable[dict]) -> None:
        """Make the file hold these rows and no other; in its place, not replaced, so that `tail -f` goes on."""
        text = "".join(map(as_line, rows))
        self.file.parent.mkdir(parents=True, exist_ok=True)
        if not self.file.exists() or self.file.read_bytes() != text.encode():
            self.file.write_text(text, encoding="utf-8")

    def add(self, row: dict) -> None:
        """Add a row; its line is in the file when this returns."""
        self.file.parent.mkdir(parents=True, exist_ok=True)  # Whoever removed it stops no training.
        with self.file.open("a", encoding="utf-8") as lines:
            lines.write(as_line(row))
        if self.board:
            self.draw(row)

    def draw(self, row: dict) -> None:
        """Add a row's numbers to TensorBoard, under the names of their fields."""
        numbers = {name: value for name, value in shown(row).items() if name not in ("step", "time")}
        for name, value in numbers.items():
            if value is not None:
                self.writer.add_scalar(name, value, row["step"], walltime=row.get("time"))
        self.writer.flush()

    def end(self) -> None:
        """Close TensorBoard's file."""
        if self.board:
            self.writer.close()


def shown(row: dict) -> dict:
    """Return the fields of a row in their order; {} for a row without a loss, such as the Trainer's last."""
    kept = {name: row[name] for name in FIELDS if name in row}
    return kept if "loss" in row or "heldout_loss" in row else {}


def as_line(row: dict) -> str:
    """Return a row as a line of JSON, or "" where it has nothing to show."""
    return json.dumps(fields) + "\n" if (fields := shown(row)) else ""
