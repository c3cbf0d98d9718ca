"""Arithmetic on the paper's own numbers: which follow from others, which contradict a claim, and what they imply."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pandas as pd

from cbtllm_utils import published, statistics
from cbtllm_utils.published import Key, Printed, table_keys, text_keys
from cbtllm_utils.text import distortions
from cbtllm_utils.text.recognition import matrices, rates

CONSISTENT, INCONSISTENT = "agrees within the paper", "disagrees within the paper"  # with its other numbers
AT_ODDS = "at odds with a claim"  # the number is right, a sentence on it goes too far
BATCH = 4  # on one device: LLaMA-Factory's default of 2023; the paper says only how many batches it accumulates
LLAMA_TOKENS = 32_000  # LLaMA's own vocabulary (Touvron et al. 2023)
BAICHUAN = published.BACKBONES["baichuan-7b"]
SPREADS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)  # standard deviations of the differences of one post's ratings
SCALES = {"Rele.": "relevance", "Stru.": "structure", "Help.": "helpfulness"}  # of Table 5
NAMED_CLASSES = ["All-or-Nothing Thinking", "Overgeneralization"]  # the classes of Table 2 that §3.3.2 discusses
PRINTED_TWICE = {  # a number of the prose -> the same number in tables or elsewhere in the prose
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


@dataclass(frozen=True)
class Check:
    """The finding of one computation on the printed numbers, which of them it is about, and the status it gives them.

    With an empty status a finding explains a number without deciding on it.
    """

    name: str
    finding: str
    about: tuple[Key, ...]
    status: str = ""

    @property
    def sentence(self) -> str:
        """Return the finding as a sentence."""
        return f"{self.finding[:1].upper()}{self.finding[1:]}."


def in_text(printed: Printed, row: str) -> float:
    """Return a number of the prose."""
    return printed["text", row, "value"]


def in_words(low: float, high: float, form: str = ".0%") -> str:
    """Return a range in words; one number where both ends read the same."""
    ends = dict.fromkeys((f"{low:{form}}", f"{high:{form}}"))
    return " to ".join(ends)


def repeated(printed: Printed) -> Iterator[Check]:
    """Compare numbers that the paper prints in two places."""
    same = 0
    for row, others in PRINTED_TWICE.items():
        here = in_text(printed, row)
        for other in others:
            if printed[other] == here:
                same += 1
            else:
                finding = f"the prose says {here:g}, {other[0]} says {printed[other]:g}"
                yield Check(f"{row}, twice", finding, (*text_keys(row), other), INCONSISTENT)
    pairs = sum(len(others) for others in PRINTED_TWICE.values())
    yield Check("numbers printed twice", f"{same} of {pairs} pairs agree", ())


def shares(printed: Printed) -> Iterator[Check]:
    """Compare every printed share with the one that the printed counts give."""
    samples = published.table("Table 2", printed)["Samples"]
    named = in_text(printed, "replies with a distortion")
    counts = {
        "share with a distortion": (named, in_text(printed, "items")),
        "share of all-or-nothing": (samples[NAMED_CLASSES[0]], named),
        "share of overgeneralization": (samples[NAMED_CLASSES[1]], named),
        "share of other distortions": (samples.drop(NAMED_CLASSES).sum(), named),
    }
    for row, (count, whole) in counts.items():
        share, said = 100 * count / whole, in_text(printed, row)
        within_rounding = abs(share - said) <= 0.5 * 10 ** -published.decimals(said) + 1e-9
        about = text_keys(row) + tuple(PRINTED_TWICE.get(row, ()))
        finding = f"by the paper's own counts {count:,.0f} / {whole:,.0f} = {share:.2f} %"
        yield Check(row, finding, about, CONSISTENT if within_rounding else INCONSISTENT)


def labels(printed: Printed) -> Iterator[Check]:
    """Say how many labels a reply has, since Table 2 counts labels and not replies."""
    samples = published.table("Table 2", printed)["Samples"]
    named = in_text(printed, "replies with a distortion")
    finding = (
        f"{samples.sum():,.0f} labels on {named:,.0f} replies, {samples.sum() / named:.2f} each, so shares overlap"
    )
    yield Check("labels per reply", finding, table_keys("Table 2", samples.index, ["Samples"]))


def cooccurrence(printed: Printed) -> Iterator[Check]:
    """Say what the counts of the two largest classes decide on the claim that they often occur together (§3.3.2)."""
    found = overlap(printed)
    about = table_keys("Table 2", NAMED_CLASSES, ["Samples"])
    finding = f"between {found.least:,.0f} and {found.most:,.0f} replies name both of the two largest classes; "
    finding += f"chance alone would give {found.by_chance_of_all:,.0f} among all replies, "
    finding += f"or {found.by_chance_of_naming:,.0f} among the replies that name a distortion"
    yield Check("Table 2, two classes together", finding, about)


def overlap(printed: Printed) -> distortions.Overlap:
    """Return how many replies can name both of Table 2's two largest classes, and how many would by chance."""
    samples = published.table("Table 2", printed)["Samples"]
    first, second = samples[NAMED_CLASSES]
    naming, items = in_text(printed, "replies with a distortion"), in_text(printed, "items")
    return distortions.overlap(first, second, samples.drop(NAMED_CLASSES).sum(), naming, items)


def fits(printed: Printed) -> pd.DataFrame:
    """Return the confusion matrices that fit Table 3, on as many items as the paper says."""
    scores = published.table("Table 3", printed).loc["Quality", ["Accuracy", "Recall", "F1 score"]]
    return matrices(int(in_text(printed, "annotated subset")), *scores)


def recognition(printed: Printed) -> Iterator[Check]:
    """Say what Table 3 implies: false positives, agreement beyond chance, and what two trivial rules reach."""
    n, found = int(in_text(printed, "annotated subset")), fits(printed)
    cells = table_keys("Table 3", ["Quality"], ["Accuracy", "Recall", "F1 score"])
    about = cells + text_keys("recognition accuracy", "recognition recall", "recognition F1")
    if found.empty:
        yield Check("Table 3", f"no confusion matrix of {n} items has these three scores", about, INCONSISTENT)
        return
    rate = rates(found)
    said = {name: in_words(rate[name].min(), rate[name].max(), ".2f") for name in rate}
    positives = in_words((found["tp"] + found["fn"]).min(), (found["tp"] + found["fn"]).max(), ".0f")
    false = in_words(found["fp"].min(), found["fp"].max(), ".0f")
    finding = f"if Table 3 scores presence or absence, {len(found)} confusion matrices of {n} items fit: "
    finding += f"{positives} posts with a distortion ({said['prevalence']} of all), {false} false positives, "
    finding += f"precision {said['precision']}"
    yield Check("Table 3, implied precision", finding, about)
    finding = f"specificity {said['specificity']}, balanced accuracy {said['balanced accuracy']}, "
    kappa = said["Cohen's kappa"]
    finding += f"Cohen's kappa {kappa}, LR+ {said['LR+']} (by chance 0.50, 0 and 1)"
    yield Check("Table 3, agreement beyond chance", finding, about)
    never, always = said["accuracy of flagging nobody"], said["accuracy of flagging everybody"]
    finding = f"never naming a distortion has accuracy {never} and recall 0; always naming one has accuracy {always}, "
    finding += f"recall 1 and F1 {said['F1 of flagging everybody']}"
    yield Check("Table 3, two trivial rules", finding, about)
    share = in_text(printed, "replies with a distortion") / in_text(printed, "items")
    error = math.sqrt(share * (1 - share) / n)
    flagged = rate["share flagged"]
    distance = [(flagged.min() - share) / error, (flagged.max() - share) / error]
    finding = f"of these {n} replies {in_words(flagged.min(), flagged.max())} name a distortion, of all {share:.1%}: "
    finding += f"{in_words(*distance, '.1f')} standard errors apart"
    yield Check("Table 3, share that names a distortion", finding, text_keys("annotated subset"))


def implied(printed: Printed) -> pd.DataFrame:
    """Return what Table 3 implies if it scores the presence of any distortion: ranges over the matrices that fit.

    Returns:
        Columns measure, row (the measure's name in a figure), low, high, "by chance" and n, the annotated posts.
    """
    found, n = fits(printed), int(in_text(printed, "annotated subset"))
    rate = rates(found)
    rows = [
        ("precision: named distortions that therapists confirm", "precision", "prevalence"),
        ("specificity: posts without a distortion whose reply names none", "specificity", None),
        ("balanced accuracy: mean of recall and specificity", "balanced accuracy", 0.5),
        ("Cohen's kappa: agreement beyond chance", "Cohen's kappa", 0.0),
        ("positive likelihood ratio: recall / (1 − specificity)", "LR+", 1.0),
        ("prevalence: posts in which therapists see a distortion", "prevalence", None),
        ("accuracy of a rule that never names a distortion", "accuracy of flagging nobody", None),
        ("accuracy of a rule that always names one", "accuracy of flagging everybody", None),
    ]
    named = {"accuracy of flagging nobody": "accuracy, never naming one"}
    named["accuracy of flagging everybody"] = "accuracy, always naming one"
    table = []
    for measure, name, chance in rows:
        ends = {"low": rate[name].min(), "high": rate[name].max()}
        by_chance = "–" if chance is None else chance if chance == "prevalence" else f"{chance:.2f}"
        table.append({"measure": measure, "row": named.get(name, name)} | ends | {"by chance": by_chance, "n": n})
    return pd.DataFrame(table)


def bases(printed: Printed) -> pd.DataFrame:
    """Return the shares of Table 2 of the replies that name a distortion and of all replies."""
    samples = published.table("Table 2", printed)["Samples"]
    named, items = in_text(printed, "replies with a distortion"), in_text(printed, "items")
    shares = {"% of replies that name one": 100 * samples / named, "% of all replies": 100 * samples / items}
    return pd.DataFrame({"labels": samples.astype(int)} | shares).rename_axis("class").reset_index()


def leaders(printed: Printed) -> pd.DataFrame:
    """Return the best row of each column of Table 4, its score, and its lead over the second."""
    scores = published.table("Table 4", printed)
    second = scores.apply(lambda column: column.nlargest(2).iloc[1])
    columns = {"best row": scores.idxmax(), "score": scores.max(), "lead over the second": scores.max() - second}
    return pd.DataFrame(columns).rename_axis("metric").reset_index()


def points(printed: Printed) -> pd.DataFrame:
    """Return the means of Table 5 in rating points: over all raters and posts; the last row is Baichuan's lead."""
    raters = in_text(printed, "raters, students") + in_text(printed, "raters, psychotherapists")
    means = published.table("Table 5", printed)
    found = (means * in_text(printed, "rated items") * raters).round().astype(int).rename(columns=SCALES)
    lead = found.loc[BAICHUAN] - found.drop(BAICHUAN).iloc[0]
    return pd.concat([found, lead.to_frame("lead").T]).rename_axis("system").reset_index()


def superiority(printed: Printed) -> Iterator[Check]:
    """Compare the best row of each column of Table 4 with the claim of §4.5 to outperform three benchmark models."""
    table = published.table("Table 4", printed)
    best = table.idxmax()
    for metric, row in best[best != BAICHUAN].items():
        finding = f"{row} leads with {table.loc[row, metric]:.4f}, {BAICHUAN} has {table.loc[BAICHUAN, metric]:.4f}"
        yield Check(f"Table 4, {metric}", finding, table_keys("Table 4", [row, BAICHUAN], [metric]), AT_ODDS)
    finding = f"{BAICHUAN} leads {(best == BAICHUAN).sum()} of {len(best)} columns: "
    finding += ", ".join(best.index[best == BAICHUAN])
    yield Check("Table 4, columns led", finding, ())
    others = table.drop(BAICHUAN)
    beaten = [row for row in others.index if (table.loc[BAICHUAN] > others.loc[row]).all()]
    claimed = in_text(printed, "systems outperformed")
    finding = f"{BAICHUAN} leads on every metric against {len(beaten)} of {len(others)}: {', '.join(beaten) or 'none'}"
    status = CONSISTENT if len(beaten) == claimed else AT_ODDS
    yield Check("Table 4, systems outperformed", finding, text_keys("systems outperformed"), status)
    finding = f"all {len(table)} rows are headed CBT-LLM Backbone, while §4.5 calls {len(others)} of them benchmark "
    finding += "models, as if untuned; the paper does not say whether all were tuned alike"
    yield Check("Table 4, baselines", finding, text_keys("backbones"))


def chrf(printed: Printed) -> Iterator[Check]:
    """Compare the ratio of the highest to the lowest chrF with that of BLEU, which counts the same texts."""
    table = published.table("Table 4", printed)
    spread = table.max() / table.min() - 1
    finding = f"the highest chrF is {spread['CHRF']:.0%} above the lowest, the highest BLEU {spread['BLEU']:.0%}; "
    finding += "jury 2.3.1 scores only the first reply, against all references"
    yield Check("Table 4, chrF", finding, table_keys("Table 4", table.index, ["CHRF"]))
    lowest = table["BLEU"].min()
    finding = f"no score is below {lowest:.4f}, while jury's default gives unsegmented Chinese 0; "
    finding += "the paper does not say whether the texts were segmented or the tokenizer changed"
    yield Check("Table 4, BLEU", finding, table_keys("Table 4", table.index, ["BLEU"]))


def ratings(printed: Printed) -> Iterator[Check]:
    """Check that every mean of Table 5 is a whole number of points over raters and items, and count each lead."""
    raters = in_text(printed, "raters, students") + in_text(printed, "raters, psychotherapists")
    items, table = in_text(printed, "rated items"), published.table("Table 5", printed)
    ratings = raters * items
    points = table * ratings
    whole = bool(((points - points.round()).abs() < 1e-6).all(axis=None))
    finding = f"every mean is a multiple of 1/{ratings:.0f} = {raters:.0f} raters × {items:.0f} items"
    about = text_keys("rated items", "raters, students", "raters, psychotherapists")
    status = "" if whole else INCONSISTENT
    yield Check("Table 5, rating points", finding if whole else f"not {finding}", about, status)
    lead = (points.loc[BAICHUAN] - points.drop(BAICHUAN).iloc[0]).round()
    largest = detectable(printed).set_index("scale")["largest SD"]
    for scale, ahead in lead.items():
        most = ratings * in_text(printed, "highest rating")
        finding = f"{BAICHUAN} leads by {ahead:.0f} of {most:.0f} points ({ahead / ratings:.3f}), without a test; "
        finding += f"{items:.0f} posts show this lead with a power of .8 where the standard deviation of the posts' "
        finding += f"differences is at most {largest[scale]:.3f}"
        yield Check(f"Table 5, {scale}", finding, table_keys("Table 5", table.index, [scale]))
    for system, mean in table["Stru."].items():
        highest = in_text(printed, "highest rating")
        least, most = (100 * (highest - mean) / step for step in (highest, 1))
        finding = f"{system} has {mean / highest:.0%} of the points for structure; {least:.1f} to {most:.1f} % of its "
        finding += "ratings are below “fully adhering”"
        yield Check(f"Table 5, Stru. of {system}", finding, table_keys("Table 5", [system], ["Stru."]))


def detectable(printed: Printed) -> pd.DataFrame:
    """Return which leads of Table 5 its own design can show: posts that both systems answered, rated by all raters.

    A post's difference is that of two means over the raters, so it comes in steps of 1/raters; a lead of k points then
    has a standard deviation over the posts, at the least, when k posts differ by one step. The test is two-sided at the
    level .05 and has a power of .8 (`statistics.minimum_detectable_difference`).

    Returns:
        scale, lead, "smallest SD" that it can have, "largest SD" with which it is detectable, "largest SD of ratings"
        were all ratings independent, and one column for each of `SPREADS`: whether the lead is detectable.
    """
    raters = in_text(printed, "raters, students") + in_text(printed, "raters, psychotherapists")
    items, table = int(in_text(printed, "rated items")), published.table("Table 5", printed)
    unit, most = (statistics.minimum_detectable_difference(n, 1.0) for n in (items, int(items * raters)))
    rows = []
    for scale, lead in (table.loc[BAICHUAN] - table.drop(BAICHUAN).iloc[0]).round(6).items():
        smallest = math.sqrt(max(abs(lead) / raters - lead**2, 0))
        shown = {f"SD {sd}": abs(lead) >= unit * sd for sd in SPREADS}
        largest = {"largest SD": abs(lead) / unit, "largest SD of ratings": abs(lead) / most}
        rows.append({"scale": scale, "lead": lead, "smallest SD": smallest} | largest | shown)
    return pd.DataFrame(rows)


def detectable_leads(printed: Printed) -> pd.DataFrame:
    """Return `detectable` to read: "yes" where a lead is detectable, and headers in words."""
    names = {
        "smallest SD": "least possible SD",
        "largest SD": "detectable up to SD",
        "largest SD of ratings": "the same, if ratings were independent",
    }
    return detectable(printed).replace({True: "yes", False: "–"} | SCALES).rename(columns=names)


def split(printed: Printed) -> Iterator[Check]:
    """Compute the sizes of the split, which are not printed, and the steps of a training on it."""
    items, share = in_text(printed, "items"), in_text(printed, "test share")
    test = round(items * share / 100)
    train, batch = int(items) - test, BATCH * int(in_text(printed, "accumulation steps"))
    finding = f"{share:.0f} % of {items:,.0f} is {items * share / 100:,.1f}: {test:,} test and {train:,} training items"
    status = "" if share + in_text(printed, "train share") == 100 else INCONSISTENT
    yield Check("split", finding, text_keys("train share", "test share"), status)
    steps = math.ceil(train / batch)
    total = steps * in_text(printed, "epochs")
    finding = f"with {BATCH} examples per batch and {batch} per step: {steps:,} steps per epoch, {total:,.0f} in all"
    yield Check("steps", finding, text_keys("accumulation steps", "instances per update", "epochs"))


def vocabulary(printed: Printed) -> Iterator[Check]:
    """Compute how many tokens Chinese LLaMA's vocabulary has beyond LLaMA's."""
    whole, said = in_text(printed, "LLaMA-Chinese vocabulary"), in_text(printed, "added Chinese tokens")
    finding = f"{whole:,.0f} − {LLAMA_TOKENS:,} = {whole - LLAMA_TOKENS:,.0f} tokens are new: "
    finding += f"of the {said:,.0f} merged in, LLaMA already had the others"
    yield Check("vocabulary", finding, text_keys("added Chinese tokens", "LLaMA-Chinese vocabulary"))


ALL: tuple[Callable[[Printed], Iterator[Check]], ...] = (
    repeated,
    shares,
    labels,
    cooccurrence,
    recognition,
    superiority,
    chrf,
    ratings,
    split,
    vocabulary,
)


def run(printed: Printed) -> list[Check]:
    """Return the findings of every check on the printed numbers (`published.by_key`)."""
    return [check for each in ALL for check in each(printed)]
