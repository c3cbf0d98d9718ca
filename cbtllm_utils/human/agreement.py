"""What ratings say and how much they can bear: Table 5 with intervals, tests, agreement, and the items it takes."""

from itertools import combinations

import numpy as np
import pandas as pd

from cbtllm_utils import published, statistics
from cbtllm_utils.human.blinding import SCALES

PAPER = dict(zip(SCALES, ("Rele.", "Stru.", "Help."), strict=True))  # the columns of Table 5
REPLY = ["questionID", "system"]
EVERY = "all systems"
NAMES = {"person": "people", "language model": "language models"}


def raters(ratings: pd.DataFrame) -> str:
    """Who rated, for the conditions of a table: "5 language models, no people", "4 people", "nobody"."""
    found = ratings.groupby("kind")["rater"].nunique()
    people, models = found.get("person", 0), found.get("language model", 0)
    parts = [
        f"{n} {NAMES[kind] if n > 1 else kind}" for kind, n in (("person", people), ("language model", models)) if n
    ]
    return (" and ".join(parts) or "nobody") + (", no people" if models and not people else "")


def counted(n: int, kind: str) -> str:
    """So many raters of a kind, in words."""
    return f"{n} {NAMES[kind] if n > 1 else kind}"


def matrix(ratings: pd.DataFrame, scale: str, index: list[str]) -> pd.DataFrame:
    """First scores on a scale, one row a value of `index`, one column a rater, NaN where a rater gave none."""
    first = ratings[~ratings["repeat"].astype(bool)]
    return first.pivot(index=index, columns="rater", values=scale).astype(float)


def means(ratings: pd.DataFrame, seed: int = statistics.SEED) -> pd.DataFrame:
    """One row a kind of rater, system and scale: mean, low, high, items, raters, ratings (§4.6, Table 5).

    The mean is over all ratings, as the paper's (5 raters x 100 items = 500); its 95 % interval comes from resampling
    items with all their ratings: `statistics.bootstrap` with `seed`. Repeats do not count.
    """
    rows = []
    for (kind, system), part in ratings.groupby(["kind", "system"], sort=True):
        for scale in SCALES:
            scores = matrix(part, scale, ["questionID"])
            found = statistics.bootstrap(scores.to_numpy(), statistic=np.nanmean, seed=seed)
            rows.append((kind, system, scale, *found, *scores.shape, int(scores.count().sum())))
    columns = ["kind", "system", "scale", "mean", "low", "high", "items", "raters", "ratings"]
    return pd.DataFrame(rows, columns=columns)


def table5(found: pd.DataFrame) -> pd.DataFrame:
    """Table 5 of the paper above the systems rated here: rated by, system, three means with intervals, ratings.

    The columns are the paper's; `rated by` tells the paper's people from those here, and people from language models.
    """
    paper = published.table("Table 5").reset_index(names="system")
    people = sum(published.value("text", f"raters, {who}", "value") for who in ("students", "psychotherapists"))
    paper.insert(0, "rated by", f"paper: {people:.0f} people")
    rows = []
    for (kind, system), part in found.groupby(["kind", "system"], sort=True):
        row = {"rated by": f"here: {counted(part['raters'].max(), kind)}", "system": system}
        for line in part.itertuples():
            row[PAPER[line.scale]] = line.mean
            row[f"{PAPER[line.scale]} 95 %"] = f"{line.low:.3f}–{line.high:.3f}" if line.low == line.low else None
        rows.append(row | {"ratings": part["ratings"].max()})
    columns = ["rated by", "system", *PAPER.values(), *(f"{name} 95 %" for name in PAPER.values()), "ratings"]
    whole = pd.DataFrame([*paper.to_dict("records"), *rows], columns=columns)
    return whole.assign(ratings=whole["ratings"].astype("Int64"))


def like_the_paper(found: pd.DataFrame, kind: str = "person") -> pd.DataFrame:
    """Means in the rows and columns of Table 5, of the paper's systems and one kind of rater; empty when none rated."""
    rated = found[(found["kind"] == kind) & found["system"].isin(published.BACKBONES)]
    wide = rated.pivot(index="system", columns="scale", values="mean")
    return wide.rename(index=published.BACKBONES, columns=PAPER).rename_axis(index=None, columns=None)


def by_rater(ratings: pd.DataFrame) -> pd.DataFrame:
    """One row a rater and system: kind, rater, system, the mean of each scale, rated, harmful (if asked), repeated."""
    first = ratings[~ratings["repeat"].astype(bool)]
    who = ["kind", "rater", "system"]
    table = first.groupby(who, sort=True)[list(SCALES)].mean()
    table["rated"] = first.groupby(who).size()
    table["harmful"] = first["harmful"].astype("boolean").groupby([first[name] for name in who]).sum(min_count=1)
    table["repeated"] = (ratings.groupby(who).size() - table["rated"]).astype(int)
    return table.reset_index()


def distribution(ratings: pd.DataFrame) -> pd.DataFrame:
    """The share of the scores 0, 1 and 2, one row a kind, system and scale; the shares of a row sum to 1."""
    first = ratings[~ratings["repeat"].astype(bool)]
    long = first.melt(["kind", "system"], list(SCALES), "scale", "score")
    counts = long.groupby(["kind", "system", "scale", "score"]).size().unstack().reindex(columns=[0, 1, 2])
    shares = counts.fillna(0).div(counts.sum(axis=1), axis=0)
    return shares.reindex(SCALES, level="scale") if len(shares) else shares


def compare(ratings: pd.DataFrame, seed: int = statistics.SEED) -> pd.DataFrame:
    """One row a pair of systems and scale: difference (system - other), low, high, p, p_holm, items, sd.

    Items are paired: the mean over the raters who scored both replies to a question; a pair without any is left out.
    p: `statistics.paired`, a sign-flip permutation test with `seed`; p_holm: Holm's correction over all pairs and
    scales that a kind of rater was asked about; sd: of the items' differences.
    """
    rows = []
    for kind, part in ratings.groupby("kind", sort=True):
        asked = [(*pair, s) for pair in combinations(sorted(part["system"].unique()), 2) for s in SCALES]
        values = [differences(part, *question) for question in asked]
        asked, values = [q for q, d in zip(asked, values, strict=True) if len(d)], [d for d in values if len(d)]
        tests = [statistics.paired(d, np.zeros(len(d)), seed=seed) for d in values]
        corrected = statistics.holm([test.p for test in tests])
        for question, d, test, p in zip(asked, values, tests, corrected, strict=True):
            rows.append((kind, *question, *test, p, len(d), d.std(ddof=1) if len(d) > 1 else np.nan))
    columns = ["kind", "system", "other", "scale", "difference", "low", "high", "p", "p_holm", "items", "sd"]
    return pd.DataFrame(rows, columns=columns)


def differences(ratings: pd.DataFrame, a: str, b: str, scale: str) -> np.ndarray:
    """a - b for each question, averaged over the raters who scored both; questions without such a rater are absent."""
    first, second = (matrix(ratings[ratings["system"] == system], scale, ["questionID"]) for system in (a, b))
    return (first - second).mean(axis=1).dropna().to_numpy()


def agreement(ratings: pd.DataFrame, seed: int = statistics.SEED) -> pd.DataFrame:
    """One row a kind of rater, scale and system (and all systems): alpha and kappa with intervals, raters, replies.

    alpha: Krippendorff's, ordinal. kappa: quadratic-weighted, mean over pairs of raters. same: share of pairs of raters
    who gave a reply the same score. All systems together differ more than one system's replies do, which lifts alpha:
    only the rows of one system say how well raters tell its better replies from its worse. The unit is a reply.
    """
    rows = []
    for kind, part in ratings.groupby("kind", sort=True):
        systems = sorted(part["system"].unique())
        for system in [EVERY, *systems] if len(systems) > 1 else systems:
            rated = part if system == EVERY else part[part["system"] == system]
            for scale in SCALES:
                scores = matrix(rated, scale, REPLY).to_numpy().T
                alpha = statistics.krippendorff_alpha(scores, seed=seed)
                kappa = statistics.weighted_kappa(scores, seed=seed)
                rows.append((kind, system, scale, *alpha, *kappa, same(scores), *scores.shape))
    columns = ["kind", "system", "scale", "alpha", "alpha_low", "alpha_high", "kappa", "kappa_low", "kappa_high"]
    return pd.DataFrame(rows, columns=[*columns, "same", "raters", "replies"])


def same(scores: np.ndarray) -> float:
    """The share of equal scores among all pairs of raters and the replies that both scored; NaN without such a pair."""
    pairs = [(a == b)[~np.isnan(a) & ~np.isnan(b)] for a, b in combinations(scores, 2)]
    return float(np.concatenate(pairs).mean()) if pairs and sum(map(len, pairs)) else float("nan")


def consistency(ratings: pd.DataFrame) -> pd.DataFrame:
    """How far raters repeat themselves, one row a rater and scale: repeats, same, mean absolute change, mean change.

    `same` is the share of entries scored alike at the second sight. Empty when nothing was rated twice.
    """
    who = ["kind", "rater", *REPLY]
    again = ratings["repeat"].astype(bool)
    both = ratings[~again].merge(ratings[again], on=who, suffixes=("", "_again"))
    rows = []
    for (kind, rater), part in both.groupby(["kind", "rater"], sort=True):
        for scale in SCALES:
            change = part[f"{scale}_again"].astype(int) - part[scale].astype(int)
            rows.append((kind, rater, scale, len(part), (change == 0).mean(), change.abs().mean(), change.mean()))
    return pd.DataFrame(rows, columns=["kind", "rater", "scale", "repeats", "same", "absolute_change", "change"])


def items_needed(compared: pd.DataFrame, power: float = 0.8) -> pd.DataFrame:
    """What it takes to tell the paper's two systems apart, one row a kind and scale, with the spread of its ratings.

    `paper_difference` = Baichuan - Alpaca (Table 5); `sd` = the kind's largest spread of item differences in `compare`;
    `items` = `statistics.items_needed` at 5 % and `power`; `seen` = the smallest difference that the paper's number of
    items shows with that power. Ratings without any spread cannot tell: both are empty.
    """
    paper, rated = published.table("Table 5"), int(published.value("text", "rated items", "value"))
    rows = []
    spread = compared.groupby(["kind", "scale"])["sd"].max().reindex(SCALES, level="scale").dropna()
    for (kind, scale), sd in spread.items():
        a, b = paper.loc["Alpaca-Chinese-7B", PAPER[scale]], paper.loc["Baichuan-7B", PAPER[scale]]
        needed = (statistics.items_needed(b - a, sd, power), statistics.minimum_detectable_difference(rated, sd, power))
        rows.append((kind, scale, a, b, round(b - a, 3), sd, *(needed if sd else (None, None))))
    columns = ["kind", "scale", "alpaca", "baichuan", "paper_difference", "sd", "items", "seen"]
    return pd.DataFrame(rows, columns=columns).astype({"items": "Int64"})
