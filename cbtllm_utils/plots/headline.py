"""The answer that opens a notebook: its place is shown at the start and filled by the last cell."""

import copy
import html
from collections.abc import Sequence

from IPython.display import HTML, DisplayHandle, display
from pandas.io.formats.style import Styler

HEADING = "<h2>What we found</h2>"
PENDING = "<p><em>Run the notebook to its end: the last cell fills this in.</em></p>"


def place() -> DisplayHandle:
    """Show where the answer will be, and return the handle that `fill` takes."""
    return display(HTML(HEADING + PENDING), display_id=True)


def fill(
    handle: DisplayHandle, sentences: Sequence[str], table: Styler | HTML | None = None, conditions: str = ""
) -> None:
    """Show the answer at its place: two or three sentences, then a table, then the conditions of its numbers.

    A caption of the table should hold the conditions; name them here where there is no table.
    """
    text = f"<p>{html.escape(' '.join(sentences), quote=False)}</p>"
    below = f"<p><em>{html.escape(conditions, quote=False)}</em></p>" if conditions else ""
    # A uuid of its own, as the same table may be shown again where it was made.
    shown = copy.copy(table).set_uuid("found").to_html() if isinstance(table, Styler) else getattr(table, "data", "")
    handle.update(HTML(HEADING + text + shown + below))
