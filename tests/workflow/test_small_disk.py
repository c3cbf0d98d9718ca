"""A full disk and a read-only one, each in its own mount namespace: no answer is lost, nothing is half-made."""

import json
import os
import subprocess
import sys

import pytest

from cbtllm_utils import files

NAMESPACE = ["unshare", "-rm"]


def allowed(*command):
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(
    not allowed(*NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"), reason="mounting is not allowed here"
)
def test_a_full_disk_and_a_read_only_one_cost_nothing_that_was_answered(tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(files.ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [*NAMESPACE, sys.executable, str(files.ROOT / "tests/support/small_disk.py"), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    full, locked, free = json.loads(done.stdout.splitlines()[-1])
    assert (full["status"], locked["status"], free["status"]) == (1, 1, 0)
    assert len(full["said"]) == 1 and "02_dataset_generation" in full["said"][0]
    assert "No space left on device" in full["said"][0]
    assert locked["said"][0].startswith(f"error: {tmp_path.name}: Read-only file system; make it writable")
    growing = ("cbt_qa/responses.jsonl", "notebooks/02_dataset_generation.failed.ipynb")
    whole = {name: content for name, content in full["files"].items() if name not in growing}
    assert whole.items() <= free["files"].items() and locked["files"] == full["files"], "no half file has a final name"
    assert 0 < len(full["answers"]) < 60 == len(free["answers"])
    assert free["answers"][: len(full["answers"])] == full["answers"], "what was answered is not asked again"
    assert not [name for name in (*full["files"], *free["files"]) if "/." in name or name.endswith(".tmp")], (
        "nothing is left over"
    )
