"""A user whose configuration files and environment would each change a result, if anybody read them."""

import functools
import json
import os
import shutil
import subprocess

from cbtllm_utils import files

VARIABLES = {
    **{
        "ACCELERATE_MIXED_PRECISION": "bf16",
        "ACCELERATE_USE_CPU": "false",
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "3",
    },
    **{"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DYNAMO_BACKEND": "INDUCTOR", "ACCELERATE_USE_FSDP": "true"},
    **{"OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "2", "KMP_BLOCKTIME": "0", "ATEN_CPU_CAPABILITY": "default"},
    **{"ONEDNN_DEFAULT_FPMATH_MODE": "BF16", "NVIDIA_TF32_OVERRIDE": "1", "CUBLAS_WORKSPACE_CONFIG": ":0:0"},
    **{"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "1"},
    **{"PMI_SIZE": "4", "OMPI_COMM_WORLD_SIZE": "4", "USE_TF": "1"},
    **{
        "HF_HUB_OFFLINE": "0",
        "HF_TOKEN": "hf_none",
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "TRANSFORMERS_VERBOSITY": "debug",
    },
    **{
        "WANDB_PROJECT": "x",
        "WANDB_MODE": "online",
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
        "COMET_MODE": "online",
    },
    **{
        "PYTHONOPTIMIZE": "2",
        "PYTHONHASHSEED": "7",
        "PYTHONUTF8": "0",
        "PYTHONIOENCODING": "gbk",
        "PYTHONCOERCECLOCALE": "0",
    },
    **{"PYTHONINSPECT": "", "PYTHONFAULTHANDLER": "1", "PYTHONWARNINGS": "error::UserWarning", "PYTHONDEVMODE": ""},
    **{
        "TZ": "Asia/Kathmandu",
        "COLUMNS": "20",
        "LINES": "3",
        "NO_COLOR": "1",
        "DISPLAY": ":99",
        "LANGUAGE": "tr",
        "GIT_DIR": "/",
    },
    **{"MPLBACKEND": "no_such_backend", "SOURCE_DATE_EPOCH": "1", "JUPYTER_PLATFORM_DIRS": "1"},
}
MATPLOTLIBRC = """
text.usetex: True
backend: no_such_backend
savefig.bbox: tight
savefig.transparent: True
savefig.dpi: 33
font.size: 20
axes.facecolor: red
lines.linewidth: 9
path.sketch: 1, 100, 2
image.cmap: gray
"""
RAISE = "raise RuntimeError('a file of the user was run')\n"
START_UP = "import pandas, builtins\npandas.DataFrame.to_csv = None\nbuiltins.sorted = reversed\nseed = rank = 7\n"


@functools.cache
def locale(parent) -> dict[str, str]:
    """Return variables that choose a locale in GBK, made here; the plain one where localedef cannot make it."""
    made = shutil.which("localedef") and subprocess.run(
        ["localedef", "-c", "-i", "zh_CN", "-f", "GBK", str(parent / "zh_CN.GBK")], capture_output=True
    )
    there = (parent / "zh_CN.GBK").exists() and made is not None
    return {"LC_ALL": "zh_CN.GBK", "LOCPATH": str(parent)} if there else {"LC_ALL": "C"}


def environment(folder) -> dict[str, str]:
    """Return the environment of such a user, whose home is below the folder."""
    home, foreign = folder / "home", folder / "foreign"
    for name, text in {
        ".config/matplotlib/matplotlibrc": MATPLOTLIBRC,
        ".ipython/profile_default/startup/00.py": START_UP,
        ".ipython/profile_default/ipython_kernel_config.py": RAISE,
        ".ipython/profile_default/ipython_config.py": "c = get_config()\nc.InteractiveShellApp.exec_lines = ['1 / 0']\n",
        ".jupyter/jupyter_config.py": RAISE,
        ".local/share/jupyter/kernels/python3/kernel.json": json.dumps(
            {"argv": ["/bin/false", "{connection_file}"], "display_name": "Python 3", "language": "python"}
        ),
        ".cache/huggingface/accelerate/default_config.yaml": "mixed_precision: bf16\nnum_processes: 4\n",
        "start.py": RAISE,
    }.items():
        files.write_text(home / name, text)
    for library in ("peft", "transformers", "jury", "scipy", "yaml", "doit", "files", "prompts"):
        files.write_text(foreign / f"{library}.py", RAISE)
    (folder / "a file").touch()
    temporary = folder / ("a b" * 60)
    temporary.mkdir()
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LD_LIBRARY_PATH", "LANG")}
    places = {
        "HOME": home,
        "TMPDIR": temporary,
        "HF_HOME": folder / "a file",
        "PYTHONPATH": f"{files.ROOT}{os.pathsep}{foreign}",
        "PYTHONSTARTUP": home / "start.py",
        "MATPLOTLIBRC": home / ".config/matplotlib/matplotlibrc",
        "JUPYTER_PATH": home / ".local/share/jupyter",
        "ACCELERATE_CONFIG_FILE": home / ".cache/huggingface/accelerate/default_config.yaml",
    }
    return kept | VARIABLES | locale(folder) | {name: str(place) for name, place in places.items()}
