"""The last run's notebooks and pictures without what differs from run to run."""

import base64
import io
import re

import nbformat

from cbtllm_utils import files
from cbtllm_utils.workflow import graph


def executed(profile: str) -> list[tuple[str, nbformat.NotebookNode]]:
    """The last run's notebooks in order, as (name, notebook) without what differs from run to run."""
    found = []
    for task in graph.tasks(profile):
        place = files.path(f"runs/{profile}/notebooks/{task.name}.ipynb")
        if not place.exists():
            raise files.InputError(f"{files.shown(place)}: not there; `make reproduce PROFILE={profile}` makes it")
        found.append((task.name, still(nbformat.read(place, 4))))
    return found


def still(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook without stderr (progress bars, what was timed), addresses and papermill's notes.

    The same run on the same machine gives the same bytes.
    """
    kept = {key: notebook.metadata[key] for key in ("kernelspec",) if key in notebook.metadata}
    notebook.metadata = nbformat.from_dict(kept | {"generated": "by `make release`; the source is in notebooks/"})
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
        cell.metadata = nbformat.from_dict({"tags": cell.metadata.get("tags", [])})
        if "injected-parameters" in cell.metadata["tags"]:
            cell.source = re.sub(r'"([^"\n]*)"', lambda m: f'"{files.public(m[1])}"', cell.source)
        if cell.cell_type == "code":
            words = re.search(r'figures\.save\(.*"([\w{}]+)"\)', cell.source, re.S)
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            for output in cell.outputs:
                if words and "image/png" in output.get("data", {}):
                    output["metadata"] = {"image/png": {"alt": re.sub(r"[{}_]+", " ", words[1])}}
                for kind, text in output.get("data", {}).items():
                    if isinstance(text, str) and kind.startswith("text/"):
                        output["data"][kind] = steady(text, f"{number:02d}")
                    elif kind == "image/png":
                        output["data"][kind] = base64.b64encode(palette(base64.b64decode(text), 24)).decode()
    return notebook


def palette(picture: bytes, colours: int = 256) -> bytes:
    """A PNG in its most frequent colours: what charts and coloured texts need, at a third of the size.

    They stay exactly as they are, which Pillow's own palettes do not grant even to white; others go to the nearest.
    """
    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(picture)) as image:
        pixels = np.asarray(image.convert("RGB"), dtype=int)
    packed = pixels @ [1 << 16, 1 << 8, 1]
    found, place, count = np.unique(packed, return_inverse=True, return_counts=True)
    every = np.stack([found >> 16, found >> 8 & 255, found & 255], axis=1)
    frequent = every[np.argsort(-count, kind="stable")[:colours]]
    nearest = ((every[:, None] - frequent) ** 2).sum(axis=2).argmin(axis=1)
    indexed, smaller = Image.fromarray(nearest[place].reshape(packed.shape).astype(np.uint8)), io.BytesIO()
    indexed.putpalette(frequent.astype(np.uint8).tobytes())
    indexed.save(smaller, "PNG", optimize=True)
    return min(picture, smaller.getvalue(), key=len)


def steady(text: str, number: str) -> str:
    """An output with what is drawn by chance put right: pandas' names of tables, addresses of objects in memory."""
    names = dict.fromkeys(re.findall(r"\bT_[0-9a-f]{5}(?![0-9a-zA-Z])", text))
    for place, name in enumerate(names):
        text = text.replace(name, f"T_{number}_{place}")
    return re.sub(r" at 0x[0-9a-f]+", "", text)
