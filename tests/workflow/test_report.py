"""The report fetches nothing and holds everything; the released copies are the same bytes for the same run."""

import base64
import hashlib
import io
import re
import shutil
from html.parser import HTMLParser

import nbclient
import nbformat
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from PIL import Image

from cbtllm_utils import files, notices
from cbtllm_utils.plots import charts, figures, pages, tables
from cbtllm_utils.workflow import graph, profiles, provenance, release, report, report_parameters, report_tables

NOTEBOOKS = profiles.names(profiles.NOTEBOOKS, ".ipynb")
CELLS = [
    nbformat.v4.new_markdown_cell(
        "# 3 · A title\n\n**Question:** is it <so>?\n\nProse with $x_1$.\n\n## Part\n\n## Part"
    ),
    nbformat.v4.new_code_cell("run = 'runs/x'", metadata={"tags": ["parameters"]}),
    nbformat.v4.new_code_cell("run = 'runs/y'", metadata={"tags": ["injected-parameters"]}),
    nbformat.v4.new_code_cell("import sys, time, pandas as pd\nprint(time.time(), file=sys.stderr)\nprint('shown')"),
    nbformat.v4.new_code_cell("pd.DataFrame({'a': ['<b>x</b>', '灾难化']}).style.format(escape='html')"),
    nbformat.v4.new_code_cell("object()"),
]
SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10" data-width="500"><path d="M0 0"/></svg>'
PROVENANCE = {
    "revision": "abc",
    "machine": {"system": "Linux"},
    "libraries": {"torch": "2"},
    "inputs": {"data/x": "0" * 64},
}
PROVENANCE |= {"notebooks": {"03_x": {"seconds": 1.2, "peak_memory_mib": 100}}}


def execute():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.from_dict(cell) for cell in CELLS])
    return nbclient.NotebookClient(notebook, kernel_name="python3").execute()


@pytest.fixture(scope="module")
def twice():
    """The same notebook, executed twice in kernels of its own."""
    return execute(), execute()


class Reader(HTMLParser):
    """The ids, addresses and tags of a page."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.tags = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        self.links += [value for name, value in attrs if name in ("src", "href")]


def chapters(notebook):
    return [
        report.chapter(name, release.stripped(nbformat.from_dict(notebook)))
        for name in ("03_x", "04_y-qwen-7b", "04_y-b")
    ]


def test_the_same_run_gives_the_same_bytes(twice):
    one, two = (nbformat.writes(release.stripped(notebook)) for notebook in twice)
    assert one == two
    assert "shown" in one and "<b>" not in one.replace("<b>x</b>', '", "")


def test_where_a_stream_was_cut_is_not_seen():
    """print(1, 2) may arrive in two parts, of which a line of stderr may come between."""
    parts = [("stdout", "108"), ("stderr", "50%"), ("stdout", " answers\n")]
    outputs = [nbformat.v4.new_output("stream", name=name, text=text) for name, text in parts]
    cell = nbformat.v4.new_code_cell("print(108, 'answers')", outputs=outputs)
    shown = release.stripped(nbformat.v4.new_notebook(cells=[cell])).cells[0].outputs
    assert [output.text for output in shown] == ["108 answers\n"]


@pytest.mark.parametrize(
    ("text", "steady"),
    [
        ("<table id='T_0a1b2'> <td id='T_0a1b2_row0'> T_ffff0", "<table id='T_07_0'> <td id='T_07_0_row0'> T_07_1"),
        ("<pandas.io.Styler at 0x7f00aa>", "<pandas.io.Styler>"),
        ("T_table2_distortions T_0a1b2c", "T_table2_distortions T_0a1b2c"),  # names of ours are left alone
    ],
)
def test_what_chance_draws_is_put_right(text, steady):
    assert release.without_chance(text, "07") == steady


def test_copies_of_tables_lose_marks_that_no_style_names():
    frame = pd.DataFrame({"a": ["x"], "b": [1]})
    style = tables.show(frame, "caption", name="shown")
    whole = style.to_html()
    slim = release.slim(whole)
    assert len(slim) < 0.9 * len(whole) and pd.read_html(io.StringIO(slim))[0].equals(
        pd.read_html(io.StringIO(whole))[0]
    )
    assert "#T_shown .col1" in slim and '<td class="col1" >1</td>' in slim and 'id="T_shown"' in slim
    colored = style.map(lambda value: "color: red").to_html()
    assert release.slim(colored) == colored, "its style names cells"


def test_the_findings_open_the_page(twice):
    rows = [{"claim": "it <holds>", "evidence": "1 of 2", "verdict": "holds in part"}]
    text = report.page("demo", chapters(twice[0]), PROVENANCE, rows)
    assert text.index("</aside>") < text.index('id="findings"') < text.index("<article")
    assert '<td data-label="claim">it &lt;holds&gt;</td><td data-label="evidence">1 of 2</td>' in text
    assert '<td data-label="verdict" class="verdict">holds in part</td>' in text
    assert 'id="findings"' not in report.page("demo", chapters(twice[0]), PROVENANCE)


def test_ids_are_used_once_and_links_lead_somewhere_in_the_page(twice):
    page = Reader(report.page("demo", chapters(twice[0]), PROVENANCE))
    assert len(page.ids) == len(set(page.ids)) >= 4, "three chapters and the provenance"
    inside = [link[1:] for link in page.links if link.startswith("#")]
    assert set(inside) <= set(page.ids) and "guide-provider-a-server-for-notebook-05" in inside
    outside = [link for link in page.links if not link.startswith(("#", "data:", "https:"))]
    assert [link for link in outside if not (files.path("runs/demo") / link).resolve().exists()] == []
    assert not [link for link in outside if "docs/" in link]


def test_links_lead_from_the_report_where_they_lead_from_the_notebooks():
    chapters = [{"name": "03_distortion_analysis"}, {"name": "04_lora_training-qwen-7b"}]
    links = ["../docs/training.md#memory", "03_distortion_analysis.ipynb", "../notebooks/04_lora_training.ipynb", "#a"]
    found = Reader(report.linked("".join(f'<a href="{link}">x</a>' for link in links), chapters)).links
    assert found == ["../../docs/training.md#memory", "#03_distortion_analysis", "#04_lora_training-qwen-7b", "#a"]


def test_the_page_fetches_nothing_and_runs_nothing(twice):
    text = report.page("demo", chapters(twice[0]), PROVENANCE)
    assert not {"link", "iframe", "object"} & set(Reader(text).tags)
    assert "default-src 'none'" in text and "@import" not in text and "url(" not in text


def luminance(color):
    """WCAG 2.2, relative luminance of #rgb or #rrggbb."""
    digits = color[1:] if len(color) == 7 else "".join(2 * digit for digit in color[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("ink", ["ink", "faint", "link", "accent"])
@pytest.mark.parametrize("ground", ["paper", "wash"])
def test_text_has_the_contrast_that_wcag_aa_asks_for(scheme, ink, ground):
    """At least 4.5 to 1 (success criterion 1.4.3)."""
    css = "".join(place.read_text() for place in (pages.STYLE, report.TEMPLATE / "report.css"))
    blocks = re.findall(r"(prefers-color-scheme: dark\) \{\s*)?:root \{([^}]*)\}", css)
    colors = dict(pair for dark, block in blocks if not dark for pair in re.findall(r"--(\w+): (#\w+)", block))
    if scheme == "dark":
        colors |= dict(pair for dark, block in blocks if dark for pair in re.findall(r"--(\w+): (#\w+)", block))
    assert (colors["paper"] == "#fff") == (scheme == "light")
    one, other = sorted((luminance(colors[ink]), luminance(colors[ground])))
    assert (other + 0.05) / (one + 0.05) >= 4.5


def test_a_picture_is_described_in_text_whatever_a_post_says():
    """The description of a chart holds its rows, such as the topics of somebody's own file."""
    said = '"><b onclick=alert(1)>x</b><img src=x onerror=alert(1)>'
    shown = nbformat.v4.new_output("display_data", {"image/png": "AA=="})
    shown.metadata = {"image/png": {"alt": said, "figure": said}}
    cells = [nbformat.v4.new_markdown_cell("# 2 · x"), nbformat.v4.new_code_cell("1", outputs=[shown])]
    body = report.chapter("02_x", nbformat.v4.new_notebook(cells=cells))["body"]
    [picture] = BeautifulSoup(body, "html.parser").find_all("img")
    assert picture["alt"] == picture["data-figure"] == said and "<b" not in body


def test_only_the_script_of_the_page_may_run(twice):
    text = report.page("demo", chapters(twice[0]), PROVENANCE)
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", text, re.S)
    assert scripts == [(report.TEMPLATE / "page.js").read_text()]
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in text and "script-src 'unsafe-inline'" not in text


def test_the_page_has_contents_notices_folded_code_and_provenance(twice):
    text = report.page("demo", chapters(twice[0]), PROVENANCE)
    assert all(notice in text for notice in notices.NOTICES.values())
    assert text.count('<li><a href="#03_x">3 · A title</a></li>') == 2, "at the side, and folded for narrow screens"
    assert "<h2>3 · A title</h2>" in text and "<h3>Part</h3>" in text
    assert text.count('<details class="code">') == 3 * 4, "every code cell, and the parameters once"
    assert text.count("<summary>parameters</summary>") == 3 and text.count("run = 'runs/y'") == 3
    assert "04_y --profile demo backbone=qwen-7b NAME=VALUE</pre>" in text
    assert text.count('<a href="#contents">Back to contents</a>') == 3 + 7, "behind each chapter and guide"
    assert "灾难化" in text and "&lt;b&gt;x" in text and "Revision abc" in text


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        (r"so $W + \frac{\alpha}{r} B$", "<mfrac><mi>α</mi><mi>r</mi></mfrac>"),
        ("$$x^2$$", '<math display="block"><msup><mi>x</mi><mn>2</mn></msup></math>'),
        (r"\begin{aligned}a&=b\\c&=d\end{aligned}", "<mtable "),
        (r"$\text{<script>}$", "<mtext>&lt;script&gt;</mtext>"),
        (r"$\unheard{<b>}$", r"$\unheard{&lt;b&gt;}$"),  # what is no TeX stays
        ("*a* `$HOME` costs $5", "<em>a</em> <code>$HOME</code> costs $5"),
    ],
)
def test_formulas_are_mathml(source, shown):
    assert shown in report.prose({}, source)


@pytest.mark.parametrize("name", profiles.names(profiles.NOTEBOOKS, ".ipynb"))
def test_no_tex_stands_in_the_prose_of_a_notebook(name):
    source = "\n\n".join(cell["source"] for cell in profiles.cells(name) if cell["type"] == "markdown")
    written = re.sub(r"<code>.*?</code>", "", report.prose({}, source), flags=re.S)
    assert "$" not in written and "\\" not in written
    assert written.count("<math") == len(re.findall(r"\$[^$]+\$", source))


@pytest.fixture(scope="module")
def browser():
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("no Chromium here: apt-get install chromium chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for option in ("--headless", "--no-sandbox", "--disable-gpu"):
        options.add_argument(option)
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


def test_a_browser_draws_formulas_without_a_script(tmp_path, browser):
    page = files.write_text(tmp_path / "page.html", report.prose({}, r"$\frac{\alpha}{r}$"))
    browser.get(page.as_uri())
    above, below = browser.find_elements("css selector", "mfrac > *")
    assert above.rect["y"] + above.rect["height"] <= below.rect["y"]


def shown_tables(folder):
    """A page with a sortable table, a wide one of numbers, and one of texts."""
    sortable = pd.DataFrame({"claim": ["b", "a", "c"], "score": [0.9, 0.12, 10]})
    wide = pd.DataFrame([[0.1234] * 20], columns=[f"metric {n}" for n in range(20)])
    texts = pd.DataFrame({"verdict": ["holds"], "evidence": ["Raters gave 1.51 and 1.64 of 2 " * 9]})
    shown = [
        tables.show(sortable, "s").set_table_attributes('class="sortable"'),
        *(tables.show(t, "t") for t in (wide, texts)),
    ]
    body = report_tables.tidy("<h1>Tables</h1>" + "".join(style.to_html() for style in shown))
    one = {"name": "03_x", "number": 3, "title": "Tables", "body": body.replace("<details", "<details open")}
    return files.write_text(folder / "report.html", report.page("nothing", [one], PROVENANCE))


def test_a_header_sorts_its_table_by_click_and_by_key(tmp_path, browser):
    browser.get(shown_tables(tmp_path).as_uri())
    score = browser.find_elements("css selector", ".sortable button")[1]
    column = "return [...document.querySelectorAll('.sortable tbody tr')].map(row => row.cells[0].textContent).join('')"
    score.click()
    assert browser.execute_script(column) == "abc", "by value: 0.12, 0.9, 10"
    assert browser.execute_script("return document.querySelectorAll('[aria-sort=ascending]').length") == 1
    score.send_keys("\ue007")  # Enter
    assert browser.execute_script(column) == "cba"
    assert browser.find_element("css selector", ".sortable th:nth-child(2)").get_attribute("aria-sort") == "descending"


def test_a_phone_shows_the_page_without_scrolling_it_sideways(tmp_path, browser):
    screen = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    browser.get(shown_tables(tmp_path).as_uri())
    width, regions = browser.execute_script(
        "return [document.documentElement.scrollWidth,"
        " [...document.querySelectorAll('article .scroll')].map(e => e.scrollWidth > e.clientWidth)]"
    )
    assert width == 390 and regions == [False, True, False], "numbers scroll in their frame, texts are cards"
    label = "return getComputedStyle(document.querySelector('article .cards td'), '::before').content"
    assert browser.execute_script(label) == '"verdict: "'
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.fixture
def made(tmp_path, monkeypatch, twice):
    """A repository in which every notebook of the demo has run."""
    monkeypatch.setattr(files, "ROOT", tmp_path)
    files.write_text("README.md", "# A title")
    for task in graph.tasks("demo"):
        files.write_text(f"runs/demo/notebooks/{task.name}.ipynb", nbformat.writes(twice[0]))
        files.write_json(f"runs/demo/records/{task.name}.json", {"parameters": provenance.public(task.parameters)})
    files.write_text("runs/demo/tables/table1.csv", "table")
    (tmp_path / "runs/demo/figures").mkdir()
    Image.new("RGB", (40, 30), "#0072B2").save(tmp_path / "runs/demo/figures/figure3.png")
    files.write_json("runs/demo/provenance.json", PROVENANCE)
    return tmp_path


def test_a_picture_for_the_repository_is_smaller_and_looks_the_same():
    figure = charts.heatmap(pd.DataFrame([[1.0, 2.0], [3.0, 4.0]], index=["甲", "乙"]), "conditions")
    large = io.BytesIO()
    figure.savefig(large, dpi=200)
    small = figures.smaller(large.getvalue(), release.COLORS)
    assert len(small) < len(large.getvalue()) / 2
    before, after = (
        np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=int) for png in (large.getvalue(), small)
    )
    assert before.shape == after.shape and abs(before - after).mean() < 2  # of 255
    assert before[0, 0].tolist() == after[0, 0].tolist() == [255] * 3, "paper stays white"


def test_build_binds_every_notebook_in_order(made):
    files.write_text("runs/demo/tables/findings.csv", "claim,verdict,conditions\nit holds,holds,demo scale\n")
    text = report.build("demo").read_text()
    assert re.search("<td[^>]*>holds</td><td[^>]*>it holds</td></tr>", text), "the verdict comes first"
    found = re.findall(r'<article id="([^"]+)"', text)
    shown = [task.name for task in release.shown(graph.tasks("demo"))]
    assert found == [*shown[1:], shown[0]], "the notebook of tiny models is an appendix"


def test_of_the_notebooks_for_each_backbone_one_is_shown():
    """The default of notebooks 04 and 05 is Baichuan, the paper's best row; another profile has no such backbone."""
    tasks = graph.tasks("demo")
    names = [task.name for task in release.shown(tasks)]
    assert [name for name in names if "-" in name] == [
        "04_lora_training-baichuan-7b",
        "05_answer_generation-baichuan-7b",
    ]
    assert len(names) == len({task.step.notebook for task in tasks})
    others = [task for task in tasks if task.backbone != "baichuan-7b"]
    assert "04_lora_training-llama-chinese-7b" in [task.name for task in release.shown(others)]


def test_tables_and_figures_of_the_paper_come_before_the_chapters(made):
    markdown = "**Table {0}: a title**\n\n| system | BLEU |\n|---|---:|\n| A | 0.25 |\n\n*demo scale*\n"
    for number, name in enumerate(report.TABLES, 1):
        files.write_text(f"runs/demo/tables/{name}.md", markdown.format(number))
    text = report.build("demo").read_text()
    places = [text.index(f"<figcaption>Table {n}: a title (demo scale)</figcaption>") for n in range(1, 6)]
    assert places == sorted(places) and places[-1] < text.index("<article")
    assert '<th scope="row">A</th>\n<td class="n">0.25</td>' in text


def test_a_chapter_of_one_backbone_begins_with_all_of_them(made):
    files.write_text("runs/demo/tables/training_all.md", "**All**\n\n| backbone |\n|---|\n| Q |\n\n*demo*\n")
    files.write_text("runs/demo/figures/training_all.svg", SVG)
    text = report.build("demo").read_text()
    chapter = text[text.index('<article id="04_') : text.index('<article id="05_')]
    assert (
        chapter.index("</h2>")
        < chapter.index('<h3 id="training_all">All backbones</h3>')
        < chapter.index("<h3>Part</h3>")
    )
    assert "<figcaption>All (demo)</figcaption>" in chapter and 'id="figure-training_all"' in chapter
    assert "All backbones" not in text[text.index('<article id="05_') :], "nothing to show of answers"


def test_release_puts_copies_and_results_on_their_shelves_and_nothing_stale_stays(made, monkeypatch):
    monkeypatch.setattr(
        release, "made_from", lambda: dict.fromkeys(NOTEBOOKS, "hash")
    )  # their sources are in the real repository
    files.write_text("rendered/old.ipynb", "old")
    files.write_text("figures/demo/old.png", "old")
    release.release("demo")
    before = {place: place.read_bytes() for shelf in ("rendered", "figures") for place in (made / shelf).rglob("*.*")}
    release.release("demo")
    assert before == {place: place.read_bytes() for place in before}
    names = {place.relative_to(made).as_posix() for place in before}
    assert {
        "rendered/README.md",
        "rendered/made_from.json",
        "figures/demo/table1.csv",
        "figures/demo/figure3.png",
    } <= names
    assert "rendered/old.ipynb" not in names and "figures/demo/old.png" not in names
    assert len([name for name in names if name.endswith(".ipynb")]) == len(NOTEBOOKS)


def test_another_profile_has_shelves_of_its_own(made, monkeypatch):
    """A maintainer's run of `small`: its copies stand beside the demo's, and neither release removes the other's."""
    monkeypatch.setattr(release, "made_from", lambda: dict.fromkeys(NOTEBOOKS, "hash"))
    block = "<!-- from figures/small/table1.md -->\nawaits a run\n<!-- end -->"
    files.write_text("README.md", block)
    release.release("demo")
    assert files.read_text("README.md") == block  # nobody has run it
    (made / "runs/small").symlink_to(made / "runs/demo")
    tasks = graph.tasks("demo")
    monkeypatch.setattr(graph, "tasks", lambda profile: tasks)
    files.write_text("runs/small/tables/table1.md", "| table |")
    for profile in ("small", "demo"):
        release.release(profile)
        assert files.read_text("README.md") == block.replace("awaits a run", "\n| table |\n")
        for name in ("rendered/09_paper_audit.ipynb", "rendered/small/09_paper_audit.ipynb", "figures/small/table1.md"):
            assert (made / name).exists(), name
    assert "(../../notebooks)" in files.read_text("rendered/small/README.md")
    assert "(../notebooks)" in files.read_text("rendered/README.md")
    assert report.main(["--check"]) == 0


@pytest.mark.parametrize("name", ["data/psyqa/P.json", "data/sample/../psyqa/P.json", "./data/psyqa/P.json", "/P.json"])
def test_what_was_made_from_psyqa_is_not_released(made, monkeypatch, name):
    task = graph.tasks("demo")[1]
    place = files.path(name) if name.startswith((".", "data")) else made.parent / "P.json"
    files.write_text(place, "[]")
    task.parameters["questions"] = name if name.startswith((".", "data")) else str(place)
    monkeypatch.setattr(graph, "tasks", lambda profile: [task])
    with pytest.raises(files.InputError, match=r"P.json, which may not be passed on") as caught:
        release.release("demo")
    assert not (made / "rendered").exists() and str(made.parent) not in str(caught.value)


def test_no_folder_of_a_user_is_in_a_copy():
    cell = nbformat.v4.new_code_cell(
        'model = "/home/alice/weights/llama-7b"\nrun = "runs/demo"\nquestions = "~/PsyQA.json"'
    )
    cell.metadata["tags"] = ["injected-parameters"]
    copy = release.stripped(nbformat.v4.new_notebook(cells=[cell])).cells[0].source
    assert copy == 'model = "llama-7b"\nrun = "runs/demo"\nquestions = "PsyQA.json"'


def test_a_notebook_that_did_not_run_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "ROOT", tmp_path)
    with pytest.raises(files.InputError, match=r"00_demo_backbones.ipynb: no such file; `make reproduce PROFILE=demo`"):
        report.build("demo")


def test_copies_older_than_their_sources_are_named(made, monkeypatch, capsys):
    monkeypatch.setattr(release, "made_from", lambda: dict.fromkeys(NOTEBOOKS, "hash"))
    release.release("demo")
    assert report.main(["--check"]) == 0
    monkeypatch.setattr(release, "made_from", lambda: {n: "other" if n.startswith("03") else "hash" for n in NOTEBOOKS})
    assert report.main(["--check"]) == 1
    assert "older than 03_distortion_analysis; run `make release`" in capsys.readouterr().out


def test_from_the_command_line_it_names_the_page_and_a_fault_in_one_line(made, monkeypatch, capsys):
    monkeypatch.setattr(report, "printed", lambda page: None)  # as where there is no browser
    assert report.main(["--pdf"]) == 0
    assert capsys.readouterr().out == "runs/demo/report.html\nno PDF: there is no Chromium here\n"
    files.path("runs/demo/provenance.json").unlink()
    assert report.main([]) == 1
    assert capsys.readouterr().err == "error: runs/demo/provenance.json: no such file\n"


def test_the_page_is_printed_where_there_is_a_browser(tmp_path):
    if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        pytest.skip("no Chromium on this machine")
    page = files.write_text(tmp_path / "report.html", "<h1>灾难化</h1>")
    pdf = report.printed(page)
    assert pdf == tmp_path / "report.pdf" and pdf.read_bytes().startswith(b"%PDF")


def test_a_run_by_hand_with_other_parameters_is_not_released(made, monkeypatch):
    monkeypatch.setattr(release, "made_from", lambda: dict.fromkeys(NOTEBOOKS, "hash"))
    task = graph.tasks("demo")[3]
    other = {"parameters": provenance.public(task.parameters) | {"seed": 7}}
    files.write_json(f"runs/demo/records/{task.name}.json", other)
    with pytest.raises(files.InputError, match=f"{task.name}: last run with other parameters"):
        release.release("demo")


def test_links_to_guides_lead_into_the_page_and_a_click_unfolds_them(tmp_path, browser):
    body = "<h2>T</h2>" + report.prose(
        {}, "[raters](../../docs/raters.md#blinding-and-its-key) [all](docs/settings.md)"
    )
    one = {"name": "03_x", "number": 3, "title": "T", "body": body}
    browser.get(files.write_text(tmp_path / "page.html", report.page("nothing", [one], PROVENANCE)).as_uri())
    link = browser.find_element("css selector", "article a")
    assert link.get_attribute("href").endswith("#guide-raters-blinding-and-its-key")
    assert "all (docs/settings.md)" in browser.find_element("css selector", "article").text
    heading = browser.find_element("id", "guide-raters-blinding-and-its-key")
    assert not heading.is_displayed()
    link.click()
    assert heading.is_displayed()


def test_parameters_are_shown_once_with_their_comments_and_the_values_of_the_run():
    """The values are those that Python assigns when it runs one cell after the other."""
    declared = 'a = 1  # 个\nb: dict = {\n    "x": [1],\n}  # of two\nc = "same"'
    injected = '# Parameters\nb = {"x": [2, 3], "y": None}\na = 7\nd = 0.5\n'
    shown = report_parameters.filled(declared, injected)
    both, one = {}, {}
    exec(declared + "\n" + injected, both)
    exec(shown, one)
    assert {name: one[name] for name in "abcd"} == {name: both[name] for name in "abcd"}
    assert "# 个" in shown and "# of two" in shown and shown.count("a = ") == 1
