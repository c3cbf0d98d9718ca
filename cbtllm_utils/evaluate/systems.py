"""All systems of a run against the test set: answers in its order, baselines, controls, scores, and paired tests."""

import re
import sys
import warnings
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from tqdm import tqdm

from cbtllm_utils import files, safe_spreadsheets, statistics
from cbtllm_utils.evaluate import metrics
from cbtllm_utils.generate import kinds
from cbtllm_utils.llm.failure import REFUSED, UNANSWERED
from cbtllm_utils.models.prompt_forms import passage

NEAREST, RANDOM = BASELINES = ("nearest training reply", "random training reply")
BLOCK = 256  # test items compared with all training items at a time
CONTROLLED = 200  # test items at most of which controls are scored
SHUFFLED = "shuffled"  # ends the name of a system whose replies' characters are
ALPHA = 0.05
TINY = "here (tiny models)"  # heads our column where all models are tiny ones
NO_ITEMS = pd.DataFrame(columns=["questionID", "system"])
OVER_SEEDS = "95% CI over seeds"
SENTENCE = re.compile(r"[^。！？!?\n]+")


def read(run: str | Path, backbones: Sequence[str]) -> tuple[list[dict], list[dict], list[dict], str]:
    """Return (test, train, answers, n in words) of a run: the test items that every system answered, and the answers.

    Args:
        run: The folder of the run.
        backbones: Whose answers are read: all systems of each backbone that answered.
    """
    train, whole = (files.read_jsonl(f"{run}/cbt_qa/{part}.jsonl") for part in ("train", "test"))
    answers = [row for name in backbones for row in files.read_jsonl(f"{run}/answers/{name}.jsonl")]
    answers, test = answered_by_all(answers, whole)
    of = "" if len(test) == len(whole) else f" of {len(whole)}, those that every system answered"
    return test, train, answers, f"n = {len(test)} test items{of}"


def of_kind(systems: Collection[str], backbones: Sequence[str], kind: str) -> list[str]:
    """Return the systems of one kind that answered, as tables name them, in the order of their backbones."""
    names = [kinds.label(kinds.system(backbone, kind)) for backbone in backbones]
    return [name for name in names if name in systems]


def judged(systems: Collection[str], backbones: Sequence[str]) -> list[str]:
    """Return the tuned systems; where a run has none, all systems without the baselines."""
    tuned = of_kind(systems, backbones, kinds.TUNED)
    return tuned or [name for name in systems if name not in BASELINES]


def pairs(systems: Collection[str], backbones: Sequence[str], kind: str, other: str) -> list[tuple[str, str]]:
    """Return the two systems of each backbone that has both; replicates of a backbone are one (see `base`)."""
    both = [[kinds.label(kinds.system(name, which)) for which in (kind, other)] for name in backbones]
    return list(dict.fromkeys((base(a), base(b)) for a, b in both if a in systems and b in systems))


def base(system: str) -> str:
    """Return a system's name in tables without the seed that makes it a replicate: "x-seed43 untuned": "x untuned"."""
    name, *kind = system.split(" ")  # no backbone has a space in its name
    return " ".join([kinds.replicate_of(name), *kind])


def answered_by_all(answers: Sequence[dict], test: Sequence[dict]) -> tuple[list[dict], list[dict]]:
    """Return the answers and the test items without the items that a server refused or left without an answer.

    Systems are compared on the same items: a system must not gain by leaving a hard question unanswered.

    Raises:
        InputError: When no item remains.
    """
    lost = {row["questionID"] for row in answers if row.get("finish_reason") in (REFUSED, UNANSWERED)}
    items = [row for row in test if row["questionID"] not in lost]
    if test and not items:
        raise files.InputError(f"none of {len(test)} test items was answered by every system; see answers/")
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
    return {kinds.label(system): [own[i] for i in ids] for system, own in found.items()}


def baselines(test: Sequence[dict], train: Sequence[dict], seed: int) -> dict[str, list[str]]:
    """Return the replies of the two baselines that need no model."""
    return {NEAREST: nearest_replies(test, train), RANDOM: random_replies(test, train, seed)}


def heading(run: str | Path, backbones: Sequence[str]) -> str:
    """Return the header of our column beside the paper's: "here", or that all who answered are tiny models."""
    places = [files.path(run) / "answers" / f"{name}.json" for name in backbones]
    records = [files.read_json(place) for place in places if place.exists()]
    named = [record.get("tuned_model") or record["model"] for record in records]
    tiny = len(named) == len(backbones) and all(map(files.is_tiny, named))
    return TINY if tiny else "here"


def nearest_replies(test: Sequence[dict], train: Sequence[dict]) -> list[str]:
    """Return, for each test item, the reply to the most similar training post: a search without a model.

    Similarity is the cosine of TF-IDF vectors over single characters and pairs (scikit-learn).
    """
    vectors = TfidfVectorizer(analyzer="char", ngram_range=(1, 2), sublinear_tf=True)
    known = vectors.fit_transform(map(passage, train)).T
    asked = vectors.transform(map(passage, test))
    nearest = [(asked[i : i + BLOCK] @ known).toarray().argmax(1) for i in range(0, len(test), BLOCK)]
    return [train[i]["reply"] for i in np.concatenate(nearest)]


def random_replies(test: Sequence[dict], train: Sequence[dict], seed: int) -> list[str]:
    """Return, for each test item, the reply to a training post drawn at random: what the form alone scores."""
    return [train[i]["reply"] for i in np.random.default_rng(seed).integers(len(train), size=len(test))]


def shuffled(texts: Sequence[str], seed: int) -> list[str]:
    """Return the texts with their characters in random order."""
    random = np.random.default_rng(seed)
    return ["".join(random.permutation(list(text))) for text in texts]


def controls(references: Sequence[str], seed: int) -> dict[str, list[str]]:
    """Return texts of known quality in place of replies, by name: their scores show what a metric reacts to.

    The reference itself; two texts with its characters and no sense; a sound reply to another post, the next item's;
    and half of the reference.
    """
    inside = [SENTENCE.sub(lambda found: shuffled([found[0]], seed)[0], text) for text in references]
    return {
        "the reference itself": list(references),
        "shuffled within sentences": inside,
        "shuffled whole": shuffled(references, seed),
        "reply to another post": [*references[1:], *references[:1]],
        "first half of the reference": [text[: (len(text) + 1) // 2] for text in references],
    }


def at_equal_length(first: Sequence[str], second: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return two systems' replies, for each item both cut to as many characters as the shorter one has."""
    cut = [(a[: len(b)], b[: len(a)]) for a, b in zip(first, second, strict=True)]
    return [a for a, _ in cut], [b for _, b in cut]


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


def save(run: str | Path, scores: pd.DataFrame, items: pd.DataFrame, conditions: str) -> None:
    """Write all scores to scores/automatic.csv and every item's own to scores/items.parquet, below the run."""
    scores, items = (t.rename(columns=statistics.INTERVAL).assign(conditions=conditions) for t in (scores, items))
    files.write_text(f"{run}/scores/automatic.csv", safe_spreadsheets.csv(scores))
    with files.atomic(f"{run}/scores/items.parquet") as temporary:
        items.to_parquet(temporary, index=False)


def ranks(scores: pd.DataFrame, draws: pd.DataFrame, among: Sequence[str]) -> pd.DataFrame:
    """Return each system's rank by score (1 is best), the central 95 % of its ranks in the draws, and how often it came
    first.

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
            first = round(100 * float((drawn[name] == 1).mean()))
            rows.append((column, name, own[name], rank[name], *bounds[name], first))
    columns = ["metric", "system", "score", "rank", "best rank in 95% of draws", "worst rank", "first in % of draws"]
    return pd.DataFrame(rows, columns=columns)


def wide(scores: pd.DataFrame) -> pd.DataFrame:
    """Return one row per system, in their order, and one column per metric, named as in Table 4."""
    table = scores.pivot(index="system", columns="metric", values="score").rename(columns=metrics.COLUMNS)
    columns = [name for name in metrics.COLUMNS.values() if name in table]
    return table.loc[scores["system"].unique(), columns].rename_axis(columns=None)


def averaged(items: pd.DataFrame) -> pd.DataFrame:
    """Return the items with the mean over a system's replicates (`base`) in place of them."""
    return items.assign(system=items["system"].map(base)).groupby(["system", "questionID"], sort=False).mean()


def compare(items: pd.DataFrame, pairs: Sequence[tuple[str, str]], resamples: int, seed: int) -> pd.DataFrame:
    """Return the paired test of each pair of systems on each metric, with p corrected for all rows (Holm).

    The difference is the mean over items of a - b (BLEU and chrF of single items), interval and p are over items; see
    `statistics.paired_columns`. Where there are replicates of both systems, an item's score is their mean, and an
    interval over replicates follows, Welch's by their mean scores; a baseline has no seeds and counts as it is. Without
    a pair, as with one backbone, the table is empty.
    """
    means, names = averaged(items), items.columns.drop(["questionID", "system"])
    rows = [(a, b, metric) for a, b in pairs for metric in names]
    differences = [means.loc[a, metric] - means.loc[b, metric] for a, b, metric in rows]
    found = statistics.paired_columns(pd.concat(differences, axis=1), resamples=resamples, seed=seed) if rows else []
    tests = [(a, b, metrics.COLUMNS.get(m, m), *test) for (a, b, m), test in zip(rows, found, strict=True)]
    columns = ["system", "compared with", "metric", "difference", *statistics.INTERVAL.values(), "p"]
    table = pd.DataFrame(tests, columns=columns)
    table = table.assign(**{"p (Holm)": statistics.holm(table["p"])})
    if not has_replicates(items):
        return table
    by_seed = items.groupby("system")[list(names)].mean()
    groups = {name: own for name, own in by_seed.groupby(by_seed.index.map(base))}
    ends = [welch(groups[a][metric], runs(groups, a, b)[metric]) for a, b, metric in rows]
    return table.assign(**{f"{OVER_SEEDS} low": [e[0] for e in ends], f"{OVER_SEEDS} high": [e[1] for e in ends]})


def compare_all(
    scorers: metrics.Scorers,
    systems: Mapping[str, Sequence[str]],
    items: pd.DataFrame,
    test: Sequence[dict],
    backbones: Sequence[str],
    resamples: int,
    seed: int,
) -> dict[str, pd.DataFrame]:
    """Return every comparison of the study by the name of its table's file, each with its own correction (Holm).

    Tuned systems with the same backbone untuned, with it prompted, and with both at equal length; `judged` systems with
    the baselines; and with each other.
    """
    by_training = pairs(systems, backbones, kinds.TUNED, kinds.UNTUNED)
    by_prompt = pairs(systems, backbones, kinds.TUNED, kinds.PROMPTED)
    own = list(dict.fromkeys(map(base, judged(systems, backbones))))
    options = {"resamples": resamples, "seed": seed}
    return {
        "automatic_tuned_untuned": compare(items, by_training, **options),
        "automatic_tuned_prompted": compare(items, by_prompt, **options),
        "automatic_matched_length": compare_at_equal_length(scorers, systems, by_training + by_prompt, test, **options),
        "automatic_tuned_baseline": compare(items, [(name, b) for b in BASELINES for name in own], **options),
        "automatic_between": compare(items, list(combinations(own, 2)), **options),
    }


def compare_at_equal_length(
    scorers: metrics.Scorers,
    systems: Mapping[str, Sequence[str]],
    pairs: Sequence[tuple[str, str]],
    test: Sequence[dict],
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """Return `compare` of replies that were cut: of each item, both to the length of the shorter one.

    A column says how many characters of a reply are left, in the mean. The cut replies are scored anew, against whole
    references.
    """
    cut, lengths = {}, {}
    for a, b in pairs:
        cut[f"{a} / {b}"], cut[f"{b} / {a}"] = at_equal_length(systems[a], systems[b])
        lengths[a, b] = np.mean([len(text) for text in cut[f"{a} / {b}"]])
    _, items, _ = evaluate(scorers, cut, test, resamples, seed) if cut else (None, NO_ITEMS, None)
    table = compare(items, [(f"{a} / {b}", f"{b} / {a}") for a, b in pairs], resamples, seed)
    whole = {f"{a} / {b}": a for pair in pairs for a, b in (pair, pair[::-1])}
    table = table.replace({"system": whole, "compared with": whole})
    mean = [lengths[pair] for pair in zip(table["system"], table["compared with"], strict=True)]
    return table.assign(**{"characters": np.round(mean).astype(int)})


def controlled(items: pd.DataFrame, known: pd.DataFrame, systems: Sequence[str]) -> pd.DataFrame:
    """Return the mean score of each of the `controls` on each metric, below the highest mean of any system.

    Args:
        items: Scores of the systems' replies.
        known: Scores of the controls, of the same items or fewer.
        systems: The systems that are looked at; the highest means may be those of several.
    """
    own = averaged(items[items["questionID"].isin(known["questionID"]) & items["system"].isin(systems)]).reset_index()
    names = [metrics.COLUMNS[metric] for metric in known.columns if metric in metrics.COLUMNS]
    means = pd.concat([own, known]).rename(columns=metrics.COLUMNS).groupby("system", sort=False)[names].mean()
    best = means.loc[own["system"].unique()].max().rename("highest of any system").to_frame().T
    return pd.concat([best, means.loc[known["system"].unique()]]).rename_axis("text")


def check_metrics(
    scorers: metrics.Scorers,
    systems: Mapping[str, Sequence[str]],
    items: pd.DataFrame,
    test: Sequence[dict],
    resamples: int,
    seed: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return what the metrics give controls, and how they compare replies with the same replies shuffled.

    These are `controlled` and `compare_with_shuffled`, both of the first `CONTROLLED` test items.
    """
    first = list(test[:CONTROLLED])
    texts = controls([row["reply"] for row in first], seed)
    _, known, _ = evaluate(scorers, texts, first, resamples, seed)
    held = {name: replies[: len(first)] for name, replies in systems.items()}
    order = compare_with_shuffled(scorers, held, first, resamples, seed)
    return controlled(items, known, list(systems)), order


def compare_with_shuffled(
    scorers: metrics.Scorers, systems: Mapping[str, Sequence[str]], test: Sequence[dict], resamples: int, seed: int
) -> pd.DataFrame:
    """Return `compare` of each system's replies with the same replies, their characters shuffled.

    Both have the same characters and the same length. A metric that scores both alike does not see order or meaning.
    """
    every = {name: list(replies) for name, replies in systems.items()}
    every |= {f"{name} {SHUFFLED}": shuffled(replies, seed) for name, replies in systems.items()}
    _, items, _ = evaluate(scorers, every, test, resamples, seed)
    names = dict.fromkeys(map(base, systems))
    return compare(items, [(name, f"{name} {SHUFFLED}") for name in names], resamples, seed)


def senseless(order: pd.DataFrame) -> list[str]:
    """Return the metrics of `compare_with_shuffled` that do not distinguish any system's replies from shuffled ones."""
    told = order.loc[(order["p (Holm)"] < ALPHA) & (order["difference"] > 0), "metric"]
    return [name for name in order["metric"].unique() if name not in set(told)]


def verdict(tests: Mapping[str, pd.DataFrame], without: Collection[str]) -> pd.DataFrame:
    """Return how many differences of each comparison are `decided`: a row for each, without the metrics left out."""
    rows = {}
    for name, table in tests.items():
        own = table[~table["metric"].isin(without)]
        found = own.loc[decided(own), "difference"]
        rows[name] = {"first is higher": (found > 0).sum(), "first is lower": (found < 0).sum(), "tests": len(own)}
    return pd.DataFrame(rows).T.rename_axis("comparison")


def crossed(tests: pd.DataFrame, without: Collection[str]) -> str:
    """Return of what the tests of a comparison are made: "4 backbones × 3 metrics", without the metrics left out."""
    own = tests[~tests["metric"].isin(without)]
    counts = {"backbone": own["system"].nunique(), "metric": own["metric"].nunique()}
    return " × ".join(f"{count} {name}{'s' * (count != 1)}" for name, count in counts.items())


def decided(tests: pd.DataFrame) -> pd.Series:
    """Return which differences are decided: p is below .05 after correction, and 0 is outside the interval over seeds.

    The second counts only where there are several seeds.
    """
    found = tests["p (Holm)"] < ALPHA
    if f"{OVER_SEEDS} low" in tests:
        found &= ~((tests[f"{OVER_SEEDS} low"] <= 0) & (tests[f"{OVER_SEEDS} high"] >= 0))
    return found


def replication(items: pd.DataFrame) -> str:
    """Return what a table of differences between backbones says of training and decoding more than once."""
    if has_replicates(items):
        return f"differences and tests are of means over seeds; {OVER_SEEDS}: Welch's, by the seeds' means"
    return "one training and one decode per backbone: their spread over seeds is unknown, and differences include it"


def has_replicates(items: pd.DataFrame) -> bool:
    """Return whether a system was trained or decoded more than once."""
    return any(name != base(name) for name in items["system"].unique())


def welch(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """Return the ends of the 95% interval of a difference of means of independent runs (Welch); NaN for single runs."""
    from scipy.stats import ttest_ind

    if min(len(first), len(second)) < 2 or not (np.std(first) or np.std(second)):
        return np.nan, np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where all runs of one side are equal, as greedy decoding makes them
        found = ttest_ind(first, second, equal_var=False).confidence_interval(statistics.LEVEL)
    return float(found.low), float(found.high)


def runs(groups: Mapping[str, pd.DataFrame], system: str, other: str) -> pd.DataFrame:
    """Return the runs of the other system; of a baseline, which no seed changes, as many equal ones as the system has.

    Welch's interval is then that of one sample: the baseline adds neither variance nor degrees of freedom.
    """
    repeated = len(groups[system]) if other in BASELINES else 1
    return pd.concat([groups[other]] * repeated)


def by_seed(scores: pd.DataFrame) -> pd.DataFrame:
    """Return each replicated system's score on each metric over its seeds: how many, mean, SD, lowest and highest."""
    own = scores.assign(system=scores["system"].map(base), metric=scores["metric"].map(metrics.COLUMNS))
    table = own.dropna(subset="metric").groupby(["system", "metric"], sort=False)["score"]
    table = table.agg(["size", "mean", "std", "min", "max"]).query("size > 1").reset_index()
    return table.rename(columns={"size": "seeds", "std": "SD", "min": "lowest", "max": "highest"})


def correlations(items: pd.DataFrame, groups: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Return Spearman's correlation of each pair of columns within systems, beside that of all systems pooled.

    Within a system, one reply is compared with another; the mean over a group's systems is by Fisher's z. Pooled, every
    metric agrees that one system is better than another, which says nothing about single replies.

    Args:
        items: questionID, system, and the columns to correlate.
        groups: The systems of each kind.
    """
    columns = items.columns.drop(["questionID", "system"])
    within = {name: own[columns].corr("spearman") for name, own in items.groupby("system")}
    pooled, rows = items[columns].corr("spearman"), []
    for a, b in combinations(columns, 2):
        row = {"metric": a, "other metric": b}
        for group, names in groups.items():
            z = pd.Series([np.arctanh(np.clip(within[name].loc[a, b], -1 + 1e-9, 1 - 1e-9)) for name in names])
            row[f"within {group}"] = float(np.tanh(z.mean()))
        rows.append(row | {"all pooled": float(pooled.loc[a, b])})
    return pd.DataFrame(rows)


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
