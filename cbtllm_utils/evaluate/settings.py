"""Settings of notebook 06."""

from typing import Literal

from cbtllm_utils.settings import Settings, ours, stated, tool_default


class EvaluationSettings(Settings):
    """What notebook 06 takes."""

    backbones: list[str] = stated(
        ["llama-chinese-7b", "alpaca-chinese-7b", "qwen-7b", "baichuan-7b"],
        "whose answers are compared: all systems of each backbone that answered (untuned, prompted, tuned)",
        min_length=1,
    )
    tokenize: Literal["characters", "words"] = ours(
        "characters", "tokens of BLEU and METEOR: characters (sacrebleu's zh) or words (jieba)"
    )
    bertscore_model: str | None = ours(
        "backbones/bert-zh-tiny",
        "BERTScore's encoder, a folder or hub id; the paper does not name its own; null = no BERTScore",
    )
    bertscore_layer: int | None = ours(
        2, "layer of the encoder, the demo's having 4; null = what bert_score recommends for the model", ge=1
    )
    bleurt_model: str | None = ours(
        "backbones/bleurt-zh-tiny",
        "BLEURT's checkpoint, a folder or hub id; the paper does not name its own; null = no BLEURT",
    )
    english_bertscore: str | None = tool_default(
        None, "jury's default encoder, roberta-large, for a table of its own; null = no such table"
    )
    english_bleurt: str | None = tool_default(None, "jury's default checkpoint, bleurt-base-128, for the same table")
    resamples: int = ours(
        2000, "resamples of items for intervals; an interval's end is then within 1/50 of its width", ge=2
    )
    seed: int = ours(42, "seed of the resampling, the sign flips, the random replies and the shuffled controls", ge=0)
