"""Backbones, tokenizers and prompt forms of 2023 and of today.

`load_model(path, deltas=(), **kwargs)` and `load_tokenizer(path)` are imported when they are first asked for: torch
takes seconds to import, and the runner needs neither. Code of this package imports from the files themselves.
"""

import importlib

VERSION = 1  # Raise it when the same files give other weights, tokens or logits: trainings and replies depend on it.
HOMES = {"load_model": "backbones", "load_tokenizer": "tokenizers"}
__all__ = ["load_model", "load_tokenizer"]


def __getattr__(name: str) -> object:
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{HOMES[name]}"), name)
