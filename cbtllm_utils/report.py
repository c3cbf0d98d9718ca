"""The executed notebooks bound into one self-contained page; and their copies for readers, committed with the code."""

import argparse
import re
import shutil
import sys
from pathlib import Path

import jinja2
import nbformat

from cbtllm_utils import changes, files, graph, profiles, safety

HERE = Path(__file__).parent
TEMPLATE = HERE / "report_template"
TITLE = "CBT-LLM, reproduced"


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
    """The notebook without progress bars, times and papermill's notes: the same run gives the same bytes."""
    kept = {key: notebook.metadata[key] for key in ("kernelspec",) if key in notebook.metadata}
    notebook.metadata = nbformat.from_dict(kept | {"generated": "by `make release`; the source is in notebooks/"})
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
        cell.metadata = nbformat.from_dict({"tags": cell.metadata.get("tags", [])})
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


def chapter(name: str, notebook: nbformat.NotebookNode) -> dict:
    """One notebook as a chapter: name, number, title and its body in HTML."""
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(
        template_name=TEMPLATE.name, extra_template_basedirs=[str(TEMPLATE.parent)], embed_images=True
    )
    heading = re.search(r"^# (?:\d+ · )?(.+)$", notebook.cells[0].source, re.M)
    number, _, backbone = name.partition("-")
    title = (heading[1] if heading else name) + (f" – {backbone}" if backbone else "")
    return {"name": name, "number": int(number[:2]), "title": title, "body": exporter.from_notebook_node(notebook)[0]}


def build(profile: str) -> Path:
    """The path of runs/<profile>/report.html: one file that fetches nothing from anywhere."""
    page = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATE), autoescape=True).get_template("page.html.j2")
    text = page.render(
        title=TITLE,
        profile=profile,
        style=(HERE / "report.css").read_text(),
        notices=safety.NOTICES.values(),
        chapters=[chapter(name, notebook) for name, notebook in executed(profile)],
        manifest=files.read_json(f"runs/{profile}/manifest.json"),
    )
    return files.write_text(f"runs/{profile}/report.html", text)


def release(profile: str) -> None:
    """Nothing, after the run's tables and figures lie in figures/<profile>/ and its notebooks in rendered/."""
    rendered, shelf = files.path("rendered"), files.path(f"figures/{profile}")
    for name, notebook in executed(profile):
        files.write_text(rendered / f"{name}.ipynb", nbformat.writes(notebook) + "\n")
    with files.atomic(shelf) as temporary:
        temporary.mkdir()
        for folder in ("tables", "figures"):
            shutil.copytree(files.path(f"runs/{profile}/{folder}"), temporary, dirs_exist_ok=True)
    made_from = {name: made(name) for name in profiles.names(profiles.NOTEBOOKS, ".ipynb")}
    files.write_json(rendered / "made_from.json", {"profile": profile, "notebooks": made_from})


def made(notebook: str) -> str:
    """The hash of what an executed copy shows and was made by: prose, code, package."""
    everything = [cell["source"] for cell in profiles.cells(notebook)] + sorted(changes.sources(notebook).values())
    return files.text_hash("\n".join(everything))


def main(argv: list[str] | None = None) -> int:
    """The exit status of `python -m cbtllm_utils.report --profile demo [--release]`."""
    parser = argparse.ArgumentParser(prog="python -m cbtllm_utils.report", description="Bind a run into one page.")
    parser.add_argument("--profile", default="demo")
    parser.add_argument("--release", action="store_true", help="refresh rendered/ and figures/<profile>/ as well")
    given = parser.parse_args(argv)
    try:
        print(files.shown(build(given.profile)))
        if given.release:
            release(given.profile)
    except (files.InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
