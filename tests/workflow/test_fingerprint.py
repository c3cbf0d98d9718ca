"""What is out of date after an edit: each room's code makes exactly the steps that run it stale, prose makes none."""

import json
import re
import shutil

import pytest

from cbtllm_utils.workflow import fingerprint, profiles, steps

STEPS = {step.notebook[:2]: step for step in steps.STEPS}


@pytest.mark.parametrize(
    "one, other, same",
    [
        ("x = 1", "x = 1  # why", True),
        ('def f():\n    """A."""\n    return 1', 'def f():\n    """B."""\n    return 1', True),
        ("if x:\n    raise ValueError(f'{x}: bad')", "if x:\n    raise ValueError('not good') from None", False),
        ("if x:\n    raise ValueError(f'{x}: bad')", "if x:\n    raise ValueError('not good')", True),
        ("raise ValueError('bad')", "raise TypeError('bad')", False),
        ("x = 1", "x = 2", False),
        ("f(a)", "f( a )", True),
    ],
)
def test_prose_and_messages_do_not_count(one, other, same):
    assert (fingerprint.code(one) == fingerprint.code(other)) is same


def test_files_are_followed_to_the_ground():
    reached = fingerprint.sources(STEPS["09"])
    assert {"published.py", "files.py", "plots/figures.py", "plots/__init__.py", "paper/audit.py"} <= set(reached)
    assert "data/published" in reached, "the numbers of the paper are an input"
    assert "cbtllm_utils/paper/audit_rules.csv" in reached, "package data is an input"


@pytest.mark.parametrize(
    "line",
    [
        "from cbtllm_utils.text import sections",
        "from cbtllm_utils.text.sections import segment",
        "import cbtllm_utils.text.sections",
        "def f():\n    from cbtllm_utils.text import sections",
    ],
)
def test_every_way_of_importing_is_seen(line):
    assert {"__init__.py", "text/__init__.py", "text/sections.py"} <= fingerprint.imported(line)


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of notebooks and package that may be edited."""
    shutil.copytree(fingerprint.PACKAGE, tmp_path / "cbtllm_utils", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(profiles.NOTEBOOKS, tmp_path / "notebooks")
    monkeypatch.setattr(fingerprint, "PACKAGE", tmp_path / "cbtllm_utils")
    monkeypatch.setattr(profiles, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(fingerprint.hashing, "sha256", content)
    fingerprint.module.cache_clear()
    yield tmp_path
    fingerprint.module.cache_clear()


def content(name):
    """The content of a named file, in the copy where it is package data."""
    place = fingerprint.PACKAGE.parent / name
    return place.read_bytes().hex() if place.is_file() else str(name)


def codes():
    fingerprint.module.cache_clear()
    return {number: fingerprint.sources(step) for number, step in STEPS.items()}


def stale(copy, edit):
    """The numbers of the notebooks that an edit makes out of date."""
    before = codes()
    edit(copy)
    after = codes()
    return "".join(number[1] for number in STEPS if before[number] != after[number])


def body(name, function, line):
    """An edit: put a line at the end of a function's first statement."""

    def edit(copy):
        place = copy / "cbtllm_utils" / name
        text, number = re.subn(
            rf'^(( *)def {function}\((?:.|\n)*?\n\2    """(?:.|\n)*?""")',
            rf"\1\n\2    {line}",
            place.read_text(),
            count=1,
            flags=re.M,
        )
        assert number == 1, f"{name}: no function {function}"
        place.write_text(text)

    return edit


EDITS = [  # a function of each room, and the notebooks that run it
    ("hashing.py", "text", "0123456789"),
    ("data/psyqa.py", "read", "012357"),
    ("llm/client.py", "complete", "12357"),
    ("text/sections.py", "segment", "12568"),
    ("models/backbones.py", "load_model", "0458"),
    ("cbt_qa/exports.py", "card", "2"),
    ("finetune/memory.py", "memory", ""),
    ("generate/server.py", "answer", ""),
    ("evaluate/metrics.py", "score", "9"),
    ("human/ratings.py", "read_all", "7"),
    ("paper/case_study.py", "chosen", "8"),
    ("plots/charts.py", "histograms", "12345679"),
    ("demo/texts.py", "corpus", "0"),
    ("workflow/release.py", "release", ""),
]


@pytest.mark.parametrize("name, function, steps", EDITS)
def test_an_edited_function_makes_the_steps_that_run_it_stale(copy, name, function, steps):
    assert stale(copy, body(name, function, "edited = 1")) == steps


@pytest.mark.parametrize("room, steps", [("finetune", "04589"), ("generate", "058"), ("evaluate", "069")])
def test_a_raised_version_makes_stale_what_the_room_computes(copy, room, steps):
    place = f"cbtllm_utils/{room}/__init__.py"
    assert stale(copy, lambda copy: (copy / place).write_text("VERSION = 1000")) == steps


@pytest.mark.parametrize("name, function, _", EDITS)
def test_a_comment_makes_nothing_stale(copy, name, function, _):
    assert stale(copy, body(name, function, "# why")) == ""


@pytest.mark.parametrize(
    "name, steps",
    [
        ("text/distortion_taxonomy.csv", "123568"),
        ("paper/audit_rules.csv", "9"),
        ("plots/page.css", "68"),
        ("human/rating_form.html", "7"),
    ],
)
def test_package_data_counts(copy, name, steps):
    assert stale(copy, lambda copy: (copy / "cbtllm_utils" / name).write_text("other")) == steps


def edited(copy, kind, text):
    place = copy / "notebooks" / "03_distortion_analysis.ipynb"
    notebook = json.loads(place.read_text())
    cell = next(c for c in reversed(notebook["cells"]) if c["cell_type"] == kind)
    cell["source"] = "".join(cell["source"]) + text
    place.write_text(json.dumps(notebook))


@pytest.mark.parametrize("kind, text, steps", [("markdown", "\nMore prose.", ""), ("code", "\nx = 1", "3")])
def test_an_edit_of_a_notebook(copy, kind, text, steps):
    assert stale(copy, lambda copy: edited(copy, kind, text)) == steps
