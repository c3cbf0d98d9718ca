"""`make reproduce` killed at work, from a copy of the repository: what was finished counts, nobody works beside it."""

import json
import os
import re
import shutil
import subprocess
import sys
import time

import pytest
import yaml

from cbtllm_utils import files
from cbtllm_utils.workflow import profiles

SHORT = "01_prompt_design"
TABLE = "tables/prompt_compliance.csv"  # which it writes, not among its `writes`


class Study:
    """A copy of the repository with a profile of one notebook and the report."""

    def __init__(self, folder):
        self.folder, self.run = folder, folder / "runs/short"
        for name in ("cbtllm_utils", "notebooks", "params"):
            shutil.copytree(files.ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "data").symlink_to(files.ROOT / "data")
        content = profiles.read("ci") | {"skip": [name for name in profiles.CLASSES if name != SHORT]}
        (folder / "params/short.yaml").write_text(yaml.safe_dump(content))

    def start(self, *words):
        """A module of the package as a process."""
        command = [sys.executable, "-m", *words, "--profile", "short"]
        environment = os.environ | {"PYTHONPATH": str(self.folder)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, cwd=self.folder, env=environment, text=True, **pipes)

    def reproduce(self):
        """The exit status and what was said, without the notebooks that take long."""
        process = self.start("cbtllm_utils.workflow.pipeline")
        out, err = process.communicate(timeout=300)
        return process.returncode, out + "".join(re.sub(r"(?m)^      \d\d_.*\n", "", err))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    made = Study(tmp_path_factory.mktemp("study"))
    status, said = made.reproduce()
    assert status == 0 and "2 run in " in said, said
    return made


def test_a_message_in_a_shared_module_makes_nothing_out_of_date(study):
    place = study.folder / "cbtllm_utils/files.py"
    source = place.read_text()
    place.write_text(source.replace("the new version was not written", "it was not made"))
    assert place.read_text() != source
    status, said = study.reproduce()
    assert status == 0 and said.startswith("2 up to date"), said


def test_a_killed_study_goes_on_with_what_was_not_finished(study):
    """The pipeline alone is killed, and its state is half written; the notebook that it had started goes on."""
    (study.run / TABLE).unlink()
    record = study.run / "records/01_prompt_design.json"
    pipeline = study.start("cbtllm_utils.workflow.pipeline")
    while record.exists():  # until 01 begins: a table is gone
        assert pipeline.poll() is None, pipeline.communicate()
        time.sleep(0.01)
    pipeline.kill()
    pipeline.wait()
    (study.run / ".doit.json").write_text('{"study:01_prom')
    by_hand = study.start("cbtllm_utils.workflow.run", "01_prompt_design")
    refused = "error: runs/short: another run of this profile is running; wait for it or stop it\n"
    assert study.reproduce() == (1, refused) and by_hand.communicate() == ("", refused)
    while not record.exists():  # until the notebook that went on has ended
        time.sleep(0.1)
    while refused in (done := study.reproduce()):
        time.sleep(0.1)
    status, said = done
    assert status == 0 and re.search(r"\n1 run, 1 up to date in ", said), said
    assert (study.run / TABLE).exists()
    assert json.loads(record.read_text())["files"].count(TABLE) == 1
    pipeline.communicate()


def test_what_a_kill_moved_aside_is_back_before_anything_reads_it(study):
    """As a kill between the two renames of a folder leaves it."""
    aside = study.run / ".prompts-00000000.tmp"
    aside.mkdir()
    before = sorted(p.name for p in (study.run / "prompts").iterdir())
    (study.run / "prompts").rename(aside / ".replaced")
    status, said = study.reproduce()
    assert status == 0 and said.startswith("2 up to date"), said
    assert sorted(p.name for p in (study.run / "prompts").iterdir()) == before
    assert not [p for p in study.run.rglob(".*") if not p.name.endswith((".lock", ".doit.json"))]
