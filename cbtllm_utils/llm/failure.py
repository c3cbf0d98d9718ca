"""Why a request has no answer, as tables and lists say it."""

from typing import NamedTuple

REFUSED, UNANSWERED = "refused by the provider", "no answer"  # this post for certain; everything else


class Failure(NamedTuple):
    """Why there is no usable answer: a kind, such as REFUSED or UNANSWERED, and a reason, a server's own words."""

    kind: str
    reason: str

    def __str__(self) -> str:
        """Return both, as a table or a message shows them."""
        return f"{self.kind}: {self.reason}"
