"""Settings of notebook 07."""

from typing import Any, Literal

from cbtllm_utils.llm.settings import THINKING_OFF, ProviderSettings
from cbtllm_utils.settings import Number, ours, stated

BACKBONES = ["llama-chinese-7b", "alpaca-chinese-7b", "qwen-7b", "baichuan-7b"]


class HumanEvaluationSettings(ProviderSettings):
    """What notebook 07 takes. `endpoint` is where language models rate this run's forms; null = none is asked."""

    backbones: list[str] = stated(BACKBONES, "whose answers there are", min_length=1)
    systems: list[str] | None = ours(
        None,
        "who is rated, such as qwen-7b, qwen-7b-untuned, qwen-7b-prompted; null = every backbone tuned, of a single one "
        "all systems that answered (the paper rated alpaca-chinese-7b and baichuan-7b); `reference` adds the test set's "
        "own replies",
        min_length=1,
    )
    items: int = ours(10, "questions drawn from the test set; 10 x 4 systems = 40 replies; the paper: 100 x 2", ge=1)
    repeats: int = ours(6, "replies that come twice on a sheet, to see whether raters agree with themselves", ge=0)
    raters: int = stated(5, "sheets, each in its own order; the paper: 4 students and 1 psychotherapist", ge=1)
    language: Literal["zh", "en"] = ours("zh", "what the forms speak at first; a rater can switch")
    ratings: str | None = ours("data/sample/ratings.csv", "ratings that name their systems; null = filled forms only")
    kind: Literal["language model", "person"] = ours("language model", "who gave those `ratings`")
    filled: str = ours("data/ratings", "folder of forms that people filled; it may be absent")
    flagged_posts: int = ours(
        60,
        "flagged test posts drawn for the reading sheet, all where there are fewer; a system without a harmful reply to "
        "60 posts may still harm in 5 of 100, by the rule of three",
        ge=1,
    )
    readers: int = ours(2, "reading sheets, each with all of these replies: one reader alone may miss what harms", ge=1)
    filled_readings: str = ours("data/readings", "folder of reading sheets that people filled; it may be absent")
    models: list[str] = ours(["gpt-4o-mini"], "language models that rate, where there is an endpoint", min_length=1)
    rater_prompts: list[str] = ours(
        ["params/prompts/rater.zh.md"], "prompt files; every model with every file is one rater", min_length=1
    )
    sampling: dict[str, Any] = ours(
        {"temperature": 0}, f"of model raters: the likeliest scores; {{}} for the default; {THINKING_OFF}"
    )
    power: Number = ours(0.8, "chance to see a difference that exists, for the items needed", gt=0, lt=1)
    seed: int = ours(42, "of the draw, the orders and all intervals", ge=0)
