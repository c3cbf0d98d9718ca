"""The study as a graph: which task reads what another writes, for which backbones."""

from collections.abc import Iterator
from dataclasses import dataclass

from cbtllm_utils import files
from cbtllm_utils.workflow import profiles
from cbtllm_utils.workflow.steps import STEPS, Step

FILE_PARAMETERS = (  # the parameters that may name files
    *("questions", "topics", "annotations", "prompt", "translation", "compare", "endpoint", "ratings"),
    *(
        "reader_endpoint",
        "filled",
        "filled_readings",
        "rater_prompts",
        "model",
        "tuned_model",
        "deltas",
        "bertscore_model",
        "bleurt_model",
        "english_bertscore",
    ),
    "english_bleurt",
)


@dataclass(frozen=True)
class Task:
    """One run of one notebook in one profile; `reads` and `writes` are below the run unless data/ or params/."""

    step: Step
    backbone: str | None
    parameters: dict
    reads: tuple[str, ...]
    writes: tuple[str, ...]

    @property
    def name(self) -> str:
        """Return the task's name."""
        return task_name(self.step.notebook, self.backbone)


def task_name(notebook: str, backbone: str | None) -> str:
    """Return the name of one run of a notebook: in the graph, of its executed copy and of its record."""
    return notebook if backbone is None else f"{notebook}-{backbone}"


def spread(names: tuple[str, ...], backbones: list[str], own: str | None) -> tuple[str, ...]:
    """Return the names with {backbone} filled in and * replaced by every backbone."""
    every = [name.replace("*", b) for name in names for b in (backbones if "*" in name else [""])]
    return tuple(name.replace("{backbone}", own or "") for name in every)


def tasks(profile: str) -> list[Task]:
    """Return every task of a profile, in an order in which they can run."""
    content = profiles.read(profile)
    found = []
    for step in STEPS:
        if step.notebook not in content.get("skip", []):
            for own in content.get("backbones", {}) if step.per_backbone else [None]:
                values = profiles.parameters(content, f"runs/{profile}", step.notebook, own)
                found.append(task(step, own, values, content))
    return found


def task(step: Step, backbone: str | None, parameters: dict, content: dict) -> Task:
    """Return one run of a notebook with these parameters in a profile of this content."""
    backbones = list(content.get("backbones", {}))
    reads = spread(step.reads, backbones, backbone) + tuple(named_inputs(parameters))
    return Task(step, backbone, parameters, reads, spread(step.writes, backbones, backbone))


def named_files(parameters: dict) -> list[str]:
    """Return what a notebook's parameters for files hold: names of files as written, hub ids, URLs."""
    values = [profiles.flat(parameters).get(key) for key in FILE_PARAMETERS]
    every = [name for value in values for name in (value if isinstance(value, list) else [value])]
    return [name.removeprefix("replay:") for name in every if isinstance(name, str)]


def named_inputs(parameters: dict) -> Iterator[str]:
    """Yield the files that a notebook's parameters name.

    data/… and params/… are relative to the repository, backbones/… (from notebook 00) to the run, others absolute. A
    hub id or a URL does not name a file.
    """
    yield from filter(None, map(source, named_files(parameters)))


def hub_commits(parameters: dict) -> dict[str, str]:
    """Return hub id -> the commit of it in the local cache, for each model that a notebook's parameters name."""
    commits = {name: files.hub_commit(name) for name in named_files(parameters)}
    return {name: commit for name, commit in commits.items() if commit}


def in_full(message: str, names: list[str]) -> str:
    """Return a message for the terminal with the whole path of the file that it begins with.

    A notebook names a file outside the repository by its last part alone, since notebooks are passed on.
    """
    for name in names:
        last = files.shown(name)
        if last != name and message.startswith((f"{last}: ", f"{last}, ")):
            return f"{files.path(name)}{message.removeprefix(last)}"
    return message


def source(name: str) -> str | None:
    """Return the one name of a file however it is written (with ~, with ..), or None for what is not a file."""
    if name.startswith(files.TINY):
        return name
    place = files.path(name).resolve()
    inside = place.relative_to(files.ROOT).as_posix() if place.is_relative_to(files.ROOT) else ""
    if inside.startswith(("data/", "params/")):
        return inside
    return str(place) if place.exists() else None


def makers(task: Task, among: list[Task]) -> list[str]:
    """Return the names of the tasks that write what a task reads, or a folder around it."""
    return [
        other.name
        for other in among
        if other is not task
        and any(read == made or read.startswith(made + "/") for read in task.reads for made in other.writes)
    ]
