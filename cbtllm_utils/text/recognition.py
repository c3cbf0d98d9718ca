"""How well replies recognize distorted thinking in a post, compared with annotators (paper §3.3.3, Table 3)."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from cbtllm_utils import files, published, statistics
from cbtllm_utils.text import distortions


def annotations(path: str | None) -> pd.DataFrame:
    """Read annotations from a CSV of questionID, annotator and labels joined by |.

    Returns:
        questions × annotators: the set of labels that each annotator gave. Empty without a path: a study without
        annotators has no Table 3.

    Raises:
        InputError: When the file or a column is missing, a label is not a class, or an annotator judged a post twice.
    """
    if path is None:
        return pd.DataFrame(index=pd.Index([], name="questionID", dtype=int))
    if not files.path(path).is_file():
        raise files.InputError(
            f"{files.shown(path)}: no such annotations; set `annotations` to a CSV of questionID, annotator, labels"
        )
    table = files.read_csv(path, dtype={"annotator": str, "labels": str}, keep_default_na=False)
    if missing := {"questionID", "annotator", "labels"} - set(table.columns):
        has = files.one_line(", ".join(map(str, table.columns)))[:100]
        raise files.InputError(f"{files.shown(path)}: no column {', '.join(sorted(missing))}; its columns: {has}")
    if (twice := table.duplicated(["questionID", "annotator"])).any():
        row = table[twice].iloc[0]
        raise files.InputError(
            f"{files.shown(path)}: annotator {row['annotator']} judged {row['questionID']} twice; keep one"
        )
    labels = table["labels"].str.split("|").explode()
    if (foreign := ~labels.isin(["", *distortions.taxonomy()["label"]])).any():
        line = labels.index[foreign][0] + 2
        raise files.InputError(
            f"{files.shown(path)}, line {line}: {files.one_line(labels[foreign].iloc[0])[:40]!r} is not a distortion; "
            f"there are {', '.join(distortions.taxonomy()['label'])}, joined by |"
        )
    return by_annotator(table)


def by_annotator(table: pd.DataFrame) -> pd.DataFrame:
    """Return questions × annotators: the set of labels of each, from questionID, annotator, labels joined by |."""
    sets = table["labels"].map(lambda text: frozenset(filter(None, text.split("|"))))
    return table.assign(labels=sets).pivot(index="questionID", columns="annotator", values="labels")


def counts(truth: pd.Series, flagged: pd.Series) -> dict[str, int]:
    """Return the confusion matrix of two boolean series: tp, fp, fn, tn."""
    truth, flagged = truth.astype(bool), flagged.astype(bool)
    return {
        "tp": int((truth & flagged).sum()),
        "fp": int((~truth & flagged).sum()),
        "fn": int((truth & ~flagged).sum()),
        "tn": int((~truth & ~flagged).sum()),
    }


def fractions(tp: float, fp: float, fn: float, tn: float) -> dict[str, tuple[float, float]]:
    """Return numerator and denominator of each score; arrays give arrays."""
    return {
        "Accuracy": (tp + tn, tp + fp + fn + tn),
        "Recall": (tp, tp + fn),
        "F1 score": (2 * tp, 2 * tp + fp + fn),
        "Precision": (tp, tp + fp),
    }


def scores(tp: int, fp: int, fn: int, tn: int) -> dict[str, float]:
    """Return Accuracy, Recall and F1 score as the paper names them, and Precision; NaN for a share of nothing."""
    return {name: top / bottom if bottom else float("nan") for name, (top, bottom) in fractions(tp, fp, fn, tn).items()}


def intervals(truth: pd.Series, flagged: pd.Series) -> pd.DataFrame:
    """Return one row per score, with its 95 % interval over items: score, value, low, high.

    Accuracy, recall and precision are shares and have Wilson's interval, which stays below 1 and above 0 unlike a
    resampled one at the edge. F1 = 2J / (1 + J), where J is the share of hits among the items that truth or flags mark:
    its interval is that of J, put through the same formula.
    """
    tp, fp, fn, tn = counts(truth, flagged).values()
    hits = statistics.wilson(tp, tp + fp + fn)
    found = {name: statistics.wilson(top, bottom) for name, (top, bottom) in fractions(tp, fp, fn, tn).items()}
    found["F1 score"] = statistics.Estimate(*(2 * end / (1 + end) for end in hits))
    return pd.DataFrame([{"score": name, **estimate._asdict()} for name, estimate in found.items()])


def beside_table3(truth: pd.Series, flagged: pd.Series) -> pd.DataFrame:
    """Return the paper's Table 3 beside ours: row, column, paper, here, difference, 95 % interval, items."""
    scored = pd.DataFrame([scores(**counts(truth, flagged))], index=["Quality"])
    bounds = intervals(truth, flagged).set_index("score")[["low", "high"]].rename(columns=statistics.INTERVAL)
    return published.beside("Table 3", scored).join(bounds, on="column").assign(items=len(truth))


def in_words(truth: pd.Series, flagged: pd.Series) -> str:
    """Return the confusion matrix as a sentence."""
    if not len(truth):
        return "Nobody annotated these posts, so there are no scores of recognition."
    found = counts(truth, flagged)
    return (
        f"Of {len(truth)} posts, annotators and reply both see a distortion in {found['tp']} and neither does in "
        f"{found['tn']}; only the reply does in {found['fp']}, only the annotators in {found['fn']}."
    )


def given_by_all(judged: pd.DataFrame, classes: Iterable[str]) -> pd.DataFrame:
    """Return questions × classes: whether every annotator gave the class (`judged`: questions × annotators)."""
    rows = [[all(name in given for given in row) for name in classes] for row in judged.to_numpy()]
    return pd.DataFrame(rows, judged.index, list(classes), dtype=bool)


def by_class(truth: pd.DataFrame, flagged: pd.DataFrame) -> pd.DataFrame:
    """Return one row per class: how often annotators and replies name it, and the shares of each that the other has."""
    rows = []
    for name in truth.columns:
        both, annotated, named = (
            int(marks.sum()) for marks in (truth[name] & flagged[name], truth[name], flagged[name])
        )
        recall, precision = statistics.share_text(both, annotated), statistics.share_text(both, named)
        rows.append(
            {"class": name, "annotated": annotated, "named": named, "both": both}
            | {"annotated that are named": recall, "named that are annotated": precision}
        )
    return pd.DataFrame(rows)


def matrices(n: int, accuracy: float, recall: float, f1: float, decimals: int = 2) -> pd.DataFrame:
    """Return every confusion matrix (tp, fp, fn, tn) of n items whose three scores round to those given."""
    half = 0.5 * 10**-decimals + 1e-9
    tp, fn = np.meshgrid(np.arange(1, n + 1), np.arange(n + 1), indexing="ij")
    fitting = np.argwhere((tp + fn <= n) & (abs(tp / (tp + fn) - recall) <= half))
    pairs = fitting + np.array([1, 0])  # places count from 0, tp from 1
    tp, fn, fp = pairs[:, :1], pairs[:, 1:], np.arange(n + 1)[None]
    fits = (tp + fn + fp <= n) & (abs((n - fp - fn) / n - accuracy) <= half)
    fits &= abs(2 * tp / (2 * tp + fp + fn) - f1) <= half
    which, false = np.nonzero(fits)
    found = pd.DataFrame({"tp": pairs[which, 0], "fp": false, "fn": pairs[which, 1]})
    return found.assign(tn=n - found.sum(axis=1))


def rates(matrices: pd.DataFrame) -> pd.DataFrame:
    """Return what accuracy, recall and F1 leave open, one row per confusion matrix (columns tp, fp, fn, tn).

    Two rules without any skill give the scale: one flags no item, the other every item. Both have a Cohen's kappa of 0,
    a balanced accuracy of 1/2 and a positive likelihood ratio of 1 (where it exists), whatever the prevalence.
    """
    tp, fp, fn, tn = (matrices[name] for name in ("tp", "fp", "fn", "tn"))
    n, positives, flagged = tp + fp + fn + tn, tp + fn, tp + fp
    chance = (flagged * positives + (n - flagged) * (n - positives)) / n**2
    recall, specificity, accuracy = tp / positives, tn / (tn + fp), (tp + tn) / n
    return pd.DataFrame(
        {
            "prevalence": positives / n,
            "share flagged": flagged / n,
            "precision": tp / flagged,
            "specificity": specificity,
            "balanced accuracy": (recall + specificity) / 2,
            "Cohen's kappa": (accuracy - chance) / (1 - chance),
            "LR+": recall / (1 - specificity),
            "accuracy of flagging nobody": 1 - positives / n,
            "accuracy of flagging everybody": positives / n,
            "F1 of flagging everybody": 2 * positives / (n + positives),
        }
    )
