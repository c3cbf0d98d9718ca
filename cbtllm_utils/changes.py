"""What decides a task's outcome, as a hash of content: prose, comments and docstrings do not count."""

import ast
import functools
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

from cbtllm_utils import files, hashes, manifest, profiles
from cbtllm_utils.graph import Task

PACKAGE = Path(__file__).parent


@functools.cache
def module(name: str) -> tuple[str, frozenset[str]]:
    """A package module's code without prose, and the modules that it imports."""
    return code((PACKAGE / f"{name}.py").read_text(encoding="utf-8"))


def code(source: str) -> tuple[str, frozenset[str]]:
    """A text of Python without comments and docstrings, and the package modules that it imports."""
    tree = ast.parse(source)
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node
        ):
            node.body[0] = ast.Pass()
        elif isinstance(node, ast.ImportFrom) and node.module == "cbtllm_utils":
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cbtllm_utils."):
            imported.add(node.module.split(".")[1])
    return ast.dump(tree), frozenset(name for name in imported if (PACKAGE / f"{name}.py").exists())


def sources(notebook: str) -> dict[str, str]:
    """The code that a notebook runs: its cells without prose and parameters, every package module that they reach, and
    the content of the files that this code names (package data, data/…, params/…)."""
    cells = [c for c in profiles.cells(notebook) if c["type"] == "code" and "parameters" not in c["tags"]]
    text, imported = code("\n".join(c["source"] for c in cells))
    found = {"cells": text} | reached(imported)
    return found | {name: hashes.sha256(name) for text in list(found.values()) for name in named_files(text)}


def identity(*modules: str) -> str:
    """The hash of the code of modules and all that they reach, and the versions of the libraries under them.

    What a kept result depends on besides its data: another code's or library's results are not taken for ours.
    """
    text = json.dumps([reached(set(modules)), manifest.versions()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def reached(modules: set[str]) -> dict[str, str]:
    """module -> code, of the modules and of every package module that they reach."""
    found, unread = {}, set(modules)
    while unread:
        name = unread.pop()
        found[name], more = module(name)
        unread |= more - found.keys()
    return found


def named_files(text: str) -> Iterator[str]:
    """The files of the repository that a dumped code names in string constants."""
    for constant in set(re.findall(r"Constant\(value='([\w./-]+)'", text)):
        inside = constant.startswith(("data/", "params/")) and not constant.endswith("/")  # data/ alone names no input
        if inside and files.path(constant).exists():
            yield constant
        elif constant.endswith((".csv", ".html", ".css", ".json")) and (PACKAGE / constant).is_file():
            yield f"cbtllm_utils/{constant}"


def fingerprint(task: Task, run: str) -> str:
    """The hash of all that decides a task's outcome: parameters, code, and the content of what it reads."""
    contents = {}
    for name in task.reads:
        place = files.path(name if name.startswith(("data/", "params/", "/")) else f"{run}/{name}")
        contents[name] = hashes.content(place) if place.exists() else None
    whole = {"parameters": task.parameters, "code": sources(task.step.notebook), "reads": contents}
    return hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()
