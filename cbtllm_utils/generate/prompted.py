"""The prompted system: an untuned backbone asked with the full CBT prompt, each post cut to fit the model's context."""

import bisect
from collections.abc import Mapping, Sequence
from pathlib import Path

from cbtllm_utils import files
from cbtllm_utils.data import prompts
from cbtllm_utils.models import chat_templates, prompt_forms


def prompt(run: str | Path) -> prompts.Prompt:
    """Return the CBT prompt of a run, as notebook 01 wrote it."""
    return prompts.load(f"{run}/prompts/cbt.json")


def context(model: object) -> int:
    """Return how many tokens a model was built for, prompt and reply together."""
    return model.config.get_text_config().max_position_embeddings


def fitted(
    rows: Sequence[Mapping], template: str, tokenizer: object, cbt: prompts.Prompt, room: int
) -> tuple[list[dict], dict[object, int]]:
    """Return the rows, descriptions cut from their end until each prompt has at most `room` tokens, and what was cut.

    The CBT prompt and the question are never cut, and a row that fits is returned as it is.

    Returns:
        The rows; the number of characters cut by questionID, of those that lost any.

    Raises:
        InputError: When a prompt does not fit even without a description.
    """
    found, cut = [], {}
    for row in rows:
        text = row["description"]

        def beyond(kept: int, row: Mapping = row, text: str = text) -> bool:
            asked = prompt_forms.prompt({**row, "description": text[:kept]}, template, tokenizer, cbt)
            return len(chat_templates.ids(tokenizer, asked)) > room

        kept = len(text)
        if beyond(kept):
            kept = bisect.bisect_left(range(kept), True, key=beyond) - 1
            cut[row["questionID"]] = len(text) - kept
        if kept < 0:
            raise files.InputError(
                f"prompted: the CBT prompt and question {row['questionID']} take more than {room} tokens, what the "
                "model's context leaves beside max_new_tokens; lower max_new_tokens, or leave prompted out of kinds"
            )
        found.append({**row, "description": text[:kept]})
    return found, cut


def record(cbt: prompts.Prompt, context: int | None, cut: Mapping[object, int]) -> dict:
    """Return how the prompted system was asked, for `answers/<backbone>.json`; a server's context is not known here."""
    return {"prompt": cbt.hash, "context": context, "characters_cut": {str(item): n for item, n in cut.items()}}


def in_words(cut: Mapping[object, int], posts: int) -> str:
    """Return for print and captions how many posts were cut, and by how much."""
    if not cut:
        return f"prompted: none of {posts} posts was cut"
    mean = sum(cut.values()) / len(cut)
    lost = f"{mean:.0f} characters on average, at most {max(cut.values())}"
    return f"prompted: {len(cut)} of {posts} posts lost the end of their description to fit the context, {lost}"
