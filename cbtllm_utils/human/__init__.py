"""Blinded forms for raters, their readers, ratings and agreement; annotation."""
