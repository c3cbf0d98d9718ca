"""All systems of a run against the test set: their answers in line with it, a baseline, scores, and paired tests."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from tqdm import tqdm

from cbtllm_utils import files, metrics, statistics
from cbtllm_utils.instructions import passage

UNTUNED = "-untuned"  # ends the name of a backbone that answered without its adapter


def aligned(answers: Sequence[dict], test: Sequence[dict]) -> dict[str, list[str]]:
    """Each system's replies in the order of the test items, by system.

    InputError when a system lacks an item, answers one twice or one that is none: a mean over other items is another
    score.
    """
    ids, found = [row["questionID"] for row in test], {}
    for row in answers:
        own = found.setdefault(row["system"], {})
        if row["questionID"] in own:
            raise files.InputError(f"answers of {row['system']}: question {row['questionID']} stands twice")
        own[row["questionID"]] = row["reply"]
    for system, own in found.items():
        if odd := set(own) ^ set(ids):
            missing = len(set(ids) - set(own))
            raise files.InputError(
                f"answers of {system}: {missing} test items missing and {len(odd) - missing} that are none, among them "
                f"{min(map(str, odd))}; run 05_answer_generation again on this test set"
            )
    return {system: [own[i] for i in ids] for system, own in found.items()}


def nearest(test: Sequence[dict], train: Sequence[dict], rows: int = 256) -> list[str]:
    """For each test item the reply to the training post that is most like it: what a search gives without any model.

    Like: the cosine of TF-IDF vectors over single characters and pairs (scikit-learn), `rows` items at a time.
    """
    vectors = TfidfVectorizer(analyzer="char", ngram_range=(1, 2), sublinear_tf=True)
    known = vectors.fit_transform(map(passage, train)).T
    asked = vectors.transform(map(passage, test))
    parts = [(asked[start : start + rows] @ known).toarray().argmax(1) for start in range(0, len(test), rows)]
    return [train[place]["reply"] for place in np.concatenate(parts)]


def evaluate(
    scorers: metrics.Scorers, systems: Mapping[str, Sequence[str]], test: Sequence[dict], resamples: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(scores, items) of all systems, with intervals of so many resamples.

    Scores: one row system x metric with system, metric, score, low, high, signature. Items: one row system x item with
    questionID, system and one column a metric.
    """
    references, ids = [row["reply"] for row in test], [row["questionID"] for row in test]
    scores, items = [], []
    for system, replies in tqdm(systems.items(), desc="systems", mininterval=5):
        result = metrics.evaluate(scorers, replies, references)
        scores.append(metrics.intervals(result, resamples, seed).assign(system=system))
        items.append(result.items.assign(questionID=ids, system=system))
    long, each = pd.concat(scores, ignore_index=True), pd.concat(items, ignore_index=True)
    front = ["questionID", "system"]
    return long[["system", *long.columns.drop("system")]], each[[*front, *each.columns.drop(front)]]


def wide(scores: pd.DataFrame) -> pd.DataFrame:
    """One row a system, in their order, one column a metric, named as Table 4 names it."""
    table = scores.pivot(index="system", columns="metric", values="score").rename(columns=metrics.COLUMNS)
    columns = [name for name in metrics.COLUMNS.values() if name in table]
    return table.loc[scores["system"].unique(), columns].rename_axis(columns=None)


def compare(items: pd.DataFrame, pairs: Sequence[tuple[str, str]], resamples: int, seed: int) -> pd.DataFrame:
    """One row pair x metric: system, against, metric, difference, low, high, p, and p corrected for all rows (Holm).

    The difference is the mean over items of a - b (BLEU and chrF of single items). See `statistics.paired`.
    """
    rows = []
    for a, b in pairs:
        first, second = (items[items["system"] == name].set_index("questionID") for name in (a, b))
        for metric in first.columns.drop("system"):
            found = statistics.paired(first[metric], second[metric].loc[first.index], resamples=resamples, seed=seed)
            rows.append({"system": a, "against": b, "metric": metric} | found._asdict())
    table = pd.DataFrame(rows)
    return table.assign(**{"p (Holm)": statistics.holm(table["p"])})
