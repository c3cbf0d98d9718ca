"""Instruction triads and the prompts made of them (§4.1)."""

from collections.abc import Mapping

from cbtllm_utils import files
from cbtllm_utils.models import chat_templates

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
