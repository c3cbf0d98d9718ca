"""Settings of notebooks 08 and 09."""

from cbtllm_utils.generate.settings import Decoding
from cbtllm_utils.settings import Settings, ours


class CaseSettings(Decoding):
    """What notebook 08 takes; decoded as in notebook 05, a post of the test set gets the same reply."""

    backbones: list[str] = ours(
        ["llama-chinese-7b", "alpaca-chinese-7b", "qwen-7b", "baichuan-7b"], "the tuned systems", min_length=1
    )
    untuned: str | None = ours(None, "the backbone that answers without its adapter as well; null = the last one")
    cases: int = ours(2, "posts of the test set besides the paper's", ge=1)


class AuditSettings(Settings):
    """What notebook 09 takes."""

    pairs: int = ours(6, "sample posts whose reply and forum answer show what jury's chrF does", ge=2)
