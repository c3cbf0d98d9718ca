"""Bind the executed notebooks into one self-contained page, and print it."""

import argparse
import base64
import hashlib
import html
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2
import nbformat
import pandas as pd
from bs4 import BeautifulSoup

from cbtllm_utils import files, notices, published
from cbtllm_utils.plots.pages import STYLE
from cbtllm_utils.workflow import (
    release,
    report_figures,
    report_guides,
    report_opening,
    report_parameters,
    report_tables,
)

TEMPLATE = Path(__file__).with_name("report_template")
TITLE = "CBT-LLM: the study, rebuilt and checked"
TABLES = ("table1_dataset", "table2_distortions", "table3_recognition", "table4_automatic_evaluation")
TABLES += ("table5_human_evaluation",)
FIGURES = {
    "figure1_data_quality": "Figure 1: an answer of the forum, and a CBT reply to the same post",
    "figure2_overview": "Figure 2: how CBT-LLM is trained",
    "figure3_prompt": "Figure 3: the CBT prompt",
    "figure4_case_study": "Figure 4: a reply, component by component",
}
OF_ALL = {"04_lora_training": "training_all", "05_answer_generation": "answers_all"}  # notebook -> table and figure
APPENDIX = 0  # the number of the chapter that comes last
ANSWER = "<h3>What we found</h3>"


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


def chapter(name: str, notebook: nbformat.NotebookNode, profile: str = "demo") -> dict:
    """Return one notebook as a chapter: name, number, title, backbone, question, and its body in HTML, without ids.

    Its pictures name their figure in `data-figure`.
    """
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(
        template_name=TEMPLATE.name, extra_template_basedirs=[str(TEMPLATE.parent)], embed_images=True
    )
    exporter.register_filter("markdown2html", prose)
    resources = {"command": report_parameters.command(name, profile)}
    opening = notebook.cells[0].source
    heading = re.search(r"^# (?:\d+ · )?(?:Appendix: )?(.+)$", opening, re.M)
    question = re.search(r"^\*\*Question:\*\* (.+)$", opening, re.M)
    number, _, backbone = name.partition("-")
    body = report_tables.tidy(exporter.from_notebook_node(report_parameters.merged(notebook), resources)[0])
    found = {
        "title": heading[1][:1].upper() + heading[1][1:] if heading else name,
        "question": question[1] if question else "",
    }
    return {"name": name, "number": int(number[:2]), "backbone": backbone, "body": body} | found


def tables(folder: Path, names: Sequence[str] = TABLES) -> list[str]:
    """Return those of the run's tables that exist, as HTML: caption, rows, and the conditions of the numbers."""
    places = [folder / f"{name}.md" for name in names]
    return [table(place.read_text(encoding="utf-8")) for place in places if place.is_file()]


def table(markdown: str) -> str:
    """Return a table that `plots.tables.save` wrote as Markdown, as HTML with its title as the caption."""
    title, _, rest = markdown.strip().partition("\n\n")
    rows, _, said = rest.rpartition("\n\n")
    shown = prose({}, rows)
    caption = html.escape(f"{title.strip('*')} ({said.strip('*')})", quote=False)
    return report_tables.tidy(shown.replace("<table>", f"<table><caption>{caption}</caption>", 1))


def of_all_backbones(name: str, run: Path) -> str:
    """Return the table and the figure of all backbones, for a chapter that shows one of them."""
    notebook, _, backbone = name.partition("-")
    shown = OF_ALL.get(notebook, "")
    found = "".join(tables(run / "tables", [shown])) if shown else ""
    if (run / "figures" / f"{shown}.svg").is_file():
        found += f'<img src="" alt="{shown.replace("_", " ")}" data-figure="{shown}">'
    if not found:
        return ""
    below = f"The rest of the chapter is the notebook as it ran for {html.escape(published.backbone_title(backbone))}; "
    return f'<h3 id="{shown}">All backbones</h3>{found}<p>{below}it ran in the same way for the others.</p>'


def after_answer(body: str, more: str) -> str:
    """Return a chapter with more HTML behind "What we found", or before its first part where it has no such heading."""
    before, answer, rest = body.partition(ANSWER)
    before, answer, rest = (before, answer, rest) if answer else ("", "", body)
    found, part, rest = rest.partition("<h3")
    return f"{before}{answer}{found}{more}{part}{rest}"


def ran_first(body: str) -> str:
    """Return the appendix with a word on its place."""
    return body.replace(
        "</h2>", "</h2>\n<p><em>An appendix, which ran first: the other notebooks use its models.</em></p>", 1
    )


def told_once(body: str, run: Path, chapters: Sequence[Mapping]) -> str:
    """Return a chapter that links to the tables and figures of all backbones, which two others show."""
    soup = BeautifulSoup(body, "html.parser")
    for one in chapters:
        shown = OF_ALL.get(one["name"].partition("-")[0], "")
        place = run / "tables" / f"{shown}.md"
        if not place.is_file():
            continue
        title = report_tables.title(files.read_text(place).partition("\n\n")[0].strip("*"))
        for caption in soup.find_all("figcaption"):
            if report_tables.title(report_tables.words(caption)) == title:
                link = f'<p><a href="#{shown}">{html.escape(title)}: see chapter {one["number"]}</a>.</p>'
                figure = caption.find_parent("figure")
                (figure.find_parent("details") or figure).replace_with(BeautifulSoup(link, "html.parser"))
        for picture in soup.find_all("img", attrs={"data-figure": shown}):
            picture.decompose()
    return str(soup)


def page(profile: str, chapters: list[dict], provenance: dict, findings: Sequence[Mapping] = ()) -> str:
    """Return the whole report as HTML: notices, findings, Tables 1-5, Figures 1-4, chapters, provenance."""
    run = files.path(f"runs/{profile}")
    chapters = sorted(chapters, key=lambda one: (one["number"] == APPENDIX, one["number"]))
    guides = report_guides.read(prose)
    shown = [told_once(one["body"], run, chapters) for one in chapters]
    shown = [after_answer(body, of_all_backbones(one["name"], run)) for one, body in zip(chapters, shown, strict=True)]
    shown = [ran_first(body) if one["number"] == APPENDIX else body for one, body in zip(chapters, shown, strict=True)]
    seen: set[str] = set()
    shown = [report_tables.fold_repeats(body, seen) for body in shown]
    bodies, drawn = report_figures.place([linked(body, chapters, guides) for body in shown], run / "figures")
    said = conditions(provenance)
    script = (TEMPLATE / "page.js").read_text(encoding="utf-8")
    folder = jinja2.FileSystemLoader(TEMPLATE)
    template = jinja2.Environment(loader=folder, autoescape=True, undefined=jinja2.StrictUndefined)
    text = template.get_template("page.html.j2").render(
        title=TITLE,
        profile=profile,
        conditions=said,
        explained=report_opening.explained(said),
        short=report_opening.in_short(run, provenance, findings),
        key=report_opening.KEY,
        cited=report_opening.citation(),
        guides=[one | {"body": linked(one["body"], chapters, guides)} for one in guides],
        style=STYLE.read_text(encoding="utf-8") + (TEMPLATE / "report.css").read_text(encoding="utf-8"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        notices=notices.NOTICES,
        findings=findings,
        tables=tables(run / "tables"),
        figures=[(drawn[name], caption) for name, caption in FIGURES.items() if name in drawn],
        chapters=[one | {"body": body} for one, body in zip(chapters, bodies, strict=True)],
        appendix=APPENDIX,
        provenance=provenance,
    )
    return named_once(text)


def linked(body: str, chapters: Sequence[Mapping], guides: Sequence[Mapping] = ()) -> str:
    """Return HTML whose links lead to chapters and guides of the page, or from the report to files of the project."""
    places = {one["name"].partition("-")[0]: one["name"] for one in chapters}

    def target(found: re.Match[str]) -> str:
        return f'href="#{places[found[1]]}"' if found[1] in places else found[0]

    body = report_guides.linked(body, guides)
    body = re.sub(r'href="(?:\.\./notebooks/)?(\d\d_\w+)\.ipynb"', target, body)
    return body.replace('href="../', 'href="../../')  # The report is a folder below where notebooks are.


def named_once(text: str) -> str:
    """Return a page whose regions have names of their own: of those with the same name the second is numbered."""
    seen: Counter[str] = Counter()

    def number(found: re.Match[str]) -> str:
        seen[found[2]] += 1
        return f"{found[1]}{found[2]} ({seen[found[2]]})" if seen[found[2]] > 1 else found[0]

    return re.sub(r'(<div\b(?=[^>]*role="region")[^>]*?aria-label=")([^"]*)', number, text)


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
    found = found.drop(columns="conditions")
    return found[sorted(found, key=lambda name: name != "verdict")].to_dict("records")


def build(profile: str) -> Path:
    """Write runs/<profile>/report.html, one file that fetches nothing from anywhere, and return its path."""
    chapters = [chapter(name, notebook, profile) for name, notebook in release.executed(profile)]
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
