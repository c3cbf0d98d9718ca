"""One row of the table: ours beside what a user would otherwise use."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """Two measurements of the same run, in seconds or in the unit that the name says."""

    name: str
    ours: float
    against: str
    theirs: float
    wanted: str = ""
    met: bool | None = None

    def cells(self) -> list[str]:
        """Return the row as text; the ratio is theirs / ours: above 1, ours takes less."""
        verdict = "" if self.met is None else f"{self.wanted}: {'yes' if self.met else 'MISSED'}"
        ratio = f"{self.theirs / self.ours:.2f}" if self.ours else "–"
        return [self.name, f"{self.ours:.3g}", self.against, f"{self.theirs:.3g}", ratio, verdict]
