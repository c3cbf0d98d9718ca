"""Answers by a local model or by a server."""
