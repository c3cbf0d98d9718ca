"""All systems of a run against the test set: answers in its order, a baseline, scores, and paired tests."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from tqdm import tqdm

from cbtllm_utils import files, statistics
from cbtllm_utils.evaluate import metrics
from cbtllm_utils.llm.failure import REFUSED, UNANSWERED
from cbtllm_utils.models.prompt_forms import passage

SUFFIX = "-untuned"  # ends the name under which a backbone answered without its adapter
BLOCK = 256  # test items compared with all training items at a time


def untuned(backbone: str) -> str:
    """Return how tables name a backbone without its adapter."""
    return f"{backbone} untuned"


def answered_by_all(answers: Sequence[dict], test: Sequence[dict]) -> tuple[list[dict], list[dict]]:
    """Return the answers and the test items without the items that a server refused or left without an answer.

    Systems are compared on the same items: one that is silent on a hard question must not gain by it.

    Raises:
        InputError: When not one item remains.
    """
    lost = {row["questionID"] for row in answers if row.get("finish_reason") in (REFUSED, UNANSWERED)}
    items = [row for row in test if row["questionID"] not in lost]
    if test and not items:
        raise files.InputError(f"not one of {len(test)} test items was answered by every system; see answers/")
    return [row for row in answers if row["questionID"] not in lost], items


def align(answers: Sequence[dict], test: Sequence[dict]) -> dict[str, list[str]]:
    """Return each system's replies in the order of the test items, by the system's name in tables.

    Raises:
        InputError: When a system lacks an item, answers one twice, or answers one that is not in the test set: its mean
            would be over other items.
    """
    ids = [row["questionID"] for row in test]
    found: dict[str, dict] = {}
    for row in answers:
        own = found.setdefault(row["system"], {})
        if row["questionID"] in own:
            raise files.InputError(f"answers of {row['system']}: question {row['questionID']} appears twice")
        own[row["questionID"]] = row["reply"]
    for system, own in found.items():
        if odd := set(own) ^ set(ids):
            missing = len(set(ids) - set(own))
            raise files.InputError(
                f"answers of {system}: {missing} test items missing and {len(odd) - missing} that are not in the test "
                f"set, among them {min(map(str, odd))}; run 05_answer_generation again on this test set"
            )
    return {
        untuned(system.removesuffix(SUFFIX)) if system.endswith(SUFFIX) else system: [own[i] for i in ids]
        for system, own in found.items()
    }


def heading(run: str | Path, backbones: Sequence[str]) -> str:
    """Return the header of our column beside the paper's: "here", or that all who answered are tiny models."""
    records = [files.path(run) / "adapters" / name / "training.json" for name in backbones]
    models = [files.read_json(record)["model"] for record in records if record.exists()]
    tiny = len(models) == len(records) and all(map(files.is_tiny, models))
    return "here (tiny models)" if tiny else "here"


def nearest_replies(test: Sequence[dict], train: Sequence[dict]) -> list[str]:
    """Return, for each test item, the reply to the most similar training post: a search without any model.

    Similarity is the cosine of TF-IDF vectors over single characters and pairs (scikit-learn).
    """
    vectors = TfidfVectorizer(analyzer="char", ngram_range=(1, 2), sublinear_tf=True)
    known = vectors.fit_transform(map(passage, train)).T
    asked = vectors.transform(map(passage, test))
    nearest = [(asked[i : i + BLOCK] @ known).toarray().argmax(1) for i in range(0, len(test), BLOCK)]
    return [train[i]["reply"] for i in np.concatenate(nearest)]


def evaluate(
    scorers: metrics.Scorers, systems: Mapping[str, Sequence[str]], test: Sequence[dict], resamples: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Score all systems and return (scores, items, draws).

    Returns:
        scores: One row per system and metric: system, metric, score, low, high, signature.
        items: One row per system and item: questionID, system and one column per metric.
        draws: One row per resample, columns (metric, system). All systems are scored on the same drawn items, so that
            the draws say how certain an order of systems is.
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
    long = long[["system", *long.columns.drop("system")]]
    each = each[["questionID", "system", *each.columns.drop(["questionID", "system"])]]
    return long, each, pd.concat(draws, axis=1).swaplevel(axis=1)


def ranks(scores: pd.DataFrame, draws: pd.DataFrame, among: Sequence[str]) -> pd.DataFrame:
    """Return each system's rank by score (1 is best), the ranks of 95 % of the draws, and how often it came first.

    One row per metric and system of `among`; equal scores share the better rank.
    """
    rows = []
    for metric, column in metrics.COLUMNS.items():
        if metric not in draws.columns.get_level_values(0):
            continue
        own = scores[scores["metric"] == metric].set_index("system")["score"].loc[list(among)]
        drawn = draws[metric][list(among)].rank(axis=1, ascending=False, method="min")
        bounds = drawn.quantile([0.025, 0.975], interpolation="nearest").astype(int)
        rank = own.rank(ascending=False, method="min").astype(int)
        for name in rank.sort_values(kind="stable").index:
            first = float((drawn[name] == 1).mean())
            rows.append((column, name, own[name], rank[name], *bounds[name], first))
    columns = ["metric", "system", "score", "rank", *statistics.INTERVAL.values(), "share of draws in first place"]
    return pd.DataFrame(rows, columns=columns)


def wide(scores: pd.DataFrame) -> pd.DataFrame:
    """Return one row per system, in their order, and one column per metric, named as in Table 4."""
    table = scores.pivot(index="system", columns="metric", values="score").rename(columns=metrics.COLUMNS)
    columns = [name for name in metrics.COLUMNS.values() if name in table]
    return table.loc[scores["system"].unique(), columns].rename_axis(columns=None)


def compare(items: pd.DataFrame, pairs: Sequence[tuple[str, str]], resamples: int, seed: int) -> pd.DataFrame:
    """Return the paired test of each pair of systems on each metric, with p corrected for all rows (Holm).

    The difference is the mean over items of a - b (BLEU and chrF of single items); see `statistics.paired`. Without a
    pair, as with one backbone, the table is empty.
    """
    rows = []
    for a, b in pairs:
        first, second = (items[items["system"] == name].set_index("questionID") for name in (a, b))
        for metric in first.columns.drop("system"):
            found = statistics.paired(first[metric], second[metric].loc[first.index], resamples=resamples, seed=seed)
            rows.append((a, b, metrics.COLUMNS.get(metric, metric), *found))
    columns = ["system", "compared with", "metric", "difference", *statistics.INTERVAL.values(), "p"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(**{"p (Holm)": statistics.holm(table["p"])})


def extremes(items: pd.DataFrame, among: Sequence[str]) -> pd.DataFrame:
    """Return the best, median and worst reply by each metric, over all replies of `among`.

    One row per metric and (best, median, worst): metric, which, system, questionID, score. Of equal scores the first
    counts; the median of an even number is the higher of the middle two.
    """
    own, rows = items[items["system"].isin(among)], []
    for metric in own.columns.drop(["questionID", "system"]):
        order = own.sort_values(metric, ascending=False, kind="stable")
        for which, place in (("best", 0), ("median", (len(order) - 1) // 2), ("worst", len(order) - 1)):
            row = order.iloc[place]
            rows.append((metric, which, row["system"], row["questionID"], row[metric]))
    return pd.DataFrame(rows, columns=["metric", "which", "system", "questionID", "score"])
