"""How the answers of a backbone were made, for answers/<backbone>.json: notebook 08 asks in the same way."""

from collections.abc import Mapping

from cbtllm_utils import files
from cbtllm_utils.finetune import adapters
from cbtllm_utils.generate.kinds import TUNED
from cbtllm_utils.generate.settings import AnswerSettings


def complete(
    made: Mapping, chosen: AnswerSettings, worded: str | None, asked_in_full: Mapping | None = None
) -> dict[str, object]:
    """Return how answers were made: engine and decoding (`made`), weights, the systems and how they were prompted.

    Args:
        made: Of `answering.record` or `server.record`.
        chosen: The settings of notebook 05.
        worded: The text of the prompt's form; a server on the route "chat" words its prompts itself.
        asked_in_full: Of `prompted.record`, where a system was prompted.
    """
    by_server = chosen.endpoint is not None and chosen.route == "chat"
    adapter = (
        f"{chosen.run}/adapters/{chosen.backbone}" if TUNED in chosen.answered and not chosen.tuned_model else None
    )
    found = dict(made) | {
        "model": files.public(chosen.model),
        "deltas": [files.public(name) for name in chosen.deltas],
        "template": chosen.template,
        "kinds": chosen.answered,
        "prompt_form": None if by_server else worded,
        "adapter": adapters.identity(adapter) if adapter else None,
    }
    if adapter and (said := adapters.unrecorded(adapter)):
        found["adapter_origin"] = said
    if whole := chosen.tuned_model:
        found |= {"tuned_model": files.public(whole), "tuned_commit": files.hub_commit(whole)}
    return found | ({"prompted": dict(asked_in_full)} if asked_in_full else {})
