"""Tiny models in the original file formats, built from the bundled sample."""
