"""Arithmetic on the paper's own numbers: which follow from others, which contradict a claim, and what they imply."""

import math
from collections.abc import Callable, Iterator

from cbtllm_utils import published
from cbtllm_utils.paper_numbers import CONSISTENT, INCONSISTENT, Check, Printed, cells, grid, places, prose, text
from cbtllm_utils.text.recognition import matrices

BATCH = 4  # on one device: LLaMA-Factory's default of 2023; the paper says only how many batches it accumulates
LLAMA = 32_000  # tokens of LLaMA's own vocabulary (Touvron et al. 2023)
BAICHUAN = published.BACKBONES["baichuan-7b"]


TWICE = {  # the same number in a table and in the prose
    "items": [
        ("Table 1", "No. of Question & Description", "Statistics"),
        ("Table 1", "No. of CBT Response", "Statistics"),
    ],
    "characters per question": [("Table 1", "Characters Per Question", "Statistics")],
    "characters per description": [("Table 1", "Characters Per Description", "Statistics")],
    "characters per response": [("Table 1", "Characters Per CBT Response", "Statistics")],
    "share with a distortion": [("Table 1", "Percentage of Cognitive Distortions", "Statistics")],
    "all-or-nothing samples": [("Table 2", "All-or-Nothing Thinking", "Samples")],
    "overgeneralization samples": [("Table 2", "Overgeneralization", "Samples")],
    "recognition accuracy": [("Table 3", "Quality", "Accuracy")],
    "recognition recall": [("Table 3", "Quality", "Recall")],
    "recognition F1": [("Table 3", "Quality", "F1 score")],
    "accumulation steps": [("text", "instances per update", "value")],
}


def repeated(printed: Printed) -> Iterator[Check]:
    """Numbers that stand in two places say the same, or contradict each other."""
    for row, others in TWICE.items():
        here = text(printed, row)
        for other in others:
            if printed[other] != here:
                finding = f"the prose says {here:g}, {other[0]} says {printed[other]:g}"
                yield Check(f"{row}, twice", finding, (*prose(row), other), INCONSISTENT)
    same = sum(printed[other] == text(printed, row) for row, others in TWICE.items() for other in others)
    yield Check("numbers printed twice", f"{same} of {sum(map(len, TWICE.values()))} pairs agree", ())


def shares(printed: Printed) -> Iterator[Check]:
    """Every printed share beside the one that the printed counts give."""
    samples, named = grid(printed, "Table 2")["Samples"], text(printed, "replies with a distortion")
    big = ["All-or-Nothing Thinking", "Overgeneralization"]
    given = {
        "share with a distortion": (named, text(printed, "items")),
        "share of all-or-nothing": (samples[big[0]], named),
        "share of overgeneralization": (samples[big[1]], named),
        "share of other distortions": (samples.drop(big).sum(), named),
    }
    for row, (part, whole) in given.items():
        share, said = 100 * part / whole, text(printed, row)
        holds = abs(share - said) <= 0.5 * 10 ** -places(said) + 1e-9
        about = prose(row) + tuple(TWICE.get(row, ()))
        finding = f"by the paper's own counts {part:,.0f} / {whole:,.0f} = {share:.2f} %"
        yield Check(row, finding, about, CONSISTENT if holds else INCONSISTENT)


def labels(printed: Printed) -> Iterator[Check]:
    """How many labels a reply has, since Table 2 counts labels and not replies."""
    samples, named = grid(printed, "Table 2")["Samples"], text(printed, "replies with a distortion")
    finding = f"{samples.sum():,.0f} labels on {named:,.0f} replies, {samples.sum() / named:.2f} each: shares overlap"
    yield Check("labels a reply", finding, cells("Table 2", samples.index, ["Samples"]))


def between(low: float, high: float, form: str = ".0%") -> str:
    """A range in words; one number where both ends read the same."""
    ends = dict.fromkeys((f"{low:{form}}", f"{high:{form}}"))
    return " to ".join(ends)


def recognition(printed: Printed) -> Iterator[Check]:
    """What Table 3 implies: how many of the flags are false, and what a rule without any flag would have reached."""
    n, scores = int(text(printed, "annotated subset")), grid(printed, "Table 3").loc["Quality"]
    about = cells("Table 3", ["Quality"], scores.index)
    about += prose("recognition accuracy", "recognition recall", "recognition F1")
    found = matrices(n, scores["Accuracy"], scores["Recall"], scores["F1 score"])
    if found.empty:
        yield Check("Table 3", f"no confusion matrix of {n} items has these three scores", about, INCONSISTENT)
        return
    positives, flags = found["tp"] + found["fn"], found["tp"] + found["fp"]
    right = found["tp"] / flags
    finding = f"{len(found)} confusion matrices of {n} items fit: {between(positives.min(), positives.max(), '.0f')} "
    finding += (
        f"positives, precision {between(right.min(), right.max(), '.2f')}: {between(1 - right.max(), 1 - right.min())} "
    )
    finding += "of the flags are false"
    yield Check("Table 3, implied precision", finding, about)
    never = 1 - positives / n
    finding = f"a rule that never flags has accuracy {between(never.min(), never.max(), '.2f')}, the prompt "
    yield Check(
        "Table 3, a rule without flags",
        f"{finding}{scores['Accuracy']:.2f}",
        cells("Table 3", ["Quality"], ["Accuracy"]),
    )
    share = text(printed, "replies with a distortion") / text(printed, "items")
    error = math.sqrt(share * (1 - share) / n)
    z = [(flags.min() / n - share) / error, (flags.max() / n - share) / error]
    finding = f"{between(flags.min() / n, flags.max() / n)} of the {n} are flagged, {share:.1%} of all: "
    yield Check(
        "Table 3, share flagged", f"{finding}{between(*z, '.1f')} standard errors apart", prose("annotated subset")
    )


def superiority(printed: Printed) -> Iterator[Check]:
    """Which row of Table 4 is best on each metric, beside the claim of §4.5 to outperform three benchmark models."""
    table = grid(printed, "Table 4")
    best = table.idxmax()
    for metric, row in best[best != BAICHUAN].items():
        finding = (
            f"{row} has {table.loc[row, metric]:.4f}, {BAICHUAN} {table.loc[BAICHUAN, metric]:.4f}: it does not lead"
        )
        yield Check(f"Table 4, {metric}", finding, cells("Table 4", [row, BAICHUAN], [metric]), INCONSISTENT)
    others = table.drop(BAICHUAN)
    beaten = [row for row in others.index if (table.loc[BAICHUAN] > others.loc[row]).all()]
    claimed = text(printed, "systems outperformed")
    finding = f"{BAICHUAN} leads on every metric against {len(beaten)} of {len(others)}: {', '.join(beaten) or 'none'}"
    status = INCONSISTENT if len(beaten) != claimed else CONSISTENT
    yield Check("Table 4, systems outperformed", finding, prose("systems outperformed"), status)
    finding = f"{len(table)} backbones are tuned alike; {BAICHUAN} is one of them, and no row is untuned"
    yield Check("Table 4, baselines", finding, prose("backbones"))


def chrf(printed: Printed) -> Iterator[Check]:
    """How far chrF spreads over the systems, beside BLEU, which counts the same texts."""
    spread = grid(printed, "Table 4").max() / grid(printed, "Table 4").min() - 1
    finding = f"chrF spreads by {spread['CHRF']:.0%} over the systems, BLEU by {spread['BLEU']:.0%}: "
    finding += "jury 2.3.1 scores the first prediction alone against all references"
    yield Check("Table 4, chrF", finding, cells("Table 4", grid(printed, "Table 4").index, ["CHRF"]))


def ratings(printed: Printed) -> Iterator[Check]:
    """Whether every mean of Table 5 is a whole number of points over raters and items, and by how many they lead."""
    raters = text(printed, "raters, students") + text(printed, "raters, psychotherapists")
    whole, table = raters * text(printed, "rated items"), grid(printed, "Table 5")
    points = table * whole
    fits = bool(((points - points.round()).abs() < 1e-6).all(axis=None))
    finding = (
        f"every mean is a multiple of 1/{whole:.0f} = {raters:.0f} raters × {text(printed, 'rated items'):.0f} items"
    )
    about = prose("rated items", "raters, students", "raters, psychotherapists")
    status = "" if fits else INCONSISTENT
    yield Check("Table 5, grid", finding if fits else f"not {finding}", about, status)
    lead = (points.loc[BAICHUAN] - points.drop(BAICHUAN).iloc[0]).round()
    for scale, ahead in lead.items():
        most = whole * text(printed, "highest rating")
        finding = f"{BAICHUAN} leads by {ahead:.0f} of {most:.0f} points; no agreement, no test"
        yield Check(f"Table 5, {scale}", finding, cells("Table 5", table.index, [scale]))
    yield Check("Table 5, scales", f"Table 5 has {table.shape[1]} scales", prose("scales"))


def split(printed: Printed) -> Iterator[Check]:
    """The sizes of the split, which are not printed, and the steps of a training on it."""
    items, share = text(printed, "items"), text(printed, "test share")
    total = share + text(printed, "train share")
    test = round(items * share / 100)
    train, batch = int(items) - test, BATCH * int(text(printed, "accumulation steps"))
    finding = f"{share:.0f} % of {items:,.0f} is {items * share / 100:,.1f}: {test:,} test and {train:,} training items"
    status = "" if total == 100 else INCONSISTENT
    yield Check("split", finding, prose("train share", "test share"), status)
    steps = math.ceil(train / batch)
    whole = steps * text(printed, "epochs")
    finding = f"with {BATCH} on the device {batch} a step: {steps:,} steps an epoch, {whole:,.0f} in all"
    yield Check("steps", finding, prose("accumulation steps", "instances per update", "epochs"))


def vocabulary(printed: Printed) -> Iterator[Check]:
    """How many tokens the Chinese LLaMA's vocabulary has more than LLaMA's."""
    whole, said = text(printed, "LLaMA-Chinese vocabulary"), text(printed, "added Chinese tokens")
    finding = f"{whole:,.0f} − {LLAMA:,} = {whole - LLAMA:,.0f} tokens are new: "
    finding += f"of {said:,.0f} merged in, the others were there"
    yield Check("vocabulary", finding, prose("added Chinese tokens", "LLaMA-Chinese vocabulary"))


ALL: tuple[Callable[[Printed], Iterator[Check]], ...] = (
    *(repeated, shares, labels, recognition, superiority, chrf, ratings, split, vocabulary),
)


def run(printed: Printed) -> list[Check]:
    """Every check, on the printed numbers."""
    return [check for each in ALL for check in each(printed)]
