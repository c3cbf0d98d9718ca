"""Use a tokenizer's own chat template (Qwen, Llama 3, …): the prompt that it makes, and what ends a turn."""

import re
from collections.abc import Mapping, Sequence

import jinja2

from cbtllm_utils import files

# Llama 3.2 and others write today's date into the prompt: training and answering would use different prompts, and no
# run could be repeated. Llama 3.1 takes this day where it is given none.
DAY = "26 Jul 2024"
FIXED_DATE = "{%- macro strftime_now(format) -%}" + DAY + "{%- endmacro %}"
# Control tokens of the usual families, for a server whose tokenizer is not at hand: <|im_end|>, <｜User｜>, </s>, …
CONTROL = re.compile(
    r"<[|｜][^<>|｜\s]{1,40}[|｜]>|</?(?:s|unk|pad|bos|eos|mask|think|tool_call|tool_response)>"
    r"|<(?:start|end)_of_turn>|\[/?INST\]|\[PAD\]"
)
BRACKETED = re.compile(r"<\S+>|\[\S+\]")  # an added token that steers although its file does not call it special
# What a template raises that cannot take the messages, or that jinja's sandbox stops.
TEMPLATE_ERRORS = (
    jinja2.TemplateError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)


def has_template(tokenizer: object) -> bool:
    """Return whether the tokenizer has a chat template; those of 2023 and of most base models have none."""
    return bool(getattr(tokenizer, "chat_template", None))


def render(tokenizer: object, messages: Sequence[Mapping], answered: bool = False) -> str:
    """Return the messages in the template's form, up to where a reply begins; `answered`: the last is the reply."""
    template = FIXED_DATE + tokenizer.get_chat_template()
    options = {"add_generation_prompt": not answered, "enable_thinking": False, "date_string": DAY}
    return tokenizer.apply_chat_template(list(messages), chat_template=template, tokenize=False, **options)


def special_tokens(tokenizer: object) -> dict[int, str]:
    """Return the tokens that represent no text: the tokenizer's own list, and others that its file marks as special."""
    marked = {i: token.content for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return marked | dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))


def control_tokens(tokenizer: object) -> list[str]:
    """Return the texts that a tokenizer reads as control tokens, the longest first: special ones, and <think> alike."""
    added = [token.content for token in tokenizer.added_tokens_decoder.values()]
    found = {*special_tokens(tokenizer).values(), *filter(BRACKETED.fullmatch, added)}
    return sorted(found, key=lambda token: (-len(token), token))


def escape(text: str, tokenizer: object = None) -> str:
    """Put a space into whatever spells a control token, so that no post can end its turn and begin another's.

    It goes behind the first character: `< |im_end|>` is read as text by every tokenizer, here and on a server. Without
    a tokenizer only the usual tokens are known (`CONTROL`).
    """
    for token in control_tokens(tokenizer) if tokenizer is not None else ():
        text = text.replace(token, f"{token[:1]} {token[1:]}")
    return CONTROL.sub(lambda found: f"{found[0][:1]} {found[0][1:]}", text)


def prompt(tokenizer: object, system: str, user: str) -> str:
    """Return the prompt up to where the reply begins, with its special tokens and thinking switched off.

    Where a template takes no system text, the system text opens what the user says.

    Raises:
        InputError: For a tokenizer without a template, a template that cannot take the messages, and a model that
            always thinks aloud first.
    """
    if not has_template(tokenizer):
        raise files.InputError(
            "template = chat: this tokenizer has no chat template, like base models and those of 2023; "
            "set template = card"
        )
    system, user = escape(system, tokenizer), escape(user, tokenizer)
    ways = (
        [{"role": "system", "content": system}, {"role": "user", "content": user}],
        [{"role": "user", "content": f"{system}\n\n{user}"}],
    )
    reason = "it leaves out a part of what it is given"
    for messages in ways:
        try:
            made = render(tokenizer, messages)
        except TEMPLATE_ERRORS as error:
            reason = " ".join(str(error).split())[:200]
            continue
        if made.rstrip().endswith("<think>"):
            reason = "its model always thinks aloud, which would become part of the reply; take its instruct relative"
        elif system.strip() in made and user.strip() in made:
            return made
    raise files.InputError(f"template = chat: this tokenizer's cannot be used here ({reason}); set template = card")


def end_of_turn(tokenizer: object) -> int:
    """Return the token that the template puts after a reply, such as <|im_end|> or <|eot_id|>; without one, eos."""
    if has_template(tokenizer):
        reply = "reply-of-the-model"
        try:
            messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": reply}]
            tail = render(tokenizer, messages, answered=True).rpartition(reply)[2]
        except TEMPLATE_ERRORS:
            tail = ""
        first = tokenizer.encode(tail.lstrip(), add_special_tokens=False)[:1]
        if first and first[0] in special_tokens(tokenizer):
            return first[0]
    return tokenizer.eos_token_id


def stops(tokenizer: object) -> list[int]:
    """Return the tokens at which a reply ends: those that `load_tokenizer` found in the model's files, else eos."""
    return getattr(tokenizer, "stops", None) or [tokenizer.eos_token_id]


def begins_with_bos(tokenizer: object, text: str) -> bool:
    """Return whether a text spells the token that begins a text, as Llama 3's template does: once is enough."""
    bos = getattr(tokenizer, "bos_token", None)
    return bool(bos) and text.startswith(bos)


def ids(tokenizer: object, text: str) -> list[int]:
    """Return the tokens of a prompt, with bos where the tokenizer puts it, and never twice."""
    return tokenizer.encode(text, add_special_tokens=not begins_with_bos(tokenizer, text))
