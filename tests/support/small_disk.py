"""Notebook 02 on a disk of 150 kB, then on one that is read-only, then on a larger one: python small_disk.py FOLDER.

Runs in a mount namespace of its own (`unshare -rm`), where a user may mount memory as a disk. Prints JSON.
"""

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path

from cbtllm_utils import files, hashing, response_cache
from cbtllm_utils.data import prompts
from cbtllm_utils.workflow import run

PROMPT = "params/prompts/cbt_prompt.zh.md"


def disk(place, *options):
    subprocess.run(["mount", *options, place], check=True)


def tried(place):
    """The exit status, what was said, the files that are there with their hashes, and the cached answers."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        status = run.main(["02_dataset_generation", "--profile", "ci", f"run={place}"])
    there = {p.relative_to(place).as_posix(): hashing.sha256(p) for p in Path(place).rglob("*") if p.is_file()}
    lines = [line for line in said.getvalue().splitlines() if not line.startswith("      02_")]  # how far it is
    return {
        "status": status,
        "said": lines,
        "files": there,
        "answers": list(response_cache.read(f"{place}/cbt_qa/responses.jsonl")),
    }


if __name__ == "__main__":
    where = sys.argv[1]
    disk(where, "-t", "tmpfs", "-o", "size=150k", "tmpfs")
    files.write_json(f"{where}/prompts/cbt.json", prompts.record(prompts.read(PROMPT), PROMPT))
    found = [tried(where)]
    disk(where, "-o", "remount,ro")
    found.append(tried(where))
    disk(where, "-o", "remount,rw,size=50m")
    found.append(tried(where))
    print(json.dumps(found))
