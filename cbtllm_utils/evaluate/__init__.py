"""The five automatic metrics, per item and per system."""

VERSION = 4  # Raise it when the same texts and models get other scores or tables, a new metric among them.
