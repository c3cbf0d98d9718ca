"""A language model as a second annotator, by the same guideline: its labels count only with words of the post."""

import json
from collections.abc import Iterable, Mapping

import pandas as pd

from cbtllm_utils.data import prompts
from cbtllm_utils.data.psyqa import Question
from cbtllm_utils.human import annotation
from cbtllm_utils.llm.client import Completion
from cbtllm_utils.text import distortions


def schema() -> dict:
    """The answer's form as JSON schema, for providers that hold a model to it."""
    labels = {"type": "array", "items": {"type": "string", "enum": list(distortions.taxonomy()["label"])}}
    fields = {
        "labels": labels,
        "evidence": {"type": "array", "items": {"type": "string"}},
        "risk": {"type": "string", "enum": list(annotation.RISKS)},
    }
    whole = {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}
    return {"type": "json_schema", "json_schema": {"name": "annotation", "strict": True, "schema": whole}}


def requests(posts: Iterable[Question], model: str) -> list[dict]:
    """One request a post for `client.complete`: the guideline, the post between its brackets, the answer's form."""
    task = annotation.guideline() + "\nAnswer in JSON: labels, evidence (a list of the client's words), risk.\n"
    own = {"model": model, "temperature": 0, "response_format": schema(), "attempt": 1}
    return [
        {
            "id": post.questionID,
            "messages": [
                {"role": "system", "content": task},
                {"role": "user", "content": prompts.enclosed(post.question, post.description)},
            ],
        }
        | own
        for post in posts
    ]


def judged(text: str, post: Question) -> dict | str:
    """{"labels", "evidence", "risk"} of a model's answer, or why it cannot count; its quotes must stand in the post."""
    try:
        found = json.loads(text)
        labels, evidence, risk = found["labels"], found["evidence"], found["risk"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return "not in the form asked for"
    texts = [risk, *labels, *evidence] if isinstance(labels, list) and isinstance(evidence, list) else [None]
    if not all(isinstance(text, str) for text in texts):
        return "not in the form asked for"
    reason = annotation.fault(labels, evidence, risk, post)
    return reason or {"labels": labels, "evidence": evidence, "risk": risk}


def annotations(answers: Iterable[Completion], posts: Mapping[object, Question], annotator: str) -> pd.DataFrame:
    """Columns `annotation.FIELDS` and reason: one row an answer; one that cannot count has its reason and no labels."""
    rows = []
    for answer in answers:
        found = judged(answer.text, posts[answer.id])
        good = found if isinstance(found, dict) else {"labels": [], "evidence": [], "risk": ""}
        evidence = annotation.APART.join(good["evidence"])
        reason = None if isinstance(found, dict) else found
        rows.append((answer.id, annotator, "|".join(good["labels"]), evidence, good["risk"], reason))
    return pd.DataFrame(rows, columns=[*annotation.FIELDS, "reason"])


def agreement(truth: Mapping[object, set[str]], found: Mapping[object, set[str]]) -> dict[str, float]:
    """How far two annotations of the same posts agree: presence (precision, recall, F1), and micro F1 over all labels.

    Over the posts of `truth`; one that `found` lacks counts as without labels.
    """
    pairs = [(set(labels), set(found.get(post, ()))) for post, labels in truth.items()]
    both = sum(bool(a) and bool(b) for a, b in pairs)
    flagged, present = sum(bool(b) for _, b in pairs), sum(bool(a) for a, _ in pairs)
    hits, said = sum(len(a & b) for a, b in pairs), sum(len(a) + len(b) for a, b in pairs)

    def share(part: float, whole: float) -> float:
        return part / whole if whole else float("nan")

    return {
        "posts": len(pairs),
        "precision": share(both, flagged),
        "recall": share(both, present),
        "F1": share(2 * both, flagged + present),
        "micro-F1 of labels": share(2 * hits, said),
    }
