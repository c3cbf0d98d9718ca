"""The findings on one page: what holds, what does not, what cannot be known, and what the study found beyond."""

from pathlib import Path

import pandas as pd

from cbtllm_utils import files
from cbtllm_utils.generate import kinds
from cbtllm_utils.paper import checks, claims
from cbtllm_utils.paper.checks import in_words
from cbtllm_utils.published import Printed

ROWS = Path(__file__).with_name("finding_rows.csv")  # claim, evidence and verdict with {facts}, where, rests on
THIS_RUN = "this run"
COUNTED = ("BLEU", "METEOR", "CHRF")  # metrics that need no trained scorer, which a demo's tiny ones would not be
LEVEL = 0.05
SEEDS = "95% CI over seeds"  # of notebook 06, where backbones were trained more than once
NOT_RUN = "not run"


def table(printed: Printed, run: str | Path) -> pd.DataFrame:
    """Return the findings: claim, evidence, verdict, where, rests on.

    Args:
        printed: The published numbers, from `published.by_key`.
        run: The folder of the run, whose tables and scores are read where they are there.
    """
    known = claims.facts(printed) | of_checks(printed) | of_run(run)
    rows = pd.read_csv(ROWS, dtype=str, keep_default_na=False)
    for column in ("claim", "evidence", "verdict"):
        rows[column] = [text.format(**known).strip() for text in rows[column]]
    rows["rests on"] = [text.replace(THIS_RUN, f"{THIS_RUN}{models(run)}") for text in rows["rests on"]]
    return rows


def of_checks(printed: Printed) -> dict[str, str]:
    """Return facts on how the printed numbers agree."""
    return {"pairs": next(check.finding for check in checks.run(printed) if check.name == "numbers printed twice")}


def of_run(run: str | Path) -> dict[str, str]:
    """Return what this run says, as sentences by name; where it did not compute something, that it did not."""
    untuned, untuned_verdict = compared(run, kinds.UNTUNED)
    prompted, prompted_verdict = compared(run, kinds.PROMPTED)
    return {
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
    names = dict.fromkeys(files.public(str(record.get("model", ""))) for record in records)
    if names and all(map(files.is_tiny, names)):
        return " (tiny models: no evidence about 7B)"
    return f" ({', '.join(names)})" if names else ""


def read(run: str | Path, name: str) -> pd.DataFrame | None:
    """Return a table of the run, or None where it was not written."""
    place = files.path(run) / name
    return pd.read_csv(place) if place.is_file() else None


def compared(run: str | Path, kind: str) -> tuple[str, str]:
    """Return what this run's paired tests of tuned systems with those of another kind say, and a verdict on tuning."""
    tests = read(run, f"tables/automatic_tuned_{kind}.csv")
    found = counted(tests) if tests is not None else None
    if not found or not found[2]:
        return "Not run here.", NOT_RUN
    ahead, behind, all_of = found
    text = f"Here tuned systems score higher than {kind} ones in {ahead} of {all_of} comparisons on BLEU, METEOR and "
    text += f"chrF, lower in {behind} (p < {LEVEL} after Holm's correction)"
    matched = read(run, "tables/automatic_matched_length.csv")
    if matched is not None:
        own = counted(matched[matched["compared with"].str.endswith(f" {kind}")])
        text += f"; cut to equal length, higher in {own[0]} of {own[2]}"
    if ahead == all_of:
        return text + ".", f"holds in {THIS_RUN}"
    return text + ".", f"does not hold in {THIS_RUN}" if behind == all_of else f"undecided in {THIS_RUN}"


def counted(tests: pd.DataFrame) -> tuple[int, int, int]:
    """Return in how many tests the first system is ahead, in how many behind, and how many there are.

    A difference counts where p is below .05 after correction and, with several seeds, their interval does not hold 0.
    """
    own = tests[tests["metric"].isin(COUNTED)]
    shown = own["p (Holm)"] < LEVEL
    if f"{SEEDS} low" in own:
        shown &= ~((own[f"{SEEDS} low"] <= 0) & (own[f"{SEEDS} high"] >= 0))
    ahead, behind = ((shown & (sign * own["difference"] > 0)).sum() for sign in (1, -1))
    return int(ahead), int(behind), len(own)


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
    text = f" Here systems with a true chrF of {ways['chrf']} get {ways['chrf_jury_compat']} that way, "
    return text + f"and {int((~ranks).sum())} of {len(wide)} change their rank."


def raters(run: str | Path) -> str:
    """Return who rated in this run."""
    found = read(run, "scores/human.csv")
    if found is None or found.empty:
        return ""
    kinds = " and ".join(f"{group['raters'].max()} {kind}s" for kind, group in found.groupby("kind"))
    return f" Here {kinds} rated.".replace("persons", "people")


def read_replies(run: str | Path) -> str:
    """Return how many of this run's replies to flagged posts a person has read."""
    found = read(run, "tables/readings.csv")
    if found is None or found.empty:
        return "Not counted here."
    of, read_by = int(found["replies to flagged posts"].sum()), int(found["read by a person"].sum())
    return f"Of {of} replies to flagged posts that this run hands out for reading, people have read {read_by}."
