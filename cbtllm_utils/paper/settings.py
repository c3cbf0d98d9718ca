"""Settings of notebook 09."""

from cbtllm_utils.settings import Settings, ours


class AuditSettings(Settings):
    """What notebook 09 takes."""

    pairs: int = ours(6, "sample posts whose reply and forum answer show how jury computes chrF", ge=2)
