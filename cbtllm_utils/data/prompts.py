"""Prompts as files with named parts, the five components of CBT as data, and the messages that are made of them."""

import itertools
import re
from dataclasses import dataclass
from pathlib import Path

from cbtllm_utils import files, hashing

COMPONENTS = {  # §3.2: key -> (the paper's name, the Chinese name in the prompt)
    "validation": ("Validation and Empathy", "认可与共情"),
    "key_thought": ("Identify Key Thought or Belief", "识别关键想法或信念"),
    "challenge": ("Pose Challenge or Reflection", "提出挑战或反思"),
    "strategy": ("Provide Strategy or Insight", "提供策略或见解"),
    "encouragement": ("Encouragement and Foresight", "鼓励与展望"),
}
OPEN, CLOSE = {"question": "〈问题〉", "description": "〈描述〉"}, {"question": "〈/问题〉", "description": "〈/描述〉"}
BLANK = "\n\n"  # what stands between paragraphs
ITEM = re.compile(r"\d+[.、]")
MARKS = str.maketrans("〈〉", "＜＞")  # a post cannot close the brackets that hold it


@dataclass(frozen=True)
class Prompt:
    """A prompt with its named parts in order: role, task, components, rules, and example where it has one.

    Parts are paragraphs; those in `run_on` go on in the paragraph of the part before them.
    """

    name: str
    parts: dict[str, str]
    run_on: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The whole instruction, as a model sees it."""
        whole = "".join(f"{'' if part in self.run_on else BLANK}{text}" for part, text in self.parts.items())
        return whole.removeprefix(BLANK)

    @property
    def hash(self) -> str:
        """What tells this prompt apart in every artifact made with it."""
        return hashing.text(self.text)


def read(path: str | Path) -> Prompt:
    """The prompt in a Markdown file: paragraphs are told apart by how they begin (params/prompts/README.md).

    InputError when the file is missing, holds no components, or parts of one kind stand apart.
    """
    place = files.path(path)
    if not place.is_file():
        raise files.InputError(f"{files.shown(path)}: no such prompt; params/prompts/README.md says how to write one")
    try:
        whole = place.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise files.InputError(f"{files.shown(path)}: not UTF-8 at byte {error.start}; convert it first") from None
    parts: dict[str, str] = {}
    part = ""
    for paragraph in re.split(r"\n\s*\n", whole):
        before, part = part, kind(paragraph, part)
        if part in parts and part != before:
            raise files.InputError(f"{files.shown(path)}: {part} stand in two places; put these paragraphs together")
        parts[part] = f"{parts[part]}{BLANK}{paragraph}" if part in parts else paragraph
    if "components" not in parts:
        raise files.InputError(f"{files.shown(path)}: no paragraph lists the components as 1. … 5.")
    return split_role(Prompt(place.name.removesuffix(".md"), parts))


def kind(paragraph: str, before: str) -> str:
    """Which part of a prompt a paragraph is, after a paragraph of the part `before` ("" where it is the first)."""
    if re.match(r"(?:要求|规则|注意|Rules)", paragraph):
        return "rules"
    if before == "example" or paragraph.startswith(("示例", "例如", "Example")):
        return "example"
    if re.search(r"^1[.、]", paragraph, re.M):
        return "components"
    return {"": "role", "role": "task"}.get(before, before)


def split_role(prompt: Prompt) -> Prompt:
    """The prompt with its first paragraph's later sentences as the task, where no paragraph of its own says it."""
    sentence = re.match(r".+?(?:。|\.\s)", prompt.parts.get("role", ""), re.S)
    rest = prompt.parts["role"][sentence.end() :] if sentence else ""
    if "task" in prompt.parts or not rest:
        return prompt
    return Prompt(prompt.name, {"role": sentence[0], "task": rest} | without_keys(prompt.parts, "role"), ("task",))


def without_keys(parts: dict[str, str], *names: str) -> dict[str, str]:
    """The parts but for those named, in their order."""
    return {name: text for name, text in parts.items() if name not in names}


def record(prompt: Prompt, source: str | Path) -> dict:
    """The prompt as JSON holds it (`prompts/cbt.json`): name, hash, text, parts, run_on, source."""
    about = {"name": prompt.name, "hash": prompt.hash, "text": prompt.text, "parts": prompt.parts}
    return about | {"run_on": list(prompt.run_on), "source": files.shown(source)}


def load(path: str | Path) -> Prompt:
    """The prompt that `record` was written of; InputError when the file was changed by hand: its hash would lie."""
    stored = files.read_json(path)
    try:
        prompt = Prompt(stored["name"], dict(stored["parts"]), tuple(stored.get("run_on", ())))
        same = prompt.hash == stored["hash"]
    except (KeyError, TypeError, ValueError, AttributeError):
        same = False
    if not same:
        raise files.InputError(f"{files.shown(path)}: parts and hash disagree; run notebook 01_prompt_design again")
    return prompt


def with_example(prompt: Prompt, question: str, description: str, reply: str) -> Prompt:
    """The prompt with a prototype reply before its rules: the paper's iterative refinement (§3.2)."""
    example = {"example": f"示例：\n{enclosed(question, description)}\n回复：{reply.strip()}"}
    rules = {name: text for name, text in prompt.parts.items() if name == "rules"}
    return Prompt(
        f"{prompt.name}+example", without_keys(prompt.parts, "rules", "example") | example | rules, prompt.run_on
    )


def without(prompt: Prompt, component: str) -> Prompt:
    """The prompt with one of the five components left out, the others numbered anew.

    InputError where the prompt does not name the component as `COMPONENTS` does.
    """
    names = COMPONENTS[component]
    lines = prompt.parts["components"].split("\n")
    kept = [line for line in lines if not any(name in line for name in names)]
    if len(kept) == len(lines):
        raise files.InputError(
            f"prompt {prompt.name}: no line of its components names {names[1]}; nothing to leave out"
        )
    number = itertools.count(1)
    anew = [re.sub(r"^\d+", lambda _: str(next(number)), line) if ITEM.match(line) else line for line in kept]
    text = "\n".join(anew).replace("五个部分", "四个部分").replace("five parts", "four parts")
    return Prompt(f"{prompt.name}-{component}", prompt.parts | {"components": text}, prompt.run_on)


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
