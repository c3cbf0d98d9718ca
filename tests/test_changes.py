import json

import pytest

from cbtllm_utils import changes, graph, profiles


@pytest.mark.parametrize(
    "one, other, same",
    [
        ("x = 1", "x = 1  # why", True),
        ('def f():\n    """A."""\n    return 1', 'def f():\n    """B."""\n    return 1', True),
        ("x = 1", "x = 2", False),
        ("f(a)", "f( a )", True),
    ],
)
def test_prose_does_not_count(one, other, same):
    assert (changes.code(one)[0] == changes.code(other)[0]) is same


def test_modules_are_followed_to_the_ground():
    reached = changes.sources("09_paper_audit")
    assert {"published", "files", "figures", "tables"} <= set(reached)
    assert "data/published" in reached, "the numbers of the paper are an input"


def test_figures_concern_only_notebooks_that_draw():
    assert "figures" in changes.sources("03_distortion_analysis")
    assert "figures" not in changes.sources("00_demo_backbones")


@pytest.fixture
def notebooks(tmp_path, monkeypatch):
    """A copy of the notebooks that may be edited."""
    for name in profiles.names(profiles.NOTEBOOKS, ".ipynb"):
        (tmp_path / f"{name}.ipynb").write_bytes((profiles.NOTEBOOKS / f"{name}.ipynb").read_bytes())
    monkeypatch.setattr(profiles, "NOTEBOOKS", tmp_path)
    return tmp_path


def edited(folder, notebook, kind, text):
    place = folder / f"{notebook}.ipynb"
    content = json.loads(place.read_text())
    cell = next(c for c in reversed(content["cells"]) if c["cell_type"] == kind)
    cell["source"] = "".join(cell["source"]) + text
    place.write_text(json.dumps(content))


@pytest.mark.parametrize("kind, text, same", [("markdown", "\nMore prose.", True), ("code", "\nx = 1", False)])
def test_an_edit_of_a_notebook(notebooks, kind, text, same):
    task = next(task for task in graph.tasks("demo") if task.name == "03_distortion_analysis")
    before = changes.fingerprint(task, "runs/none")
    edited(notebooks, "03_distortion_analysis", kind, text)
    assert (changes.fingerprint(task, "runs/none") == before) is same
