"""SVG for a page: text stays text, colors follow the page's, and several pictures can share one page."""

import re
from collections.abc import Mapping
from xml.etree import ElementTree

from cbtllm_utils.plots import text_layout

# Colors of a picture that the page decides on, for light and dark mode: color as drawn -> CSS.
INK, FAINT, LINE, GROUND = "#1d1d1f", "#6b6b70", "#d9d9de", "#fefefe"
OF_THE_PAGE = {
    INK: "currentColor",
    FAINT: f"var(--faint, {FAINT})",
    LINE: f"var(--line, {LINE})",
    GROUND: f"var(--paper, {GROUND})",
}
ON_WASH = "#010101"  # text on a panel of a pale color, which is dark on a dark page
DARK_INK, DARK_GROUND = "#e8e8ea", "#17181a"  # on a dark page
FAMILY = "'Noto Sans CJK SC', 'PingFang SC', 'Microsoft YaHei', 'DejaVu Sans', sans-serif"
ROOT_STYLE = f"font-family: {FAMILY}; stroke-linejoin: round; stroke-linecap: butt"
READABLE = 9  # CSS pixels: the smallest type at the picture's least width
SVG = "{http://www.w3.org/2000/svg}"
HREF = "{http://www.w3.org/1999/xlink}href"
ElementTree.register_namespace("", SVG[1:-1])


def mix(color: str, other: str, share: float) -> str:
    """Return a color with `share` of it and the rest of another; both are written as #RRGGBB."""
    pairs = [(int(color[i : i + 2], 16), int(other[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(share * a + (1 - share) * b):02x}" for a, b in pairs)


def pale(color: str) -> str:
    """Return a label's color on a dark page."""
    return mix(color, "#FFFFFF", 0.4)


def dark_wash(color: str) -> str:
    """Return the background, on a dark page, of a panel with a bar of this color."""
    return mix(color, DARK_GROUND, 0.35)


def inlinable(drawn: bytes, name: str, alt: str, dark: Mapping[str, str]) -> str:
    """Return matplotlib's SVG as an element that HTML can contain.

    Args:
        drawn: The SVG, its text not converted to paths.
        name: The figure's name, which begins every id.
        alt: What the picture shows, for readers who cannot see it: its `<title>`.
        dark: Colors as drawn, and what they are on a dark page.

    Returns:
        An `<svg>` without width and height, as wide as its container. Its attribute `data-width` is the width in CSS
        pixels beyond which it looks coarse; below `data-min-width` its text is too small to read, and a page should
        scroll it sideways.
    """
    root = ElementTree.fromstring(drawn)
    points = float(root.get("viewBox").split()[2])
    remove(root, "metadata", "style")
    sizes = [text_size(text) for text in root.iter(f"{SVG}text")]
    root.attrib = {
        "viewBox": root.get("viewBox"),
        "role": "img",
        "style": ROOT_STYLE,
        "data-width": str(round(points * 110 / 72)),
        "data-min-width": str(round(points * READABLE / min(sizes, default=READABLE))),
    }
    title = ElementTree.Element(f"{SVG}title")
    title.text = alt
    root.insert(0, title)
    rename_ids(root, name)
    for element in root.iter():
        if "style" in element.attrib:
            colored = re.sub(
                r"([\w-]+): (#[0-9a-f]{6})", lambda found: declared(*found.groups(), dark), element.get("style")
            )
            element.set("style", colored)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def declared(name: str, color: str, dark: Mapping[str, str]) -> str:
    """Return a color in CSS: by its name where the page decides on it, else as drawn and as it is in the dark.

    A browser that does not know `light-dark()` takes the color as drawn.
    """
    if color in dark:
        return f"{name}: {color}; {name}: light-dark({color}, {dark[color]})"
    return f"{name}: {OF_THE_PAGE.get(color, color)}"


def remove(element: ElementTree.Element, *tags: str) -> None:
    """Remove every element below this one that has one of the tags."""
    for child in list(element):
        if child.tag.removeprefix(SVG) in tags:
            element.remove(child)
        else:
            remove(child, *tags)


def rename_ids(root: ElementTree.Element, name: str) -> None:
    """Begin every id that something refers to with the name, and remove the others."""
    used = set()
    for element in root.iter():
        if target := element.attrib.pop(HREF, None):
            used.add(target[1:])
            element.set("href", f"#{name}-{target[1:]}")
        for key, value in element.attrib.items():
            used.update(re.findall(r"url\(#([^)]+)\)", value))
            element.set(key, re.sub(r"url\(#", f"url(#{name}-", value))
    for element in root.iter():
        if (found := element.attrib.pop("id", None)) and found in used:
            element.set("id", f"{name}-{found}")


def text_size(text: ElementTree.Element) -> float:
    """Return the font size of a text in points, and fix what a browser would decide otherwise.

    The font is the page's. A text keeps its width where the reader has another font, so that it stays in its box.
    """
    style = dict(part.split(": ", 1) for part in text.get("style", "").rstrip(";").split("; "))
    style.pop("font-family", None)
    size = float(style["font-size"].removesuffix("px"))
    text.set("style", "; ".join(f"{key}: {value}" for key, value in ({"fill": "#000000"} | style).items()))
    if text.text and len(text.text) >= 8 and "font-weight" not in style:
        text.set("textLength", f"{text_layout.width(text.text, size) * 72:.1f}")
        text.set("lengthAdjust", "spacingAndGlyphs")
    return size
