"""The paper's Figures 1 to 4, pictures made of text: texts in, a matplotlib Figure out, as high as its text needs.

Boxes of wrapped text are placed in inches from the picture's upper left corner.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cbtllm_utils.data import prompts
from cbtllm_utils.plots.figures import COMPONENT_COLORS, NEUTRAL, apply_style
from cbtllm_utils.plots.svg import FAINT, INK, ON_WASH
from cbtllm_utils.plots.text_layout import UNDECODABLE, UNDECODABLE_MEANS, drawable, wrap

WIDTH = 6.3  # inches: the width of the paper's text
TEXT_SIZE, LABEL_SIZE = 8, 7.5  # points
LINE_HEIGHT = 1.42  # in units of the font size: Chinese needs air
PAD, GAP, BAR, MARGIN = 0.05, 0.06, 0.035, 0.02  # inches
ON_PAGE = (FAINT, "none")  # a box without a background of its own
ELBOW = "angle,angleA=0,angleB=90"
PROMPT_PARTS = {"role": "Role", "task": "Task", "components": "Components", "example": "Example", "rules": "Rules"}


@dataclass(frozen=True)
class Reply:
    """One reply to draw: title, segments [(component, text), …] ("" = unmarked), a remark below and a warning above."""

    title: str
    segments: Sequence[tuple[str, str]]
    remark: str = ""
    warning: str = ""


@dataclass(frozen=True)
class Box:
    """A box of wrapped lines under a label."""

    x: float
    y: float
    width: float
    label: tuple[str, ...]
    lines: tuple[str, ...]
    colors: tuple[str, str] = ON_PAGE
    frame: bool = False
    min_height: float = 0.0

    @property
    def height(self) -> float:
        text = (len(self.label) * LABEL_SIZE + len(self.lines) * TEXT_SIZE) * LINE_HEIGHT / 72
        return max(text + 2 * PAD, self.min_height)

    @property
    def bottom(self) -> float:
        return self.y + self.height


def make_box(x: float, y: float, width: float, label: str, text: str, **look: object) -> Box:
    """Return a box with label and text wrapped to its width; either may be empty."""
    inner = width - 2 * PAD - BAR
    labels = wrap(label.strip(), inner, LABEL_SIZE) if label.strip() else []
    lines = wrap(text.strip(), inner, TEXT_SIZE) if text.strip() else []
    return Box(x, y, width, tuple(labels), tuple(lines), **look)


def lowest(boxes: Iterable[Box]) -> float:
    """Return where the lowest box ends."""
    return max((box.bottom for box in boxes), default=0.0)


def draw(boxes: Sequence[Box], conditions: str, arrows: Iterable[tuple] = (), width: float = WIDTH) -> Figure:
    """Draw boxes, arrows ((x, y) to (x, y), inches) and the conditions below them."""
    apply_style()
    if any(UNDECODABLE in line for box in boxes for line in box.lines):
        conditions = f"{conditions}. {UNDECODABLE_MEANS}"
    closing = make_box(0, lowest(boxes) + GAP, width, conditions, "")
    figure = Figure(figsize=(width + 2 * MARGIN, closing.bottom + 2 * MARGIN), dpi=120)  # Its text fills megabytes.
    figure.set_layout_engine("none")  # Every place is computed here.
    axes = figure.add_axes((0, 0, 1, 1), xlim=(-MARGIN, width + MARGIN), ylim=(closing.bottom + MARGIN, -MARGIN))
    axes.axis("off")
    for box in (*boxes, closing):
        draw_box(axes, box)
    look = {"arrowstyle": "-|>", "color": FAINT, "shrinkA": 0, "shrinkB": 0, "connectionstyle": ELBOW}
    for start, end in arrows:
        straight = start[0] == end[0] or start[1] == end[1]
        annotated = look | ({"connectionstyle": "arc3"} if straight else {})
        axes.annotate("", end, start, arrowprops=annotated)
    return figure


def draw_box(axes: Axes, box: Box) -> None:
    """Draw one box: background, bar at the left, label and lines."""
    dark, light = box.colors
    plain = box.colors == ON_PAGE
    edge = dark if box.frame else "none"
    axes.add_patch(Rectangle((box.x, box.y), box.width, box.height, facecolor=light, edgecolor=edge, linewidth=0.6))
    if not plain:
        axes.add_patch(Rectangle((box.x, box.y), BAR, box.height, facecolor=dark, edgecolor="none"))
    y = box.y + PAD
    for lines, size, color in ((box.label, LABEL_SIZE, dark), (box.lines, TEXT_SIZE, INK if plain else ON_WASH)):
        for line in lines:
            y += size * LINE_HEIGHT / 72
            place = (box.x + BAR + PAD, y - size * 0.36 / 72)  # the baseline, above the line's lower edge
            axes.text(*place, drawable(line), fontsize=size, color=color, va="baseline", parse_math=False)


def component_label(component: str) -> str:
    """Return a component's number and the paper's name for it; any other name as it is, with spaces."""
    if component not in prompts.COMPONENTS:
        return component.replace("_", " ")
    return f"{list(prompts.COMPONENTS).index(component) + 1} {prompts.COMPONENTS[component][0]}"


def merge(segments: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the segments without empty ones, neighbors of the same component joined."""
    found: list[tuple[str, str]] = []
    for component, text in segments:
        if found and found[-1][0] == component:
            found[-1] = (component, found[-1][1] + text)
        elif text.strip():
            found.append((component, text))
    return found


def column(x: float, y: float, width: float, reply: Reply) -> list[Box]:
    """Return a reply as boxes below each other: its title, its warning, one colored box per segment, its remark."""
    boxes = [make_box(x, y, width, "", reply.title)]
    if reply.warning:
        boxes.append(make_box(x, boxes[-1].bottom, width, reply.warning, ""))
    for component, text in merge(reply.segments):
        colors = COMPONENT_COLORS.get(component, NEUTRAL)
        boxes.append(make_box(x, boxes[-1].bottom + GAP / 3, width, component_label(component), text, colors=colors))
    if reply.remark:
        boxes.append(make_box(x, boxes[-1].bottom, width, reply.remark, ""))
    return boxes


def row(y: float, replies: Sequence[Reply]) -> list[Box]:
    """Return replies side by side in even columns."""
    width = (WIDTH - GAP * (len(replies) - 1)) / len(replies)
    return [box for place, reply in enumerate(replies) for box in column(place * (width + GAP), y, width, reply)]


def legend(y: float) -> list[Box]:
    """Return the five components with their colors, in a row."""
    width = (WIDTH - 4 * GAP) / 5
    boxes = []
    for place, (component, colors) in enumerate(COMPONENT_COLORS.items()):
        boxes.append(make_box(place * (width + GAP), y, width, component_label(component), "", colors=colors))
    tallest = max(box.height for box in boxes)
    return [replace(box, min_height=tallest) for box in boxes]


def data_quality(
    question: str, description: str, forum_answer: str, reply_segments: Sequence[tuple[str, str]], conditions: str
) -> Figure:
    """Draw Figure 1: a post, a person's answer from the forum and the CBT reply to it, its five components colored."""
    post = Reply("The post", [("question", question), ("description", description)])
    boxes = column(0, 0, WIDTH, post)
    answer, reply = Reply("Human: the forum's answer", [("", forum_answer)]), Reply("CBT reply", reply_segments)
    figure = draw(boxes + row(lowest(boxes) + GAP, [answer, reply]), conditions)
    figure.set_label("Figure 1: a post, a person's answer from the forum and the CBT reply with its components colored")
    return figure


OVERVIEW = {  # box -> (column, row)
    "Forum questions": (0, 0),
    "CBT prompt": (2, 0),
    "Language model": (1, 0),
    "CBT QA": (1, 1),
    "Training set": (0, 2),
    "Test set": (2, 2),
    "LoRA fine-tuning": (0, 3),
    "CBT-LLM": (1, 3),
    "Evaluation": (2, 3),
}
FLOW = [  # arrows: from the side of one box to the side of another
    ("Forum questions", "right", "Language model", "left"),
    ("CBT prompt", "left", "Language model", "right"),
    ("Language model", "bottom", "CBT QA", "top"),
    ("CBT QA", "left", "Training set", "top"),
    ("CBT QA", "right", "Test set", "top"),
    ("Training set", "bottom", "LoRA fine-tuning", "top"),
    ("LoRA fine-tuning", "right", "CBT-LLM", "left"),
    ("CBT-LLM", "right", "Evaluation", "left"),
    ("Test set", "bottom", "Evaluation", "top"),
]


def overview(counts: Mapping[str, str | int], conditions: str) -> Figure:
    """Draw Figure 2: boxes and arrows from questions and prompt to CBT-LLM, the split into two sets as a fork.

    Args:
        counts: A number or a few words for each box, by its name in OVERVIEW; a box may go without.
        conditions: Under which conditions the numbers were made.

    Raises:
        ValueError: For a name that is not in OVERVIEW, because its number would not be drawn.
    """
    if unknown := counts.keys() - OVERVIEW.keys():
        raise ValueError(f"no such box: {', '.join(sorted(unknown))}; the boxes are {', '.join(OVERVIEW)}")
    between, total = 0.35, 4.1  # inches: narrow, so that it can be read on a phone
    width = (total - 2 * between) / 3
    boxes = {}
    for title, (place, _) in OVERVIEW.items():
        count = counts.get(title, "")
        text = f"{count:,}" if isinstance(count, int) else count
        boxes[title] = make_box(place * (width + between), 0, width, title, text, colors=NEUTRAL, frame=True)
    y = 0.0
    for number in range(4):
        titles = [title for title, (_, row) in OVERVIEW.items() if row == number]
        tallest = max(boxes[title].height for title in titles)
        for title in titles:
            boxes[title] = replace(boxes[title], y=y, min_height=tallest)
        y += tallest + 0.25
    arrows = [(side(boxes[one], start), side(boxes[other], end)) for one, start, other, end in FLOW]
    figure = draw(list(boxes.values()), conditions, arrows, total)
    said = (f"{title} ({counts[title]})" if title in counts else title for title in OVERVIEW)
    figure.set_label(f"Figure 2, the way of the data: {', '.join(said)}")
    return figure


def side(box: Box, name: str) -> tuple[float, float]:
    """Return the middle of a box's left, right, top or bottom side."""
    x, y = box.x + box.width / 2, box.y + box.height / 2
    return {"left": (box.x, y), "right": (box.x + box.width, y), "top": (x, box.y), "bottom": (x, box.bottom)}[name]


def prompt(prompt: prompts.Prompt, conditions: str) -> Figure:
    """Draw Figure 3: the prompt's parts in labeled boxes, the five components in their colors, and the post below."""
    boxes = [make_box(0, 0, WIDTH, f"Prompt {prompt.name}", "")]
    for part, text in prompts.listed(prompt):
        if part in prompt.parts:
            y = boxes[-1].bottom + GAP
            boxes.append(make_box(0, y, WIDTH, PROMPT_PARTS.get(part, part), text, colors=NEUTRAL))
        else:
            boxes.append(component_box(boxes[-1].bottom + GAP / 3, part, text))
    post = prompts.enclosed("… question …", "… description …")
    boxes.append(make_box(0, boxes[-1].bottom + GAP, WIDTH, "The post, as a message of its own", post, frame=True))
    figure = draw(boxes, conditions)
    figure.set_label(f"Figure 3: the prompt {prompt.name} in its parts, the five components colored")
    return figure


def component_box(y: float, component: str, text: str) -> Box:
    """Return the prompt's line on one component as a box in its color."""
    label, colors = part_title(component), COMPONENT_COLORS.get(component, NEUTRAL)
    return make_box(0.2, y, WIDTH - 0.2, label, text, colors=colors)


def prompt_text(zh: prompts.Prompt, en: prompts.Prompt) -> pd.DataFrame:
    """Return the prompt as text, line by line, beside its translation."""
    lines = [
        [(part, line) for part, text in prompts.listed(one) for line in text.split("\n") if line] for one in (zh, en)
    ]
    both = itertools.zip_longest(*lines, fillvalue=("", ""))
    rows = [(part_title(part), english, chinese) for (part, chinese), (_, english) in both]
    return pd.DataFrame(rows, columns=["part", "in English", "as sent"])


def part_title(part: str) -> str:
    """Return the words for a part of the prompt or one of its components."""
    return prompts.COMPONENTS[part][0] if part in prompts.COMPONENTS else PROMPT_PARTS.get(part, part)


def case(query: Reply, replies: Sequence[Reply], conditions: str) -> Figure:
    """Draw Figure 4: a legend, the query, then replies in two columns, in colored, labeled segments.

    The last of an odd number has the whole width.
    """
    boxes = legend(0.0)
    boxes += column(0.0, lowest(boxes) + GAP, WIDTH, query)
    for place in range(0, len(replies), 2):
        boxes += row(lowest(boxes) + GAP, replies[place : place + 2])
    figure = draw(boxes, conditions)
    titles = ", ".join(reply.title for reply in replies)
    figure.set_label(f"{query.title} and replies to it, their components colored and labeled: {titles}")
    return figure
