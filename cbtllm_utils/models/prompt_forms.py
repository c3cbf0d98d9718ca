"""Instruction triads and the prompts made of them (§4.1), and an example's tokens with the reply as what is learnt."""

from collections.abc import Iterable, Mapping

import pandas as pd

from cbtllm_utils import files
from cbtllm_utils.models import chat_templates

IGNORED = -100  # the label that cross-entropy leaves out, in torch and everywhere since

# The model card of the released weights (Hongbin37/CBT-LLM), comma and space as they stand there; §4.1 in English:
# "You are an experienced therapist specializing in cognitive behavioral therapy. Please answer the following questions
# in the capacity of a psychotherapist".
INSTRUCTION = "你是一名经验丰富的心理咨询师,专长于认知行为疗法, 以心理咨询师的身份回答以下问题。"
TEMPLATES = {
    # How the card prompts the released model: the instruction takes the place of the system text.
    "card": "{instruction}\nHuman: {input}\nAssistant: ",
    # How LLaMA-Factory's `default` template puts a triad: instruction and input together are what the human says.
    "triad": "Human: {instruction}\n{input}\nAssistant: ",
}


CHAT = "chat"  # the third form: the tokenizer's own chat template over `messages`


def passage(row: Mapping) -> str:
    """Question and description as one passage: joined by "?" without a line break, as the model card does."""
    return row["question"] + "?" + row["description"]


def triad(row: Mapping) -> dict[str, str]:
    """The item as {"instruction", "input", "output"} (§4.1); the output is empty where the row has no reply."""
    return {"instruction": INSTRUCTION, "input": passage(row), "output": row.get("reply", "")}


def forms(tokenizer: object) -> list[str]:
    """The forms of prompt that a model with this tokenizer can be asked in."""
    return [*TEMPLATES, CHAT] if chat_templates.known(tokenizer) else list(TEMPLATES)


def prompt(row: Mapping, template: str, tokenizer: object = None) -> str:
    """What a model is given for an item, up to where its reply begins; `tokenizer` for the form "chat" alone.

    InputError for an unknown form, and for "chat" with a tokenizer without a chat template that can be used.
    """
    parts = triad(row)
    if template == CHAT:
        return chat_templates.prompt(tokenizer, parts["instruction"], parts["input"])
    if template not in TEMPLATES:
        raise files.InputError(f"template = {template!r}: expected one of {', '.join([*TEMPLATES, CHAT])}")
    return TEMPLATES[template].format(instruction=parts["instruction"], input=parts["input"])


def messages(row: Mapping) -> list[dict[str, str]]:
    """An item as a chat: the instruction as system text, the post as what the user says; the form is the server's."""
    parts = triad(row)
    return [{"role": "system", "content": parts["instruction"]}, {"role": "user", "content": parts["input"]}]


def cut(prompt_tokens: int, reply_tokens: int, cutoff: int) -> tuple[int, int]:
    """How many tokens of prompt and reply are kept: each its share of `cutoff`, as LLaMA-Factory v0.2.2 did.

    Shares are rounded down, so that up to one token of the cutoff stays free. Nothing is cut where both fit.
    """
    total = prompt_tokens + reply_tokens
    kept = (int(cutoff * (part / total)) for part in (prompt_tokens, reply_tokens))
    return tuple(min(part, limit) for part, limit in zip((prompt_tokens, reply_tokens), kept, strict=True))


def encode_example(tokenizer: object, prompt: str, reply: str, cutoff: int, end: int | None = None) -> dict:
    """One example: input_ids, labels (IGNORED on the prompt, the reply and its end elsewhere) and what was cut.

    `end` is the token after the reply, by default the end of text. `prompt_tokens`, `reply_tokens` are the lengths
    before cutting (`end` included), `prompt_cut`, `reply_cut` the tokens lost. Prompt and reply are encoded apart, as
    in generation, where the reply begins on its own. Like LLaMA-Factory, cutting takes the ends: a cut reply has no
    end, a cut prompt loses "Assistant: " or what a chat template puts there.
    """
    asked = chat_templates.ids(tokenizer, prompt)
    end = tokenizer.eos_token_id if end is None else end
    said = [*tokenizer.encode(reply, add_special_tokens=False), end]
    keep_asked, keep_said = cut(len(asked), len(said), cutoff)
    return {
        "input_ids": asked[:keep_asked] + said[:keep_said],
        "labels": [IGNORED] * keep_asked + said[:keep_said],
        "prompt_tokens": len(asked),
        "reply_tokens": len(said),
        "prompt_cut": len(asked) - keep_asked,
        "reply_cut": len(said) - keep_said,
    }


def encode(rows: Iterable[Mapping], tokenizer: object, template: str, cutoff: int) -> list[dict]:
    """`encode_example` of every item of the data set, in order, with its questionID and the reply's characters.

    In the form "chat" a reply ends as the template ends a turn, and spells no special token.
    """
    chat = template == CHAT and chat_templates.known(tokenizer)
    end = chat_templates.end_of_turn(tokenizer) if chat else None
    examples = []
    for row in rows:
        reply = chat_templates.plain(row["reply"], tokenizer) if chat else row["reply"]
        example = encode_example(tokenizer, prompt(row, template, tokenizer), reply, cutoff, end)
        examples.append(example | {"questionID": row["questionID"], "characters": len(row["reply"])})
    return examples


def lengths(examples: dict[str, list[dict]]) -> pd.DataFrame:
    """Token lengths by split and part: items, mean, median, longest; items cut, and the share of all tokens lost."""
    lines = []
    for split, items in examples.items():
        table = pd.DataFrame(items)
        for part in ("prompt", "reply"):
            tokens, lost = table[f"{part}_tokens"], table[f"{part}_cut"]
            numbers = (len(table), tokens.mean(), tokens.median(), tokens.max(), int((lost > 0).sum()))
            lines.append((split, part, *numbers, lost.sum() / tokens.sum()))
    columns = ["split", "part", "items", "mean", "median", "longest", "items cut", "share of tokens cut"]
    return pd.DataFrame(lines, columns=columns)
