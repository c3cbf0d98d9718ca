"""What processes inherit: where things are and whom to ask, nothing that computes otherwise."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import nbclient
import nbformat
import own_configuration
import pytest

from cbtllm_utils import files
from cbtllm_utils.workflow import environment

PASS = {
    **{"OPENAI_API_KEY": "k", "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1", "SSL_CERT_FILE": "/c.pem"},
    **{
        "CUDA_VISIBLE_DEVICES": "1",
        "SLURM_JOB_ID": "7",
        "LD_LIBRARY_PATH": "/lib",
        "HF_HOME": "/hub",
        "LAUNCH": "srun",
    },
    **{
        "NCCL_SOCKET_IFNAME": "eth0",
        "PYTORCH_ALLOC_CONF": "expandable_segments:True",
        "TMPDIR": "/tmp",
        "HOME": "/tmp",
    },
}
SHOW = "import json, os, cbtllm_utils; print(json.dumps(dict(os.environ)))"


def seen(**more):
    """Return the environment that a process has once it imported the package."""
    given = own_configuration.VARIABLES | PASS | {"PYTHONPATH": str(files.ROOT), "PATH": os.environ["PATH"]} | more
    command = [sys.executable, "-W", "ignore", "-c", SHOW]
    return json.loads(subprocess.run(command, env=given, capture_output=True, check=True).stdout)


def test_what_computes_is_ours_and_what_says_where_things_are_is_the_users():
    found = seen()
    assert PASS.items() <= found.items()
    assert not [name for name in found if name.startswith(("ACCELERATE_", "MKL_", "KMP_", "ONEDNN_", "NVIDIA_TF32"))]
    assert not found.keys() & {"RANK", "WORLD_SIZE", "LOCAL_RANK", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "USE_TF"}
    assert (found["OMP_NUM_THREADS"], found["HF_HUB_OFFLINE"]) == ("1", "1")


def test_a_process_of_torchrun_keeps_its_rank():
    found = seen(TORCHELASTIC_RUN_ID="none")
    assert (found["RANK"], found["WORLD_SIZE"], found["LOCAL_RANK"]) == ("1", "2", "1")
    assert "ACCELERATE_MIXED_PRECISION" not in found


def test_a_started_process_gets_no_variable_of_python_or_jupyter(monkeypatch):
    for name, value in (own_configuration.VARIABLES | PASS | {"PYTHONPATH": "/x", "IPYTHONDIR": "/y"}).items():
        monkeypatch.setenv(name, value)
    found = environment.clean()
    assert {name: found[name] for name in found if name.startswith(environment.OWN)} == environment.PYTHON
    assert PASS.items() <= found.items()


def test_a_module_of_the_users_hides_no_library(tmp_path):
    for library in ("yaml", "pydantic"):
        (tmp_path / f"{library}.py").write_text(own_configuration.RAISE)
    command = [sys.executable, "-m", "cbtllm_utils.workflow.run", "01_prompt_design", "--list"]
    path = os.pathsep.join([str(tmp_path), str(files.ROOT)])
    done = subprocess.run(command, cwd=tmp_path.parent, env=os.environ | {"PYTHONPATH": path}, capture_output=True)
    assert done.returncode == 0 and b"questions = " in done.stdout, done.stderr


@pytest.mark.parametrize("place", ["x" * 200, "missing/folder", "with blank", "file"])
def test_a_sockets_folder_has_a_short_name_wherever_temporary_files_go(tmp_path, monkeypatch, place):
    if place == "file":
        (tmp_path / place).touch()
    elif place != "missing/folder":
        (tmp_path / place).mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / place))
    monkeypatch.setattr(tempfile, "tempdir", None)  # asked for anew
    with environment.temporary_folder() as folder:
        assert len(folder) < 40 and Path(folder).stat().st_mode & 0o077 == 0


def test_whoever_starts_the_kernel_no_library_advises_to_install_widgets():
    """As JupyterLab and nbconvert start it; the advice comes with a path of the machine."""
    cell = nbformat.v4.new_code_cell("import cbtllm_utils, tqdm.auto\n_ = [*tqdm.auto.tqdm([], disable=True)]")
    notebook = nbformat.v4.new_notebook(cells=[cell])
    nbclient.NotebookClient(notebook, kernel_name="python3").execute()
    assert cell.execution_count == 1 and cell.outputs == []
