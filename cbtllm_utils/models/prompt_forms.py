"""Instruction triads, the prompts made of them (§4.1), and the full CBT prompt in the same forms."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from cbtllm_utils import files
from cbtllm_utils.data import prompts
from cbtllm_utils.models import chat_templates

# The model card of the released weights (Hongbin37/CBT-LLM), with its comma and its space; §4.1 in English:
# "You are an experienced therapist specializing in cognitive behavioral therapy. Please answer the following questions
# in the capacity of a psychotherapist".
INSTRUCTION = "你是一名经验丰富的心理咨询师,专长于认知行为疗法, 以心理咨询师的身份回答以下问题。"
# The system text of LLaMA-Factory's template `default` until v0.4.0.
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


@dataclass(frozen=True)
class Form:
    """How instruction and post become a prompt, and what that rests on.

    Attributes:
        text: With {instruction} and {input}.
        worded_by: Who words a prompt like this.
        read_in: Where that can be read.
        inferred: What is not written there.
    """

    text: str
    worded_by: str
    read_in: str
    inferred: str


# LLaMA-Factory's package is `llmtuner` on PyPI until v0.7.1; every version from 0.1.8 (2023-09-11) on was read there.
# `dsets/preprocess.py` joins instruction and input by a line break. It tokenizes the system text, a line break and the
# turn one by one; here the text is tokenized whole, so a tokenizer that prefixes a space has fewer tokens.
FORMS = {
    "card": Form(
        "{instruction}\nHuman: {input}\nAssistant: ",
        "the released model's card; LLaMA-Factory v0.1.8 to v0.2.0 with `--system_prompt`, v0.5.2 to v0.8.2 with a "
        "`system` column",
        "model card of Hongbin37/CBT-LLM; llmtuner 0.2.0, extras/template.py",
        "that all four backbones were trained in the form of the released one",
    ),
    "triad-v0.2.0": Form(
        SYSTEM + "\nHuman: {instruction}\n{input}\nAssistant: ",
        "LLaMA-Factory v0.1.8 to v0.2.0 (2023-10-15), template `default`",
        "llmtuner 0.2.0, extras/template.py and dsets/preprocess.py",
        "that the triads of §4.1 were trained with this version and its default",
    ),
    "triad-v0.2.1": Form(
        SYSTEM + "\nHuman: {instruction}\n{input}\nAssistant:",
        "LLaMA-Factory v0.2.1 (2023-11-09) to v0.4.0, template `default`: no space at the end",
        "llmtuner 0.2.1, extras/template.py and dsets/preprocess.py; 0.4.0, data/template.py",
        "that the triads of §4.1 were trained with this version and its default",
    ),
}
# A form as a jinja template, which keeps control tokens of a text out of the prompt as `chat_templates.escape` does.
TEMPLATE = """\
{{%- macro plain(text) -%}}{{%- set said = namespace(text=text) -%}}
{{%- for token in {control} -%}}
{{%- set said.text = said.text | replace(token, token[:1] + ' ' + token[1:]) -%}}
{{%- endfor -%}}{{{{ said.text }}}}{{%- endmacro -%}}
{{%- if messages[0]['role'] == 'system' -%}}
{{%- set instruction, turns = messages[0]['content'], messages[1:] -%}}
{{%- else -%}}{{%- set instruction, turns = {instruction}, messages -%}}{{%- endif -%}}
{{%- if turns | length > 2 or turns[0]['role'] != 'user' -%}}
{{{{ raise_exception('This model was trained on one post and one reply.') }}}}{{%- endif -%}}
{text}{{%- if turns | length == 2 -%}}{{{{ turns[1]['content'] + eos_token }}}}{{%- endif -%}}
"""
CHAT = "chat"  # the tokenizer's own chat template over `messages`
CHATTED = Form(
    "the tokenizer's chat template over the instruction as system text and the post",
    "the makers of a current chat model",
    "the tokenizer's files",
    "nothing; no backbone of §4.2 has such a template",
)
RELEASED = {"Hongbin37/CBT-LLM": "card"}  # models tuned by others whose form is published


def form(name: str) -> Form:
    """Return a form of prompt; raise InputError for an unknown name."""
    known = FORMS | {CHAT: CHATTED}
    if name not in known:
        raise files.InputError(f"template = {name!r}: expected one of {', '.join(known)}")
    return known[name]


def passage(row: Mapping) -> str:
    """Return question and description joined by "?" without a line break, as the model card does."""
    return row["question"] + "?" + row["description"]


def triad(row: Mapping) -> dict[str, str]:
    """Return {"instruction", "input", "output"} (§4.1); the output is empty where the row has no reply."""
    return {"instruction": INSTRUCTION, "input": passage(row), "output": row.get("reply", "")}


def forms(tokenizer: object) -> list[str]:
    """Return the forms of prompt that a model with this tokenizer can be asked in."""
    return [*FORMS, CHAT] if chat_templates.has_template(tokenizer) else list(FORMS)


def texts(row: Mapping, cbt: prompts.Prompt | None = None) -> tuple[str, str]:
    """Return the instruction and the post; `cbt`: the CBT prompt as instruction, the post as notebook 02 encloses it.

    The prompt's last rule names the brackets around the post, so the post is between them in every form.
    """
    if cbt is None:
        return INSTRUCTION, passage(row)
    system, user = prompts.messages(cbt, row["question"], row["description"])
    return system["content"], user["content"]


def prompt(row: Mapping, template: str, tokenizer: object = None, cbt: prompts.Prompt | None = None) -> str:
    """Return the prompt for a row, up to where the reply begins; control tokens in a post stay text (`escape`).

    Args:
        row: With question and description.
        template: A key of `FORMS`, or "chat".
        tokenizer: Whose control tokens are kept out of the post, and whose chat template is used for "chat".
        cbt: The full CBT prompt, which takes the place of the short instruction.

    Raises:
        InputError: For an unknown form, and for "chat" with a tokenizer without a usable chat template.
    """
    return filled(template, tokenizer, *texts(row, cbt))


def wording(template: str, tokenizer: object = None) -> str:
    """Return the exact text of a form with {input} in the place of the post: what an adapter is trained in."""
    return filled(template, tokenizer, INSTRUCTION, "{input}")


def filled(template: str, tokenizer: object, instruction: str, said: str) -> str:
    """Return the prompt of an instruction and of what the user says."""
    text = form(template).text
    if template == CHAT:
        return chat_templates.prompt(tokenizer, instruction, said)
    instruction, said = (chat_templates.escape(part, tokenizer) for part in (instruction, said))
    return text.format(instruction=instruction, input=said)


def chat_settings(name: str, tokenizer: object) -> dict[str, object]:
    """Return what tokenizer_config.json says of a form of 2023; {} for "chat", where the tokenizer has a template.

    By the chat template a server words a conversation of one post as `prompt` does. The system text is the instruction;
    where there is none, the short one is taken. A second post is refused: nothing was trained on one. The template of
    the response is for `transformers serve`, which looks for the end of the prompt of Qwen's later chat models.
    """
    if name not in FORMS:
        return {}
    says = {"{instruction}": "{{ plain(instruction) }}", "{input}": "{{ plain(turns[0]['content']) }}"}
    parts = re.split(r"(\{instruction\}|\{input\})", FORMS[name].text)
    text = "".join(says.get(part) or f"{{{{ {quoted(part)} }}}}" for part in parts if part)
    bos = "{{ bos_token }}" if getattr(tokenizer, "add_bos_token", False) else ""
    control = chat_templates.control_tokens(tokenizer)
    reply = {"content": {"close": tokenizer.eos_token, "content": "text"}}
    return {
        "chat_template": TEMPLATE.format(control=quoted(control), instruction=quoted(INSTRUCTION), text=bos + text),
        "response_template": {"defaults": {"role": "assistant"}, "start_anchor": parts[-1], "fields": reply},
    }


def quoted(value: object) -> str:
    """Return a text or a list of texts as jinja reads it."""
    return json.dumps(value, ensure_ascii=False)


def messages(row: Mapping, cbt: prompts.Prompt | None = None) -> list[dict[str, str]]:
    """Return the instruction as system text and the post as what the user says; a server puts them into its form."""
    system, user = (chat_templates.escape(text) for text in texts(row, cbt))
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


def table(tokenizer: object, used: str) -> list[dict[str, str]]:
    """Return what each form that a tokenizer allows rests on, one row a form; the one that is used says so."""
    rows = []
    for name in forms(tokenizer):
        one = form(name)
        shown = f"{name} (used here)" if name == used else name
        rests_on = {"worded by": one.worded_by, "read in": one.read_in, "inferred": one.inferred}
        rows.append({"form": shown} | {key: text.replace("`", "") for key, text in rests_on.items()})
    return rows
