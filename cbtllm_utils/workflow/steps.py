"""The steps of the study: one notebook each, its settings, what it reads and writes below the run."""

from dataclasses import dataclass

from cbtllm_utils.cbt_qa.settings import DatasetSettings, PromptSettings
from cbtllm_utils.demo.settings import DemoSettings
from cbtllm_utils.evaluate.settings import EvaluationSettings
from cbtllm_utils.finetune.settings import TrainingSettings
from cbtllm_utils.generate.settings import AnswerSettings, CaseSettings
from cbtllm_utils.human.settings import HumanEvaluationSettings
from cbtllm_utils.paper.settings import AuditSettings
from cbtllm_utils.settings import Settings
from cbtllm_utils.text.settings import DistortionSettings, ScreeningSettings

DISTORTIONS = ("tables/table2_distortions.csv", "tables/table3_recognition.csv")
TRAINING = ("finetune/examples.py", "finetune/trainer.py", "finetune/training.py")
ANSWERING = ("generate/answering.py", "generate/sampling.py")
SCORING = tuple(f"evaluate/{name}.py" for name in ("metrics", "jury_zh", "bleurt", "ngrams", "score_cache"))
MODEL_LIBRARIES = ("torch", "transformers", "peft", "accelerate", "tokenizers", "sentencepiece", "bitsandbytes")
SCORE_LIBRARIES = (
    "torch",
    "transformers",
    "tokenizers",
    "jury",
    "bert-score",
    "sacrebleu",
    "nltk",
    "jieba",
    "scipy",
    "numpy",
)
SCORES = ("tables/table4_automatic_evaluation.csv", "tables/table5_human_evaluation.csv")


@dataclass(frozen=True)
class Step:
    """One notebook, and what the runner must know of it.

    Attributes:
        notebook: Its name.
        settings: The class of everything that it takes.
        reads, writes: Files and folders below the run; with "{backbone}" among `writes` it runs once for each.
        gpu: Whether it needs one at the paper's scale.
        versioned: Files whose code counts by the `VERSION` of their room alone: what they compute takes hours.
        libraries: Libraries whose versions count, because they compute the results.
        seeds: Whether it compares training seeds: it takes `<backbone>-seed43` beside `<backbone>`.
    """

    notebook: str
    settings: type[Settings]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    gpu: bool = False
    versioned: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    seeds: bool = False

    @property
    def per_backbone(self) -> bool:
        """Return whether the notebook runs once for each backbone."""
        return any("{backbone}" in name for name in self.writes)


STEPS = (
    Step("00_demo_backbones", DemoSettings, (), ("backbones",)),
    Step("01_prompt_design", PromptSettings, (), ("prompts/cbt.json", "figures/figure3_prompt.png")),
    Step(
        "02_dataset_generation",
        DatasetSettings,
        ("prompts/cbt.json",),
        (
            *("cbt_qa/cbt_qa.jsonl", "cbt_qa/train.jsonl", "cbt_qa/test.jsonl", "cbt_qa/dropped.csv"),
            *("tables/table1_dataset.csv", "figures/figure1_data_quality.png", "figures/figure2_overview.png"),
        ),
    ),
    Step("03_distortion_analysis", DistortionSettings, ("cbt_qa/cbt_qa.jsonl",), DISTORTIONS),
    Step(
        "04_lora_training",
        TrainingSettings,
        ("cbt_qa/train.jsonl", "cbt_qa/test.jsonl"),
        ("adapters/{backbone}", "training/{backbone}.jsonl"),
        gpu=True,
        versioned=TRAINING,
        libraries=MODEL_LIBRARIES,
    ),
    Step(
        "05_answer_generation",
        AnswerSettings,
        ("cbt_qa/test.jsonl", "prompts/cbt.json", "adapters/{backbone}"),
        ("answers/{backbone}.jsonl", "answers/{backbone}.json"),
        gpu=True,
        versioned=(*TRAINING, *ANSWERING),
        libraries=MODEL_LIBRARIES,
    ),
    Step(
        "06_automatic_evaluation",
        EvaluationSettings,
        ("cbt_qa/test.jsonl", "cbt_qa/train.jsonl", "training/*.jsonl", "answers/*.jsonl", "adapters/*"),
        ("scores/automatic.csv", "scores/items.parquet", "scores/answers.html", SCORES[0]),
        versioned=SCORING,
        libraries=SCORE_LIBRARIES,
        seeds=True,
    ),
    Step(
        "07_human_evaluation",
        HumanEvaluationSettings,
        ("cbt_qa/test.jsonl", "answers/*.jsonl"),
        ("ratings/forms", "ratings/key.csv", "readings/forms", "scores/human.csv", SCORES[1]),
    ),
    Step(
        "08_case_study",
        CaseSettings,
        ("cbt_qa/cbt_qa.jsonl", "prompts/cbt.json", "adapters/*", "answers/*.jsonl", "answers/*.json"),
        ("case_study", "figures/figure4_case_study.png"),
        gpu=True,
        versioned=(*TRAINING, *ANSWERING),
        libraries=MODEL_LIBRARIES,
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
            "answers/*.json",
            "figures/figure4_case_study.png",
            *("tables/automatic_tuned_untuned.csv", "tables/automatic_tuned_prompted.csv", "tables/readings.csv"),
            *(
                "tables/automatic_matched_length.csv",
                "tables/automatic_order.csv",
                "tables/automatic_tuned_baseline.csv",
            ),
        ),
        ("tables/audit.csv", "tables/claims.csv", "tables/findings.csv"),
    ),
    Step(
        "10_screens",
        ScreeningSettings,
        (),
        ("tables/screen_risk.csv", "tables/screen_referral.csv", "tables/screen_final.csv"),
        libraries=("scikit-learn", "opencc"),
    ),
)
