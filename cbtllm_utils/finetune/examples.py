"""Tokenized examples: prompt and reply as token ids, and labels that make the reply alone count (§4.1, equation 3)."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from datasets import Dataset, Features, List, Value

from cbtllm_utils.models import chat_templates, prompt_forms

IGNORED = -100  # the label that PyTorch's cross-entropy leaves out
COUNTS = ("length", "prompt_tokens", "reply_tokens", "prompt_cut", "reply_cut", "characters")
FEATURES = Features(
    {"questionID": Value("string"), "input_ids": List(Value("int32")), "labels": List(Value("int32"))}
    | {name: Value("int32") for name in COUNTS}
)


def truncated(prompt_tokens: int, reply_tokens: int, cutoff: int) -> tuple[int, int]:
    """Return how many tokens of prompt and reply remain: each its share of `cutoff`, as in LLaMA-Factory v0.2.2.

    Shares are rounded down, so one token of the cutoff may stay free. Nothing is cut where both fit.
    """
    total = prompt_tokens + reply_tokens
    shares = [int(cutoff * (tokens / total)) for tokens in (prompt_tokens, reply_tokens)]
    return min(prompt_tokens, shares[0]), min(reply_tokens, shares[1])


def encode_example(tokenizer: object, prompt: str, reply: str, cutoff: int, end: int | None = None) -> dict:
    """Tokenize one example.

    Prompt and reply are encoded separately, as in generation, where the reply begins on its own. As in LLaMA-Factory,
    truncation takes the ends: a cut reply has no end token, a cut prompt loses "Assistant: " or what a chat template
    puts there.

    Args:
        end: The token after the reply; by default the tokenizer's end of text.

    Returns:
        input_ids; labels (IGNORED on the prompt); prompt_tokens and reply_tokens before truncation, `end` included;
        prompt_cut and reply_cut, the tokens lost.
    """
    asked = chat_templates.ids(tokenizer, prompt)
    end = tokenizer.eos_token_id if end is None else end
    said = [*tokenizer.encode(reply, add_special_tokens=False), end]
    of_prompt, of_reply = truncated(len(asked), len(said), cutoff)
    return {
        "input_ids": np.array(asked[:of_prompt] + said[:of_reply], dtype=np.int32),
        "labels": np.array([IGNORED] * of_prompt + said[:of_reply], dtype=np.int32),
        "prompt_tokens": len(asked),
        "reply_tokens": len(said),
        "prompt_cut": len(asked) - of_prompt,
        "reply_cut": len(said) - of_reply,
    }


def encode(rows: Iterable[Mapping], tokenizer: object, template: str, cutoff: int) -> Dataset:
    """Tokenize data points into an Arrow table (FEATURES), in order.

    In the form "chat" a reply ends as the template ends a turn. No text of a post or reply is read as a control token.
    """
    chat = template == prompt_forms.CHAT and chat_templates.has_template(tokenizer)
    end = chat_templates.end_of_turn(tokenizer) if chat else None
    found = []
    for row in rows:
        reply = chat_templates.escape(row["reply"], tokenizer)
        example = encode_example(tokenizer, prompt_forms.prompt(row, template, tokenizer), reply, cutoff, end)
        found.append(example | {"questionID": row["questionID"], "characters": len(row["reply"])})
    return dataset(found)


def dataset(rows: Iterable[Mapping]) -> Dataset:
    """Return rows as an Arrow table (FEATURES); a column that a row lacks is null, `length` follows from input_ids."""
    completed = [{"length": len(row["input_ids"])} | dict(row) for row in rows]
    columns = {name: [row.get(name) for row in completed] for name in FEATURES}
    columns["questionID"] = [None if one is None else str(one) for one in columns["questionID"]]
    return Dataset.from_dict(columns, features=FEATURES)


def lengths(splits: Mapping[str, Dataset]) -> pd.DataFrame:
    """Return token counts before truncation by split and text, and how many examples and % of tokens it cut."""
    lines = []
    for split, examples in splits.items():
        table = examples.select_columns(list(COUNTS)).to_pandas()
        for text in ("prompt", "reply"):
            tokens, lost = table[f"{text}_tokens"], table[f"{text}_cut"]
            numbers = (len(table), tokens.mean(), tokens.median(), tokens.max(), int((lost > 0).sum()))
            lines.append((split, text, *numbers, 100 * lost.sum() / tokens.sum()))
    columns = ["split", "text", "examples", "mean", "median", "longest", "examples cut", "tokens cut, %"]
    return pd.DataFrame(lines, columns=columns)
