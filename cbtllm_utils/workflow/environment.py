"""The environment of the runner's processes: the user's paths, but not settings that change results.

The package removes what changes results from the environment of every process that imports it. Here is what only
whoever starts a process can keep out: variables of Python, start-up files and kernels of Jupyter.
"""

import os
import sys
import tempfile
from pathlib import Path

from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec

from cbtllm_utils import files

OWN = ("PYTHON", "IPYTHON", "JUPYTER", "JPY_", "PAPERMILL_", "DOIT_")
PYTHON = {
    "PYTHONHASHSEED": "0",
    "PYTHONNOUSERSITE": "1",  # packages of ~/.local would hide the locked ones
    "PYTHONUTF8": "1",
}


def clean() -> dict[str, str]:
    """Return the environment of a process that computes: the user's without the variables of Python and Jupyter."""
    return {name: value for name, value in os.environ.items() if not name.startswith(OWN)} | PYTHON


class Kernel(AsyncKernelManager):
    """A kernel of this very Python, whatever kernels and start-up files the user has installed."""

    @property
    def kernel_spec(self) -> KernelSpec:
        """Return how it is started."""
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=command, display_name="Python 3", language="python")

    async def start_kernel(self, **options: object) -> None:
        """Start it in a clean environment, with own folders for IPython and for what jury makes and leaves empty."""
        folder = Path(self.connection_file).parent
        own = {"IPYTHONDIR": f"{folder}/ipython", "HF_METRICS_CACHE": f"{folder}/metrics"}
        own |= {files.WRITTEN: f"{folder}/written"}
        await super().start_kernel(env=clean() | own, **options)


def temporary_folder() -> tempfile.TemporaryDirectory:
    """Return a folder with a short name: that of a socket has at most 107 bytes, TMPDIR any number."""
    try:
        return tempfile.TemporaryDirectory(prefix="cbtllm-", dir="/tmp")
    except OSError:
        return tempfile.TemporaryDirectory(prefix="cbtllm-")
