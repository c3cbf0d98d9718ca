"""One source of truth for pip and conda, and nothing that grows unseen."""

import importlib.metadata
import re
import subprocess
import sys

import pytest
import yaml

from cbtllm_utils import files

LOCKED = dict(re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)", files.path("requirements.lock").read_text(), re.M))
MANDATED = ["jupyterlab", "papermill", "nbconvert", "transformers", "peft", "torch", "datasets", "openai"]


def test_conda_and_pip_read_the_same_lock():
    (pip,) = [
        d["pip"]
        for d in yaml.safe_load(files.path("environment.yml").read_text())["dependencies"]
        if isinstance(d, dict)
    ]
    assert "-r requirements.lock" in pip and "--editable ." in pip
    assert "-r requirements.lock" in files.path("Makefile").read_text()


@pytest.mark.parametrize("name", [*MANDATED, "pandas", "matplotlib"])
def test_what_is_installed_is_what_the_lock_says(name):
    assert importlib.metadata.version(name).partition("+")[0] == LOCKED[name]


def test_jury_is_the_published_one_with_its_pins_lifted():
    assert importlib.metadata.version("jury").startswith("2.3.1")
    assert "./packaging/jury-relaxed" in files.path("requirements.lock").read_text()


def test_every_dependency_is_used():
    named = re.findall(r"^([a-z][\w-]+)", files.path("requirements.in").read_text(), re.M)
    text = "\n".join(
        p.read_text()
        for pattern in ("cbtllm_utils/**/*", "notebooks/*", "tests/**/*", "packaging/*", "benchmarks/*", "*")
        for p in files.ROOT.glob(pattern)
        if p.suffix in {".py", ".ipynb", ".toml"} or p.name == "Makefile"
    )
    imports = {
        "pyyaml": "yaml",
        "scikit-learn": "sklearn",
        "protobuf": "sentencepiece_model_pb2",
        "accelerate": "Trainer(",  # transformers' Trainer uses it
        "ipykernel": "kernel_name=",  # what papermill starts
    }
    unused = [n for n in named if imports.get(n, n.replace("-", "_")) not in text and n not in text]
    assert unused == []


def test_a_start_is_quick():
    """Heavy libraries are imported where they are used, so that help and a look at what is up to date come at once."""
    heavy = "import sys, cbtllm_utils.workflow.pipeline; print({'torch', 'transformers', 'pandas', 'papermill'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", heavy], check=True, capture_output=True, text=True, cwd=files.ROOT)
    assert found.stdout.strip() == "set()"


def test_make_help_explains_every_target():
    listed = subprocess.run(["make", "help"], check=True, capture_output=True, text=True, cwd=files.ROOT).stdout
    targets = re.search(r"^\.PHONY: (.+)$", files.path("Makefile").read_text(), re.M)[1].split()
    assert all(re.search(rf"make {target}\s+\w", listed) for target in targets)


def test_another_build_of_the_locked_torch_comes_before_the_lock_and_over_what_is_there():
    """pip takes 2.13.0+cu126 for the lock's 2.13.0; `make setup` again exchanges the build of an environment."""
    command = ["make", "-n", "setup", "VENV=absent", "TORCH=cu126"]
    said = subprocess.run(command, check=True, capture_output=True, text=True, cwd=files.ROOT).stdout.splitlines()
    told = [line for line in said if not line.startswith("make[")]  # where `make test` runs this, it names folders
    version = re.search(r"^torch==(\S+)$", files.path("requirements.lock").read_text(), re.M)[1]
    wanted = f"https://download.pytorch.org/whl/cu126 torch=={version}+cu126"
    places = [number for number, line in enumerate(told) if line.endswith(wanted)]
    (lock,) = [number for number, line in enumerate(told) if line.endswith("requirements.lock")]
    assert len(places) == 2 and places[0] < lock < places[1] == len(told) - 1
    without = subprocess.run(command[:-1], check=True, capture_output=True, text=True, cwd=files.ROOT).stdout
    assert "download.pytorch.org" not in without


def test_the_repository_stays_small():
    sizes = subprocess.run(["git", "ls-files", "-z"], check=True, capture_output=True, cwd=files.ROOT).stdout.split(
        b"\0"
    )
    present = [files.path(name.decode()) for name in sizes if name]
    assert sum(p.stat().st_size for p in present if p.exists()) < 20e6
