"""Prompts as files with named parts, the five components of CBT as data, and the messages that are made of them."""

import re
from dataclasses import dataclass
from pathlib import Path

from cbtllm_utils import files

COMPONENTS = {  # §3.2: key -> (the paper's name, the Chinese name in the prompt)
    "validation": ("Validation and Empathy", "认可与共情"),
    "key_thought": ("Identify Key Thought or Belief", "识别关键想法或信念"),
    "challenge": ("Pose Challenge or Reflection", "提出挑战或反思"),
    "strategy": ("Provide Strategy or Insight", "提供策略或见解"),
    "encouragement": ("Encouragement and Foresight", "鼓励与展望"),
}
OPEN, CLOSE = {"question": "〈问题〉", "description": "〈描述〉"}, {"question": "〈/问题〉", "description": "〈/描述〉"}
MARKS = str.maketrans("〈〉", "＜＞")  # a post cannot close the brackets that hold it


@dataclass(frozen=True)
class Prompt:
    """A prompt with its named parts in order: role, task, components, rules, and example where it has one."""

    name: str
    parts: dict[str, str]

    @property
    def text(self) -> str:
        """The whole instruction, as a model sees it."""
        return "\n\n".join(self.parts.values())

    @property
    def hash(self) -> str:
        """What tells this prompt apart in every artifact made with it."""
        return files.text_hash(self.text)


def read(path: str | Path) -> Prompt:
    """The prompt in a Markdown file: paragraphs are told apart by how they begin (params/prompts/README.md).

    InputError when the file is missing or holds no components.
    """
    place = files.path(path)
    if not place.is_file():
        raise files.InputError(f"{files.shown(path)}: no such prompt; params/prompts/README.md says how to write one")
    paragraphs = re.split(r"\n\s*\n", place.read_text(encoding="utf-8").strip())
    parts: dict[str, str] = {}
    for number, paragraph in enumerate(paragraphs):
        part = kind(paragraph, number)
        parts[part] = f"{parts[part]}\n\n{paragraph}" if part in parts else paragraph
    if "components" not in parts:
        raise files.InputError(f"{files.shown(path)}: no paragraph lists the components as 1. … 5.")
    return Prompt(place.name.removesuffix(".md"), split_role(parts))


def kind(paragraph: str, number: int) -> str:
    """Which part of a prompt a paragraph is."""
    if re.search(r"^1[.、]", paragraph, re.M):
        return "components"
    if paragraph.startswith(("示例", "例如", "Example")):
        return "example"
    if re.match(r"(?:要求|规则|注意|Rules)", paragraph):
        return "rules"
    return "role" if number == 0 else "task"


def split_role(parts: dict[str, str]) -> dict[str, str]:
    """The parts with the first paragraph's later sentences as the task, where no paragraph of its own says it."""
    first, stop, rest = parts.get("role", "").partition("。")
    if "task" in parts or not rest:
        return parts
    return {"role": first + stop, "task": rest, **{name: text for name, text in parts.items() if name != "role"}}


def with_example(prompt: Prompt, question: str, description: str, reply: str) -> Prompt:
    """The prompt with a prototype reply before its rules: the paper's iterative refinement (§3.2)."""
    example = f"示例：\n{enclosed(question, description)}\n回复：{reply}"
    rules = {"rules": prompt.parts["rules"]} if "rules" in prompt.parts else {}
    kept = {name: text for name, text in prompt.parts.items() if name not in ("rules", "example")}
    return Prompt(f"{prompt.name}+example", kept | {"example": example} | rules)


def without(prompt: Prompt, component: str) -> Prompt:
    """The prompt with one of the five components left out, the others numbered anew."""
    name = COMPONENTS[component][1]
    lines = [line for line in prompt.parts["components"].split("\n") if name not in line]
    number = iter(range(1, 6))
    anew = [re.sub(r"^\d", lambda _: str(next(number)), line) if re.match(r"\d[.、]", line) else line for line in lines]
    text = "\n".join(anew).replace("五个部分", "四个部分")
    return Prompt(f"{prompt.name}-{component}", prompt.parts | {"components": text})


def enclosed(question: str, description: str) -> str:
    """A post between the prompt's brackets; brackets inside the post are made harmless."""
    inner = {"question": question.translate(MARKS), "description": description.translate(MARKS)}
    return "\n".join(f"{OPEN[name]}{text}{CLOSE[name]}" for name, text in inner.items())


def messages(prompt: Prompt, question: str, description: str) -> list[dict[str, str]]:
    """The chat that asks for one reply: the prompt as system text, the post as the user's."""
    return [
        {"role": "system", "content": prompt.text},
        {"role": "user", "content": enclosed(question, description)},
    ]


def asked(chat: list[dict[str, str]]) -> tuple[str, str]:
    """Question and description of a chat made by `messages`, as they stand there."""
    found = re.search(
        f"{OPEN['question']}(.*?){CLOSE['question']}\n{OPEN['description']}(.*?){CLOSE['description']}",
        chat[-1]["content"],
        re.S,
    )
    return (found[1], found[2]) if found else ("", "")
