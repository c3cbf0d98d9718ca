"""What ratings say and how far they can be trusted: Table 5 with intervals, paired tests, agreement, items needed."""

from itertools import combinations

import numpy as np
import pandas as pd

from cbtllm_utils import published, statistics
from cbtllm_utils.generate import kinds
from cbtllm_utils.human.blinding import REFERENCE, SCALES

PAPER = dict(zip(SCALES, ("Rele.", "Stru.", "Help."), strict=True))  # the columns of Table 5
REPLY = ["questionID", "system"]
ALL_SYSTEMS = "all systems"
PLURAL = {"person": "people", "language model": "language models"}  # people come first in every table
KAPPA = ["weighted kappa", "95% CI of kappa low", "95% CI of kappa high"]
METHOD = "95% CI: Wilson's, with the effective number of items; –: not published"  # of a mean rating
KIND = "kind of rater"  # a column of the tables; ratings and means call it `kind`


def rated_items() -> int:
    """Return how many questions the paper had rated (§4.6)."""
    return int(published.value("text", "rated items", "value"))


def title(system: str) -> str:
    """Return how tables and figures call a system whose replies were rated."""
    return "data set's own reply" if system == REFERENCE else kinds.title(system)


def titled(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with its systems called by their titles."""
    columns = table.columns.intersection(["system", "other system"])
    return table.assign(**{name: table[name].map(title, na_action="ignore") for name in columns})


def people_first(table: pd.DataFrame, column: str = KIND) -> pd.DataFrame:
    """Return a table with the rows of people before those of language models."""
    return table.sort_values(column, key=lambda kind: kind.map(list(PLURAL).index), kind="stable", ignore_index=True)


def who_rated(ratings: pd.DataFrame) -> pd.DataFrame:
    """Return for each kind of rater how many rated how much; no ratings are zeros."""
    rows = []
    for kind in PLURAL:
        rated = ratings[ratings["kind"] == kind]
        first = rated[~rated["repeat"].astype(bool)]
        counts = rated["rater"].nunique(), first["questionID"].nunique(), len(first[REPLY].drop_duplicates())
        rows.append((kind, *counts, len(first), ", ".join(map(title, sorted(rated["system"].unique()))) or "–"))
    return pd.DataFrame(rows, columns=[KIND, "raters", "posts", "replies", "ratings", "replies by"])


def describe_raters(ratings: pd.DataFrame) -> str:
    """Return who rated: "5 language models, no people", "2 people and 1 language model", "nobody"."""
    found = ratings.groupby("kind")["rater"].nunique()
    text = " and ".join(count(found[kind], kind) for kind in PLURAL if kind in found) or "nobody"
    return f"{text}, no people" if set(found.index) == {"language model"} else text


def count(n: int, kind: str) -> str:
    """Return "1 person", "5 people", "3 language models"."""
    return f"{n} {PLURAL[kind] if n > 1 else kind}"


def first_scores(ratings: pd.DataFrame, scale: str, index: list[str]) -> pd.DataFrame:
    """Return scores on a scale by `index` and rater, without repeats; NaN where a rater gave none."""
    first = ratings[~ratings["repeat"].astype(bool)]
    return first.pivot(index=index, columns="rater", values=scale).astype(float)


def means(ratings: pd.DataFrame) -> pd.DataFrame:
    """Return the mean score for each kind of rater, system and scale (§4.6, Table 5).

    The mean is over all ratings, as the paper's (5 raters x 100 items = 500), without repeats. Its 95% interval is
    `statistics.bounded_mean`'s over items, each with all its ratings: five ratings of one reply are not five replies.

    Returns:
        Columns kind, system, scale, mean, low, high, items, raters, ratings.
    """
    rows = []
    for (kind, system), rated in ratings.groupby(["kind", "system"], sort=True):
        for scale in SCALES:
            scores = first_scores(rated, scale, ["questionID"])
            found = statistics.bounded_mean(scores.to_numpy(), lowest=0, highest=2)
            rows.append((kind, system, scale, *found, *scores.shape, int(scores.count().sum())))
    columns = ["kind", "system", "scale", "mean", "low", "high", "items", "raters", "ratings"]
    return people_first(pd.DataFrame(rows, columns=columns), "kind")


def means_shown(found: pd.DataFrame) -> pd.DataFrame:
    """Return `means` under the headers of a table."""
    return titled(found).rename(columns={"kind": KIND} | statistics.INTERVAL)


def drawn(found: pd.DataFrame) -> pd.DataFrame:
    """Return `means` as `charts.panels` draws them: each row says whose replies they are, who rated, and how many."""
    who = [f"{title(row.system)}, {count(row.raters, row.kind)}" for row in found.itertuples(index=False)]
    marks = ["here" if " " in name else kinds.split(name)[1] for name in found["system"]]
    return found.assign(row=who, mark=marks, n=found["items"]).rename(columns={"mean": "value"})


def table5(found: pd.DataFrame) -> pd.DataFrame:
    """Return Table 5 of the paper above our systems, from `means`: who rated, the three means, their intervals, n."""
    paper = published.table("Table 5").reset_index(names="system")
    people = sum(published.value("text", f"raters, {who}", "value") for who in ("students", "psychotherapists"))
    paper.insert(0, "rated by", f"paper: {people:.0f} people")
    rows = []
    for (kind, system), rated in found.groupby(["kind", "system"], sort=False):
        row = {"rated by": f"here: {count(rated['raters'].max(), kind)}", "system": title(system)}
        for line in rated.itertuples():
            name = PAPER[line.scale]
            row |= {name: line.mean, f"{name} 95% CI low": line.low, f"{name} 95% CI high": line.high}
        rows.append(row | {name: rated[name].max() for name in ("items", "ratings")})
    ends = [f"{name} 95% CI {end}" for name in PAPER.values() for end in ("low", "high")]
    columns = ["rated by", "system", *PAPER.values(), *ends, "items", "ratings"]
    both = pd.DataFrame([*paper.assign(items=rated_items()).to_dict("records"), *rows], columns=columns)
    return both.astype(dict.fromkeys(ends, float) | {"items": int, "ratings": "Int64"})


def like_the_paper(found: pd.DataFrame) -> pd.DataFrame:
    """Return people's means of the paper's systems as Table 5 has them; empty when nobody rated."""
    rated = found[(found["kind"] == "person") & found["system"].isin(published.BACKBONES)]
    wide = rated.pivot(index="system", columns="scale", values="mean")
    return wide.rename(index=published.BACKBONES, columns=PAPER).rename_axis(index=None, columns=None)


def by_rater(ratings: pd.DataFrame) -> pd.DataFrame:
    """Return each rater's means on each system, how many entries were rated, marked as harmful, and repeated.

    The number of flags is missing where the form did not ask.
    """
    first = ratings[~ratings["repeat"].astype(bool)]
    who = ["kind", "rater", "system"]
    table = first.groupby(who, sort=True)[list(SCALES)].mean()
    table["entries rated"] = first.groupby(who).size()
    table["marked as harmful"] = (
        first["harmful"].astype("boolean").groupby([first[name] for name in who]).sum(min_count=1)
    )
    table["entries repeated"] = (ratings.groupby(who).size() - table["entries rated"]).astype(int)
    return people_first(table.reset_index(names=[KIND, *who[1:]]).assign(rater=called))


def called(table: pd.DataFrame) -> pd.Series:
    """Return how a table calls its raters: a model with a number "language model 1", anybody else by their own code."""
    numbered = table[KIND].ne("person") & table["rater"].astype(str).str.isdigit()
    return table["rater"].where(~numbered, table[KIND] + " " + table["rater"].astype(str))


def distribution(ratings: pd.DataFrame) -> pd.DataFrame:
    """Return the shares of the scores 0, 1 and 2, a row for each kind of rater, system and scale."""
    first = ratings[~ratings["repeat"].astype(bool)]
    long = first.melt(["kind", "system"], list(SCALES), "scale", "score")
    counts = long.groupby(["kind", "system", "scale", "score"]).size().unstack().reindex(columns=[0, 1, 2])
    shares = counts.fillna(0).div(counts.sum(axis=1), axis=0)
    return shares.reindex(SCALES, level="scale") if len(shares) else shares


def distribution_drawn(ratings: pd.DataFrame) -> pd.DataFrame:
    """Return `distribution` as `charts.shares` draws it: people first, each row names raters and n."""
    shares = distribution(ratings)
    first = ratings[~ratings["repeat"].astype(bool)].groupby(["kind", "system"])
    raters, sizes = first["rater"].nunique(), first.size()
    order = sorted(range(len(shares)), key=lambda place: list(PLURAL).index(shares.index[place][0]))
    rows = [
        f"{scale}, {title(system)}, {count(raters[kind, system], kind)} (n = {sizes[kind, system]:,})"
        for kind, system, scale in shares.index
    ]
    named = shares.set_axis(rows).set_axis([f"score {score}" for score in shares.columns], axis=1)
    return named.iloc[order]


def compare(ratings: pd.DataFrame, seed: int = statistics.SEED) -> pd.DataFrame:
    """Test each pair of systems on each scale, paired by question and rater.

    The difference is system - other system, p that of a sign-flip permutation test (`statistics.paired`), corrected
    over all pairs and scales of one kind of rater. Pairs that no rater scored both of are left out.
    """
    rows = []
    for kind, rated in ratings.groupby("kind", sort=True):
        pairs = combinations(sorted(rated["system"].unique()), 2)
        values = {(*pair, scale): differences(rated, *pair, scale) for pair in pairs for scale in SCALES}
        values = {question: found for question, found in values.items() if len(found)}
        tests = [statistics.paired(found, np.zeros(len(found)), seed=seed) for found in values.values()]
        corrected = statistics.holm([test.p for test in tests])
        for (question, found), test, p in zip(values.items(), tests, corrected, strict=True):
            sd = found.std(ddof=1) if len(found) > 1 else np.nan
            rows.append((kind, *question, *test, p, len(found), sd))
    columns = [KIND, "system", "other system", "scale", "difference", *statistics.INTERVAL.values(), "p", "p (Holm)"]
    return people_first(pd.DataFrame(rows, columns=[*columns, "items", "standard deviation"]))


def differences(ratings: pd.DataFrame, a: str, b: str, scale: str) -> np.ndarray:
    """Return a - b for each question, the mean over the raters who scored both systems' replies."""
    first, second = (first_scores(ratings[ratings["system"] == system], scale, ["questionID"]) for system in (a, b))
    return (first - second).mean(axis=1).dropna().to_numpy()


def agreement(ratings: pd.DataFrame, seed: int = statistics.SEED) -> pd.DataFrame:
    """Return how far raters agree on each scale, over all systems and within each.

    Krippendorff's alpha is ordinal; kappa is quadratic-weighted, the mean over pairs of raters; intervals are over
    replies. Replies of different systems differ more than replies of one system, which lifts alpha over all systems.
    Only the rows of one system say how well raters distinguish its better replies from its worse ones.
    """
    rows = []
    for kind, rated in ratings.groupby("kind", sort=True):
        systems = sorted(rated["system"].unique())
        for system in [ALL_SYSTEMS, *systems] if len(systems) > 1 else systems:
            chosen = rated if system == ALL_SYSTEMS else rated[rated["system"] == system]
            for scale in SCALES:
                scores = first_scores(chosen, scale, REPLY).to_numpy().T
                alpha = statistics.krippendorff_alpha(scores, seed=seed)
                kappa = statistics.weighted_kappa(scores, seed=seed)
                rows.append((kind, system, scale, *alpha, *kappa, share_equal(scores), *scores.shape))
    columns = [KIND, "system", "scale", "Krippendorff's alpha", "95% CI of alpha low", "95% CI of alpha high", *KAPPA]
    return people_first(pd.DataFrame(rows, columns=[*columns, "share of equal scores", "raters", "replies"]))


def share_equal(scores: np.ndarray) -> float:
    """Return the share of equal scores (raters x replies) over all pairs of raters; NaN if no two rated one reply."""
    pairs = [(a == b)[~np.isnan(a) & ~np.isnan(b)] for a, b in combinations(scores, 2)]
    return float(np.concatenate(pairs).mean()) if pairs and sum(map(len, pairs)) else float("nan")


def consistency(ratings: pd.DataFrame) -> pd.DataFrame:
    """Return how far each rater repeats their own scores when a reply comes a second time; change is second - first."""
    who = ["kind", "rater", *REPLY]
    again = ratings["repeat"].astype(bool)
    both = ratings[~again].merge(ratings[again], on=who, suffixes=("", "_again"))
    rows = []
    for (kind, rater), rated in both.groupby(["kind", "rater"], sort=True):
        for scale in SCALES:
            change = rated[f"{scale}_again"].astype(int) - rated[scale].astype(int)
            rows.append((kind, rater, scale, len(rated), (change == 0).mean(), change.abs().mean(), change.mean()))
    columns = [KIND, "rater", "scale", "repeats", "share of equal scores", "mean absolute change", "mean change"]
    return people_first(pd.DataFrame(rows, columns=columns))


def items_needed(compared: pd.DataFrame, power: float = 0.8) -> pd.DataFrame:
    """Return how many items would show the paper's differences, if items spread as they do in `compare`.

    The standard deviation is the largest of item differences by this kind of rater. The items are those needed at 5 %
    and `power`; the minimum detectable difference is that of the paper's number of items with that power. Both are
    missing where all differences are equal.
    """
    paper, rows = published.table("Table 5"), []
    spread = compared.groupby([KIND, "scale"])["standard deviation"].max().reindex(SCALES, level="scale").dropna()
    for (kind, scale), sd in spread.items():
        a, b = paper.loc["Alpaca-Chinese-7B", PAPER[scale]], paper.loc["Baichuan-7B", PAPER[scale]]
        both = (
            statistics.items_needed(b - a, sd, power),
            statistics.minimum_detectable_difference(rated_items(), sd, power),
        )
        rows.append((kind, scale, a, b, round(b - a, 3), sd, *(both if sd else (None, None))))
    columns = [KIND, "scale", "Alpaca-Chinese-7B in the paper", "Baichuan-7B in the paper"]
    columns += ["difference in the paper", "standard deviation", "items needed", "minimum detectable difference"]
    return people_first(pd.DataFrame(rows, columns=columns).astype({"items needed": "Int64"}))
