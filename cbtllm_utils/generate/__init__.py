"""Answers by a local model or by a server."""

VERSION = 1  # raise it with every change that alters a reply: cached replies of another version are made anew
