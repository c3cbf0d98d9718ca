"""The answers of all systems beside each other: their length, their form, and the five components of a CBT reply."""

from collections.abc import Sequence

import pandas as pd

from cbtllm_utils import published, statistics
from cbtllm_utils.generate import kinds
from cbtllm_utils.models.prompt_forms import passage
from cbtllm_utils.statistics import listed
from cbtllm_utils.text import reply_checks

REFERENCES = "references (test set)"
WHOLE = "all five components"
DEMANDS = {"empty": "empty", "loop": "repeating", "cut off": "cut off", "all five": WHOLE}


def counts(answers: Sequence[dict], test: Sequence[dict]) -> pd.DataFrame:
    """Return one row per system, by its name in answers: n, mean characters, and how many replies do what.

    Replies are empty, repeating (a passage three times) or cut off, and have all five components of a CBT reply as
    `reply_checks.structure` finds them: a check of form, not of meaning.
    """
    given = reply_checks.answered(answers)
    form = reply_checks.quality(given, {row["questionID"]: passage(row) for row in test}).set_index("system")
    whole = reply_checks.structure(given).set_index("system")["all five"]
    found = form.join(whole)[list(DEMANDS)].rename(columns=DEMANDS)
    replies = pd.DataFrame(given).groupby("system", sort=False)["reply"]
    found.insert(0, "n", replies.size())
    found.insert(1, "mean characters", replies.apply(lambda texts: texts.str.len().mean()))
    return found


def table(answers: Sequence[dict], test: Sequence[dict]) -> pd.DataFrame:
    """Return the counts of each system and of the references, with Wilson's interval for all five components.

    Returns:
        system, n, mean characters, empty, repeating, cut off, all five components, and the interval of the share of
        the last in percent.
    """
    written = [dict(row) | {"system": REFERENCES, "finish_reason": "stop", "tokens": 0} for row in test]
    found = counts([*answers, *written], test)
    ends = [statistics.wilson(whole, n) for whole, n in zip(found[WHOLE], found["n"], strict=True)]
    found["95% CI, % low"] = [100 * one.low for one in ends]
    found["95% CI, % high"] = [100 * one.high for one in ends]
    titled = [name if name == REFERENCES else kinds.title(name) for name in found.index]
    return found.set_axis(pd.Index(titled, name="system")).reset_index()


def shares(answers: Sequence[dict], test: Sequence[dict]) -> pd.DataFrame:
    """Return the counts as percent of the replies, to draw: row (the backbone), metric, kind, value, low, high, n.

    What no reply of any system does is left out.
    """
    found, lines = counts(answers, test), []
    for metric in (name for name in DEMANDS.values() if found[name].any()):
        for name, own in found.iterrows():
            backbone, kind = kinds.split(name)
            share = [100 * value for value in statistics.wilson(own[metric], own["n"])]
            short = metric.removesuffix(" components")  # the title of a narrow panel
            row = published.backbone_title(backbone), f"{short}, %", kind, *share, int(own["n"])
            lines.append(row)
    return pd.DataFrame(lines, columns=["row", "metric", "kind", "value", "low", "high", "n"])


def in_words(answers: Sequence[dict], test: Sequence[dict]) -> list[str]:
    """Return what the answers of a backbone are like, in sentences; the tuned system first."""
    found = counts(answers, test)
    order = sorted(found.index, key=lambda name: kinds.KINDS.index(kinds.split(name)[1]), reverse=True)
    found = found.loc[order].rename(index=lambda name: kinds.split(name)[1])
    whole = [f"{row[WHOLE]:.0f} of {row['n']:.0f} {kind} replies" for kind, row in found.iterrows()]
    long = [f"{row['mean characters']:.0f} ({kind})" for kind, row in found.iterrows()]
    first = found.iloc[0]
    references = sum(len(row["reply"]) for row in test) / len(test)
    return [
        f"All five components are found in {listed(whole)}; this counts wording and says nothing of meaning.",
        f"A reply has on average {listed(long)} characters; the references have {references:.0f}.",
        f"Of the {found.index[0]} replies, {first['empty']:.0f} are counted as empty, {first['repeating']:.0f} as "
        f"repeating a passage and {first['cut off']:.0f} as cut off.",
    ]
