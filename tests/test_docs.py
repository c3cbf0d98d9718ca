"""What README and docs tell a reader to type, to read and to open is there: commands, options, Python, links."""

import functools
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import small_run

from cbtllm_utils import files
from cbtllm_utils.workflow import profiles, settings_page

PAGES = ["README.md", *sorted(f"docs/{page.name}" for page in files.path("docs").glob("*.md"))]
NOTEBOOKS = [f"notebooks/{name}.ipynb" for name in profiles.names(profiles.NOTEBOOKS, ".ipynb")]
MAKEFILE = files.path("Makefile").read_text(encoding="utf-8")
OURS = ("notebooks/", "params/", "packaging/", "benchmarks/", "cbtllm_utils/", "tests/", "environment.yml")
ELSEWHERE = {"cat", "conda", "cp", "curl", "export", "hf", "mkdir", "rm", "source", "unset", "vllm"}  # a reader's own
ELSEWHERE |= {"cd", "mv", "llamafactory-cli", "tensorboard"}
RUNNER = "cbtllm_utils.workflow.run"
LINK = re.compile(r"\]\((?![a-z]+:)([^)\s]+)\)|src=\"(?![a-z]+:)([^\"]+)\"")


def text(page: str) -> str:
    """Return a page's text; of a notebook, that of its Markdown cells."""
    if page.endswith(".md"):
        return files.path(page).read_text(encoding="utf-8")
    cells = nbformat.read(files.path(page), 4).cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^[ ]*```{language}\n(.*?)^[ ]*```", text(page), re.M | re.S)


def commands() -> list[tuple[str, tuple[str, ...]]]:
    """Return each command of each page as (page, words), without the variables set before it."""
    found = []
    for page in PAGES:
        for line in "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            for part in " ".join(map(shlex.quote, words)).split(" '&&' "):
                every = shlex.split(part)
                while every and re.match(r"\w+=", every[0]):
                    every.pop(0)
                if every:
                    found.append((page, tuple(every)))
    return found


every_command = pytest.mark.parametrize(("page", "words"), commands(), ids=lambda value: " ".join([*value])[:60])


@functools.cache
def options(module: str) -> set[str]:
    """Return the options that a module's own help names."""
    command = [sys.executable, "-m", module, "--help"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=files.ROOT).stdout
    return set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", said))


STUBS = """
set -e
for name in make pip python python3 llamafactory-cli; do
    eval "$name() { echo $name \\$1 in \\${PWD#$PWD}/ of \\$VIRTUAL_ENV; }"
done
"""  # what takes hours or a network says where it would run; mv, mkdir, cp and cd are themselves


@pytest.mark.parametrize("ours", [True, False])
def test_the_blocks_on_llama_factory_can_be_typed_in_order(tmp_path, ours):
    """Each in the folder and environment that it needs; the adapter comes to its place, not into one of ours there."""
    for name in (".venv", ".llama-factory"):
        files.write_text(tmp_path / name / "bin/activate", f"VIRTUAL_ENV={name}\n")
    files.write_text(tmp_path / "runs/paper/llama_factory/qwen-7b/adapter/adapter_config.json", "theirs")
    if ours:
        files.write_text(tmp_path / "runs/paper/adapters/qwen-7b/adapter_config.json", "ours")
    section = text("docs/training.md").partition("## LLaMA-Factory")[2].partition("\n## ")[0]
    lines = "".join(re.findall(r"^```sh\n(.*?)^```", section, re.M | re.S))
    lines = lines.replace("mv ", "mv " if ours else "! mv ")
    script = STUBS + "VIRTUAL_ENV=.venv\n" + lines
    ran = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [
        "make stock in / of .venv",
        "python3 -m in / of .venv",
        "pip install in / of .llama-factory",
        "llamafactory-cli train in /runs/paper/ of .llama-factory",
        "python -m in / of .venv",
        "llamafactory-cli export in /runs/paper/ of .llama-factory",
    ]
    place = tmp_path / "runs/paper/adapters/qwen-7b"
    assert [file.name for file in place.iterdir()] == ["adapter_config.json"]
    assert files.read_text(place / "adapter_config.json") == "theirs"


def test_the_pages_hold_commands():
    assert len(commands()) > 10 and {page for page, _ in commands()} >= {"README.md", "docs/profiles.md"}


@every_command
def test_a_command_is_there(page, words):
    name = Path(words[0]).name
    if name == "make":
        assert_made(words[1:])
    elif name in ("python", "python3") and "-m" in words:
        assert_module(words[words.index("-m") + 1], words[words.index("-m") + 2 :])
    else:
        installed = Path(sys.executable).with_name(name).exists() or shutil.which(name)
        assert name in ELSEWHERE or installed, f"{page}: {name}"
    named = [word for word in words if word.startswith(OURS) and not re.search(r"[<>{*]", word)]
    assert [word for word in named if not files.path(word).exists()] == []


def assert_made(words: tuple[str, ...]) -> None:
    """Targets and variables are the Makefile's; a profile exists."""
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.M))
    for word in words:
        name, sign, value = word.partition("=")
        assert re.search(rf"^{name}\s*\??=", MAKEFILE, re.M) if sign else word in targets, word
        assert name != "PROFILE" or value in profiles.names(profiles.PARAMS, ".yaml"), word


def assert_module(module: str, words: tuple[str, ...]) -> None:
    """The module exists and its help names the options; a notebook and its settings exist."""
    assert importlib.util.find_spec(module), module
    given = {word.partition("=")[0] for word in words if word.startswith("-")}
    assert given <= (options(module) if given else set()), module
    if module == RUNNER:
        notebook = next(word for word in words if word in profiles.CLASSES)
        pairs = [word.partition("=")[0] for word in words if re.match(r"\w+=", word)]
        assert set(pairs) <= set(profiles.CLASSES[notebook].model_fields), words


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_its_python_runs(page, monkeypatch, tmp_path):
    """In a folder of its own; what a page reads of a finished run is there, of untrained models."""
    monkeypatch.chdir(tmp_path)
    if "runs/demo/stock" in "".join(blocks(page, "python")):
        small_run.make(tmp_path / "runs" / "demo")
    namespace: dict = {}
    for block in blocks(page, "python"):
        exec(compile(block, page, "exec"), namespace)


def anchors(page: str) -> set[str]:
    """Return the headings of a page as GitHub names them in links."""
    headings = re.findall(r"^#+ (.+)$", text(page), re.M)
    plain = [re.sub(r"\]\([^)]*\)", "", heading).lower() for heading in headings]
    return {re.sub(r"[^\w -]", "", heading).strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS])
def test_what_it_links_is_there(page):
    for found in LINK.finditer(text(page)):
        name, _, anchor = (found[1] or found[2]).partition("#")
        target = files.path(page).parent / name if name else files.path(page)
        assert target.exists(), f"{page}: {found[0]}"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(files.shown(target)), f"{page}: {found[0]}"


def test_the_index_names_every_page():
    linked = set(re.findall(r"\]\(([\w-]+\.md)\)", text("docs/README.md")))
    assert {f"docs/{name}" for name in linked} | {"README.md", "docs/README.md"} == set(PAGES)


def test_the_page_of_settings_is_that_of_the_classes():
    assert text(settings_page.PAGE) == settings_page.text(), "run `make release`"
