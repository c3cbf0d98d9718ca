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
    """Return the JSON schema of an annotation, as providers take it that enforce one."""
    labels = {"type": "array", "items": {"type": "string", "enum": list(distortions.taxonomy()["label"])}}
    fields = {
        "labels": labels,
        "evidence": {"type": "array", "items": {"type": "string"}},
        "risk": {"type": "string", "enum": list(annotation.RISKS)},
    }
    answer = {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}
    return {"type": "json_schema", "json_schema": {"name": "annotation", "strict": True, "schema": answer}}


def requests(posts: Iterable[Question], model: str) -> list[dict]:
    """Return a request for each post, as `client.complete` takes them: the guideline, the post, the answer's schema."""
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


def parse(text: str, post: Question) -> dict | str:
    """Return labels, evidence and risk of a model's answer, or why it cannot count."""
    try:
        found = json.loads(text)
        labels, evidence, risk = found["labels"], found["evidence"], found["risk"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return "not in the form asked for"
    texts = [risk, *labels, *evidence] if isinstance(labels, list) and isinstance(evidence, list) else [None]
    if not all(isinstance(text, str) for text in texts):
        return "not in the form asked for"
    reason = annotation.problem(labels, evidence, risk, post)
    return reason or {"labels": labels, "evidence": evidence, "risk": risk}


def annotations(answers: Iterable[Completion], posts: Mapping[object, Question], annotator: str) -> pd.DataFrame:
    """Return a row for each answer: `annotation.FIELDS` and reason. An answer that cannot count has no labels."""
    rows = []
    for answer in answers:
        found = parse(answer.text, posts[answer.id])
        reason, found = (found, {}) if isinstance(found, str) else (None, found)
        labels, evidence = "|".join(found.get("labels", [])), annotation.SEPARATOR.join(found.get("evidence", []))
        rows.append((answer.id, annotator, labels, evidence, found.get("risk", ""), reason))
    return pd.DataFrame(rows, columns=[*annotation.FIELDS, "reason"])


def agreement(truth: Mapping[object, set[str]], found: Mapping[object, set[str]]) -> dict[str, float]:
    """Compare two annotations of the posts in `truth`; a post that `found` lacks counts as without labels.

    Returns:
        posts; precision, recall and F1 of whether a post has any label; micro-F1 over all labels.
    """
    pairs = [(set(labels), set(found.get(post, ()))) for post, labels in truth.items()]
    both = sum(bool(a) and bool(b) for a, b in pairs)
    flagged, present = sum(bool(b) for _, b in pairs), sum(bool(a) for a, _ in pairs)
    shared, given = sum(len(a & b) for a, b in pairs), sum(len(a) + len(b) for a, b in pairs)

    def share(part: float, whole: float) -> float:
        return part / whole if whole else float("nan")

    return {
        "posts": len(pairs),
        "precision": share(both, flagged),
        "recall": share(both, present),
        "F1": share(2 * both, flagged + present),
        "micro-F1 of labels": share(2 * shared, given),
    }
