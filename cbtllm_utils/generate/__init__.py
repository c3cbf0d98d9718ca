"""Answers by a local model or by a server."""

VERSION = 1  # Raise it when the same weights, prompts and settings give other replies.
