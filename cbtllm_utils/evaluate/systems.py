"""All systems of a run against the test set: their answers in line with it, a baseline, scores, and paired tests."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from tqdm import tqdm

from cbtllm_utils import files, statistics
from cbtllm_utils.evaluate import metrics
from cbtllm_utils.models.prompt_forms import passage

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


def heading(run: str | Path, backbones: Sequence[str]) -> str:
    """What our column beside the paper's is called: "here", or that all who answered are notebook 00's stand-ins."""
    records = [files.path(run) / "adapters" / name / "training.json" for name in backbones]
    models = [files.read_json(record)["model"] for record in records if record.exists()]
    tiny = len(models) == len(records) and all(map(files.is_tiny, models))
    return "here (tiny stand-ins)" if tiny else "here"


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
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """(scores, items, draws) of all systems, with intervals of so many resamples.

    Scores: one row system x metric with system, metric, score, low, high, signature. Items: one row system x item with
    questionID, system and one column a metric. Draws: one row a resample, columns (metric, system): all systems' scores
    of the same drawn items, which tells how firm an order of them is.
    """
    references, ids = [row["reply"] for row in test], [row["questionID"] for row in test]
    scorers.prepare([text for replies in systems.values() for text in replies], references * len(systems))
    scores, items, draws = [], [], {}
    for system, replies in tqdm(systems.items(), desc="systems", mininterval=5, file=sys.stderr):
        result = metrics.evaluate(scorers, replies, references)
        draws[system] = metrics.draws(result, resamples, seed)
        scores.append(metrics.intervals(result, draws[system]).assign(system=system))
        items.append(result.items.assign(questionID=ids, system=system))
    long, each = pd.concat(scores, ignore_index=True), pd.concat(items, ignore_index=True)
    front = ["questionID", "system"]
    drawn = pd.concat(draws, axis=1).swaplevel(axis=1)
    return long[["system", *long.columns.drop("system")]], each[[*front, *each.columns.drop(front)]], drawn


def ranks(scores: pd.DataFrame, draws: pd.DataFrame, among: Sequence[str]) -> pd.DataFrame:
    """One row metric x system of `among`: its rank by score (1 is best), the ranks that hold 95 % of the draws, and the
    share of draws in which it is the first; equal scores share the better rank.
    """
    rows = []
    for metric in draws.columns.get_level_values(0).unique():
        own = scores[scores["metric"] == metric].set_index("system")["score"].loc[list(among)]
        drawn = draws[metric][list(among)].rank(axis=1, ascending=False, method="min")
        bounds = drawn.quantile([0.025, 0.975], interpolation="nearest").astype(int)
        place = own.rank(ascending=False, method="min").astype(int)
        for name in place.sort_values(kind="stable").index:
            first = float((drawn[name] == 1).mean())
            rows.append((metric, name, own[name], place[name], *bounds[name], first))
    columns = ["metric", "system", "score", "rank", "rank, low", "rank, high", "share of draws as the first"]
    return pd.DataFrame(rows, columns=columns)


def wide(scores: pd.DataFrame) -> pd.DataFrame:
    """One row a system, in their order, one column a metric, named as Table 4 names it."""
    table = scores.pivot(index="system", columns="metric", values="score").rename(columns=metrics.COLUMNS)
    columns = [name for name in metrics.COLUMNS.values() if name in table]
    return table.loc[scores["system"].unique(), columns].rename_axis(columns=None)


def compare(items: pd.DataFrame, pairs: Sequence[tuple[str, str]], resamples: int, seed: int) -> pd.DataFrame:
    """One row pair x metric: system, against, metric, difference, low, high, p, and p corrected for all rows (Holm).

    The difference is the mean over items of a - b (BLEU and chrF of single items). See `statistics.paired`. Without a
    pair, as with one backbone, there is no row.
    """
    rows = []
    for a, b in pairs:
        first, second = (items[items["system"] == name].set_index("questionID") for name in (a, b))
        for metric in first.columns.drop("system"):
            found = statistics.paired(first[metric], second[metric].loc[first.index], resamples=resamples, seed=seed)
            rows.append({"system": a, "against": b, "metric": metric} | found._asdict())
    table = pd.DataFrame(rows, columns=["system", "against", "metric", *statistics.Paired._fields])
    return table.assign(**{"p (Holm)": statistics.holm(table["p"])})


def extremes(items: pd.DataFrame, among: Sequence[str]) -> pd.DataFrame:
    """One row metric x (best, median, worst): metric, which, system, questionID, score, over all replies of `among`.

    Of equal scores the first counts; the median of an even number is the higher of the middle two.
    """
    own, rows = items[items["system"].isin(among)], []
    for metric in own.columns.drop(["questionID", "system"]):
        order = own.sort_values(metric, ascending=False, kind="stable")
        for which, place in (("best", 0), ("median", (len(order) - 1) // 2), ("worst", len(order) - 1)):
            row = order.iloc[place]
            rows.append((metric, which, row["system"], row["questionID"], row[metric]))
    return pd.DataFrame(rows, columns=["metric", "which", "system", "questionID", "score"])
