"""What opens the report: a run in a few computed sentences, and the key to its verdicts."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import yaml

from cbtllm_utils import files
from cbtllm_utils.evaluate import systems
from cbtllm_utils.generate import kinds
from cbtllm_utils.paper import audit, claims, findings

SAMPLE = "data/sample/psyqa_sample.json"
RECORDED = "replay:data/sample/recorded_replies.jsonl"
EXPLAINED = {
    "demo scale": "the demo replaces PsyQA and the 7B models by what fits on a laptop without a network",
    "recorded replies": "recorded replies were written once by a language model and are read from a file",
}
KEY = {
    "A claim of the paper": "it holds, holds in part or does not hold by what the paper prints. It is not shown where "
    "the paper gives no evidence that could show it.",
    "A question of ours": "yes, no, in part or undecided. “In this run” limits the answer to this run's models and "
    "posts.",
    "Cannot be known": "what would decide it is neither printed nor published.",
    "Rests on": "“the paper” is its own text and numbers, which another run does not change; “this run” is what was "
    "computed here, with the models in brackets.",
}


def in_short(run: Path, provenance: Mapping, rows: Sequence[Mapping]) -> list[str]:
    """Return the run in about five sentences, each where the run has what it is computed from."""
    said = [scale(run), counted(run), *fallen(rows), compared(run), written(provenance)]
    return [sentence for sentence in said if sentence]


def scale(run: Path) -> str:
    """Return how many of the paper's numbers were measured at its scale."""
    numbers = findings.read(run, "tables/audit.csv")
    if numbers is None:
        return ""
    judged = int(numbers["status"].isin([audit.REPRODUCED, audit.DIFFERS]).sum())
    if not judged:
        return (
            f"None of the paper's {len(numbers)} numbers was reproduced: none was measured here at the paper's scale."
        )
    agree = int((numbers["status"] == audit.REPRODUCED).sum())
    return f"Of the paper's {len(numbers)} numbers, {judged} were measured at its scale and {agree} of these agree."


def counted(run: Path) -> str:
    """Return how many of the paper's claims in words hold, and how many do not."""
    said, numbers = (findings.read(run, f"tables/{name}.csv") for name in ("claims", "audit"))
    return "" if said is None or numbers is None else findings.sentences(said, numbers)[0]


def fallen(rows: Sequence[Mapping]) -> list[str]:
    """Return the findings that do not hold, each with the first sentence of its evidence."""
    weak = [row for row in rows if row["verdict"] == claims.DOES_NOT_HOLD]
    return [f"“{row[findings.CLAIM].rstrip('.')}” {row['verdict']}: {first(row['evidence'])}" for row in weak]


def first(text: str) -> str:
    """Return the first sentence of a text."""
    head, stop, _ = text.partition(". ")
    return head + stop.strip()


def compared(run: Path) -> str:
    """Return in how many comparisons the tuned systems of this run are ahead, with the size of the comparison."""
    names = {"untuned": f"automatic_tuned_{kinds.UNTUNED}", "baseline": "automatic_tuned_baseline"}
    tests = {name: findings.read(run, f"tables/{table}.csv") for name, table in names.items()}
    items = run / "scores/items.parquet"
    if any(table is None or table.empty for table in tests.values()) or not items.is_file():
        return ""
    nearest = tests["baseline"]["compared with"] == systems.NEAREST
    own = {"untuned": tests["untuned"], "baseline": tests["baseline"][nearest]}
    found = systems.verdict(own, findings.senseless(run))
    scored = pd.read_parquet(items)
    trained = "" if systems.has_replicates(scored) else " and one training per backbone"
    up, _, of = found.loc["untuned"]
    ahead, _, every = found.loc["baseline"]
    return (
        f"With {scored['questionID'].nunique()} test posts{trained}, tuned models score higher than untuned ones in "
        f"{up} of {of} comparisons, and higher than the reply to the most similar training post in {ahead} of {every}."
    )


def written(provenance: Mapping) -> str:
    """Return who wrote the posts and the replies of this run."""
    taken = provenance["notebooks"].get("02_dataset_generation", {}).get("parameters", {})
    if not taken:
        return ""
    replies = "a language model" if taken["endpoint"] == RECORDED else taken["model"]
    if taken["questions"] == SAMPLE:
        return (
            f"Language models invented the posts, and {replies} wrote the replies; neither people in distress nor "
            "therapists did."
        )
    return f"The posts are those of {taken['questions']}, and {replies} wrote the replies."


def explained(conditions: str) -> str:
    """Return what the words of a run's conditions mean, in half a sentence each."""
    return "; ".join(meaning for word, meaning in EXPLAINED.items() if word in conditions)


def citation() -> dict[str, str]:
    """Return title and license of this software, as CITATION.cff has them; nothing where it is not there."""
    place = files.path("CITATION.cff")
    known = yaml.safe_load(files.read_text(place)) if place.is_file() else {}
    return {name: known[name] for name in ("title", "license") if name in known}
