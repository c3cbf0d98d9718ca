"""Bind the executed notebooks into one self-contained page, and print it."""

import argparse
import html
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2
import nbformat
import pandas as pd

from cbtllm_utils import files, notices
from cbtllm_utils.plots.pages import STYLE
from cbtllm_utils.workflow import release

TEMPLATE = Path(__file__).with_name("report_template")
TITLE = "CBT-LLM: the study, run again"


def mathml(tex: str, block: bool) -> str:
    """Return a formula as MathML, which browsers draw without a script, or as TeX where it cannot be read."""
    from math_core import LatexError, LatexToMathML

    try:
        return LatexToMathML().convert_with_local_state(tex, displaystyle=block)
    except LatexError:
        return html.escape(f"$${tex}$$" if block else f"${tex}$", quote=False)


@jinja2.pass_context
def prose(context: Mapping, source: str) -> str:
    """Return Markdown as HTML, its TeX as MathML; `context`, which jinja passes, holds the cell and its pictures."""
    from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

    class Renderer(IPythonRenderer):
        def inline_math(self, body: str) -> str:
            return mathml(body, block=False)

        def block_math(self, body: str) -> str:
            return mathml(body, block=True)

        def latex_environment(self, name: str, body: str) -> str:
            return mathml(rf"\begin{{{name}}}{body}\end{{{name}}}", block=True)

    pictures = {"embed_images": True, "attachments": context.get("cell", {}).get("attachments", {})}
    return MarkdownWithMath(Renderer(escape=False, exclude_anchor_links=True, **pictures)).render(source)


def chapter(name: str, notebook: nbformat.NotebookNode) -> dict:
    """Return one notebook as a chapter: name, number, title, backbone, question, and its body in HTML.

    No id in a body occurs in another one.
    """
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(
        template_name=TEMPLATE.name, extra_template_basedirs=[str(TEMPLATE.parent)], embed_images=True
    )
    exporter.register_filter("markdown2html", prose)
    opening = notebook.cells[0].source
    heading = re.search(r"^# (?:\d+ · )?(.+)$", opening, re.M)
    question = re.search(r"^\*\*Question:\*\* (.+)$", opening, re.M)
    number, _, backbone = name.partition("-")
    body = exporter.from_notebook_node(notebook)[0]
    body = re.sub(r"""(<h[1-6])\s+id="[^"]*\"""", r"\1", body)
    body = re.sub(r"\bT_(?=\d\d_\d)", f"T_{name}_", body.replace('id="cell-id=', f'id="{name}-'))
    if backbone:
        body = body.replace("</h1>", f" – {html.escape(backbone)}</h1>", 1)
    found = {"title": heading[1] if heading else name, "question": question[1] if question else ""}
    return {"name": name, "number": int(number[:2]), "backbone": backbone, "body": body} | found


def page(profile: str, chapters: list[dict], provenance: dict, findings: Sequence[Mapping] = ()) -> str:
    """Return the whole report as HTML: notices, findings, contents, chapters, provenance."""
    folder = jinja2.FileSystemLoader(TEMPLATE)
    return (
        jinja2.Environment(loader=folder, autoescape=True, undefined=jinja2.StrictUndefined)
        .get_template("page.html.j2")
        .render(
            title=TITLE,
            profile=profile,
            conditions=conditions(provenance),
            style=STYLE.read_text(encoding="utf-8"),
            notices=notices.NOTICES.values(),
            findings=findings,
            chapters=chapters,
            provenance=provenance,
        )
    )


def conditions(provenance: dict) -> str:
    """Return the conditions under which most notebooks of a run made their numbers."""
    said = [entry.get("parameters", {}).get("conditions", "") for entry in provenance["notebooks"].values()]
    return max(said, key=said.count, default="")


def findings(profile: str) -> list[dict]:
    """Return the rows of the findings that notebook 09 wrote, without their conditions; none where it did not."""
    place = files.path(f"runs/{profile}/tables/findings.csv")
    if not place.is_file():
        return []
    found = pd.read_csv(place, dtype=str, keep_default_na=False)
    return found.drop(columns="conditions").to_dict("records")


def build(profile: str) -> Path:
    """Write runs/<profile>/report.html, one file that fetches nothing from anywhere, and return its path."""
    chapters = [chapter(name, notebook) for name, notebook in release.executed(profile)]
    text = page(profile, chapters, files.read_json(f"runs/{profile}/provenance.json"), findings(profile))
    return files.write_text(f"runs/{profile}/report.html", text)


def printed(page: Path) -> Path | None:
    """Print the page as a PDF beside it with Chromium and return its path; None where there is no Chromium."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        return None
    with files.atomic(page.with_suffix(".pdf")) as temporary:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer"]
        command = [browser, *options, f"--print-to-pdf={temporary}", page.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if not temporary.exists():
            reason = " ".join(done.stderr.split())[-200:]
            raise files.InputError(f"{files.shown(page)}: Chromium printed no PDF ({reason})")
    return page.with_suffix(".pdf")


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m cbtllm_utils.workflow.report", description="Bind a run into one page."
    )
    parser.add_argument("--profile", default="demo")
    parser.add_argument("--release", action="store_true", help="refresh rendered/ and figures/<profile>/ as well")
    parser.add_argument("--pdf", action="store_true", help="print the page as well, where there is a Chromium")
    parser.add_argument("--check", action="store_true", help="only say whether rendered/ is as new as what makes it")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Bind a run into one page; return 0, or 1 with one line for an error or for copies that are out of date."""
    given = arguments(argv)
    try:
        if given.check:
            old = release.out_of_date()
            print(f"rendered/ is older than {', '.join(old)}; run `make release`" if old else "rendered/ is current")
            return int(bool(old))
        bound = build(given.profile)
        print(files.shown(bound))
        if given.pdf:
            pdf = printed(bound)
            print(files.shown(pdf) if pdf else "no PDF: there is no Chromium here")
        if given.release:
            release.release(given.profile)
    except (files.InputError, OSError) as error:
        print(f"error: {files.explain(error) if isinstance(error, OSError) else error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
