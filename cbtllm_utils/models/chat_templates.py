"""A tokenizer's own chat template (Qwen, Llama 3, …): the prompt that it makes of messages, and what ends a turn."""

from collections.abc import Mapping, Sequence

import jinja2

from cbtllm_utils import files

# Llama 3.2 and others write today's date into the prompt: training and answering would be asked in different words, and
# no run could be repeated. The day is the one that Llama 3.1 takes where it is told none.
DAY = "26 Jul 2024"
STILL = "{%- macro strftime_now(format) -%}" + DAY + "{%- endmacro %}"
# what a template raises that cannot take the messages, or that the sandbox stops
BROKEN = (jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)
# Qwen-7B-Chat's form stands in the code beside its weights (qwen_generation_utils.py, make_context), not in a template.
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def known(tokenizer: object) -> bool:
    """Whether the tokenizer has a chat template; those of 2023 and most base models have none."""
    return bool(getattr(tokenizer, "chat_template", None))


def render(tokenizer: object, messages: Sequence[Mapping], answered: bool = False) -> str:
    """The messages as the template puts them, up to where a reply begins, or, answered, with the last as the reply."""
    template = STILL + tokenizer.get_chat_template()
    options = {"add_generation_prompt": not answered, "enable_thinking": False, "date_string": DAY}
    return tokenizer.apply_chat_template(list(messages), chat_template=template, tokenize=False, **options)


def special(tokenizer: object) -> dict[int, str]:
    """The tokens that stand for no text: those of the tokenizer's own list, and those that only its file marks so."""
    marked = {i: token.content for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return marked | dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))


def plain(text: str, tokenizer: object) -> str:
    """The text, with a space in whatever spells a special token: no post can end its turn and begin another's."""
    for token in sorted(special(tokenizer).values(), key=len, reverse=True):
        text = text.replace(token, f"{token[:1]} {token[1:]}")
    return text


def prompt(tokenizer: object, system: str, user: str) -> str:
    """What the model is given, up to where its reply begins, special tokens and all, thinking switched off.

    A template that knows no system text gets it at the head of what the user says. InputError for a tokenizer without a
    template, one that cannot take the messages, and one of a model that always thinks aloud first.
    """
    if not known(tokenizer):
        raise files.InputError(
            "template = chat: this tokenizer has no chat template, as base models and those of 2023; "
            "set template = card"
        )
    system, user = plain(system, tokenizer), plain(user, tokenizer)
    ways = (
        [{"role": "system", "content": system}, {"role": "user", "content": user}],
        [{"role": "user", "content": f"{system}\n\n{user}"}],
    )
    reason = "it leaves out a part of what it is given"
    for messages in ways:
        try:
            made = render(tokenizer, messages)
        except BROKEN as error:
            reason = " ".join(str(error).split())[:200]
            continue
        if made.rstrip().endswith("<think>"):
            reason = "its model always thinks aloud, which would become part of the reply; take its instruct relative"
        elif system.strip() in made and user.strip() in made:
            return made
    raise files.InputError(f"template = chat: this tokenizer's cannot be used here ({reason}); set template = card")


def end_of_turn(tokenizer: object) -> int:
    """The token that ends a reply: the one that the template puts after it, <|im_end|> or <|eot_id|>, say; else eos."""
    if known(tokenizer):
        said = "reply-of-the-model"
        try:
            messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": said}]
            tail = render(tokenizer, messages, answered=True).rpartition(said)[2]
        except BROKEN:
            tail = ""
        first = tokenizer.encode(tail.lstrip(), add_special_tokens=False)[:1]
        if first and first[0] in special(tokenizer):
            return first[0]
    return tokenizer.eos_token_id


def stops(tokenizer: object) -> list[int]:
    """The tokens at which a reply ends: those that `tokenizers.load_tokenizer` found in the model's files, or eos."""
    return getattr(tokenizer, "stops", None) or [tokenizer.eos_token_id]


def begun(tokenizer: object, text: str) -> bool:
    """Whether a text holds the token that begins a text already, as Llama 3's template puts it: once is enough."""
    bos = getattr(tokenizer, "bos_token", None)
    return bool(bos) and text.startswith(bos)


def ids(tokenizer: object, text: str) -> list[int]:
    """The tokens of a prompt, with bos where the tokenizer puts it, and never twice."""
    return tokenizer.encode(text, add_special_tokens=not begun(tokenizer, text))
