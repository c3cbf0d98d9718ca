"""The audit: every number that the paper prints, beside ours, with a status and the reason for it."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from cbtllm_utils import files, published
from cbtllm_utils.data.prompts import COMPONENTS
from cbtllm_utils.evaluate import metrics
from cbtllm_utils.finetune.settings import TrainingSettings
from cbtllm_utils.generate import kinds
from cbtllm_utils.human import agreement, blinding
from cbtllm_utils.paper import checks
from cbtllm_utils.paper.checks import AT_ODDS, CONSISTENT, INCONSISTENT, NAMED_CLASSES
from cbtllm_utils.published import Key, Printed, text_keys

RULES = Path(__file__).with_name("audit_rules.csv")  # status and reason of each number before any check speaks
REPRODUCED, DIFFERS, NOT_COMPARABLE, SETTING = "reproduced", "differs", "not comparable here", "setting"
STATUSES = (REPRODUCED, DIFFERS, NOT_COMPARABLE, CONSISTENT, INCONSISTENT, AT_ODDS, SETTING)
TOLERANCE = 0.05  # How far from a printed number, relative to it, ours may be and still reproduce it.
BITS = {"fp32": 32, "fp16": 16, "bf16": 16}


def ours(run: str | Path) -> Printed:
    """Return every number of this run that has a published counterpart, by the published key.

    Raises:
        InputError: If a notebook that writes one of them has not run.
    """
    found = (
        cells(run, "table1_dataset", "Table 1")
        | cells(run, "table2_distortions", "Table 2")
        | cells(run, "table3_recognition", "Table 3")
        | scores(run)
        | human(run)
        | training(run)
    )
    sizes = {
        "components of a reply": len(COMPONENTS),
        "colored sections": len(COMPONENTS),
        "scales": len(blinding.SCALES),
    }
    return found | derived(found) | in_text(sizes)


def in_text(values: Mapping[str, float]) -> Printed:
    """Return numbers of the prose under their keys."""
    return {text_keys(row)[0]: float(value) for row, value in values.items()}


def cells(run: str | Path, name: str, table: str) -> Printed:
    """Return our numbers in a published table's cells, from tables/`name`.csv: columns row, column, here."""
    place = files.path(run) / "tables" / f"{name}.csv"
    if not place.is_file():
        raise files.InputError(f"{files.shown(place)}: not there; run the notebook that writes it first")
    found = pd.read_csv(place)
    return {(table, line.row, line.column): line.here for line in found.itertuples()}


def scores(run: str | Path) -> Printed:
    """Return our scores in the cells of Table 4, from scores/automatic.csv: tuned systems, and true chrF."""
    found = pd.read_csv(files.path(run) / "scores/automatic.csv")
    known = found[found["system"].isin(published.BACKBONES) & found["metric"].isin(metrics.COLUMNS)]
    return {
        ("Table 4", published.BACKBONES[line.system], metrics.COLUMNS[line.metric]): line.score
        for line in known.itertuples()
    }


def human(run: str | Path) -> Printed:
    """Return people's ratings of the paper's systems in the cells of Table 5, and of how many items they are.

    They come from scores/human.csv; ratings by language models have no published counterpart.
    """
    found = pd.read_csv(files.path(run) / "scores/human.csv")
    means = agreement.like_the_paper(found).stack()
    ratings = {("Table 5", row, column): value for (row, column), value in means.items()}
    people = found[found["kind"] == "person"]
    return ratings | (in_text({"rated items": people["items"].max()}) if len(people) else {})


def trainings(run: str | Path) -> pd.DataFrame:
    """Return the run's trainings, one per row, from training/*.jsonl.

    Columns: backbone, examples, heldout_examples, steps and the settings of the training; no row where a profile
    trains nothing.
    """
    logs = sorted((files.path(run) / "training").glob("*.jsonl"))
    summaries = [row["summary"] for log in logs for row in files.read_jsonl(log) if "summary" in row]
    keys = ["backbone", "examples", "heldout_examples", "steps"]
    rows = [{key: summary[key] for key in keys} | summary["settings"] for summary in summaries]
    return pd.DataFrame(rows, columns=None if rows else [*keys, *TrainingSettings().hyperparameters()])


def steps(run: str | Path) -> pd.DataFrame:
    """Return how many optimizer steps each training of the run took, beside what arithmetic on its settings gives."""
    found = trainings(run)
    updates = found["batch"] * found["accumulation"] * found["processes"]
    per_epoch = -(-found["examples"] // updates)  # rounded up: the last batch of an epoch may be smaller
    expected = (-(-per_epoch * found["epochs"] // 1)).astype(int)
    columns = {"batch": "examples per batch", "accumulation": "batches per step"}
    shown = found[["backbone", "examples", *columns, "processes", "epochs", "steps"]].rename(columns=columns)
    titled = shown["backbone"].map(published.backbone_title)
    return shown.assign(**{"backbone": titled, "steps by arithmetic": expected})


def training(run: str | Path) -> Printed:
    """Return settings and sizes of the run's trainings, without those in which they differ from each other."""
    found = trainings(run)
    if found.empty:
        return {}
    share = 100 * found["examples"] / (found["examples"] + found["heldout_examples"])
    columns = {
        "learning rate": found["learning_rate"],
        "epochs": found["epochs"],
        "train share": share,
        "test share": 100 - share,
        "precision": found["precision"].map(BITS),
        "accumulation steps": found["accumulation"],
        "instances per update": found["accumulation"],
    }
    common = {name: column.iloc[0] for name, column in columns.items() if column.nunique() == 1}
    return in_text(common | {"backbones": len(found)})


def chrf_orders(pairs: int) -> pd.DataFrame:
    """Return chrF of the same sample posts' forum answers against their replies, in three orders.

    Returns:
        Columns order, "chrF of all pairs", "chrF as jury 2.3.1 gives it".
    """
    recorded = files.read_jsonl("data/sample/recorded_replies.jsonl")
    replies = {row["questionID"]: "".join(text for _, text in row["sections"]) for row in recorded}
    posts = [post for post in files.read_json("data/sample/psyqa_sample.json") if post["answers"]][:pairs]
    texts = [(post["answers"][0]["answer_text"], replies[post["questionID"]]) for post in posts]
    shortest = sorted(texts, key=lambda pair: len(pair[0]))
    rows = []
    for name, order in {"as in the file": texts, "reversed": texts[::-1], "shortest first": shortest}.items():
        found = metrics.score(*zip(*order, strict=True)).set_index("metric")["score"]
        rows.append((name, found["chrf"], found[metrics.COMPAT]))
    return pd.DataFrame(rows, columns=["order", "chrF of all pairs", "chrF as jury 2.3.1 gives it"])


def chrf_columns(run: str | Path) -> pd.DataFrame:
    """Return both chrF of this run's systems, from scores/automatic.csv, under the names of `chrf_orders`."""
    found = pd.read_csv(files.path(run) / "scores/automatic.csv").pivot(
        index="system", columns="metric", values="score"
    )
    names = {"chrf": "chrF of all replies", metrics.COMPAT: "chrF as jury 2.3.1 gives it"}
    titled = found[list(names)].rename(columns=names).rename(index=kinds.title)
    return titled.rename_axis(index="system", columns=None).reset_index()


def derived(ours: Printed) -> Printed:
    """Return the numbers of the prose that follow from ours in the tables."""
    found = {}
    for row, others in checks.PRINTED_TWICE.items():
        if others[0] in ours:
            found[row] = ours[others[0]]
    samples = {row: value for (table, row, _), value in ours.items() if table == "Table 2"}
    if found.get("items") and found.get("share with a distortion") and samples:
        named = round(found["items"] * found["share with a distortion"] / 100)
        first, second = (samples.pop(row) for row in NAMED_CLASSES)
        found["replies with a distortion"] = named
        found["share of all-or-nothing"] = 100 * first / named
        found["share of overgeneralization"] = 100 * second / named
        found["share of other distortions"] = 100 * sum(samples.values()) / named
    return in_text(found)


def table(numbers: pd.DataFrame, ours: Printed) -> pd.DataFrame:
    """Return the audit, one row per published number in the paper's order.

    A finding on the printed numbers comes first. Ours are compared only when the run has as many items as the paper:
    near numbers at another scale are chance.

    Args:
        numbers: The published numbers, from `published.numbers`.
        ours: Our numbers by key, from `ours`.

    Returns:
        Columns table, row, column, paper, here, status, reason, unit, section.
    """
    printed, rules = published.by_key(numbers), read_rules()
    found = checks.run(printed)
    size = text_keys("items")[0]
    comparable = abs(ours.get(size, 0) / printed[size] - 1) < 0.01
    rows = []
    for line in numbers.itertuples(index=False):
        key = (line.table, line.row, line.column)
        status, reason = rule(key, rules)
        here = ours.get(key)
        if here is not None and not pd.isna(here):
            status, reason = judge(printed[key], here, status, reason, comparable, tolerance(key, printed))
        about = [check for check in found if key in check.about]
        verdicts = {check.status for check in about} - {""}
        against = verdicts & {INCONSISTENT, AT_ODDS}
        if against:
            status = INCONSISTENT if INCONSISTENT in against else AT_ODDS
        elif verdicts and status not in (REPRODUCED, DIFFERS):
            status = CONSISTENT  # Our own number at the paper's scale would say more than the paper's arithmetic.
        reasons = "; ".join(filter(None, [*(check.finding for check in about), reason]))
        rows.append((*key, line.value, here, status, reasons, line.unit, line.section))
    columns = ["table", "row", "column", "paper", "here", "status", "reason", "unit", "section"]
    return pd.DataFrame(rows, columns=columns).astype({"here": float})


def read_rules() -> dict[Key, tuple[str, str]]:
    """Return (status, reason) by table, row and column; "*" means every row or column."""
    found = pd.read_csv(RULES, dtype=str, keep_default_na=False)
    return {(line.table, line.row, line.column): (line.status, line.reason) for line in found.itertuples(index=False)}


def rule(key: Key, rules: Mapping[Key, tuple[str, str]]) -> tuple[str, str]:
    """Return the rule for a number: its own, its row's or its table's."""
    table, row, _ = key
    return rules.get(key) or rules.get((table, row, "*")) or rules[table, "*", "*"]


def tolerance(key: Key, printed: Printed) -> float:
    """Return how far from a printed number ours may be and still reproduce it.

    Scores and ratings of systems in one column are near each other: there it is at most half of the column's range, or
    the number of any system would reproduce that of any other.
    """
    table, _, column = key
    limit = TOLERANCE * abs(printed[key])
    if table not in ("Table 4", "Table 5"):
        return limit
    values = [value for (source, _, name), value in printed.items() if (source, name) == (table, column)]
    return min(limit, (max(values) - min(values)) / 2)


def judge(paper: float, here: float, status: str, reason: str, comparable: bool, within: float) -> tuple[str, str]:
    """Return (status, reason) in view of our number: a setting as printed or not, a result reproduced or not."""
    if status == SETTING:
        if abs(here - paper) <= 1e-9 * max(abs(paper), 1):
            return status, "taken as printed"
        return status, f"set otherwise here; {reason}" if reason else "set otherwise here"
    if status == NOT_COMPARABLE and comparable:
        distance = f"{here - paper:+.4g} ({here / paper - 1:+.1%}) from the paper, at its scale; tolerance {within:.2g}"
        return (REPRODUCED if abs(here - paper) <= within else DIFFERS), distance
    return status, reason


def sections(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return how many numbers each table, or the prose, has, and in which sections."""
    by_table = numbers.groupby("table", sort=False)
    joined = by_table["section"].agg(lambda found: ", ".join(sorted(set(found))))
    return pd.DataFrame({"numbers": by_table.size(), "sections": joined}).reset_index()


def by_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return how many numbers of each table have each status that occurs."""
    counted = pd.crosstab(table["table"], table["status"])
    present = [status for status in STATUSES if status in counted]
    return counted[present].rename_axis(columns=None).reset_index()


def like_printed(table: pd.DataFrame) -> pd.DataFrame:
    """Return the audit to read: our numbers as text with as many decimals as the paper's."""

    def shown(row: pd.Series) -> str:
        if pd.isna(row["here"]):
            return "–"
        decimals = published.decimals(float(row["paper"]))
        return f"{row['here']:g}" if decimals > 4 else f"{row['here']:,.{decimals}f}"

    return table.assign(here=table.apply(shown, axis=1))
