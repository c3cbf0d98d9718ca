"""Replies as HTML: texts in, marked-up text out, colored and labeled, escaped, with the notices; no scripts."""

import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import jinja2
import pandas as pd

from cbtllm_utils import notices
from cbtllm_utils.models import prompt_forms
from cbtllm_utils.plots.diagrams import Reply, component_label, merge
from cbtllm_utils.plots.figures import COMPONENT_COLORS, NEUTRAL

TEMPLATE, STYLE = (Path(__file__).with_name(file) for file in ("case_page.html", "page.css"))


@functools.cache
def template() -> jinja2.Template:
    """Return the page's template; its autoescape leaves no text of a model or a post as markup."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    environment.globals.update(
        merge=merge,
        component_label=component_label,
        language=language,
        colors=lambda component: COMPONENT_COLORS.get(component, NEUTRAL),
    )
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))


def language(text: str) -> str:
    """Return zh or en, whichever a text has more letters of; fonts and screen readers go by it."""
    return "zh" if len(re.findall(r"[\u4e00-\u9fff]", text)) * 2 > len(re.findall(r"[A-Za-z]", text)) else "en"


def fragment(replies: Iterable[Reply]) -> str:
    """Return replies as HTML to show in a notebook: each segment on its color, under its component's name."""
    return template().render(whole=False, replies=list(replies))


def page(title: str, cases: Iterable[tuple[Reply, Sequence[Reply]]], conditions: str) -> str:
    """Return a whole page of cases that loads nothing from elsewhere, under the notices and the conditions.

    Args:
        title: The page's title.
        cases: A query and the replies to it, shown side by side. The legend has the components that they are marked
            with.
        conditions: Under which conditions the replies were made.
    """
    cases = list(cases)
    marked = {component for query, replies in cases for one in (query, *replies) for component, _ in one.segments}
    return template().render(
        whole=True,
        title=title,
        conditions=conditions,
        notices=notices.NOTICES.values(),
        legend={component: colors for component, colors in COMPONENT_COLORS.items() if component in marked},
        cases=cases,
        style=STYLE.read_text(encoding="utf-8"),
    )


def answers(
    chosen: pd.DataFrame, items: pd.DataFrame, systems: Mapping[str, Sequence[str]], test: Sequence[Mapping]
) -> Iterator[tuple[Reply, list[Reply]]]:
    """Yield a case for `page` for each chosen answer: the post, then the reference beside the answer and its scores.

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
        title = f"{row.metric}, {row.which}: {row.system}, post {row.questionID}{flagged}, {row.score:.4f}"
        own = Reply(row.system, [("", text)] if text.strip() else [], got)
        yield Reply(title, [("", prompt_forms.passage(post))]), [Reply("reference", [("", post["reply"])]), own]
