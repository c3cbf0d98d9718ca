"""The audit: every number that the paper prints, beside ours, with a status and the reason for it."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from cbtllm_utils import files, published
from cbtllm_utils.data.prompts import COMPONENTS
from cbtllm_utils.evaluate import metrics
from cbtllm_utils.human import agreement, blinding
from cbtllm_utils.paper import checks
from cbtllm_utils.paper_numbers import CONSISTENT, INCONSISTENT, Key, places, prose, values

RULES = Path(__file__).with_name("audit_rules.csv")  # status and reason of a number before any check speaks
REPRODUCED, DIFFERS, APART, SETTING = "reproduced", "differs", "not comparable here", "setting"
STATUSES = (REPRODUCED, DIFFERS, APART, CONSISTENT, INCONSISTENT, SETTING)
TOLERANCE = 0.05  # at the paper's scale: how far, relative to the paper, a number may lie and still be reproduced;
# a score or rating of one system among others: by no more than half of what lies between them, or any would do
BITS = {"fp32": 32, "fp16": 16, "bf16": 16}
Here = dict[Key, float]


def cells(run: str | Path, name: str, table: str) -> Here:
    """Our numbers in a published table's cells, from tables/`name`.csv: columns row, column, here; or as printed."""
    place = files.path(run) / "tables" / f"{name}.csv"
    if not place.is_file():
        raise files.InputError(f"{files.shown(place)}: not there; run the notebook that writes it first")
    found = pd.read_csv(place)
    if {"row", "column", "here"} <= set(found.columns):
        keys = zip(found["row"], found["column"], strict=True)
        return {(table, row, column): value for (row, column), value in zip(keys, found["here"], strict=True)}
    rows, columns = published.table(table).axes
    wide = found.set_index(found.columns[0])
    return {(table, r, c): float(wide.loc[r, c]) for r in rows for c in columns if r in wide.index and c in wide}


def scores(run: str | Path) -> Here:
    """Our scores in the cells of Table 4, from scores/automatic.csv: tuned systems, and true chrF."""
    found = pd.read_csv(files.path(run) / "scores/automatic.csv")
    known = found[found["system"].isin(published.BACKBONES) & found["metric"].isin(metrics.COLUMNS)]
    return {("Table 4", published.BACKBONES[r.system], metrics.COLUMNS[r.metric]): r.score for r in known.itertuples()}


def human(run: str | Path) -> Here:
    """People's ratings of the paper's systems in the cells of Table 5, from scores/human.csv, and how many items."""
    found = pd.read_csv(files.path(run) / "scores/human.csv")
    means = agreement.like_the_paper(found).stack()
    here = {("Table 5", row, column): value for (row, column), value in means.items()}
    people = found[found["kind"] == "person"]
    return here | ({prose("rated items")[0]: float(people["items"].max())} if len(people) else {})


def trainings(run: str | Path) -> pd.DataFrame:
    """One row a training of the run: backbone, items, heldout_items, steps and its settings, from training/*.jsonl."""
    logs = sorted((files.path(run) / "training").glob("*.jsonl"))
    summaries = [row["summary"] for log in logs for row in files.read_jsonl(log) if "summary" in row]
    keys = ("backbone", "items", "heldout_items", "steps")
    return pd.DataFrame([{key: summary[key] for key in keys} | summary["settings"] for summary in summaries])


def training(run: str | Path) -> Here:
    """The settings and sizes of this run's trainings; those in which they differ from each other are left out."""
    found = trainings(run)
    if found.empty:
        return {}
    share = 100 * found["items"] / (found["items"] + found["heldout_items"])
    columns = {"learning rate": found["learning_rate"], "epochs": found["epochs"], "train share": share}
    columns |= {"test share": 100 - share, "precision": found["precision"].map(BITS)}
    columns |= dict.fromkeys(("accumulation steps", "instances per update"), found["accumulation"])
    one = {name: column.iloc[0] for name, column in columns.items() if column.nunique() == 1}
    return {prose(name)[0]: float(value) for name, value in (one | {"backbones": len(found)}).items()}


def derived(here: Here) -> Here:
    """Numbers of the prose that follow from ours in the tables."""
    found = {}
    for row, others in checks.TWICE.items():
        found |= {prose(row)[0]: here[other] for other in others[:1] if other in here}
    items, share = (found.get(prose(row)[0]) for row in ("items", "share with a distortion"))
    samples = {row: value for (table, row, _), value in here.items() if table == "Table 2"}
    if items and share and samples:
        named = round(items * share / 100)
        big = {"all-or-nothing": "All-or-Nothing Thinking", "overgeneralization": "Overgeneralization"}
        parts = {name: samples.pop(row) for name, row in big.items()} | {"other distortions": sum(samples.values())}
        found |= {prose(f"share of {name}")[0]: 100 * part / named for name, part in parts.items()}
        found[prose("replies with a distortion")[0]] = named
    return found


def here(run: str | Path) -> Here:
    """Every number of ours that has a published counterpart, by table, row and column."""
    found = cells(run, "table1_dataset", "Table 1") | cells(run, "table2_distortions", "Table 2")
    found |= cells(run, "table3_recognition", "Table 3") | scores(run) | human(run) | training(run)
    sizes = {
        "components of a reply": len(COMPONENTS),
        "coloured sections": len(COMPONENTS),
        "scales": len(blinding.SCALES),
    }
    return found | derived(found) | {prose(row)[0]: float(size) for row, size in sizes.items()}


def rules() -> dict[Key, tuple[str, str]]:
    """(status, reason) by table, row and column; "*" stands for every row or column."""
    found = pd.read_csv(RULES, dtype=str, keep_default_na=False)
    return {(r.table, r.row, r.column): (r.status, r.reason) for r in found.itertuples(index=False)}


def rule(key: Key, among: Mapping[Key, tuple[str, str]]) -> tuple[str, str]:
    """The rule for a number: its own, its row's or its table's."""
    table, row, column = key
    for name in ((table, row, column), (table, row, "*"), (table, "*", "*")):
        if name in among:
            return among[name]
    raise files.InputError(f"cbtllm_utils/paper/audit_rules.csv: no rule for {', '.join(key)}")


def tolerance(key: Key, printed: Mapping[Key, float]) -> float:
    """How far from a printed number ours may lie and still be called reproduced."""
    table, _, column = key
    beside = [value for (t, _, c), value in printed.items() if (t, c) == (table, column)]
    limit = TOLERANCE * abs(printed[key])
    return min(limit, (max(beside) - min(beside)) / 2) if table in ("Table 4", "Table 5") else limit


def judged(
    paper: float, ours: float | None, status: str, reason: str, comparable: bool, within: float
) -> tuple[str, str]:
    """(status, reason) once our number is known: settings taken over or not, results near or not where they compare."""
    if ours is None or ours != ours:
        return status, reason
    same = abs(ours - paper) <= 1e-9 * max(abs(paper), 1)
    if status == SETTING:
        return status, "taken as printed" if same else f"set otherwise here; {reason}".removesuffix("; ")
    if status == APART and comparable:
        near = abs(ours - paper) <= within
        said = f"{ours - paper:+.4g} ({ours / paper - 1:+.1%}) beside the paper, at its scale; {within:.2g} would do"
        return (REPRODUCED if near else DIFFERS), said
    return status, reason


def like_printed(table: pd.DataFrame) -> pd.DataFrame:
    """The audit's table to read: our number with as many decimals as the paper's, each with its unit."""

    def shown(row: pd.Series) -> str:
        decimals = places(float(row["paper"]))
        number = f"{row['here']:g}" if decimals > 4 else f"{row['here']:,.{decimals}f}"
        return "–" if pd.isna(row["here"]) else number

    return table.assign(here=table.apply(shown, axis=1))


def table(numbers: pd.DataFrame, ours: Here) -> pd.DataFrame:
    """One row a published number, in the paper's order: table, row, column, paper, here, status, reason, unit, section.

    What the checks find on the printed numbers comes first; then whether ours can be compared: that takes as many items
    as the paper has.
    """
    printed, among = values(numbers), rules()
    found = checks.run(printed)
    size = prose("items")[0]
    comparable = abs(ours.get(size, 0) / printed[size] - 1) < 0.01
    rows = []
    for line in numbers.itertuples(index=False):
        key = (line.table, line.row, line.column)
        status, reason = judged(printed[key], ours.get(key), *rule(key, among), comparable, tolerance(key, printed))
        about = [check for check in found if key in check.about]
        verdicts = {check.status for check in about} - {""}
        if status not in (REPRODUCED, DIFFERS):  # our own numbers at the paper's scale say more than its arithmetic
            status = CONSISTENT if verdicts else status
        status = INCONSISTENT if INCONSISTENT in verdicts else status
        reasons = "; ".join(filter(None, [*(check.finding for check in about), reason]))
        rows.append((*key, line.value, ours.get(key), status, reasons, line.unit, line.section))
    columns = ["table", "row", "column", "paper", "here", "status", "reason", "unit", "section"]
    return pd.DataFrame(rows, columns=columns).astype({"here": float})
