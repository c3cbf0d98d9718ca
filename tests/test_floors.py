"""Every module is short, stands on a floor of the package's docstring and imports only from its own or from below."""

import ast
import re
from pathlib import Path

import pytest

import cbtllm_utils

FOLDER = Path(cbtllm_utils.__file__).parent
MODULES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


def floors() -> dict[str, int]:
    """module -> floor: a line that begins with a digit opens a floor; names end where two spaces follow."""
    found, floor = {}, 0
    for line in (cbtllm_utils.__doc__ or "").splitlines():
        if row := re.match(r"(\d| )  (\S.*)", line):
            floor = int(row[1]) if row[1].isdigit() else floor
            found |= dict.fromkeys(re.findall(r"\w+", row[2].split("   ")[0]), floor)
    return found


def imported(module: str) -> set[str]:
    tree, names = ast.parse((FOLDER / f"{module}.py").read_text(encoding="utf-8")), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "cbtllm_utils":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cbtllm_utils."):
            names.add(node.module.split(".")[1])
    return names & set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_downwards(module):
    floor = floors()
    assert module in floor, "name it in cbtllm_utils/__init__.py"
    assert {name: floor[name] for name in imported(module) if floor[name] > floor[module]} == {}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_read_in_one_sitting(module):
    lines = (FOLDER / f"{module}.py").read_text(encoding="utf-8").count("\n")
    assert lines <= 200, "split it along a seam, or say it in fewer lines"
