"""The graph of notebooks for doit: `doit list --all`, `doit profile=ci`, `doit -n 4 study:06_automatic_evaluation`."""

from doit import get_var

from cbtllm_utils.workflow import pipeline

PROFILE = get_var("profile") or "demo"
DOIT_CONFIG = pipeline.config(PROFILE)


def task_study():
    """Every notebook of the profile, then the report."""
    yield from pipeline.doit_tasks(PROFILE)
