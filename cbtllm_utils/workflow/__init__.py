"""Run notebooks: profiles, the graph, what is out of date, provenance, report, release."""

import os
import sys

# Folders of PYTHONPATH come last: a module there must not hide the library of its name that the runner needs.
_given = {os.path.abspath(place) for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place}  # noqa: PTH100
sys.path.sort(key=_given.__contains__)
