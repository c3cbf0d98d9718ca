"""The study as a graph: which notebook reads and writes what, for which backbones."""

from collections.abc import Iterator
from dataclasses import dataclass

from cbtllm_utils import files
from cbtllm_utils.workflow import profiles
from cbtllm_utils.workflow.steps import STEPS, Step

PATHS = (  # the parameters that may name files
    *(
        "questions",
        "topics",
        "annotations",
        "prompt",
        "translation",
        "compare",
        "second_pass",
        "endpoint",
        "ratings",
        "filled",
        "rater_prompts",
    ),
    *("model", "deltas", "bertscore_model", "bleurt_model", "english_bertscore", "english_bleurt"),
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
        return task_name(self.step.notebook, self.backbone)


def task_name(notebook: str, backbone: str | None) -> str:
    """The name of one run of a notebook: in the graph, of its executed copy and of its record."""
    return notebook if backbone is None else f"{notebook}-{backbone}"


def spread(names: tuple[str, ...], backbones: list[str], own: str | None) -> tuple[str, ...]:
    """The names with {backbone} filled in and * replaced by every backbone."""
    every = [name.replace("*", b) for name in names for b in (backbones if "*" in name else [""])]
    return tuple(name.replace("{backbone}", own or "") for name in every)


def tasks(profile: str) -> list[Task]:
    """Every task of a profile, in an order in which they can run."""
    content = profiles.read(profile)
    backbones = list(content.get("backbones", {}))
    found = []
    for step in STEPS:
        if step.notebook not in content.get("skip", []):
            for own in backbones if step.per_backbone else [None]:
                values = profiles.parameters(content, f"runs/{profile}", step.notebook, own)
                reads = spread(step.reads, backbones, own) + tuple(named_inputs(values))
                found.append(Task(step, own, values, reads, spread(step.writes, backbones, own)))
    return found


def named_inputs(values: dict) -> Iterator[str]:
    """The files that parameters name: data/… and params/… as they lie in the repository, others by their whole path,
    or backbones/…, which 00 makes below the run. A hub id or a URL names none."""
    values = profiles.flat(values)
    for key in PATHS:
        value = values.get(key)
        for name in value if isinstance(value, list) else [value]:
            if isinstance(name, str) and (found := source(name.removeprefix("replay:"))):
                yield found


def source(name: str) -> str | None:
    """One such file, or None: however it is written (with ~, with ..), the same file has the same name."""
    if name.startswith("backbones/"):
        return name
    place = files.path(name).resolve()
    inside = place.relative_to(files.ROOT).as_posix() if place.is_relative_to(files.ROOT) else ""
    if inside.startswith(("data/", "params/")):
        return inside
    return str(place) if place.exists() else None


def makers(task: Task, among: list[Task]) -> list[str]:
    """The tasks that write what a task reads, or a folder around it."""
    return [
        other.name
        for other in among
        if other is not task
        and any(read == made or read.startswith(made + "/") for read in task.reads for made in other.writes)
    ]
