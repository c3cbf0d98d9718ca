"""The steps of the study: one notebook each, its settings, what it reads and writes below the run."""

from dataclasses import dataclass

from cbtllm_utils.paper.settings import AuditSettings
from cbtllm_utils.settings import Settings

DISTORTIONS = ("tables/table2_distortions.csv", "tables/table3_recognition.csv")
SCORES = ("tables/table4_automatic_evaluation.csv", "tables/table5_human_evaluation.csv")


@dataclass(frozen=True)
class Step:
    """One notebook, its inputs and outputs below the run; with "{backbone}" among the outputs it runs once for each."""

    notebook: str
    settings: type[Settings] | None
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    gpu: bool = False

    @property
    def per_backbone(self) -> bool:
        """Return whether the notebook runs once for each backbone."""
        return any("{backbone}" in name for name in self.writes)


STEPS = (
    Step("00_demo_backbones", None, (), ("backbones",)),
    Step("01_prompt_design", None, (), ("prompts/cbt.json", "figures/figure3_prompt.png")),
    Step(
        "02_dataset_generation",
        None,
        ("prompts/cbt.json",),
        (
            *("cbt_qa/cbt_qa.jsonl", "cbt_qa/train.jsonl", "cbt_qa/test.jsonl", "cbt_qa/dropped.csv"),
            *("tables/table1_dataset.csv", "figures/figure1_data_quality.png", "figures/figure2_overview.png"),
        ),
    ),
    Step("03_distortion_analysis", None, ("cbt_qa/cbt_qa.jsonl",), DISTORTIONS),
    Step(
        "04_lora_training",
        None,
        ("cbt_qa/train.jsonl", "cbt_qa/test.jsonl"),
        ("adapters/{backbone}", "training/{backbone}.jsonl"),
        gpu=True,
    ),
    Step(
        "05_answer_generation",
        None,
        ("cbt_qa/test.jsonl", "adapters/{backbone}"),
        ("answers/{backbone}.jsonl",),
        gpu=True,
    ),
    Step(
        "06_automatic_evaluation",
        None,
        ("cbt_qa/test.jsonl", "cbt_qa/train.jsonl", "answers/*.jsonl", "adapters/*"),
        ("scores/automatic.csv", "scores/items.parquet", "scores/answers.html", SCORES[0]),
    ),
    Step(
        "07_human_evaluation",
        None,
        ("cbt_qa/test.jsonl", "answers/*.jsonl"),
        ("ratings/forms", "scores/human.csv", SCORES[1]),
    ),
    Step(
        "08_case_study",
        None,
        ("cbt_qa/cbt_qa.jsonl", "adapters/*"),
        ("case_study", "figures/figure4_case_study.png"),
        gpu=True,
    ),
    Step(
        "09_paper_audit",
        AuditSettings,
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
