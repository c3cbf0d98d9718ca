"""Replies as HTML: texts in, marked-up text out, colored and labeled, escaped, with the notices; no scripts.

Replies are next to each other; on a phone they are swiped or stacked.
"""

import dataclasses
import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import jinja2
import pandas as pd

from cbtllm_utils import notices
from cbtllm_utils.generate import kinds
from cbtllm_utils.models import prompt_forms
from cbtllm_utils.plots import svg
from cbtllm_utils.plots.diagrams import Reply, component_label, merge
from cbtllm_utils.plots.figures import COMPONENT_COLORS, NEUTRAL
from cbtllm_utils.plots.text_layout import UNDECODABLE, UNDECODABLE_MEANS

INK = (svg.INK, svg.DARK_INK)  # text on a light and on a dark page
TO_FLAGGED = "Reply to a post flagged for risk. Notebook 07 says whether a person has read it."
TEMPLATE, STYLE = (Path(__file__).with_name(file) for file in ("case_page.html", "page.css"))


@functools.cache
def template() -> jinja2.Template:
    """Return the page's template; its autoescape leaves no text of a model or a post as markup."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    environment.globals.update(
        merge=merge,
        component_label=component_label,
        language=language,
        readable=lambda text: text.strip().replace("\ufffd", UNDECODABLE),
        broken=lambda reply: any("\ufffd" in text for _, text in reply.segments),
        broken_means=UNDECODABLE_MEANS,
        colors=lambda component: COMPONENT_COLORS.get(component, NEUTRAL),
        ink=INK,
        dark_wash=svg.dark_wash,
        pale=svg.pale,
        untitled=lambda query: dataclasses.replace(query, title=""),
    )
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))


def language(text: str) -> str:
    """Return zh or en, whichever a text has more letters of; fonts and screen readers go by it."""
    return "zh" if len(re.findall(r"[\u4e00-\u9fff]", text)) * 2 > len(re.findall(r"[A-Za-z]", text)) else "en"


def fragment(replies: Iterable[Reply]) -> str:
    """Return replies next to each other to show in a notebook: each segment on its color, under its component's name.

    Where there is no room for two, they are below each other.
    """
    return template().render(whole=False, replies=list(replies))


def page(title: str, cases: Iterable[tuple[Reply, Sequence[Reply]]], conditions: str) -> str:
    """Return a whole page of cases that loads nothing from elsewhere, under the notices and the conditions.

    Args:
        title: The page's title.
        cases: A query and the replies to it, shown next to each other. The legend has the components that they are
            marked with.
        conditions: Under which conditions the replies were made.
    """
    cases = list(cases)
    marked = {component for query, replies in cases for one in (query, *replies) for component, _ in one.segments}
    return template().render(
        whole=True,
        title=title,
        conditions=conditions,
        notices=notices.NOTICES.values(),
        legend=[component for component in COMPONENT_COLORS if component in marked],
        cases=cases,
        style=STYLE.read_text(encoding="utf-8"),
    )


def answers(
    chosen: pd.DataFrame, items: pd.DataFrame, systems: Mapping[str, Sequence[str]], test: Sequence[Mapping]
) -> Iterator[tuple[Reply, list[Reply]]]:
    """Yield a case for `page` for each chosen answer: the post, then the reference and the answer with its scores.

    Args:
        chosen: Columns metric, which ("best", …), system, questionID, score.
        items: All scores: system, questionID and one column per metric.
        systems: Each system's replies, in the order of `test`.
        test: The rows of the test set.
    """
    places = {row["questionID"]: place for place, row in enumerate(test)}
    scores = items.set_index(["system", "questionID"])
    for row in chosen.itertuples(index=False):
        post, text = test[places[row.questionID]], systems[row.system][places[row.questionID]]
        got = ", ".join(f"{name} {value:.4f}" for name, value in scores.loc[(row.system, row.questionID)].items())
        flagged = ", flagged for risk" if post["risk"] else ""
        name, own = kinds.title(row.system), [("", text)] if text.strip() else []
        title = f"{row.metric}, {row.which} reply: {name}, {row.score:.4f} (post {row.questionID}{flagged})"
        warning = TO_FLAGGED if post["risk"] else ""
        reference = Reply("Reference: the data set's own reply", [("", post["reply"])], warning=warning)
        yield Reply(title, [("", prompt_forms.passage(post))]), [reference, Reply(name, own, got, warning)]
