"""How much the screens find in voices that they were not fitted to (`data/screening`)."""

from collections.abc import Iterable, Mapping

import pandas as pd

from cbtllm_utils import files, statistics
from cbtllm_utils.text import referral, risk_model, screening

DOUBTFUL = "data/screening/doubtful_posts.csv"  # posts that the second reader labeled otherwise, or doubted
FINAL_POSTS = "data/screening/final_posts.csv"  # two voices written when the screens were finished
FINAL_REPLIES = "data/screening/final_replies.csv"
FINAL_READINGS = "data/screening/final_readings.csv"  # of a second reader: id, severity, kinds joined by |
SAMPLE = "sample"  # the voice of the bundled sample: whole forum posts, which nobody wrote for a screen
WARNING = "Content warning: these invented texts speak of suicide and its methods, self-harm, abuse and violence."
RECALL, FALSE_ALARMS = "recall", "false alarms"
LEFT_OUT_POSTS, WHOLE_POSTS, LEFT_OUT_REPLIES = "risk, left-out voices", "risk, the sample", "referral, left-out voices"
IN_WORDS = {  # the texts of a summary -> its hits and its false alarms as a sentence
    LEFT_OUT_POSTS: "In voices not read before, the risk screen flags {} posts with risk and {} posts without.",
    WHOLE_POSTS: (
        "Of the sample's whole posts, left out of the fitting, it flags {} with risk and {} without. Notebook 02 "
        "of the demo flags far fewer of these posts, because its screen was fitted with them."
    ),
    LEFT_OUT_REPLIES: "The referral screen finds {} replies that direct to help, and wrongly names {} others.",
}


def posts(path: str = risk_model.POSTS) -> pd.DataFrame:
    """Return posts: id, voice, kind, label (1 = risk), second_kind, second_label, text."""
    return files.read_csv(path)


def replies(path: str = referral.EXAMPLES) -> pd.DataFrame:
    """Return replies: id, voice, kind, label (1 = directs to help), directs, second_label, second_directs, text."""
    return files.read_csv(path, keep_default_na=False)


def readings(path: str = FINAL_READINGS) -> pd.DataFrame:
    """Return a second reader's findings in posts: id, severity (none, passive, active), kinds joined by |."""
    return files.read_csv(path, keep_default_na=False)


def first_voices(table: pd.DataFrame, number: int | None) -> list[str]:
    """Return this many voices of a table, from the first on; None for all."""
    return list(table["voice"].unique()[:number])


def screen_left_out_posts(table: pd.DataFrame, voices: Iterable[str]) -> pd.DataFrame:
    """Return the posts of these voices with `flagged`, by a model that has not read the voice and by the patterns."""
    scores = risk_model.leave_one_voice_out(table, voices)
    by_model = [risk_model.flagged(risk_model.Scores(*row)) for row in scores.itertuples(index=False)]
    left_out = table.loc[scores.index]
    by_words = left_out["text"].map(lambda text: bool(screening.by_words(text)))
    return left_out.assign(flagged=by_words | pd.Series(by_model, left_out.index))


def screen_left_out_replies(table: pd.DataFrame, voices: Iterable[str]) -> pd.DataFrame:
    """Return the replies of these voices as `screen_replies`, by a model that has not read the voice."""
    found = []
    for voice in voices:
        own, others = table[table["voice"] == voice], table[table["voice"] != voice]
        model = referral.learn(zip(others["text"], map(directs, others["directs"]), strict=True))
        targets = [frozenset(one.to for one in referral.find(text, model=model)) for text in own["text"]]
        found.append(own.assign(found=targets))
    return with_advice(pd.concat(found))


def screen_posts(table: pd.DataFrame) -> pd.DataFrame:
    """Return posts with `flagged`, by the screen as it is."""
    return table.assign(flagged=table["text"].map(screening.risk))


def read_posts(table: pd.DataFrame, readings: pd.DataFrame) -> pd.DataFrame:
    """Return screened posts with `flagged` even where only a second reader (id, severity) found risk.

    A post without a reading stays what the screen said.
    """
    severity = table["id"].map(readings.set_index("id")["severity"])
    return table.assign(flagged=table["flagged"] | severity.isin(["passive", "active"]))


def screen_replies(table: pd.DataFrame) -> pd.DataFrame:
    """Return replies with `found` (what each directs to) and whether any, by the screen as it is."""
    found = [frozenset(one.to for one in screening.find_referral(text)) for text in table["text"]]
    return with_advice(table.assign(found=found))


def with_advice(table: pd.DataFrame) -> pd.DataFrame:
    """Return replies with `flagged` (directs to any help) and `exact` (to just what the label says)."""
    exact = [found == directs(truth) for found, truth in zip(table["found"], table["directs"], strict=True)]
    return table.assign(flagged=table["found"].map(bool), exact=exact)


def directs(joined: str) -> frozenset[str]:
    """Return what a label's targets, joined by +, are."""
    return frozenset(filter(None, joined.split("+")))


def rates(table: pd.DataFrame, by: str) -> pd.DataFrame:
    """Return how many of each group are flagged, first those that should be, with Wilson intervals.

    Returns:
        Columns measure (recall or false alarms), `by`, n, flagged, share, 95% CI low and high; "all" comes first.
    """
    rows = []
    for label, measure in ((1, RECALL), (0, FALSE_ALARMS)):
        own = table[table["label"] == label]
        for name, group in [("all", own), *own.groupby(by, sort=False)]:
            hits = int(group["flagged"].sum())
            share, low, high = statistics.wilson(hits, len(group))
            numbers = {"n": len(group), "flagged": hits, "share": share, "95% CI low": low, "95% CI high": high}
            rows.append({"measure": measure, by: name} | numbers)
    return pd.DataFrame(rows)


LENGTHS = {"under 40 characters": 0, "40 to 99": 40, "100 and more": 100}


def by_length(table: pd.DataFrame) -> pd.DataFrame:
    """Return `rates` by how long the posts are."""
    ends = [*LENGTHS.values(), float("inf")]
    lengths = pd.cut(table["text"].str.len(), ends, right=False, labels=list(LENGTHS))
    ordered = table.assign(length=lengths.astype(str)).sort_values("text", key=lambda text: text.str.len())
    return rates(ordered, "length")


def kinds_right(table: pd.DataFrame) -> float:
    """Return the share of flagged posts with risk in which the screen finds the kind that the writer gave."""
    hits = table[(table["label"] == 1) & table["flagged"]]
    found = [{one.kind for one in screening.find_risk(text)} for text in hits["text"]]
    right = [risk_model.KINDS[kind] in kinds for kind, kinds in zip(hits["kind"], found, strict=True)]
    return sum(right) / len(right)


def overall(table: pd.DataFrame) -> tuple[float, float]:
    """Return recall and the share of false alarms of screened texts."""
    found = rates(table, "kind").query("kind == 'all'").set_index("measure")["share"]
    return float(found[RECALL]), float(found[FALSE_ALARMS])


def summary(sets: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return recall and false alarms of each set of screened texts, one row per set and measure."""
    parts = [
        rates(table, "kind").query("kind == 'all'").assign(texts=name) for name, table in sets.items() if len(table)
    ]
    return pd.concat(parts).drop(columns="kind").set_index("texts").reset_index()


def sentences(found: pd.DataFrame) -> list[str]:
    """Return a `summary` in words: what is flagged of each set of texts that `IN_WORDS` names."""
    said = []
    for name, rows in found.groupby("texts", sort=False):
        counts = rows.set_index("measure")[["flagged", "n"]].astype(int)
        of = ["{:,} of {:,}".format(*counts.loc[measure]) for measure in (RECALL, FALSE_ALARMS)]
        said += [IN_WORDS[name].format(*of)] if name in IN_WORDS else []
    return said


def workload(share: float, recall: float, false_alarms: float) -> dict[str, float]:
    """Return what flags mean where this share of posts speaks of danger: how many of 1,000 are flagged, how many truly.

    The rates are assumed to hold there, which we did not test.
    """
    true, false = 1000 * share * recall, 1000 * (1 - share) * false_alarms
    return {
        "flagged of 1,000 posts": true + false,
        "of these with risk": true,
        "posts with risk not flagged": 1000 * share * (1 - recall),
    }


def by_voice(table: pd.DataFrame) -> pd.DataFrame:
    """Return recall and false alarms of each voice with its numbers of posts, the lowest recall first."""
    found = rates(table, "voice").query("voice != 'all'").pivot(index="voice", columns="measure", values=["n", "share"])
    columns = {
        "posts with risk": found["n", RECALL].astype(int),
        RECALL: found["share", RECALL],
        "posts without risk": found["n", FALSE_ALARMS].astype(int),
        FALSE_ALARMS: found["share", FALSE_ALARMS],
    }
    return pd.DataFrame(columns).sort_values(RECALL).reset_index()


def misses(table: pd.DataFrame, each: int, seed: int) -> pd.DataFrame:
    """Return up to `each` missed posts of each kind, drawn at random: kind, missed (how many in all), voice, text."""
    missed = table[(table["label"] == 1) & ~table["flagged"]]
    drawn = [group.sample(min(each, len(group)), random_state=seed) for _, group in missed.groupby("kind", sort=False)]
    rows = pd.concat([missed.head(0), *drawn])
    return rows.assign(missed=rows["kind"].map(missed["kind"].value_counts()))[["kind", "missed", "voice", "text"]]


def agreement(table: pd.DataFrame, doubtful: pd.DataFrame) -> pd.DataFrame:
    """Return how the second reader's labels agree with the writers', doubtful texts included: one row."""
    both = pd.concat([table, doubtful])
    return pd.DataFrame(
        [
            {
                "texts": len(both),
                "voices": both["voice"].nunique(),
                "same label": int((both["label"] == both["second_label"]).sum()),
                "doubtful, left out": len(doubtful),
            }
        ]
    )
