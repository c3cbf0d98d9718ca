"""The findings on one page: what holds, what does not, what cannot be known, and what the study found beyond."""

from pathlib import Path

import pandas as pd

from cbtllm_utils import files
from cbtllm_utils.evaluate import systems
from cbtllm_utils.generate import kinds
from cbtllm_utils.human import agreement
from cbtllm_utils.paper import audit, checks, claims
from cbtllm_utils.paper.checks import in_words
from cbtllm_utils.published import Printed
from cbtllm_utils.statistics import listed

ROWS = Path(__file__).with_name("finding_rows.csv")  # claims, then questions; evidence and verdict with {facts}
THIS_RUN = "this run"
NOT_RUN = "not run"
ALL_BLIND = "No metric of this run scores replies higher than their shuffled characters, so none can decide."
CLAIM = "claim or question"  # the header over both
ORDER = (claims.DOES_NOT_HOLD, claims.NOT_SHOWN, claims.IN_PART, claims.UNKNOWN, claims.HOLDS)  # of the claims
YES, NO, IN_PART, UNDECIDED = "yes", "no", "in part", "undecided"  # to questions, as `claims.UNKNOWN` is
TINY = "tiny models"
VERDICTS_OF_MANY = ("hold", "hold in part", "are not shown", "do not hold", "cannot be known")  # of `claims.VERDICTS`


def table(printed: Printed, run: str | Path) -> pd.DataFrame:
    """Return the findings: claim or question, verdict, evidence, where, rests on.

    The paper's claims come first, those that do not hold before the others; our questions follow.

    Args:
        printed: The published numbers, from `published.by_key`.
        run: The folder of the run, whose tables and scores are read where they are there.
    """
    known = claims.facts(printed) | of_checks(printed) | of_run(run)
    rows = pd.read_csv(ROWS, dtype=str, keep_default_na=False)
    for column in (CLAIM, "evidence", "verdict"):
        rows[column] = [text.format(**known).strip() for text in rows[column]]
    rows["rests on"] = [text.replace(THIS_RUN, f"{THIS_RUN}{models(run)}") for text in rows["rests on"]]
    asked = rows[CLAIM].str.endswith("?")
    said = rows[~asked].sort_values("verdict", key=lambda verdicts: verdicts.map(ORDER.index), kind="stable")
    return pd.concat([said, rows[asked]], ignore_index=True)[[CLAIM, "verdict", "evidence", "where", "rests on"]]


def here(verdict: str) -> str:
    """Return a verdict as one that rests on this run: "yes in this run"."""
    return f"{verdict} in {THIS_RUN}"


def sentences(said: pd.DataFrame, numbers: pd.DataFrame) -> list[str]:
    """Return what the audit found, and how the findings are related to the claims.

    Args:
        said: The claims with their verdicts, from `claims.table`.
        numbers: The published numbers with their statuses, from `audit.table`.
    """
    verdicts = said["verdict"].value_counts().reindex(claims.VERDICTS, fill_value=0)
    plural = dict(zip(claims.VERDICTS, VERDICTS_OF_MANY, strict=True))
    counted = [f"{number} {plural[verdict]}" for verdict, number in verdicts.items()]
    statuses, ours = numbers["status"].value_counts(), int(numbers["here"].notna().sum())
    against, judged = (
        statuses.get(checks.AT_ODDS, 0),
        sum(statuses.get(name, 0) for name in (audit.REPRODUCED, audit.DIFFERS)),
    )
    return [
        f"Of the paper's {len(said)} claims in words, {', '.join(counted[:-1])} and {counted[-1]}.",
        f"Of its {len(numbers)} numbers, {statuses.get(checks.INCONSISTENT, 0)} disagree with another of its numbers "
        f"and {against} are at odds with a claim.",
        f"This run has a counterpart for {ours} of them; {judged} were measured at the paper's scale and can be judged.",
        f"The findings take up the most important of the {len(said)} claims, some shortened or joined, and our questions; "
        "the section “Claims in words” quotes all of them.",
    ]


def of_checks(printed: Printed) -> dict[str, str]:
    """Return facts on how the printed numbers agree."""
    return {"pairs": next(check.finding for check in checks.run(printed) if check.name == "numbers printed twice")}


def of_run(run: str | Path) -> dict[str, str]:
    """Return what this run says, as sentences by name; where it did not compute something, that it did not."""
    untuned, untuned_verdict = compared(run, kinds.UNTUNED)
    prompted, prompted_verdict = compared(run, kinds.PROMPTED)
    ordered, ordered_verdict = sense(run)
    answered, answered_verdict = answering(run)
    return {
        "order_here": ordered,
        "order_verdict": ordered_verdict,
        "answering_here": answered,
        "answering_verdict": answered_verdict,
        "untuned_here": untuned,
        "untuned_verdict": untuned_verdict,
        "prompted_here": prompted,
        "prompted_verdict": prompted_verdict,
        "chrf_here": chrf(run),
        "raters_here": raters(run),
        "read_here": read_replies(run),
    }


def models(run: str | Path) -> str:
    """Return which models answered in this run; that tiny ones, such as the demo's, say nothing about models of 7B."""
    records = [files.read_json(place) for place in sorted((files.path(run) / "answers").glob("*.json"))]
    named = [record.get(key) for record in records for key in ("model", "tuned_model")]
    names = dict.fromkeys(files.public(name) for name in named if name)
    if names and all(map(files.is_tiny, names)):
        return f" ({TINY}: no evidence about 7B models)"
    return f" ({', '.join(names)})" if names else ""


def read(run: str | Path, name: str) -> pd.DataFrame | None:
    """Return a table of the run, or None where it was not written."""
    place = files.path(run) / name
    return pd.read_csv(place) if place.is_file() else None


def compared(run: str | Path, kind: str) -> tuple[str, str]:
    """Return what this run's paired tests of tuned systems with those of another kind say, and a verdict on tuning.

    Leave out metrics that score replies like the same replies with shuffled characters (notebook 06).
    Tuning is ahead where it scores higher in every comparison, and at equal length as well where that was tested.
    Tiny models follow no instruction and decide nothing about prompting.
    """
    tests, blind = read(run, f"tables/automatic_tuned_{kind}.csv"), senseless(run)
    if tests is None or tests.empty:
        return "Not run here.", NOT_RUN
    names = [name for name in tests["metric"].unique() if name not in blind]
    if not names:
        return ALL_BLIND, here(UNDECIDED)
    matched = read(run, "tables/automatic_matched_length.csv")
    equal = tests[:0] if matched is None else matched[matched["compared with"].str.endswith(f" {kind}")]
    found = systems.verdict({"as they are": tests, "at equal length": equal}, blind)
    ahead, behind, every = found.loc["as they are"]
    higher, _, cut_tests = found.loc["at equal length"]
    text = f"Here tuned systems score higher than {kind} ones in {ahead} of {every} comparisons and lower in {behind} "
    text += f"({systems.crossed(tests, blind)}: {', '.join(names)}; p < {systems.ALPHA} after Holm's correction)"
    if len(equal):
        text += f"; cut to equal length, higher in {higher} of {cut_tests}"
    if kind == kinds.PROMPTED and TINY in models(run):
        return text + ". These tiny models follow no instruction, so this decides nothing.", here(UNDECIDED)
    if ahead == every and higher == cut_tests:
        return text + ".", here(YES)
    return text + ".", here(NO if behind == every else UNDECIDED)


def senseless(run: str | Path) -> list[str]:
    """Return the metrics that score this run's replies like the same replies with shuffled characters."""
    order = read(run, "tables/automatic_order.csv")
    return [] if order is None else systems.senseless(order)


def sense(run: str | Path) -> tuple[str, str]:
    """Return whether metrics notice shuffled characters, and a verdict on a higher score as a better reply."""
    if read(run, "tables/automatic_order.csv") is None:
        return "Not run here.", NOT_RUN
    text, blind = "Here we shuffled the characters of each reply into nonsense. ", senseless(run)
    if not blind:
        text += "Every metric scores some system's replies higher than this nonsense, as it must; more is not shown."
        return text, here(UNDECIDED)
    text += f"By {listed(blind)}, no system's replies score higher than this nonsense by more than chance."
    return text, here(NO)


def answering(run: str | Path) -> tuple[str, str]:
    """Return whether tuned replies are nearer to the references than replies to other posts, and a verdict."""
    tests, blind = read(run, "tables/automatic_tuned_baseline.csv"), senseless(run)
    if tests is None or tests.empty:
        return "Not run here.", NOT_RUN
    names = [name for name in tests["metric"].unique() if name not in blind]
    if not names:
        return ALL_BLIND, here(UNDECIDED)
    own = {name: tests[tests["compared with"] == name] for name in systems.BASELINES}
    found = systems.verdict(own, blind)
    parts = [f"the {name} in {up} of {of} comparisons (lower in {down})" for name, (up, down, of) in found.iterrows()]
    ahead, _, every = found.loc[systems.NEAREST]
    size = systems.crossed(own[systems.NEAREST], blind)
    text = f"Here tuned systems score higher than {' and than '.join(parts)}; {size} each ({', '.join(names)})."
    return text, here(YES if ahead == every else UNDECIDED)


def chrf(run: str | Path) -> str:
    """Return how far chrF by the tool's way and the true one are apart over this run's systems."""
    found = read(run, "scores/automatic.csv")
    if found is None:
        return ""
    wide = found.pivot_table(index="system", columns="metric", values="score")
    if not {"chrf", "chrf_jury_compat"} <= set(wide.columns):
        return ""
    ways = {name: in_words(wide[name].min(), wide[name].max(), ".3f") for name in ("chrf", "chrf_jury_compat")}
    ranks = wide["chrf"].rank().eq(wide["chrf_jury_compat"].rank())
    ours = f"{THIS_RUN} ({TINY})" if TINY in models(run) else THIS_RUN
    text = f" For the {len(wide)} systems and baselines of {ours}, jury gives {ways['chrf_jury_compat']} instead of "
    return text + f"{ways['chrf']}, and {int((~ranks).sum())} of them change their rank."


def raters(run: str | Path) -> str:
    """Return who rated in this run."""
    found = read(run, "scores/human.csv")
    if found is None or found.empty:
        return ""
    who = [agreement.count(group["raters"].max(), kind) for kind, group in found.groupby("kind")]
    return f" Here {' and '.join(who)} rated."


def read_replies(run: str | Path) -> str:
    """Return how many of this run's replies to posts flagged for risk a person has read."""
    found = read(run, "tables/readings.csv")
    if found is None or found.empty:
        return "Not counted here."
    of, read_by = int(found["replies to flagged posts"].sum()), int(found["read by a person"].sum())
    flagged = "posts flagged for risk (by the screen or a second reader)"
    return f"People have read {read_by} of the {of} replies to {flagged} that this run prepares for reading."
