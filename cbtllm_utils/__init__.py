"""The utilities under the notebooks that reproduce CBT-LLM (arXiv 2403.16008): one room for each step."""

__version__ = "0.1.0"
