"""The utilities under the notebooks that reproduce CBT-LLM (arXiv 2403.16008): one room for each step."""

import os

__version__ = "0.2.0"

# Defaults for a notebook however it is started, which a user's own environment overrides: the hub's local cache and no
# network, no bars but our own, and as many threads as give the same sums on the same machine.
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONWARNINGS": "ignore:IProgress not found",  # tqdm's advice to a browser
}
for _name, _value in ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)
