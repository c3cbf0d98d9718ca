"""Figures of the report: each drawn once, as an SVG in the colors of the page; shown again by reference."""

import hashlib
import html
import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bs4 import BeautifulSoup
from lxml import etree

from cbtllm_utils.plots.svg import ON_WASH

SVG = "{http://www.w3.org/2000/svg}"
SHAPES = (
    "svg g defs symbol use path rect circle ellipse line polyline polygon text tspan title desc clipPath mask".split()
)
ALLOWED = {SVG + name for name in [*SHAPES, "pattern", "linearGradient", "radialGradient", "stop", "marker", "image"]}
BODY = re.compile(f"fill: (#000000|{ON_WASH})")  # the color of text on a panel
SENTENCES = 300  # characters on the panels of a figure that is made of text


@dataclass(frozen=True)
class Drawing:
    """A figure that is on the page: its name, its description in HTML, and for an SVG its viewBox and its widths."""

    name: str
    alt: str
    box: str = ""
    style: str = ""

    def again(self) -> str:
        """Return the figure folded and by reference, without its content a second time; a picture as a link to it."""
        if not self.box:
            return f'<p><a href="#figure-{self.name}">The figure “{self.alt}” is shown above.</a></p>'
        picture = f'<figure class="picture">{self.scrolled(f"""<use href="#svg-{self.name}"/>""", "")}</figure>'
        return f'<details class="table"><summary>The figure that is shown above</summary>{picture}</details>'

    def thumbnail(self) -> str:
        """Return the figure by reference, small; of a tall one the top."""
        if not self.box:
            return ""
        width, height = map(float, self.box.split()[2:])
        fit = ' preserveAspectRatio="xMidYMin slice"' if height > width else ""
        return f'<svg viewBox="{self.box}"{fit} aria-hidden="true"><use href="#svg-{self.name}"/></svg>'

    def scrolled(self, content: str, attributes: str) -> str:
        """Return SVG content in a region that scrolls where the screen is too narrow to read it."""
        svg = f'<svg {attributes} role="img" aria-label="{self.alt}" viewBox="{self.box}" style="{self.style}">'
        return f'<div class="scroll" role="region" tabindex="0" aria-label="{self.alt}">{svg}{content}</svg></div>'


def place(bodies: Iterable[str], folder: Path) -> tuple[list[str], dict[str, Drawing]]:
    """Put the run's figures into chapters, in the place of the pictures that name them in `data-figure`.

    Args:
        bodies: The chapters' HTML.
        folder: The run's figures; one without an SVG there stays the picture that it is.

    Returns:
        The chapters, no figure in them twice, and the figures by name.
    """
    drawn: dict[str, Drawing] = {}

    def fill(found: re.Match[str]) -> str:
        picture = BeautifulSoup(found[0], "html.parser").img
        if "data-figure" not in picture.attrs:
            return found[0]
        name, source, alt = picture["data-figure"], picture["src"], html.escape(picture["alt"])
        name = re.sub(r"[^\w-]", "-", name) or f"picture-{hashlib.sha256(source.encode()).hexdigest()[:12]}"
        file = folder / f"{name}.svg"
        if name in drawn:
            return drawn[name].again()
        if file.is_file():
            drawn[name], inside = inline(file.read_bytes(), name, alt)
        else:
            drawn[name], inside = Drawing(name, alt), f'<img src="{html.escape(source)}" alt="{alt}">'
        return f'<figure class="picture" id="figure-{name}">{inside}</figure>'

    return [re.sub(r"<img\b[^>]*>", fill, body) for body in bodies], drawn


def inline(source: bytes, name: str, alt: str) -> tuple[Drawing, str]:
    """Return an SVG file of the run as a drawing of the page, and its HTML. Only shapes and texts of it stay.

    `figures.save` begins its ids with its name, says at which widths it can be read, and describes it in its title; one
    without a title is described by `alt`, which is HTML.
    """
    parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True)
    root = etree.fromstring(source, parser)
    for title in root.findall(f"{SVG}title"):  # as an element it would follow the pointer as a tooltip
        alt = html.escape(title.text or "") or alt
        root.remove(title)
    for element in list(root.iter()):
        if element.tag not in ALLOWED:
            element.getparent().remove(element)
        for key in [key for key, value in element.attrib.items() if not harmless(key, value)]:
            del element.attrib[key]
    widths = {"min-width": root.get("data-min-width", ""), "max-width": root.get("data-width", "")}
    limits = [f"{key}: {value}px" for key, value in widths.items() if value.isdecimal()]
    style = "; ".join(filter(None, [root.get("style", ""), *limits]))
    drawing = Drawing(name, alt, html.escape(root.get("viewBox", "")), html.escape(style))
    content = "".join(etree.tostring(child, encoding="unicode") for child in root)
    content = re.sub(r' xmlns(:\w+)?="[^"]*"', "", content)
    return drawing, drawing.scrolled(content, f'id="svg-{name}"') + in_words(root)


def in_words(root: etree._Element) -> str:
    """Return the sentences of a figure that is made of them, to unfold where its lines are wider than the screen.

    Lines on a panel are black and follow each other; what has another color is a heading.
    """
    lines = [(element.text or "", bool(BODY.search(element.get("style", "")))) for element in root.iter(f"{SVG}text")]
    if sum(len(text) for text, body in lines if body) < SENTENCES:
        return ""
    shown = ""
    for body, group in itertools.groupby(lines, key=lambda line: line[1]):
        texts = [html.escape(text.strip()) for text, _ in group]
        shown += f"<p>{joined(texts)}</p>" if body else "".join(f"<p><b>{text}</b></p>" for text in texts)
    return f'<details class="words"><summary>The text of the figure</summary>{shown}</details>'


def joined(lines: list[str]) -> str:
    """Return lines as running text: a space between words, none between Chinese characters; a list keeps its lines."""
    text = lines[0]
    for line in lines[1:]:
        if line.startswith("- "):
            text += f"<br>{line}"
        else:
            text += f" {line}" if text[-1:].isascii() and line[:1].isascii() else line
    return text


def harmless(key: str, value: str) -> bool:
    """Return whether an attribute neither runs nor loads anything."""
    if etree.QName(key).localname == "href":
        return value.startswith(("#", "data:image/png;base64,"))
    return not key.startswith("on") and not re.search(r"url\(\s*['\"]?[^#'\"\s]", value)
