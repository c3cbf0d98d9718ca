"""Replies as HTML: texts in, marked-up text out, coloured and labelled, escaped, with the notices; no scripts."""

import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import jinja2
import pandas as pd

from cbtllm_utils import notices
from cbtllm_utils.models import prompt_forms
from cbtllm_utils.plots.diagrams import Reply, merged, name
from cbtllm_utils.plots.figures import PLAIN, SECTIONS

TEMPLATE, STYLE = (Path(__file__).with_name(file) for file in ("case_page.html", "page.css"))


@functools.cache
def template() -> jinja2.Template:
    """The page's template with what it may call; autoescape leaves no text of a model or a post as markup."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    found = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    found.globals.update(merged=merged, name=name, language=language, colours=lambda key: SECTIONS.get(key, PLAIN))
    return found


def language(text: str) -> str:
    """zh or en, by which kind of letters a text has more of: it decides on fonts and on how a screen reader speaks."""
    return "zh" if len(re.findall(r"[\u4e00-\u9fff]", text)) * 2 > len(re.findall(r"[A-Za-z]", text)) else "en"


def fragment(replies: Iterable[Reply]) -> str:
    """Replies as HTML to show in a notebook: each stretch on its colour, under its component's name."""
    return template().render(whole=False, replies=list(replies))


def page(title: str, cases: Iterable[tuple[Reply, Sequence[Reply]]], conditions: str) -> str:
    """A whole page of cases, a query with replies beside each other, under notices and conditions; fetches nothing.

    The legend holds the components that some text is marked with.
    """
    cases = list(cases)
    marked = {key for query, replies in cases for one in (query, *replies) for key, _ in one.stretches}
    return template().render(
        whole=True,
        title=title,
        conditions=conditions,
        notices=notices.NOTICES.values(),
        legend={key: colour for key, colour in SECTIONS.items() if key in marked},
        cases=cases,
        style=STYLE.read_text(encoding="utf-8"),
    )


def answers(
    chosen: pd.DataFrame, items: pd.DataFrame, systems: Mapping[str, Sequence[str]], test: Sequence[Mapping]
) -> Iterator[tuple[Reply, list[Reply]]]:
    """Cases for `page` of chosen answers (metric, which, system, questionID, score).

    A case: the post, the reference, the reply, and below it every score that it got. `systems` holds each system's
    replies in the order of the test items.
    """
    places = {row["questionID"]: place for place, row in enumerate(test)}
    scores = items.set_index(["system", "questionID"])
    for row in chosen.itertuples(index=False):
        post, text = test[places[row.questionID]], systems[row.system][places[row.questionID]]
        got = ", ".join(f"{name} {value:.4f}" for name, value in scores.loc[(row.system, row.questionID)].items())
        title = f"{row.metric}, {row.which}: {row.system}, item {row.questionID}, {row.score:.4f}"
        own = Reply(row.system, [("", text)] if text.strip() else [], got)
        yield Reply(title, [("", prompt_forms.passage(post))]), [Reply("reference", [("", post["reply"])]), own]
