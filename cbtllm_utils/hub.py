"""Cards as the Hugging Face Hub reads them: metadata in YAML above the text, and names that are ids there."""

from collections.abc import Iterable, Sequence

from huggingface_hub import CardData, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from cbtllm_utils import files

LICENSE = "LICENSE.md"  # the hub's `license_link` is LICENSE, LICENSE.md or an address
TAGS = ["mental-health", "cognitive-behavioral-therapy", "research-only"]


def header(data: CardData) -> str:
    """Return a card's metadata as the lines that come before its text."""
    return f"---\n{data.to_yaml()}\n---\n"


def ids(names: Iterable[str]) -> list[str]:
    """Return those names that are ids on the hub, without a revision: no folder of a machine is one."""
    return [files.at_revision(name)[0] for name in names if is_id(name)]


def is_id(name: str) -> bool:
    """Return whether a model's name is `owner/name` on the hub, with or without a revision."""
    if files.is_tiny(name) or files.path(name).exists() or files.public(name) != name:
        return False
    try:
        validate_repo_id(found := files.at_revision(name)[0])
    except HFValidationError:
        return False
    return found.count("/") == 1


def model_header(
    library: str, bases: Sequence[str], relation: str | None, license_name: str, tags: Sequence[str] = TAGS
) -> str:
    """Return the metadata of a model or an adapter in Chinese.

    Data sets are not named: the hub's field takes ids of data sets there, and the one that trained it is not there.

    Args:
        library: `peft` or `transformers`.
        bases: The model that it was made from, and deltas. No base is named unless the model is on the hub, because an
            adapter of its delta is something else; deltas that are not on the hub are left out.
        relation: How it was made from them in the hub's words (adapter, merge, finetune); None where none of them fits.
        license_name: An id for a license that the hub's list does not have; LICENSE.md in the folder says more.
        tags: For the hub's search.
    """
    known = ids(bases) if is_id(bases[0]) else []
    data = ModelCardData(
        base_model=known[0] if len(known) == 1 else known or None,
        base_model_relation=relation if known else None,
        language="zh",
        library_name=library,
        license="other",
        license_name=license_name,
        license_link=LICENSE,
        pipeline_tag="text-generation",
        tags=list(tags) or None,
    )
    return header(data)
