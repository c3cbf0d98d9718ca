"""The five automatic metrics, per item and per system."""

VERSION = 1  # of the scores: raise it when the same texts and models get other scores; cached ones no longer count then
