"""The package's rooms: imports run downwards between them, and no files import each other in a circle."""

import ast
import graphlib
from pathlib import Path

import pytest

import cbtllm_utils

PACKAGE = Path(cbtllm_utils.__file__).parent
ROOMS = "data llm text models cbt_qa finetune generate evaluate human paper plots demo workflow".split()  # upwards
FILES = sorted(PACKAGE.rglob("*.py"))


def room(file: Path) -> str:
    """Return the room of a file; "" for the ground modules at the root."""
    return file.parent.name if file.parent != PACKAGE else ""


def imported(file: Path) -> set[Path]:
    """Return the package's files that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE.name:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            places = [PACKAGE.parent.joinpath(*name.split(".")) for name in names]
            found |= {p.with_suffix(".py") for p in places if p.with_suffix(".py").is_file()}
    return found


def test_every_room_is_in_the_order_and_opens_with_what_it_is_for():
    assert sorted(ROOMS) == sorted(place.parent.name for place in PACKAGE.glob("*/__init__.py"))
    for name in ROOMS:
        assert ast.get_docstring(ast.parse((PACKAGE / name / "__init__.py").read_text(encoding="utf-8")))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_a_file_imports_from_its_own_room_or_from_below(file):
    height = {"": -1} | {name: place for place, name in enumerate(ROOMS)}
    above = [other for other in imported(file) if height[room(other)] > height[room(file)]]
    assert above == []


def test_no_circle():
    graph = {file: imported(file) - {file} for file in FILES}
    graphlib.TopologicalSorter(graph).prepare()  # CycleError names the files


@pytest.mark.parametrize("name", ROOMS)
def test_the_map_names_every_room(name):
    assert f"`{name}/`" in (PACKAGE / "README.md").read_text(encoding="utf-8")
