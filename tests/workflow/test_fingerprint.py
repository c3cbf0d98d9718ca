"""What is out of date after an edit: each room's code makes exactly the steps that run it stale, prose makes none."""

import json
import os
import re
import shutil

import pytest

from cbtllm_utils.workflow import fingerprint, graph, profiles, steps

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


def test_weights_that_were_touched_or_copied_are_the_same_and_other_weights_are_not(tmp_path):
    weights, content = tmp_path / "llama-7b", profiles.read("ci")
    weights.mkdir()
    (weights / "model.safetensors").write_bytes(bytes(1000))
    (weights / "config.json").write_text("{}")
    content["backbones"]["qwen-7b"]["model"] = str(weights)
    parameters = profiles.parameters(content, "runs/ci", "04_lora_training", "qwen-7b")
    task = graph.task(STEPS["04"], "qwen-7b", parameters, content)
    assert str(weights) in task.reads
    before = fingerprint.fingerprint(task, "runs/none")
    shutil.copytree(weights, tmp_path / "copy", copy_function=shutil.copyfile)
    shutil.rmtree(weights)
    (tmp_path / "copy").rename(weights)
    os.utime(weights / "model.safetensors", (1, 1))
    assert fingerprint.fingerprint(task, "runs/none") == before
    (weights / "model.safetensors").write_bytes(bytes(999) + b"x")
    assert fingerprint.fingerprint(task, "runs/none") != before


@pytest.mark.parametrize("number", ["02", "05", "07", "08"])
def test_a_reading_sheet_that_came_back_makes_the_tables_that_count_it_out_of_date(tmp_path, number):
    content, own = profiles.read("ci"), "qwen-7b" if number == "05" else None
    parameters = profiles.parameters(content, "runs/ci", STEPS[number].notebook, own)
    assert "data/readings" in graph.task(STEPS[number], own, parameters, content).reads, "the profile's folder"
    folder = tmp_path / "readings"
    folder.mkdir()
    settings = parameters["settings"] | {"filled_readings": str(folder)}
    task = graph.task(STEPS[number], own, parameters | {"settings": settings}, content)
    before = fingerprint.fingerprint(task, "runs/none")
    (folder / "reader1.jsonl").write_text("{}")
    after = fingerprint.fingerprint(task, "runs/none")
    os.utime(folder / "reader1.jsonl", (1, 1))
    assert before != after == fingerprint.fingerprint(task, "runs/none")


@pytest.fixture(scope="module")
def unedited(tmp_path_factory):
    """A copy of notebooks and package that may be edited, and what its steps run before that."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(fingerprint.PACKAGE, folder / "cbtllm_utils", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(profiles.NOTEBOOKS, folder / "notebooks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fingerprint, "PACKAGE", folder / "cbtllm_utils")
        patch.setattr(profiles, "NOTEBOOKS", folder / "notebooks")
        patch.setattr(fingerprint.hashing, "sha256", content)
        yield folder, codes()
    fingerprint.module.cache_clear()


@pytest.fixture
def stale(unedited):
    """A function that edits a file of the copy and returns the numbers of the notebooks that are then out of date."""
    folder, before = unedited
    kept = {}

    def edited(name, change):
        place = folder / name
        kept.setdefault(place, place.read_bytes())
        place.write_text(change(place.read_text()))
        after = codes()
        return "".join(f"{int(number):x}" for number in STEPS if before[number] != after[number])  # 10 is a

    yield edited
    for place, old in kept.items():
        place.write_bytes(old)


def content(name):
    """The content of a named file, in the copy where it is package data."""
    place = fingerprint.PACKAGE.parent / name
    return place.read_bytes().hex() if place.is_file() else str(name)


def codes():
    fingerprint.module.cache_clear()
    return {number: fingerprint.sources(step) for number, step in STEPS.items()}


def with_line(source, function, line):
    """The source with a line put after the docstring of a function."""
    pattern = rf'^(( *)def {function}\((?:.|\n)*?\n\2    """(?:.|\n)*?""")'
    text, number = re.subn(pattern, rf"\1\n\2    {line}", source, count=1, flags=re.M)
    assert number == 1, f"no function {function}"
    return text


EDITS = [  # a function of each room, and the notebooks that run it
    ("hashing.py", "text", "0123456789a"),
    ("data/psyqa.py", "read", "012357"),
    ("llm/client.py", "complete", "12357"),
    ("llm/schema.py", "parse", "12357"),
    ("text/sections.py", "segment", "1235678"),
    ("text/section_measures.py", "accuracy", "1568"),
    ("text/second_reader.py", "read", "125"),
    ("text/risk_model.py", "fit_scores", "12356789a"),
    ("models/backbones.py", "load_model", "0458"),
    ("cbt_qa/exports.py", "card", "2"),
    ("finetune/memory.py", "estimate", "4"),
    ("models/prompt_forms.py", "texts", "45689"),
    ("generate/server.py", "answer", "5"),
    ("generate/prompted.py", "fitted", "58"),
    ("evaluate/metrics.py", "score", "9"),
    ("human/ratings.py", "read_all", "7"),
    ("human/reading_sheets.py", "judged", "2578"),
    ("paper/case_study.py", "choose_posts", "8"),
    ("paper/findings.py", "compared", "9"),
    ("plots/charts.py", "histograms", "12345679a"),
    ("demo/backbones.py", "corpus", "0"),
    ("workflow/release.py", "release", ""),
]


@pytest.mark.parametrize("name, function, steps", EDITS)
def test_an_edited_function_makes_the_steps_that_run_it_stale(stale, name, function, steps):
    assert stale(f"cbtllm_utils/{name}", lambda source: with_line(source, function, "edited = 1")) == steps


@pytest.mark.parametrize(
    "room, steps", [("finetune", "45689"), ("generate", "056789"), ("evaluate", "069"), ("models", "045689")]
)
def test_a_raised_version_makes_stale_what_the_room_computes(stale, room, steps):
    assert stale(f"cbtllm_utils/{room}/__init__.py", lambda source: "VERSION = 1000") == steps


def test_comments_make_nothing_stale(unedited, stale):
    for name, function, _ in EDITS:
        place = unedited[0] / "cbtllm_utils" / name
        place.write_text(with_line(place.read_text(), function, "# why"))
    assert stale("cbtllm_utils/__init__.py", lambda source: source + "# why") == ""


@pytest.mark.parametrize(
    "name, steps",
    [
        ("text/distortion_taxonomy.csv", "12356789"),
        ("paper/audit_rules.csv", "9"),
        ("paper/claim_readings.csv", "9"),
        ("paper/finding_rows.csv", "9"),
        ("plots/page.css", "68"),
        ("human/rating_form.html", "7"),
        ("human/reading_rubric.json", "2578"),
    ],
)
def test_package_data_counts(stale, name, steps):
    assert stale(f"cbtllm_utils/{name}", lambda source: "other") == steps


@pytest.mark.parametrize("kind, text, steps", [("markdown", "\nMore prose.", ""), ("code", "\nx = 1", "3")])
def test_an_edit_of_a_notebook(stale, kind, text, steps):
    def longer(source):
        notebook = json.loads(source)
        cell = next(c for c in reversed(notebook["cells"]) if c["cell_type"] == kind)
        cell["source"] = "".join(cell["source"]) + text
        return json.dumps(notebook)

    assert stale("notebooks/03_distortion_analysis.ipynb", longer) == steps
