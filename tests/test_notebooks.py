"""The notebooks keep the promises that readers, the profiles and the graph rely on."""

import ast
import importlib
import re

import nbformat
import papermill
import pytest

from cbtllm_utils import files
from cbtllm_utils.workflow import graph, profiles

NOTEBOOKS = profiles.names(profiles.NOTEBOOKS, ".ipynb")
every_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS)


def code(notebook: str) -> list[str]:
    return [c["source"] for c in profiles.cells(notebook) if c["type"] == "code"]


def test_the_graph_holds_every_notebook_in_order():
    assert [step.notebook for step in graph.STEPS] == NOTEBOOKS


@every_notebook
def test_sources_carry_no_outputs(notebook):
    content = nbformat.read(profiles.NOTEBOOKS / f"{notebook}.ipynb", 4)
    nbformat.validate(content)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in content.cells)
    assert content.metadata.kernelspec.name == "python3"


@every_notebook
def test_it_opens_with_its_question_then_parameters_then_imports(notebook):
    cells = profiles.cells(notebook)
    first = cells[0]["source"]
    assert cells[0]["type"] == "markdown" and first.startswith(f"# {int(notebook[:2])} · ")
    assert "**Question:** " in first
    assert all(word in first.lower() for word in ("reads", "writes", "takes"))
    assert re.search(r"§|sample", first), "the section of the paper"
    coded = [c for c in cells if c["type"] == "code"]
    assert coded[0]["tags"] == ["parameters"]
    assert re.search(r"^(import|from) ", coded[1]["source"], re.M)
    later = "\n".join(c["source"] for c in coded[2:])
    assert not re.search(r"^\s*(import|from) ", later, re.M), "all imports are in one cell"


@every_notebook
def test_its_answer_opens_it_and_is_filled_by_its_last_cell(notebook):
    """The answer is computed, so the source holds its place alone: shown by the cell of imports, which is folded."""
    cells = [c for c in nbformat.read(profiles.NOTEBOOKS / f"{notebook}.ipynb", 4).cells if c.source.strip()]
    coded = [c for c in cells if c.cell_type == "code"]
    placed = [c for c in coded if "headline.place()" in c.source]
    assert placed == [coded[1]] and coded[1].metadata.get("jupyter", {}).get("source_hidden")
    assert [c for c in coded if "headline.fill(" in c.source] == [coded[-1]] and cells[-1] is coded[-1]
    headings = [line for c in cells if c.cell_type == "markdown" for line in c.source.splitlines() if line[:3] == "## "]
    assert headings[-1] == "## What may be concluded"


@every_notebook
def test_its_code_fits_a_page(notebook):
    lines = [line for source in code(notebook) for line in source.splitlines()]
    assert [line for line in lines if len(line) > 90] == []


@every_notebook
def test_its_functions_are_a_few_lines(notebook):
    nodes = [node for source in code(notebook) for node in ast.walk(ast.parse(source))]
    long = [n.name for n in nodes if isinstance(n, ast.FunctionDef) and n.end_lineno - n.lineno >= 8]
    assert long == [], "it belongs in the package"


@every_notebook
def test_its_first_cell_lists_what_the_graph_says(notebook):
    first = profiles.cells(notebook)[0]["source"].replace("{", "<").replace("}", ">")
    step = next(step for step in graph.STEPS if step.notebook == notebook)
    for name in (*step.reads, *step.writes):
        name = name.replace("{", "<").replace("}", ">").replace("*", "<backbone>")
        folder = name.rpartition("/")[0] + "/"
        assert name in first or (folder != "/" and f"`{folder}`" in first), f"{name} is missing"


@every_notebook
def test_parameters_are_literals_each_with_a_comment(notebook):
    source = next(c["source"] for c in profiles.cells(notebook) if c["tags"] == ["parameters"])
    assert {"run", "conditions"} <= set(profiles.declared(notebook))
    for line in ast.parse(source).body:
        text = source.splitlines()[line.lineno - 1 : line.end_lineno]
        before = source.splitlines()[line.lineno - 2] if line.lineno > 1 else ""
        assert any("#" in part for part in text) or before.startswith("#"), f"no comment: {text[0]}"


@every_notebook
def test_papermill_lists_its_parameters_with_type_value_and_meaning(notebook, caplog):
    """`papermill --help-notebook` reads lines, not Python: values over lines, comments and annotations can stop it.

    Its pattern of an annotation has no "|", so that a type such as `int | None` is written "int or None", as a text.
    """
    listed = papermill.inspect_notebook(profiles.NOTEBOOKS / f"{notebook}.ipynb")
    assert caplog.messages == []  # "Unable to parse line …"
    executed = {}
    exec(next(c["source"] for c in profiles.cells(notebook) if c["tags"] == ["parameters"]), executed)
    assert {name: ast.literal_eval(one["default"]) for name, one in listed.items()} == {
        name: value for name, value in executed.items() if not name.startswith("__")
    }
    for name, one in listed.items():
        kind = "None" if executed[name] is None else type(executed[name]).__name__
        assert kind in re.findall(r"\w+", one["inferred_type_name"]), name
        assert one["help"], name


@every_notebook
def test_no_variable_takes_the_name_of_a_setting(notebook):
    """`from_notebook` reads the settings from the notebook's variables, even when a cell is run a second time."""
    names = set(profiles.CLASSES[notebook].model_fields) | {"settings"}
    cells = [c["source"] for c in profiles.cells(notebook) if c["type"] == "code" and "parameters" not in c["tags"]]
    taken = set()
    for source in cells:
        tree = ast.parse(source)
        inner = {id(n) for c in ast.walk(tree) if isinstance(c, ast.comprehension) for n in ast.walk(c.target)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                taken |= {alias.asname or alias.name for alias in node.names}
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in inner:
                taken.add(node.id)
    assert taken & names == set()


@every_notebook
def test_no_cell_defines_a_class(notebook):
    nodes = [node for source in code(notebook) for node in ast.walk(ast.parse(source))]
    assert not any(isinstance(node, ast.ClassDef) for node in nodes), "it belongs in the package"


@every_notebook
def test_nothing_in_it_depends_on_a_place_or_a_person(notebook):
    forbidden = r"sys\.path|ipywidgets|\binput\(|^\s*[!%]|os\.chdir|/home/|/Users/|/tmp/"
    for source in code(notebook):
        assert not re.search(forbidden, source, re.M), source


@every_notebook
def test_what_it_uses_of_the_package_is_there(notebook):
    nodes = [node for source in code(notebook) for node in ast.walk(ast.parse(source))]
    imported = [n for n in nodes if isinstance(n, ast.ImportFrom) and (n.module or "").startswith("cbtllm_utils")]
    modules = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in imported
        for alias in node.names
        if files.path(f"{node.module}.{alias.name}".replace(".", "/") + ".py").is_file()
    }
    used = {
        (node.value.id, node.attr)
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules
    }
    for module, attribute in used:
        assert hasattr(importlib.import_module(modules[module]), attribute), f"{module}.{attribute}"
    assert modules.keys() == {module for module, _ in used}, "imported and not used"
