"""The checks with other tools: what was found is kept, a failure is a row, and the exit status says it."""

import json
import sys
import types
import zipfile

import numpy as np
import pytest

from benchmarks.tools import harness, notebooks
from benchmarks.tools.harness import Figure
from cbtllm_utils import files

KEPT = {"title": "T", "date": "2026-01-01", "machine": "m", "versions": ["a 1"], "rows": [["w", "f", "f", True]]}


def tool(check, **more):
    """Return a module such as those of benchmarks/tools."""
    attributes = {"TITLE": "A tool", "ENVIRONMENTS": {}, "PACKAGES": ["pytest"], "check": check} | more
    return types.SimpleNamespace(**attributes)


def test_the_page_is_what_the_figures_make():
    assert files.read_text("benchmarks/tools.md") == harness.text(files.read_json("benchmarks/tools.json"))


def test_every_check_has_run_to_its_end_and_what_it_missed_is_listed():
    kept, page = files.read_json("benchmarks/tools.json"), files.read_text("benchmarks/tools.md")
    assert {name for name, one in kept.items() if one["rows"]} == set(harness.TOOLS)
    missed = [(name, row[0]) for name, one in kept.items() for row in one["rows"] if row[3] is False]
    assert not [name for name, what in missed if what == harness.ENDS[0]]
    assert not [what for name, what in missed if f"\n- MISSED: `{name}`: {what}: " not in page]


def test_figures_take_the_place_of_old_ones_and_the_others_stay(tmp_path):
    (tmp_path / "demo").mkdir()
    files.write_json(tmp_path / "kept.json", {"vllm": KEPT, "servers": KEPT})

    def check(place):
        assert place.run == tmp_path / "demo" and list(place.work.iterdir()) == []
        (place.work / "x").write_text("x")
        return [Figure("prompts equal", "36 of 36", "36 of 36", True)]

    harness.record("vllm", tool(check), tmp_path / "demo", tmp_path / "kept.json")
    kept = files.read_json(tmp_path / "kept.json")
    assert kept["servers"] == KEPT
    assert kept["vllm"]["rows"] == [["prompts equal", "36 of 36", "36 of 36", True]]
    assert kept["vllm"]["versions"] == [f"pytest {pytest.__version__}"]
    assert sorted(place.name for place in tmp_path.iterdir()) == ["demo", "kept.json"]
    page = harness.text(kept)
    assert "| prompts equal | 36 of 36 | 36 of 36 | yes |" in page and page.index("A tool") < page.index("## T")


def test_a_figure_that_is_missed_is_listed_before_all_others():
    rows = [["w", "f", "f", True], ["replies equal", "35 of 36", "36 of 36", False], ["seconds", "3", "", None]]
    page = harness.text({"servers": KEPT, "vllm": KEPT | {"rows": rows}})
    assert page.partition("\n## ")[0].endswith("\n- MISSED: `vllm`: replies equal: 35 of 36 (wanted: 36 of 36)\n")
    assert page.count("MISSED") == 2 and "| replies equal | 35 of 36 | 36 of 36 | MISSED |" in page


@pytest.mark.parametrize("error", [OSError("no port is free\nat all"), SystemExit("refused")])
def test_a_check_that_fails_is_a_row(tmp_path, error):
    def check(place):
        raise error

    (row,) = harness.record("vllm", tool(check), tmp_path, tmp_path / "kept.json")
    assert row.holds is False and files.one_line(error) in row.found
    assert f"pytest {pytest.__version__}" in files.read_json(tmp_path / "kept.json")["vllm"]["versions"]


def test_a_package_that_no_environment_has_fails_the_check(tmp_path):
    (row,) = harness.record("vllm", tool(None, PACKAGES=["no-such-package"]), tmp_path, tmp_path / "kept.json")
    assert row.holds is False and "no-such-package" in row.found


def run(monkeypatch, tmp_path, rows):
    """Return the exit status of the command for one tool with these rows."""
    monkeypatch.setattr(harness, "finished", lambda run: tmp_path)
    monkeypatch.setitem(sys.modules, "benchmarks.tools.vllm", tool(lambda place: rows))
    return harness.main(["vllm"], pages=tmp_path)


@pytest.mark.parametrize(
    ("holds", "status"), [(True, 0), (None, 0), (False, 1), (np.float64(2) < 1, 1), (np.float64(1) < 2, 0)]
)
def test_the_status_says_whether_every_figure_holds(monkeypatch, tmp_path, holds, status):
    assert run(monkeypatch, tmp_path, [Figure("w", "f", "", holds), Figure("v", "f", "f", True)]) == status
    assert (
        f"| w | f |  | {harness.VERDICTS[None if holds is None else bool(holds)]} |"
        in (tmp_path / "tools.md").read_text()
    )


def test_an_unknown_name_and_an_unfinished_run_are_refused(tmp_path, capsys):
    assert harness.main(["vlm"]) == 2 and "unknown tool vlm" in capsys.readouterr().err
    assert harness.main([], tmp_path) == 2 and "`make reproduce` first" in capsys.readouterr().err


def wheel(folder, version):
    """Return a wheel of an empty package."""
    path = folder / f"tiny_tool-{version}-py3-none-any.whl"
    about = f"tiny_tool-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: tiny-tool\nVersion: {version}\n")
        packed.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        packed.writestr(f"{about}/RECORD", "")
    return path


def test_an_environment_is_made_once_and_again_for_other_requirements(monkeypatch, tmp_path):
    """With a wheel from this machine: pip looks nothing up."""
    monkeypatch.setenv(harness.PARENT, str(tmp_path / "environments"))
    commands, real = [], harness.subprocess.run
    monkeypatch.setattr(harness.subprocess, "run", lambda command, **o: commands.append(command) or real(command, **o))
    for version, needed in (("1", 2), ("1", 0), ("2", 2)):
        commands.clear()
        place = harness.environment("tiny", ["--no-index", str(wheel(tmp_path, version))])
        assert len(commands) == needed
        assert harness.versions(["tiny-tool"], {"tiny": place}) == [f"tiny-tool {version}"]


def test_the_check_of_notebooks_sees_what_libraries_wrote(tmp_path):
    """Of four cells as they ran (tests/workflow/captured_stderr.jsonl): seven warnings among the bars."""
    pieces = [json.loads(line) for line in files.read_text("tests/workflow/captured_stderr.jsonl").splitlines()]
    outputs = [{"output_type": "stream", "name": "stderr", "text": piece} for piece in pieces]
    outputs.append({"output_type": "display_data", "data": {"text/html": f"<p>in {files.ROOT}/runs</p>"}})
    cell = {"cell_type": "code", "execution_count": 1, "source": ["x"], "outputs": outputs}
    files.write_json(tmp_path / "a.ipynb", {"cells": [cell]})
    found = {row.what.partition(": ")[2]: row.holds for row in notebooks.outputs("papermill", [tmp_path / "a.ipynb"])}
    assert found == {"code cells that ran": True, "errors": True, "warnings": False, "local paths in outputs": False}
    said = [line for piece in pieces for line in notebooks.warnings_in(piece)]
    assert len([line for line in said if not line.startswith("  ")]) == 7


def test_the_check_of_notebooks_sees_a_warning_on_the_line_of_a_bar():
    """As a notebook keeps them: pieces of one stream are joined."""
    bar = "\rtraining:  51%|█████     | 83/162 [00:05<00:04, 16.5it/s, loss=5.677]"
    text = f"{bar}UserWarning: slow disk\n{bar}{bar}\n{bar}note: a note of the notebook\n"
    assert list(notebooks.warnings_in(text)) == ["UserWarning: slow disk"]


def test_a_server_is_yielded_once_it_answers_and_is_ended_even_where_it_ignores_that(tmp_path, monkeypatch):
    monkeypatch.setattr(harness, "ENDING", 0.5)
    deaf = "import signal, http.server as h, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    deaf += "h.HTTPServer(('127.0.0.1', int(sys.argv[1])), h.BaseHTTPRequestHandler).serve_forever()"
    with harness.served([sys.executable, "-c", deaf, "{port}"], "/", tmp_path / "log") as address:
        assert harness.answers(address), "501 is an answer"
    assert not harness.answers(address)


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("print('no room'); raise SystemExit(3)", "does not serve: it ended with 3: no room"),
        (
            "print('deaf', flush=True); import time; time.sleep(60)",
            "does not serve: after 1 s still not: an answer: deaf",
        ),
    ],
)
def test_a_server_that_does_not_serve_is_told_by_its_log(tmp_path, program, said):
    with (
        pytest.raises(RuntimeError, match=said),
        harness.served([sys.executable, "-c", program], "/", tmp_path / "log", seconds=1),
    ):
        raise AssertionError("nothing is served")
