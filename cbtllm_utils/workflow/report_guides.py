"""The guides of docs/ as folded chapters of the report, which is mailed without them, and the links that lead there."""

import re
from collections.abc import Callable, Sequence

from bs4 import BeautifulSoup

from cbtllm_utils import files
from cbtllm_utils.workflow import report_tables

GUIDES = ("glossary", "raters", "provider", "training", "formats", "profiles", "screens")
LEFT_OUT = "settings"  # the list of all settings, which is long
LINK = re.compile(rf'<a href="(?:\.\./)*(?:docs/)?({"|".join(GUIDES)})\.md(#[\w-]+)?"')
LINK_LEFT_OUT = re.compile(rf'<a href="(?:\.\./)*(?:docs/)?{LEFT_OUT}\.md(?:#[\w-]+)?"[^>]*>(.*?)</a>', re.S)


def read(prose: Callable[[dict, str], str]) -> list[dict[str, str]]:
    """Return the guides that are there: the id, the title and the body in HTML of each.

    Args:
        prose: What makes Markdown HTML, `report.prose`.
    """
    places = [files.path(f"docs/{name}.md") for name in GUIDES]
    return [guide(place.stem, prose({}, files.read_text(place))) for place in places if place.is_file()]


def guide(name: str, body: str) -> dict[str, str]:
    """Return one guide without its title, its headings with ids as GitHub makes them, after the guide's own."""
    soup = BeautifulSoup(report_tables.tidy(body), "html.parser")
    title = soup.find("h2").extract().get_text()
    for heading in soup.find_all(["h3", "h4"]):
        heading["id"] = anchor(name, slug(heading.get_text()))
    return {"id": anchor(name), "title": title, "body": str(soup)}


def anchor(name: str, part: str = "") -> str:
    """Return the id of a guide, or of a part of it."""
    return "-".join(filter(None, ["guide", name, part]))


def slug(heading: str) -> str:
    """Return a heading as the anchor that GitHub gives it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def linked(body: str, guides: Sequence[dict[str, str]]) -> str:
    """Return HTML whose links to guides lead to those of the page; a guide that was left out is named by its path."""
    there = {one["id"] for one in guides}

    def target(found: re.Match[str]) -> str:
        name, part = found[1], (found[2] or "#")[1:]
        return f'<a href="#{anchor(name, part)}"' if anchor(name) in there else found[0]

    body = LINK.sub(target, body)
    return LINK_LEFT_OUT.sub(rf"\1 (<code>docs/{LEFT_OUT}.md</code>)", body) if there else body
