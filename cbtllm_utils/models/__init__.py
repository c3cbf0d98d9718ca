"""Backbones, tokenizers and prompt forms of 2023 and of today."""
