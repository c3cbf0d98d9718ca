"""The notebooks without our runner: plain papermill, nbconvert, JupyterLab's page in Chromium, from another folder."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cbtllm_utils
from benchmarks.tools import harness
from benchmarks.tools.harness import Figure, Place
from cbtllm_utils import files
from cbtllm_utils.workflow import profiles, verify
from cbtllm_utils.workflow.progress import BAR

TITLE = "JupyterLab, papermill, nbconvert"
ENVIRONMENTS: dict[str, list[str]] = {}
PACKAGES = ["jupyterlab", "papermill", "nbconvert", "ipykernel"]
NOTEBOOKS = profiles.names(profiles.NOTEBOOKS, ".ipynb")
STEPS = ("01_prompt_design", "02_dataset_generation", "04_lora_training-baichuan-7b")
STEPS += ("05_answer_generation-baichuan-7b", "06_automatic_evaluation", "09_paper_audit")
IN_LAB = "06_automatic_evaluation"  # its bars and models meet most libraries
NO_TYPE = "Unknown type"  # in the list that papermill shows
# What notebooks themselves write to stderr, bars aside: notes, and the cost of a training.
OWN = re.compile(rf"{re.escape(files.NOTE)}|(trained before: )?\d+ s, [\d,]+ tokens/s")
COMPLAINTS = "unknown parameter|Unable to parse"  # papermill's, on the terminal
BINARY = ("image/png", "application/pdf")
LAB = """[...document.querySelectorAll('.jp-InputPrompt')].every(one => !one.innerText.includes('*')) &&
document.querySelector('.jp-Notebook-ExecutionIndicator[data-status="idle"]') !== null"""


def check(place: Place) -> list[Figure]:
    """Run notebooks on copies of the run by three other programs, read what they show, and give them wrong names."""
    with ThreadPoolExecutor(2) as two:  # each has a copy of its own, and waits for a kernel
        parts = two.map(lambda part: part(place), (by_papermill, by_nbconvert, refused, by_lab, listed))
        return [figure for figures in parts for figure in figures]


def by_papermill(place: Place) -> list[Figure]:
    """Return the figures of papermill with the values that the runner wrote."""
    run, said, made = copied(place, "papermill"), "", []
    for step in STEPS:
        given = place.run / "parameters" / f"{step}.yaml"
        made.append(place.work / f"{step}.ipynb")
        said += tool(place, "papermill", source(step), made[-1], "-f", given, "-p", "run", run).stderr
    unknown = wanted("papermill: names it does not know", len(re.findall(COMPLAINTS, said)), "0")
    return [*outputs("papermill", made), unknown, same_tables(place, run)]


def by_nbconvert(place: Place) -> list[Figure]:
    """Return the figures of `jupyter nbconvert --execute`, which takes the values of the cells."""
    run = copied(place, "nbconvert")
    made = [edited(place, step, run) for step in STEPS]
    for one in made:
        tool(place, "jupyter", "nbconvert", "--to", "notebook", "--execute", "--inplace", one)
    return [*outputs("nbconvert", made), same_tables(place, run)]


def by_lab(place: Place) -> list[Figure]:
    """Return the figures of one notebook that somebody runs in JupyterLab's page."""
    run = copied(place, "lab")
    page = edited(place, IN_LAB, run)
    in_lab(place, page)
    return [*outputs("JupyterLab", [page]), same_tables(place, run)]


def copied(place: Place, name: str) -> Path:
    """Return a copy of the run to write into, without what no notebook reads."""
    return Path(shutil.copytree(place.run, place.work / name, ignore=shutil.ignore_patterns("notebooks", "report.*")))


def source(step: str) -> Path:
    """Return the notebook of a step."""
    return profiles.NOTEBOOKS / f"{step.partition('-')[0]}.ipynb"


def tool(place: Place, *command: object) -> subprocess.CompletedProcess:
    """Run a program of this Python's in the empty folder, without the variables that this package sets."""
    bare = {name: value for name, value in os.environ.items() if name not in cbtllm_utils.ENVIRONMENT}
    program = Path(sys.executable).parent / str(command[0])
    return subprocess.run(
        [program, *map(str, command[1:])], cwd=place.work, env=bare, capture_output=True, text=True, timeout=600
    )


def edited(place: Place, step: str, run: Path) -> Path:
    """Return a copy of a step's notebook whose cell of parameters names another run, as a user would edit it."""
    content = files.read_json(source(step))
    (cell,) = (cell for cell in content["cells"] if "parameters" in cell["metadata"].get("tags", []))
    cell["source"] = [re.sub(r'^run: str = "[^"]*"', f'run: str = "{run}"', line) for line in cell["source"]]
    files.write_json(place.work / f"{run.name}-{step}.ipynb", content)
    return place.work / f"{run.name}-{step}.ipynb"


def wanted(what: str, found: object, wanted: str) -> Figure:
    """Return a figure that holds where what was found is what was wanted."""
    return Figure(what, str(found), wanted, str(found) == wanted)


def outputs(program: str, notebooks: list[Path]) -> list[Figure]:
    """Return the figures of executed notebooks: cells that ran, errors, lines on stderr, local paths in outputs."""
    cells = [cell for one in notebooks for cell in files.read_json(one)["cells"] if cell["cell_type"] == "code"]
    shown = [output for cell in cells for output in cell["outputs"]]
    warnings = [line for output in shown if output.get("name") == "stderr" for line in warnings_in(output["text"])]
    here = {str(files.ROOT), str(Path.home()), tempfile.gettempdir(), sys.prefix, str(notebooks[0].parent)}
    paths = [path for text in map(readable, shown) for path in here if f"{path}/" in text]
    for line in warnings + paths:
        print(f"  {program}: {line}", file=sys.stderr)
    ran = sum(cell["execution_count"] is not None or not cell["source"] for cell in cells)
    about = f"{program}, {len(notebooks)} notebook{'s' * (len(notebooks) > 1)}"
    return [
        wanted(f"{about}: code cells that ran", f"{ran} of {len(cells)}", f"{len(cells)} of {len(cells)}"),
        wanted(f"{about}: errors", sum(output["output_type"] == "error" for output in shown), "0"),
        wanted(f"{about}: warnings", len(warnings), "0"),
        wanted(f"{about}: local paths in outputs", len(paths), "0"),
    ]


def warnings_in(text: str | list[str]) -> Iterator[str]:
    """Yield the lines of stderr, without progress bars, that are not the notebook's own."""
    for line in "".join(text).replace("\r", "\n").split("\n"):
        rest = BAR.sub("", line, count=1)  # a bar ends without a new line: a warning may follow on its line
        if rest.strip() and not OWN.match(rest):
            yield rest


def readable(output: dict) -> str:
    """Return all that an output shows, without the bytes of pictures."""
    data = {kind: value for kind, value in output.get("data", {}).items() if kind not in BINARY}
    return str([data, output.get("text"), output.get("traceback")])


def same_tables(place: Place, run: Path) -> Figure:
    """Return the figure of the tables of a copy of the run: how many are not as the runner made them."""
    compared = verify.compare(run / "tables", place.run / "tables", 1e-9)
    return wanted(f"{run.name}: tables that differ from the runner's", sum(map(bool, compared.values())), "0")


def listed(place: Place) -> list[Figure]:
    """Return how many parameters `papermill --help-notebook` lists of all, each with its type and what it means."""
    count = total = 0
    for notebook in NOTEBOOKS:
        help_text = tool(place, "papermill", "--help-notebook", source(notebook)).stdout
        shown = re.findall(r"^  (\w+): (.*) \(default .*\)\s+\S", help_text, re.M)
        known = [name for name, kind in shown if kind != NO_TYPE]
        count += len(set(known) & set(profiles.declared(notebook)))
        total += len(profiles.declared(notebook))
    what = f"papermill --help-notebook, {len(NOTEBOOKS)} notebooks: parameters with type and meaning"
    return [wanted(what, f"{count} of {total}", f"{total} of {total}")]


def refused(place: Place) -> list[Figure]:
    """Return how many notebooks refuse an unknown name that papermill gives them, and one a value of another type."""
    figures, every = [], len(NOTEBOOKS)
    for what, name, said, count in (
        (
            "an unknown name",
            "conditionz",
            r"InputError: unknown parameter 'conditionz'; did you mean conditions\?",
            every,
        ),
        ("a number for a text", "conditions", r"InputError: conditions = 3: should be a valid string", 1),
    ):
        to = ["-p", "run", place.run, "-p", name, "3"]  # refused before anything is written
        ended = [tool(place, "papermill", source(n), place.work / "refused.ipynb", *to) for n in NOTEBOOKS[-count:]]
        number = sum(one.returncode != 0 and re.search(said, one.stderr) is not None for one in ended)
        figures.append(
            wanted(f"papermill gives {what}: notebooks that refuse it", f"{number} of {count}", f"{count} of {count}")
        )
    return figures


def in_lab(place: Place, notebook: Path) -> None:
    """Open a notebook in JupyterLab's page, run all cells by the menu, and save it; its picture is kept beside."""
    with server(place) as address, browser(place) as driver:
        driver.get(f"{address}/lab/tree/{notebook.name}")
        until(driver, "return document.querySelectorAll('.jp-Notebook .jp-CodeCell').length > 0")
        until(driver, f"return {LAB}")  # the kernel has started
        choose(driver, "Run", "Run All Cells")
        until(driver, "return document.querySelectorAll('.jp-Notebook .jp-InputPrompt').length > 0")
        time.sleep(2)  # until every cell is marked as waiting
        until(driver, f"return {LAB}", 300)
        driver.execute_script("document.querySelector('.jp-WindowedPanel-outer').scrollTop = 0")
        choose(driver, "File", "Save Notebook")
        until(driver, "return document.querySelectorAll('.jp-mod-dirty').length === 0")
        driver.save_screenshot(str(place.work.parent / "jupyterlab.png"))


def server(place: Place) -> contextlib.AbstractContextManager[str]:
    """Return what yields the address of a JupyterLab that serves the empty folder, with no user's configuration."""
    own = {f"JUPYTER_{kind}_DIR": str(place.work / f"jupyter-{kind}") for kind in ("CONFIG", "DATA", "RUNTIME")}
    bare = {name: value for name, value in os.environ.items() if name not in cbtllm_utils.ENVIRONMENT} | own
    options = ["--no-browser", "--ip=127.0.0.1", "--port={port}", "--IdentityProvider.token=", "--allow-root"]
    command = [sys.executable, "-m", "jupyterlab", *options, f"--ServerApp.root_dir={place.work}"]
    return harness.served(command, "/api", place.work / "jupyterlab.log", cwd=place.work, env=bare)


@contextlib.contextmanager
def browser(place: Place) -> Iterator[object]:
    """Yield a Chromium with an empty profile."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome")
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", "window-size=1400,1200"):
        options.add_argument(f"--{argument}")
    options.add_argument(f"--user-data-dir={place.work / 'chromium'}")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def until(driver: object, script: str, seconds: int = 60) -> None:
    """Wait until a script of the page returns true; RuntimeError says which did not."""
    harness.until(lambda: driver.execute_script(script), script, seconds)


def choose(driver: object, menu: str, entry: str) -> None:
    """Click on an entry of a menu of the page."""
    for selector, text in ((".lm-MenuBar-itemLabel", menu), (".lm-Menu-itemLabel", entry)):
        until(driver, f"return document.querySelector('{selector}') !== null")
        next(one for one in driver.find_elements("css selector", selector) if one.text == text).click()
