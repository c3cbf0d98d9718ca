"""What decides a step's outcome, as a hash of content: code without prose, parameters, and the files it reads."""

import ast
import functools
import hashlib
import json
import re
from collections.abc import Iterable, Iterator

from cbtllm_utils import files, hashing
from cbtllm_utils.workflow import graph, profiles, provenance
from cbtllm_utils.workflow.graph import Task
from cbtllm_utils.workflow.steps import Step

PACKAGE = files.ROOT / "cbtllm_utils"
DATA = {".csv", ".html", ".css", ".json", ".md"}  # package data, beside the module that names it


def code(source: str) -> str:
    """Return Python code without comments, docstrings and the messages of exceptions that it raises."""
    return ast.dump(Prose().visit(ast.parse(source)))


class Prose(ast.NodeTransformer):
    """Remove what changes no result: docstrings, arguments of raised exceptions, descriptions of settings."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if documented and ast.get_docstring(node) is not None:
            node.body[0] = ast.Pass()
        return super().generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if isinstance(node.func, ast.Name) and node.func.id in ("ours", "stated", "tool_default"):
            node.args = node.args[:1]
        return self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if isinstance(node.exc, ast.Call):
            node.exc.args, node.exc.keywords = [], []
        return node


def imported(source: str) -> set[str]:
    """Return the package's files that a source imports, relative to the package, including `__init__.py` of rooms."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for dotted in names for name in files_of(dotted)}


def files_of(dotted: str) -> Iterator[str]:
    """Yield the package's files that importing a dotted name runs: rooms' `__init__.py`, and the module itself."""
    first, *rest = dotted.split(".")
    if first == PACKAGE.name:
        for depth in range(len(rest) + 1):
            place = PACKAGE.joinpath(*rest[:depth])
            for file in (place / "__init__.py", place.with_suffix(".py")):
                if file.is_file():
                    yield file.relative_to(PACKAGE).as_posix()


@functools.cache
def module(name: str) -> tuple[str, frozenset[str]]:
    """Return a package file's code without prose, and the package files that it imports."""
    source = (PACKAGE / name).read_text(encoding="utf-8")
    return code(source), frozenset(imported(source))


def reached(names: Iterable[str]) -> dict[str, str]:
    """Return file -> code, for these files of the package and all that they import."""
    found: dict[str, str] = {}
    unread = set(names)
    while unread:
        name = unread.pop()
        found[name], more = module(name)
        unread |= more - found.keys()
    return found


def sources(step: Step) -> dict[str, str]:
    """Return everything that a step's notebook runs, by name.

    Its code cells but for `parameters`, every package file that they import, and the content of the files that this
    code names: package data beside a module, and data/… or params/… of the repository. Instead of a step's versioned
    files the `__init__.py` of their room counts, which holds its VERSION, with the versions of the step's libraries.
    """
    cells = [c for c in profiles.cells(step.notebook) if c["type"] == "code" and "parameters" not in c["tags"]]
    text = "\n".join(c["source"] for c in cells)
    found = {"cells": code(text)} | reached(imported(text))
    found = {name: dumped for name, dumped in found.items() if name not in step.versioned}
    named = {place for name, dumped in found.items() for place in named_files(name, dumped)}
    return found | {name: hashing.sha256(name) for name in sorted(named)} | provenance.versions(step.libraries)


def named_files(name: str, dumped: str) -> Iterator[str]:
    """Yield the files and folders of the repository that the dumped code of a package file names."""
    for constant in set(re.findall(r"Constant\(value='([\w./-]{1,100})'", dumped, re.ASCII)):
        beside = (PACKAGE / name).parent / constant
        if constant.startswith(("data/", "params/")) and not constant.endswith("/") and files.path(constant).exists():
            yield constant
        elif "/" not in constant and beside.exists() and (beside.suffix in DATA or constant.endswith("_template")):
            yield beside.relative_to(PACKAGE.parent).as_posix()


def report() -> str:
    """Return the hash of the code that binds the report, and of its templates."""
    found = reached(files_of(f"{PACKAGE.name}.workflow.report"))
    named = {place for name, dumped in found.items() for place in named_files(name, dumped)}
    return digest([found, {name: hashing.sha256(name) for name in sorted(named)}])


def fingerprint(task: Task, run: str) -> str:
    """Return the hash of all that decides a task's outcome: parameters, code, and the content of what it reads."""
    contents = graph.hub_commits(task.parameters)
    for name in task.reads:
        place = files.path(name if name.startswith(("data/", "params/", "/")) else f"{run}/{name}")
        contents[name] = hashing.content(place) if place.exists() else None
    return digest({"parameters": task.parameters, "code": sources(task.step), "reads": contents})


def unchanged(task: Task, run: str) -> bool:
    """Return whether all that decides a task's outcome is as it was when the task last ran to its end.

    The run's own record says what it was: doit would write that at the end of the whole study, which a kill prevents.
    """
    return provenance.read(run, task.name).get("fingerprint") == fingerprint(task, run)


def digest(value: object) -> str:
    """Return the SHA-256 of a value as JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
