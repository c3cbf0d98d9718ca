"""The five automatic metrics, per item and per system."""
