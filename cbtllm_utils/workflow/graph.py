"""The study as a graph: which notebook reads and writes what, for which backbones."""

from collections.abc import Iterator
from dataclasses import dataclass

from cbtllm_utils import files
from cbtllm_utils.workflow import profiles


@dataclass(frozen=True)
class Step:
    """One notebook, its inputs and outputs below the run; with "{backbone}" among the outputs it runs once for each."""

    notebook: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    gpu: bool = False

    @property
    def per_backbone(self) -> bool:
        return any("{backbone}" in name for name in self.writes)


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
DISTORTIONS = ("tables/table2_distortions.csv", "tables/table3_recognition.csv")
SCORES = ("tables/table4_automatic_evaluation.csv", "tables/table5_human_evaluation.csv")
STEPS = (
    Step("00_demo_backbones", (), ("backbones",)),
    Step("01_prompt_design", (), ("prompts/cbt.json", "figures/figure3_prompt.png")),
    Step(
        "02_dataset_generation",
        ("prompts/cbt.json",),
        (
            *("cbt_qa/cbt_qa.jsonl", "cbt_qa/train.jsonl", "cbt_qa/test.jsonl", "cbt_qa/dropped.csv"),
            *("tables/table1_dataset.csv", "figures/figure1_data_quality.png", "figures/figure2_overview.png"),
        ),
    ),
    Step("03_distortion_analysis", ("cbt_qa/cbt_qa.jsonl",), DISTORTIONS),
    Step(
        "04_lora_training",
        ("cbt_qa/train.jsonl", "cbt_qa/test.jsonl"),
        ("adapters/{backbone}", "training/{backbone}.jsonl"),
        gpu=True,
    ),
    Step("05_answer_generation", ("cbt_qa/test.jsonl", "adapters/{backbone}"), ("answers/{backbone}.jsonl",), gpu=True),
    Step(
        "06_automatic_evaluation",
        ("cbt_qa/test.jsonl", "cbt_qa/train.jsonl", "answers/*.jsonl", "adapters/*"),
        ("scores/automatic.csv", "scores/items.parquet", "scores/answers.html", SCORES[0]),
    ),
    Step(
        "07_human_evaluation",
        ("cbt_qa/test.jsonl", "answers/*.jsonl"),
        ("ratings/forms", "scores/human.csv", SCORES[1]),
    ),
    Step(
        "08_case_study",
        ("cbt_qa/cbt_qa.jsonl", "adapters/*"),
        ("case_study", "figures/figure4_case_study.png"),
        gpu=True,
    ),
    Step(
        "09_paper_audit",
        (
            "tables/table1_dataset.csv",
            *DISTORTIONS,
            *SCORES,
            "scores/automatic.csv",
            "scores/human.csv",
            "training/*.jsonl",
            "figures/figure4_case_study.png",
        ),
        ("tables/audit.csv",),
    ),
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
