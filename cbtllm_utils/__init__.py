"""The utilities under the notebooks that reproduce CBT-LLM (arXiv 2403.16008): one room for each step."""

import os
import warnings

__version__ = "0.7.0"

# For a notebook however it is started: the same results whatever the user's environment holds. The hub's local cache
# and no network, no bars but our own, one thread, because with more the sums differ in their last digits.
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # an unknown one is an error in every import
}
# Variables that begin so choose the precision, the processor's instructions, the threads or the processes of a training
# behind the parameters' back. What says where things are (HF_HOME, CUDA_VISIBLE_DEVICES, NCCL_…, SLURM_…) stays.
FOREIGN = (
    *("ACCELERATE_", "FSDP_", "PARALLELISM_CONFIG_", "TRANSFORMERS_", "DEEPSPEED_"),
    *(
        "OMP_",
        "GOMP_",
        "KMP_",
        "MKL_",
        "OPENBLAS_",
        "BLIS_",
        "VECLIB_",
        "NUMEXPR_",
        "DNNL_",
        "ONEDNN_",
        "ATEN_",
        "NPY_",
    ),
    *("CUBLAS", "CUDNN_", "NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_", "TORCH_BLAS_", "TORCH_CUDNN_"),
    *("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE"),  # MPI's, which accelerate takes for a training's
    *("USE_TF", "USE_TORCH", "USE_JAX", "PYTORCH_MPS_FAST_MATH"),
)
USERS_OFFLINE = "CBTLLM_HUB_OFFLINE"  # what HF_HUB_OFFLINE was before this package set it
RANKS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")  # torchrun's word, where it started this process


def _keep_out(environment: os._Environ) -> None:
    """Remove what would change results, and set what decides them."""
    started_by_torchrun = "TORCHELASTIC_RUN_ID" in environment
    for name in [*environment]:
        if name.startswith(FOREIGN) or (name in RANKS and not started_by_torchrun):
            del environment[name]
    environment.setdefault(USERS_OFFLINE, environment.get("HF_HUB_OFFLINE", ""))  # ours from here on, in children too
    environment.update(ENVIRONMENT)


_keep_out(os.environ)

# tqdm's advice to whoever has no ipywidgets. Our bars are text: it is kept in an executed copy, a widget is not.
warnings.filterwarnings("ignore", "IProgress not found")
