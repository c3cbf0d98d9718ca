"""Executed notebooks without what differs from run to run: the same run on the same machine gives the same text."""

import base64
import io
import re

import nbformat
from PIL import Image

from cbtllm_utils import files
from cbtllm_utils.workflow import graph


def executed(profile: str) -> list[tuple[str, nbformat.NotebookNode]]:
    """Return the last run's notebooks in order, as (name, notebook), stripped."""
    found = []
    for task in graph.tasks(profile):
        place = files.path(f"runs/{profile}/notebooks/{task.name}.ipynb")
        if not place.exists():
            raise files.InputError(f"{files.shown(place)}: no such file; `make reproduce PROFILE={profile}` makes it")
        found.append((task.name, stripped(nbformat.read(place, 4))))
    return found


def stripped(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Remove stderr (progress bars, times), addresses and papermill's notes from a notebook, and return it."""
    kernel = {key: notebook.metadata[key] for key in ("kernelspec",) if key in notebook.metadata}
    notebook.metadata = nbformat.from_dict(kernel | {"generated": "by `make release`; the source is in notebooks/"})
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
        cell.metadata = nbformat.from_dict({"tags": cell.metadata.get("tags", [])})
        if "injected-parameters" in cell.metadata["tags"]:
            cell.source = re.sub(r'"([^"\n]*)"', lambda m: f'"{files.public(m[1])}"', cell.source)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            for output in cell.outputs:
                strip_output(output, cell.source, f"{number:02d}")
    return notebook


def strip_output(output: nbformat.NotebookNode, source: str, number: str) -> None:
    """Make one output of a cell the same in every run; give its picture a text for those who cannot see it."""
    data = output.get("data", {})
    words = re.search(r'figures\.save\(.*"([\w{}]+)"\)', source, re.S)
    if words and "image/png" in data:
        output["metadata"] = {"image/png": {"alt": re.sub(r"[{}_]+", " ", words[1])}}
    for kind, text in data.items():
        if isinstance(text, str) and kind.startswith("text/"):
            data[kind] = without_chance(text, number)
        elif kind == "image/png":
            data[kind] = base64.b64encode(smaller(base64.b64decode(text))).decode()


def without_chance(text: str, number: str) -> str:
    """Return a text with pandas' random names of tables numbered, and without addresses in memory."""
    names = dict.fromkeys(re.findall(r"\bT_[0-9a-f]{5}(?![0-9a-zA-Z])", text))
    for place, name in enumerate(names):
        text = text.replace(name, f"T_{number}_{place}")
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def smaller(picture: bytes) -> bytes:
    """Return a PNG with at most 256 colors: charts look the same at a third of the size."""
    found = io.BytesIO()
    with Image.open(io.BytesIO(picture)) as image:
        reduced = image.convert("RGB").quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        reduced.save(found, "PNG", optimize=True)
    return min(picture, found.getvalue(), key=len)
