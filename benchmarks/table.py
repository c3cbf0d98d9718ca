"""What is measured, side by side, as one line of a table."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """Ours beside what a user would otherwise use, both measured in the same run, in seconds or as the name says."""

    name: str
    ours: float
    against: str
    theirs: float
    wanted: str = ""
    met: bool | None = None

    def cells(self) -> list[str]:
        """The row as text; the ratio is theirs / ours: above 1 we take less."""
        verdict = "" if self.met is None else (f"{self.wanted}: {'yes' if self.met else 'MISSED'}")
        return [
            self.name,
            f"{self.ours:.3g}",
            self.against,
            f"{self.theirs:.3g}",
            f"{self.theirs / self.ours:.2f}" if self.ours else "–",
            verdict,
        ]
