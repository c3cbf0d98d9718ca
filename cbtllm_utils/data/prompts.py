"""Prompts as files with named parts, the five components of a CBT reply as data, and the messages made of both."""

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
BREAK = "\n\n"  # between paragraphs
NUMBERED = re.compile(r"\d+[.、]")
MARKS = str.maketrans("〈〉", "＜＞")  # so that a post cannot close the brackets around it


@dataclass(frozen=True)
class Prompt:
    """A prompt with its named parts in order: role, task, components, rules, and an example where it has one.

    A part is one or more paragraphs; a part in `run_on` continues the paragraph of the part before it.
    """

    name: str
    parts: dict[str, str]
    run_on: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Return the whole instruction, as a model sees it."""
        whole = "".join(f"{'' if part in self.run_on else BREAK}{text}" for part, text in self.parts.items())
        return whole.removeprefix(BREAK)

    @property
    def hash(self) -> str:
        """Return the hash by which every file made with this prompt names it."""
        return hashing.text(self.text)


def read(path: str | Path) -> Prompt:
    """Read the prompt in a Markdown file; how a paragraph begins decides its part (params/prompts/README.md).

    Raises:
        InputError: When the file is missing, lists no components, or has one part in two places.
    """
    whole = files.read_text(path, "params/prompts/README.md says how to write a prompt").strip()
    parts: dict[str, str] = {}
    part = ""
    for paragraph in re.split(r"\n\s*\n", whole):
        before, part = part, part_of(paragraph, part)
        if part in parts and part != before:
            raise files.InputError(f"{files.shown(path)}: the {part} are in two places; put these paragraphs together")
        parts[part] = f"{parts[part]}{BREAK}{paragraph}" if part in parts else paragraph
    if "components" not in parts:
        raise files.InputError(f"{files.shown(path)}: no paragraph lists the components as 1. … 5.")
    return split_role(Prompt(Path(path).name.removesuffix(".md"), parts))


def part_of(paragraph: str, before: str) -> str:
    """Return the part that a paragraph belongs to; `before` is the part of the paragraph before it, "" at the start."""
    if re.match(r"(?:要求|规则|注意|Rules)", paragraph):
        return "rules"
    if before == "example" or paragraph.startswith(("示例", "例如", "Example")):
        return "example"
    if re.search(r"^1[.、]", paragraph, re.M):
        return "components"
    return {"": "role", "role": "task"}.get(before, before)


def split_role(prompt: Prompt) -> Prompt:
    """Return the prompt with the sentences after its first as the task, where no paragraph of its own states it."""
    sentence = re.match(r".+?(?:。|\.\s)", prompt.parts.get("role", ""), re.S)
    rest = prompt.parts["role"][sentence.end() :] if sentence else ""
    if "task" in prompt.parts or not rest:
        return prompt
    return Prompt(prompt.name, {"role": sentence[0], "task": rest} | without_keys(prompt.parts, "role"), ("task",))


def listed(prompt: Prompt) -> list[tuple[str, str]]:
    """Return the prompt's parts with their texts, the list of components as its first sentence and one entry each.

    A component's entry is named by its key in `COMPONENTS`, "" where its line names none of them.
    """
    found = []
    for part, text in prompt.parts.items():
        before, *lines = re.split(r"\n(?=\d[.、])", text) if part == "components" else [text]
        found.append((part, before))
        found += [(component_named(line), line) for line in lines]
    return found


def component_named(line: str) -> str:
    """Return the key of the component that a line names, "" where it names none."""
    return next((key for key, names in COMPONENTS.items() if any(name in line for name in names)), "")


def without_keys(parts: dict[str, str], *names: str) -> dict[str, str]:
    """Return all parts except those named, in their order."""
    return {name: text for name, text in parts.items() if name not in names}


def spoken(name: str, base: str) -> str:
    """Return how readers are told of the prompt `base` and its variants: "the CBT prompt without key thought"."""
    if not name.startswith(base):
        return name
    change = name.removeprefix(base).replace("+example", " with a prototype reply").replace("_", " ")
    return "the CBT prompt" + change.replace("-", " without ", 1)


def record(prompt: Prompt, source: str | Path) -> dict:
    """Return the prompt as `prompts/cbt.json` holds it: name, hash, text, parts, run_on, source."""
    about = {"name": prompt.name, "hash": prompt.hash, "text": prompt.text, "parts": prompt.parts}
    return about | {"run_on": list(prompt.run_on), "source": files.shown(source)}


def load(path: str | Path) -> Prompt:
    """Read a prompt that `record` described.

    Raises:
        InputError: When the file was edited by hand, so that its hash names another text.
    """
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
    """Return the prompt with a prototype reply before its rules: the paper's iterative refinement (§3.2)."""
    example = {"example": f"示例：\n{enclosed(question, description)}\n回复：{reply.strip()}"}
    rules = {name: text for name, text in prompt.parts.items() if name == "rules"}
    return Prompt(
        f"{prompt.name}+example", without_keys(prompt.parts, "rules", "example") | example | rules, prompt.run_on
    )


def without(prompt: Prompt, component: str) -> Prompt:
    """Return the prompt without one of the five components, the others renumbered.

    Raises:
        InputError: When the prompt does not name the component as `COMPONENTS` does.
    """
    names = COMPONENTS[component]
    lines = prompt.parts["components"].split("\n")
    others = [line for line in lines if not any(name in line for name in names)]
    if len(others) == len(lines):
        raise files.InputError(
            f"prompt {prompt.name}: none of its components is named {names[1]}; nothing to leave out"
        )
    number = itertools.count(1)
    renumbered = [
        re.sub(r"^\d+", lambda _: str(next(number)), line) if NUMBERED.match(line) else line for line in others
    ]
    text = "\n".join(renumbered).replace("五个部分", "四个部分").replace("five parts", "four parts")
    return Prompt(f"{prompt.name}-{component}", prompt.parts | {"components": text}, prompt.run_on)


def enclosed(question: str, description: str) -> str:
    """Return a post between the prompt's brackets; the same brackets inside the post become full-width signs."""
    inner = {"question": question.translate(MARKS), "description": description.translate(MARKS)}
    return "\n".join(f"{OPEN[name]}{text}{CLOSE[name]}" for name, text in inner.items())


def messages(prompt: Prompt, question: str, description: str) -> list[dict[str, str]]:
    """Return the chat that asks for one reply: the prompt as the system message, the post as the user's."""
    return [
        {"role": "system", "content": prompt.text},
        {"role": "user", "content": enclosed(question, description)},
    ]
