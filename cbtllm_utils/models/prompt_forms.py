"""Instruction triads and the prompts made of them (§4.1)."""

from collections.abc import Mapping

from cbtllm_utils import files
from cbtllm_utils.models import chat_templates

# The model card of the released weights (Hongbin37/CBT-LLM), with its comma and its space; §4.1 in English:
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
    """Return question and description joined by "?" without a line break, as the model card does."""
    return row["question"] + "?" + row["description"]


def triad(row: Mapping) -> dict[str, str]:
    """Return {"instruction", "input", "output"} (§4.1); the output is empty where the row has no reply."""
    return {"instruction": INSTRUCTION, "input": passage(row), "output": row.get("reply", "")}


def forms(tokenizer: object) -> list[str]:
    """Return the forms of prompt that a model with this tokenizer can be asked in."""
    return [*TEMPLATES, CHAT] if chat_templates.has_template(tokenizer) else list(TEMPLATES)


def prompt(row: Mapping, template: str, tokenizer: object = None) -> str:
    """Return the prompt for a row, up to where the reply begins; control tokens in a post stay text (`escape`).

    Args:
        row: With question and description.
        template: A key of `TEMPLATES`, or "chat".
        tokenizer: Whose control tokens are kept out of the post, and whose chat template is used for "chat".

    Raises:
        InputError: For an unknown form, and for "chat" with a tokenizer without a usable chat template.
    """
    texts = triad(row)
    if template == CHAT:
        return chat_templates.prompt(tokenizer, texts["instruction"], texts["input"])
    if template not in TEMPLATES:
        raise files.InputError(f"template = {template!r}: expected one of {', '.join([*TEMPLATES, CHAT])}")
    return TEMPLATES[template].format(
        instruction=texts["instruction"], input=chat_templates.escape(texts["input"], tokenizer)
    )


def messages(row: Mapping) -> list[dict[str, str]]:
    """Return the instruction as system text and the post as what the user says; a server puts them into its form."""
    texts = triad(row)
    user = chat_templates.escape(texts["input"])
    return [{"role": "system", "content": texts["instruction"]}, {"role": "user", "content": user}]
