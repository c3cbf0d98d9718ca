"""The parameters of a notebook in the report: once, with their comments and with the values of the run."""

import ast

import nbformat


def merged(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return a notebook whose `parameters` cell holds the run's values; papermill's cell of them is left out."""
    cells = {tag: cell for cell in notebook.cells for tag in cell.metadata.get("tags", [])}
    notebook = notebook.copy()
    declared, injected = cells.get("parameters"), cells.get("injected-parameters")
    if declared and injected:
        shown = nbformat.from_dict(declared | {"source": filled(declared.source, injected.source)})
        kept = [cell for cell in notebook.cells if cell is not injected]
        notebook.cells = [shown if cell is declared else cell for cell in kept]
    return notebook


def filled(declared: str, injected: str) -> str:
    """Return the assignments of a cell with the values of another; names that only the other has follow.

    >>> filled("seed = 1  # of draws", "seed = 7\\nlimit = 3")
    'seed = 7  # of draws\\nlimit = 3'
    """
    values = assigned(injected)
    text = declared.encode()  # ast counts columns in bytes
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    places = assigned(declared)
    for name, node in sorted(places.items(), key=lambda item: item[1].lineno, reverse=True):
        if name in values and ast.dump(node) != ast.dump(values[name]):
            begin = starts[node.lineno - 1] + node.col_offset
            end = starts[node.end_lineno - 1] + node.end_col_offset
            value = ast.get_source_segment(injected, values[name]) or ""
            text = text[:begin] + value.encode() + text[end:]
    more = [f"{name} = {ast.unparse(node)}" for name, node in values.items() if name not in places]
    return "\n".join([text.decode(), *more])


def assigned(source: str) -> dict[str, ast.expr]:
    """Return the values that a cell assigns, by name."""
    found = {}
    for node in ast.parse(source).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if isinstance(targets[0], ast.Name) and node.value is not None:
            found[targets[0].id] = node.value
    return found


def command(name: str, profile: str) -> str:
    """Return the command that runs a notebook with another value; `name` ends in the backbone where it has one."""
    notebook, _, backbone = name.partition("-")
    own = f" backbone={backbone}" if backbone else ""
    return f"python -m cbtllm_utils.workflow.run {notebook} --profile {profile}{own} NAME=VALUE"
