"""The case study's posts and replies as `Reply` objects, for its page and for Figure 4."""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from cbtllm_utils.data import topics
from cbtllm_utils.paper import case_study
from cbtllm_utils.plots.diagrams import Reply


def published(paper: Mapping) -> tuple[Reply, list[Reply]]:
    """Return the paper's query, and its reply in Chinese and in English with the paper's own components."""
    texts = [(name, paper[name]) for name in ("question", "description")]
    query = Reply("The paper's query", [*texts, ("the paper's translation", paper["query_en"])])
    chinese = Reply("Published reply", [(name, text) for name, text, _ in paper["sections"]])
    english = Reply("Published reply, the paper's translation", [(name, text) for name, _, text in paper["sections"]])
    return query, [chinese, english]


def post(row: Mapping) -> Reply:
    """Return a post of the test set, with its topic and whether it is flagged for risk in its title."""
    flagged = "flagged for risk" if row["risk"] else "not flagged for risk"
    texts = [(name, row[name]) for name in ("question", "description")]
    return Reply(f"Test post {row['questionID']} ({topics.label(row.get('topic'))}, {flagged})", texts)


def all_cases(
    paper: Mapping, posts: Iterable[Mapping], answers: Sequence[Mapping], described: pd.DataFrame
) -> list[tuple[Reply, list[Reply]]]:
    """Return each query with the replies to it, the paper's first.

    Args:
        answers: As `case_study.replies` returns them.
        described: What each has and lacks, by `case_study.describe`.
    """
    query, printed = published(paper)
    found: dict[object, list[Reply]] = {paper["questionID"]: printed}
    for answer, row in zip(answers, described.to_dict("records"), strict=True):
        if case_study.kind_of(answer) != case_study.THE_PAPER:  # Its components are the paper's, not ours.
            said = case_study.remark(row, answer["finish_reason"])
            one = Reply(case_study.title(answer), case_study.segments(answer), said, case_study.warning(row))
            found.setdefault(answer["questionID"], []).append(one)
    return [(query, printed), *((post(row), found[row["questionID"]]) for row in posts)]
