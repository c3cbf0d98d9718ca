"""What readers see of the evaluation: Table 4 as the paper lays it out, rows for figures, and sentences."""

from collections.abc import Mapping, Sequence

import pandas as pd

from cbtllm_utils import published, statistics
from cbtllm_utils.evaluate import metrics, systems
from cbtllm_utils.evaluate.settings import EvaluationSettings
from cbtllm_utils.evaluate.systems import BASELINES, NEAREST, RANDOM, SHUFFLED
from cbtllm_utils.files import local_or_hub
from cbtllm_utils.generate import kinds
from cbtllm_utils.statistics import listed
from cbtllm_utils.text import reply_checks

REFERENCE = "reference"
EQUAL = ", equal length"  # ends a comparison's name
UNTUNED, PROMPTED = "tuned minus untuned", "tuned minus prompted"
NEAREST_REPLY, RANDOM_REPLY = "system minus nearest training reply", "system minus random training reply"
BETWEEN = "between backbones"
COUNTS = ["first is higher", "first is lower", "tests"]


def title(name: str) -> str:
    """Return what readers call a system, a baseline, the reference, or a system whose replies are shuffled."""
    if name == REFERENCE:
        return name
    own = name.removesuffix(f" {SHUFFLED}")
    return kinds.title(own) + ("" if own == name else f", {SHUFFLED}")


def titled(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with titles in place of labels in its columns "system" and "compared with"."""
    columns = table.columns.intersection(["system", "compared with"])
    return table.assign(**{column: table[column].map(title) for column in columns})


def stated(chosen: EvaluationSettings, n: str) -> str:
    """Return what every table and figure says: the run's conditions, n, and the models behind two metrics.

    The signatures have the digest of each model's weights.
    """
    models = {"BERTScore": chosen.bertscore_model, "BLEURT": chosen.bleurt_model}
    known = {k: metrics.model_name(local_or_hub(name, chosen.run)) for k, name in models.items() if name}
    named = [f"{k} by {name.partition('#')[0]}" for k, name in known.items()]
    return "; ".join(filter(None, [chosen.conditions, n, ", ".join(named)]))


def resampled(chosen: EvaluationSettings) -> str:
    """Return how the intervals were made."""
    return f"95% CI: percentiles of {chosen.resamples:,} resamples of the test items"


def signatures(scores: pd.DataFrame, system: str) -> pd.DataFrame:
    """Return the signature of each of one system's scores, and how many replies were cut to what a model reads.

    Returns:
        metric, signature, "replies cut, of all systems at most": None for metrics that cut nothing.
    """
    cut = scores.assign(cut=scores["signature"].str.extract(r"cut:(\d+)", expand=False).astype(float))
    most = cut.groupby("metric", sort=False)["cut"].max()
    own = scores[scores["system"] == system].replace({"metric": {metrics.COMPAT: "CHRF as jury ships it"}})
    named = own["metric"].replace(metrics.COLUMNS)
    signature = own["signature"].str.partition("|")[2]
    columns = {"metric": named, "signature": signature, "replies cut, at most": most.reindex(scores["metric"].unique())}
    return pd.DataFrame({name: list(column) for name, column in columns.items()})


def cut(scores: pd.DataFrame) -> str:
    """Return how many replies of each system the metrics with a model cut, as the signatures count them."""
    counts = (
        scores["signature"]
        .str.extract(r"tokens:(?P<tokens>\d+)\|.*items:(?P<items>\d+)\|.*cut:(?P<cut>\d+)")
        .dropna()
        .astype(int)
    )
    known = scores.loc[counts.index, "metric"].replace(metrics.COLUMNS)
    said = []
    for name, found in counts.groupby(known, sort=False):
        least, most, items = found["cut"].min(), found["cut"].max(), found["items"].max()
        number = f"all {items}" if least == items else f"{least} to {most} of {items}"
        said.append(f"{name} cuts {number} to {found['tokens'].max()} tokens")
    if not said:
        return "No metric cuts a text."
    return f"Of each system's pairs of reply and reference, {listed(said)}."


def dumbbells(scores: pd.DataFrame, backbones: Sequence[str]) -> pd.DataFrame:
    """Return the scores as `charts.dumbbells` draws them: row, metric, kind, value, low, high."""
    places = {
        kinds.label(kinds.system(name, kind)): (published.backbone_title(name), kind)
        for name in backbones
        for kind in kinds.KINDS
    } | {name: (name, "baseline") for name in BASELINES}
    own = scores[scores["metric"].isin(metrics.COLUMNS)]
    table = pd.DataFrame([places[name] for name in own["system"]], columns=["row", "kind"], index=own.index)
    table = table.join(own.rename(columns={"score": "value"})[["metric", "value", "low", "high"]])
    return table.replace({"metric": metrics.COLUMNS}).reset_index(drop=True)


def with_intervals(scores: pd.DataFrame) -> pd.DataFrame:
    """Return one row per system, and for each metric its score and the two ends of its interval."""
    own = scores.set_index(["metric", "system"])
    columns = {}
    for metric, name in metrics.COLUMNS.items():
        if metric in own.index:
            columns[name] = own.loc[metric]["score"]
            columns |= {f"{name} {end}": own.loc[metric][key] for key, end in statistics.INTERVAL.items()}
    table = pd.DataFrame(columns).reindex(scores["system"].unique())
    return table.rename_axis("system").reset_index()


NOT_COMPARABLE = (
    "the paper's scores and ours cannot be compared: other posts and references, other models, and metrics whose "
    "software and options the paper does not name"
)


def table4(scores: pd.DataFrame, backbones: Sequence[str], here: str) -> pd.DataFrame:
    """Return Table 4 as the paper lays it out: a row per system, the paper's first; a column per metric.

    Args:
        scores: All scores of the run, from `systems.evaluate`.
        backbones: Whose tuned systems are in the table, the first of several seeds; both baselines follow.
        here: What the column "from" says of the tuned systems; the others are from the "paper", or from no model.
    """
    printed, known = published.table("Table 4"), scores["system"].unique()
    rows = [name for name in systems.of_kind(known, backbones, kinds.TUNED) if name == systems.base(name)]
    ours = systems.wide(scores).loc[[*rows, *BASELINES]].reindex(columns=printed.columns).rename(index=title)
    table = pd.concat({"paper": printed, here: ours}, names=["from", "system"]).swaplevel().reset_index()
    return table.assign(**{"from": table["from"].mask(table["system"].isin(BASELINES), "here (no model)")})


def below_table4(chosen: EvaluationSettings, n: str, items: pd.DataFrame, verdict: pd.DataFrame) -> str:
    """Return what Table 4 says below it: n, trainings, comparability, what tests decide, and where intervals are.

    Args:
        items: Scores of the replies, from `systems.evaluate`.
        verdict: From `systems.verdict` of the `comparisons`.
    """
    higher, lower, tests = verdict.loc[BETWEEN, COUNTS]
    decide = f"{higher + lower} of {tests} paired tests between backbones decide (p < {systems.ALPHA} after correction)"
    places = "intervals: tables/automatic_all_systems and the figure of scores in notebook 06"
    return "; ".join([chosen.conditions, n, systems.replication(items), NOT_COMPARABLE, decide, places])


def chrf_ways(scores: pd.DataFrame, rows: Sequence[str]) -> pd.DataFrame:
    """Return chrF of each system three times: corrected, as jury computes it, and as the paper prints it."""
    ways = {"chrf": "chrF", metrics.COMPAT: "chrF as jury ships it"}
    table = scores[scores["metric"].isin(ways)].pivot(index="system", columns="metric", values="score")
    table = table.rename(columns=ways).loc[list(rows)].rename_axis(columns=None)
    printed = published.table("Table 4")["CHRF"].reindex([published.BACKBONES.get(name) for name in rows])
    return table.assign(paper=printed.to_numpy()).reset_index()


def comparisons(tests: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return the tables of `systems.compare_all` by what they compare, in words."""

    def ending(name: str, last: str) -> pd.DataFrame:
        return tests[name][tests[name]["compared with"].str.endswith(last)]

    return {
        UNTUNED: tests["automatic_tuned_untuned"],
        PROMPTED: tests["automatic_tuned_prompted"],
        UNTUNED + EQUAL: ending("automatic_matched_length", f" {kinds.UNTUNED}"),
        PROMPTED + EQUAL: ending("automatic_matched_length", f" {kinds.PROMPTED}"),
        NEAREST_REPLY: ending("automatic_tuned_baseline", NEAREST),
        RANDOM_REPLY: ending("automatic_tuned_baseline", RANDOM),
        BETWEEN: tests["automatic_between"],
    }


def forest(compared: Mapping[str, pd.DataFrame], n: int, senseless: Sequence[str] = ()) -> pd.DataFrame:
    """Return the `comparisons` as `charts.forest` draws them: group, row, metric, value, low, high, decided, n.

    Nothing is decided by a metric that the verdict leaves out; its name says so.
    """
    rows = []
    for group, table in compared.items():
        first, second = (table[column].map(short) for column in ("system", "compared with"))
        own = table.rename(columns={"difference": "value"} | {v: k for k, v in statistics.INTERVAL.items()})
        named = {"group": first + " minus …", "row": second} if group == BETWEEN else {"group": group, "row": first}
        decided = systems.decided(table) & ~table["metric"].isin(senseless)
        metric = own["metric"].replace({name: f"{name}\n(left out)" for name in senseless})
        rows.append(own.assign(**named, metric=metric, decided=decided, n=n))
    columns = ["group", "row", "metric", "value", "low", "high", "decided", "n"]
    return pd.concat(rows, ignore_index=True)[columns]


def short(name: str) -> str:
    """Return a system's title without its kind where it is tuned: "Qwen-7B"."""
    return title(name).removesuffix(f", {kinds.TUNED}")


def sense(senseless: Sequence[str]) -> str:
    """Return which metrics score no system's replies higher than the same replies shuffled, as a sentence."""
    if not senseless:
        return "Every metric scores some system's replies higher than the same replies with shuffled characters."
    out = "it is left out" if len(senseless) == 1 else "they are left out"
    return (
        f"By {listed(senseless)}, no system's replies score higher than the same replies with shuffled characters by "
        f"more than chance; {out} of the verdict."
    )


def controls_in_words(controls: pd.DataFrame, senseless: Sequence[str]) -> list[str]:
    """Return how nonsense made of the reference scores, and why that does not decide.

    Args:
        controls: From `systems.controlled`.
        senseless: The metrics that the verdict leaves out.
    """
    nonsense = controls.loc[["shuffled within sentences", "shuffled whole"]]
    above = (nonsense > controls.loc["highest of any system"]).all()
    kept = [name for name in controls if above[name] and name not in senseless]
    said = []
    if kept:
        said.append(
            f"By {listed(kept)}, the shuffled reference scores higher than any system's replies, because it shares every "
            "single character with the reference and these metrics count single characters, too. Yet the verdict keeps "
            f"{listed(kept)}: the last control decides, and there some system's own replies lose by being shuffled."
        )
    failed = [name for name in controls if controls.loc["the reference itself", name] <= nonsense[name].max()]
    if failed:
        said.append(f"By {listed(failed)}, the reference itself scores no higher than its shuffle: the control fails.")
    return said


def follows_nothing(here: str, form: pd.DataFrame) -> str:
    """Return why a comparison with prompted tiny models decides nothing; "" where other models answered.

    Args:
        here: From `systems.heading`: whether all models are tiny ones.
        form: From `form`, with the length of each system's replies.
    """
    if here != systems.TINY:
        return ""
    ratio = {kind: form.loc[form["system"].str.endswith(f", {kind}"), "length ratio"] for kind in kinds.KINDS}
    said = "tiny models follow no instruction"
    if ratio[kinds.PROMPTED].mean() < ratio[kinds.TUNED].mean():
        share = {kind: f"{ratio[kind].mean():.0%}" for kind in (kinds.PROMPTED, kinds.TUNED)}
        said += (
            f" and their prompted replies are shorter ({share[kinds.PROMPTED]} of the references' length, tuned ones "
        )
        said += f"{share[kinds.TUNED]})"
    return said


def sentences(
    verdict: pd.DataFrame, senseless: Sequence[str], compared: Mapping[str, pd.DataFrame], because: str = ""
) -> list[str]:
    """Return what a run shows: tuned compared with untuned, with prompted, and with the nearest training reply.

    Args:
        verdict: From `systems.verdict` of the `comparisons`.
        senseless: The metrics that the verdict leaves out.
        compared: The `comparisons`.
        because: From `follows_nothing`.
    """
    said = []
    shown = {name: kind for name, kind in SHOWN.items() if verdict.loc[name, "tests"]}
    if shown:
        ahead = " and more than ".join(counted(verdict.loc[name], f"{kind} ones") for name, kind in shown.items())
        size = systems.crossed(compared[next(iter(shown))], senseless)
        text = f"Tuned replies resemble the references more than {ahead} (each {size}; p < {systems.ALPHA} after correction)"
        text += f"; the second says nothing about prompting, because {because}" * bool(because and PROMPTED in shown)
        said.append(f"{text}.")
    higher, lower, tests = verdict.loc[NEAREST_REPLY, COUNTS]
    if tests:
        who = "they" if shown else "the systems' replies"
        text = f"Compared with the reply to the most similar training post, which answers another post, {who} score "
        said.append(f"{text}higher in {higher} of {tests} comparisons and lower in {lower}.")
        if higher < tests:
            said.append("So the scores do not show that a reply answers its own post.")
    return [*said, sense(senseless)]


SHOWN = {UNTUNED: kinds.UNTUNED, PROMPTED: kinds.PROMPTED}


def counted(row: pd.Series, others: str) -> str:
    """Return in how many comparisons the first is higher: "untuned ones in 12 of 12 comparisons"."""
    lower = f" (less in {row['first is lower']})" if row["first is lower"] else ""
    return f"{others} in {row['first is higher']} of {row['tests']} comparisons{lower}"


def correlated(items: pd.DataFrame, replies: Mapping[str, Sequence[str]], backbones: Sequence[str]) -> pd.DataFrame:
    """Return `systems.correlations` of the metrics and the length of a reply, within each kind of systems."""
    measured = items.rename(columns=metrics.COLUMNS)
    measured = measured.assign(length=[len(text) for own in replies.values() for text in own])
    groups = {kind: systems.of_kind(replies, backbones, kind) for kind in kinds.KINDS} | {"baseline": list(BASELINES)}
    named = {f"{kind} ({len(names)})": names for kind, names in groups.items() if names}
    return systems.correlations(measured, named)


def by_pair(correlation: pd.DataFrame) -> pd.DataFrame:
    """Return the table of correlations as `charts.heatmap` draws it: a row for each pair of measures."""
    return correlation.set_index(correlation["metric"] + ", " + correlation["other metric"]).drop(
        columns=["metric", "other metric"]
    )


def structure(replies: Mapping[str, Sequence[str]], test: Sequence[Mapping], train: Sequence[Mapping]) -> pd.DataFrame:
    """Return in how many replies of each system the five components are found (`reply_checks.structure_shares`).

    A reply that repeats a training reply word for word is judged as one to the post for which it was written, by a
    classifier that has not learned from it.
    """
    written_for = {row["reply"]: row["questionID"] for row in train}
    rows = [
        {"system": name, "questionID": written_for.get(text, row["questionID"]), "reply": text}
        for name, own in replies.items()
        for text, row in zip(own, test, strict=True)
    ]
    return titled(reply_checks.structure_shares(reply_checks.structure(rows)))


def form(replies: Mapping[str, Sequence[str]], references: Sequence[str], shape: pd.DataFrame) -> pd.DataFrame:
    """Return `reply_checks.traits` of each system, and in how many of its replies all five components are found.

    Args:
        shape: From `structure`.
    """
    traits = titled(reply_checks.traits(replies, references))
    return traits.merge(shape[["system", "all five", "all five, in order"]], on="system")


def to_read(
    examples: pd.DataFrame, items: pd.DataFrame, replies: Mapping[str, Sequence[str]]
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Sequence[str]]]:
    """Return examples, items and replies as `plots.pages.answers` shows them: systems and metrics by their titles."""
    named = titled(items).rename(columns=metrics.COLUMNS)
    return titled(examples), named, {title(name): own for name, own in replies.items()}


TITLES = {  # of the tables that are read as files
    "automatic_all_systems": "All systems: scores with 95% CI",
    "automatic_tuned_untuned": "Tuned compared with untuned backbones, paired by post",
    "automatic_tuned_prompted": "Tuned compared with prompted backbones, paired by post",
    "automatic_matched_length": "Tuned compared with untuned and prompted backbones at equal length, paired by post",
    "automatic_tuned_baseline": "Compared with the nearest and with a random training reply, paired by post",
    "automatic_between": "Backbones compared with each other, paired by post",
    "automatic_order": "Replies compared with the same replies, their characters shuffled, paired by post",
    "automatic_ranks": "Ranks by score, with the central 95% of each system's ranks in the draws of test posts",
    "automatic_chrf": "CHRF: corrected, as jury computes it, and as published (signatures differ: not comparable)",
    "automatic_seeds": "Scores by seed: mean and standard deviation over trainings and decodes",
    "automatic_english": "BLEURT and BERTScore by jury's English models",
}
OPTIONAL = ("automatic_seeds", "automatic_english")  # not written where a run has none


def of_scores(scores: pd.DataFrame, draws: pd.DataFrame, backbones: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Return the tables made of scores alone, by the names of their files."""
    own = systems.judged(scores["system"].unique(), backbones)
    ranked = list(dict.fromkeys(map(systems.base, own)))
    return {
        "automatic_all_systems": with_intervals(scores),
        "automatic_ranks": systems.ranks(scores, draws, [*ranked, NEAREST]),
        "automatic_chrf": chrf_ways(scores, own),
        "automatic_seeds": systems.by_seed(scores),
    }


def with_titles(found: Mapping[str, pd.DataFrame]) -> dict[str, tuple[str, pd.DataFrame]]:
    """Return tables by the names of their files, each as (title, table), with systems called by their titles."""
    written = {name: table for name, table in found.items() if len(table) or name not in OPTIONAL}
    return {name: (TITLES[name], titled(table)) for name, table in written.items()}
