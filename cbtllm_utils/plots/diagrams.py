"""The paper's Figures 1 to 4, pictures made of text: texts in, a matplotlib Figure out, as high as its text needs."""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from matplotlib.figure import Figure

from cbtllm_utils.data import prompts
from cbtllm_utils.plots.figures import PLAIN, SECTIONS, WIDTH
from cbtllm_utils.plots.text_layout import GAP, Block, block, bottom, draw, left, right

PARTS = {"role": "Role", "task": "Task", "components": "Components", "example": "Example", "rules": "Rules"}


@dataclass(frozen=True)
class Reply:
    """One reply to draw: its title, its stretches [(section, text), …] (section "" = unmarked) and a remark below."""

    title: str
    stretches: Sequence[tuple[str, str]]
    remark: str = ""


def name(section: str) -> str:
    """The label of a component: its number and the paper's name; nothing for an unmarked text."""
    if section not in prompts.COMPONENTS:
        return section.replace("_", " ")
    return f"{list(prompts.COMPONENTS).index(section) + 1} {prompts.COMPONENTS[section][0]}"


def merged(stretches: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The stretches without empty ones, neighbours of the same section joined."""
    found: list[tuple[str, str]] = []
    for section, text in stretches:
        if found and found[-1][0] == section:
            found[-1] = (section, found[-1][1] + text)
        elif text.strip():
            found.append((section, text))
    return found


def column(x: float, y: float, wide: float, reply: Reply) -> list[Block]:
    """A reply as blocks below each other: the title, one coloured block a stretch, the remark."""
    blocks = [block(x, y, wide, "", reply.title, frame=False)]
    for section, text in merged(reply.stretches):
        colours = SECTIONS.get(section, PLAIN)
        blocks.append(block(x, blocks[-1].bottom + GAP / 3, wide, name(section), text, colours=colours))
    if reply.remark:
        blocks.append(block(x, blocks[-1].bottom, wide, reply.remark, ""))
    return blocks


def row(y: float, replies: Sequence[Reply]) -> list[Block]:
    """Replies side by side in even columns."""
    wide = (WIDTH - GAP * (len(replies) - 1)) / len(replies)
    return [block for place, reply in enumerate(replies) for block in column(place * (wide + GAP), y, wide, reply)]


def legend(y: float) -> list[Block]:
    """The five components with their colours, in a row."""
    wide = (WIDTH - 4 * GAP) / 5
    keys = [
        block(i * (wide + GAP), y, wide, name(section), "", colours=colours)
        for i, (section, colours) in enumerate(SECTIONS.items())
    ]
    tall = max(key.height for key in keys)
    return [replace(key, bare=tall) for key in keys]


def case(query: Reply, replies: Sequence[Reply], conditions: str) -> Figure:
    """Figure 4: a legend, the query, then replies in two columns, each cut into coloured, labelled stretches.

    The last of an odd number has the whole width.
    """
    blocks = legend(0.0)
    blocks += column(0.0, bottom(blocks) + GAP, WIDTH, query)
    for place in range(0, len(replies), 2):
        blocks += row(bottom(blocks) + GAP, replies[place : place + 2])
    return draw(blocks, conditions)


def prompt(prompt: prompts.Prompt, conditions: str) -> Figure:
    """Figure 3: the prompt's parts in labelled boxes, the five components in their colours, and the post below."""
    blocks = [block(0, 0, WIDTH, f"Prompt {prompt.name}, hash {prompt.hash}", "")]
    for part, text in prompt.parts.items():
        y = blocks[-1].bottom + GAP
        if part == "components":
            blocks += components(y, text)
        else:
            blocks.append(block(0, y, WIDTH, PARTS.get(part, part), text, colours=PLAIN))
    post = prompts.enclosed("… question …", "… description …")
    blocks.append(block(0, blocks[-1].bottom + GAP, WIDTH, "The post, as a message of its own", post, frame=True))
    return draw(blocks, conditions)


def components(y: float, text: str) -> list[Block]:
    """The prompt's list of components as blocks: the sentence before it, then one coloured block an item."""
    before, *items = re.split(r"\n(?=\d[.、])", text)
    blocks = [block(0, y, WIDTH, PARTS["components"], before, colours=PLAIN)]
    for item in items:
        named = (key for key, names in prompts.COMPONENTS.items() if any(name in item for name in names))
        section = next(named, "")
        english = prompts.COMPONENTS.get(section, ("",))[0]
        look = {"colours": SECTIONS.get(section, PLAIN)}
        blocks.append(block(0.2, blocks[-1].bottom + GAP / 3, WIDTH - 0.2, english, item, **look))
    return blocks


def data_quality(
    question: str, description: str, forum_answer: str, reply_sections: Sequence[tuple[str, str]], conditions: str
) -> Figure:
    """Figure 1: a post, a person's answer from the forum and the CBT reply to it, its five parts coloured."""
    post = Reply("The post", [("question", question), ("description", description)])
    blocks = column(0, 0, WIDTH, post)
    answer, reply = Reply("Human: the forum's answer", [("", forum_answer)]), Reply("CBT reply", reply_sections)
    return draw(blocks + row(bottom(blocks) + GAP, [answer, reply]), conditions)


OVERVIEW = {  # box -> (column, height of its middle in inches)
    "Forum questions": (0, 0.0),
    "CBT prompt": (0, 1.0),
    "Language model": (1, 0.5),
    "CBT QA": (2, 0.5),
    "LoRA fine-tuning": (3, 0.5),
    "CBT-LLM": (4, 0.5),
}


def overview(counts: Mapping[str, str | int], conditions: str) -> Figure:
    """Figure 2: boxes and arrows from questions and prompt to CBT-LLM; `counts` says what stands in each box.

    Keys are the names in OVERVIEW (a missing one leaves its box without a text), values a number or a few words.
    Any other key is a ValueError: a number without its box would be lost in silence.
    """
    if unknown := counts.keys() - OVERVIEW.keys():
        raise ValueError(f"no such box: {', '.join(sorted(unknown))}; the boxes are {', '.join(OVERVIEW)}")
    wide, between = 1.04, (WIDTH - 5 * 1.04) / 4
    boxes = {}
    for title, (place, middle) in OVERVIEW.items():
        text = counts.get(title, "")
        text = f"{text:,}" if isinstance(text, int) else text
        box = block(place * (wide + between), 0, wide, title, text, colours=PLAIN, frame=True)
        boxes[title] = replace(box, y=middle - box.height / 2)
    up = min(box.y for box in boxes.values())
    boxes = {title: replace(box, y=box.y - up) for title, box in boxes.items()}
    ahead = list(boxes.values())[2:]
    arrows = [(right(boxes[title]), left(ahead[0])) for title in ("Forum questions", "CBT prompt")]
    arrows += [(right(one), left(other)) for one, other in itertools.pairwise(ahead)]
    return draw(list(boxes.values()), conditions, arrows)
