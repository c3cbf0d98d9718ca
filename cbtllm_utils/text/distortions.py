"""Names of cognitive distortions in a reply (§3.3): anywhere, as the paper counted, or attributed to the client."""

import csv
import functools
import itertools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from cbtllm_utils import files, published, statistics
from cbtllm_utils.text import clauses

TAXONOMY = Path(__file__).with_name("distortion_taxonomy.csv")  # one class a line, with its names
PATTERNS = Path(__file__).with_name("distortion_patterns.csv")  # what around a name changes its meaning
UNQUOTED = dict.fromkeys(map(ord, clauses.QUOTES))
REACH = 400  # characters around a name that can change its meaning; the sample's longest sentence has 153


class Mention(NamedTuple):
    """A distortion's class, the words that name it in the reply, and the position where they begin."""

    label: str
    text: str
    start: int


@functools.cache
def taxonomy() -> pd.DataFrame:
    """Return the classes: label, english, row (of Table 2), chinese, terms, everyday, definition, source.

    `terms` mean nothing else; `everyday` words have another meaning too, and count where they are introduced as a name.
    """
    return pd.read_csv(TAXONOMY, dtype=str, keep_default_na=False)


@functools.cache
def patterns() -> dict[str, re.Pattern[str]]:
    """Return what around a name changes its meaning: one regular expression for each kind."""
    with PATTERNS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    kinds = dict.fromkeys(row["kind"] for row in rows)
    return {kind: re.compile("|".join(row["pattern"] for row in rows if row["kind"] == kind)) for kind in kinds}


@functools.cache
def names() -> list[tuple[str, bool, re.Pattern[str]]]:
    """Return (class, everyday, pattern) for the names of each class, then for its everyday words."""
    return [
        (row["label"], column == "everyday", any_of(row[column].split()))
        for column in ("terms", "everyday")
        for _, row in taxonomy().iterrows()
        if row[column]
    ]


def any_of(words: list[str]) -> re.Pattern[str]:
    """Return one pattern of a class's words, the longest first, each with the “思维” or “的思维” that may follow it."""
    ways = "|".join(map(with_quotes, sorted(words, key=len, reverse=True)))
    return re.compile(rf"(?:{ways})(?:[{clauses.QUOTES}]?的?(?:思维|思考)(?:方式|模式)?)?")


def with_quotes(name: str) -> str:
    """Return a name with room for a quotation mark between any two characters, “应该”思维; a pattern as it is."""
    return f"[{clauses.QUOTES}]?".join(name) if name.isalnum() else name


def find(reply: str, mode: str = "attributed") -> list[Mention]:
    """Find the distortions that a reply names, in order; where two names overlap, the longer counts.

    Lexical: what is described without a name is not found.

    Args:
        reply: The reply.
        mode: "named" finds any name, as the paper must have counted; "attributed" those said of the client: not denied,
            not said of people in general or of somebody else, not merely explained. A hedge counts, and so does advice
            (避免过度概括), which presupposes the distortion.
    """
    if mode not in ("named", "attributed"):
        raise files.InputError(f"mode {mode!r}: expected 'named' or 'attributed'")
    plain = clauses.plain(reply)
    hits = candidates(plain)
    preceding = text_before(plain, [hit[:2] for hit in hits])
    gaps = ["", *(plain[one[1] : other[0]] for one, other in itertools.pairwise(hits)), ""]  # around each name
    return [
        Mention(label, reply[start:end], start)
        for (start, end, label, everyday), before, left, right in zip(hits, preceding, gaps, gaps[1:], strict=False)
        if (not everyday or introduced(plain, start, end) or joins(left) or joins(right))
        and (mode == "named" or attributed(before, text_after(plain, end)))
    ]


def candidates(plain: str) -> list[tuple[int, int, str, bool]]:
    """Return (start, end, class, everyday) of all names by place.

    Look-alikes (安全或无效) and names within a longer name do not count.
    """
    found = [(*hit.span(), label, everyday) for label, everyday, pattern in names() for hit in pattern.finditer(plain)]
    taken, counted = bytearray(len(plain)), []  # 1 for each character that belongs to a look-alike or a name
    for look_alike in patterns()["look_alike"].finditer(plain) if found else ():
        taken[look_alike.start() : look_alike.end()] = b"\1" * len(look_alike[0])
    for start, end, label, everyday in sorted(found, key=lambda hit: (hit[0] - hit[1], hit[0])):
        if not any(taken[start:end]):
            taken[start:end] = b"\1" * (end - start)
            counted.append((start, end, label, everyday))
    return sorted(counted)


def introduced(plain: str, start: int, end: int) -> bool:
    """Return whether an everyday word is used as a name: quoted, called so, or as a kind of thinking."""
    before = re.split(r"[,。;:!?\n]", plain[max(0, start - REACH) : start])[-1]
    after = plain[end : end + REACH].lstrip(clauses.QUOTES)
    return bool(patterns()["introduced"].search(before) or patterns()["introduced_after"].match(after))


def joins(gap: str) -> bool:
    """Return whether the text between two names makes them one list: 读心术和预测未来."""
    return bool(re.fullmatch("、|和|与|及|或者?|以及|跟|加上|,?还有", gap.strip(clauses.QUOTES)))


def text_after(plain: str, end: int) -> str:
    """Return what follows a name in its sentence."""
    return re.compile(r"[^。!?\n]*").match(plain, end, end + REACH)[0]


def text_before(plain: str, spans: list[tuple[int, int]]) -> list[str]:
    """Return the text before each name in its sentence, without other names."""
    unnamed = list(plain)
    for start, end in spans:
        unnamed[start:end] = [""] * (end - start)
    windows = ("".join(unnamed[max(0, start - 5 * REACH) : start]) for start, _ in spans)  # room for other names
    return [re.split(r"[。!?\n]", window)[-1][-REACH:] for window in windows]


def attributed(before: str, after: str) -> bool:
    """Return whether a name is said of the client, judged by the text before and after it in its sentence."""
    around, after_name, quoting = patterns(), after.translate(UNQUOTED), before
    before = before.translate(UNQUOTED)
    clause = re.split(r"[,;:—]", around["affirmed"].sub("…", before))[-1]
    clause = around["turn"].split(clause)[-1]
    if around["denial"].search(clause) or around["denied_after"].match(after_name):
        return False
    if around["exercise"].search(before) or of_somebody_else(quoting):
        return False
    general = around["general"].search(before) or around["explained"].search(before)
    if not general and not around["defined"].match(after_name):
        return True
    return bool(re.search("[你您]", before + after) or re.search("[这那]", before[-12:]))


def of_somebody_else(before: str) -> bool:
    """Return whether the clause of a name is about, or said by, somebody else: 你妈妈的想法, 老师说你.

    A clause without a subject has that of the clause before it, unless the name is for a thought: one that was quoted
    there, or is pointed at (这, 那, 它).
    """
    *earlier, clause = re.split(r"[,;:—]", clauses.unquoted(before))
    thought = re.search("[这那它]", clause) or "…" in "".join(earlier[-1:])
    inherited = "" if thought else "".join(map(clauses.subject, earlier[-1:]))
    return clauses.subject(clause, inherited) == "other" and not re.search("[让使令害][你您]", clause)


def in_context(reply: str) -> pd.DataFrame:
    """Return the distortions that a reply attributes to the client, one per row: class, its name and where it is."""
    english = taxonomy().set_index("label")["english"]
    rows = []
    for found in find(reply):
        around = reply[max(0, found.start - 18) : found.start + len(found.text) + 12]
        rows.append({"class": english[found.label], "named as": found.text, "in the reply": files.one_line(around)})
    return pd.DataFrame(rows, columns=["class", "named as", "in the reply"])


def labels(reply: str, mode: str = "attributed") -> list[str]:
    """Return the classes that a reply names, each once, in the taxonomy's order."""
    found = {mention.label for mention in find(reply, mode)}
    return [label for label in taxonomy()["label"] if label in found]


def table(replies: Iterable[str], mode: str) -> pd.DataFrame:
    """Return replies × classes: whether each reply names each class."""
    classes = list(taxonomy()["label"])
    found = [labels(reply, mode) for reply in replies]
    return pd.DataFrame([[label in row for label in classes] for row in found], columns=classes)


def paper_rows(named: pd.DataFrame) -> pd.DataFrame:
    """Return replies × the six rows of the paper's Table 2, whose Others are all classes that it does not list."""
    rows = taxonomy().set_index("label")["row"]
    return pd.DataFrame({row: named[rows.index[rows == row]].any(axis=1) for row in dict.fromkeys(rows)})


def beside_table2(named: pd.DataFrame, attributed: pd.DataFrame) -> pd.DataFrame:
    """Return the paper's Table 2 beside ours, in the paper's order.

    Counts of two data sets have no difference; compare the shares of the replies that name a distortion.

    Args:
        named: Replies × classes, counted anywhere (`table`), as the paper most likely counted.
        attributed: The same, attributed to the client.

    Returns:
        Columns row, column, paper, here; "here, attributed to the client" where that differs in any row;
        "paper, share", "here, share" with Wilson's 95 % interval.
    """
    ours, whole = paper_rows(named).sum(), int(named.any(axis=1).sum())
    found = published.beside("Table 2", ours.rename("Samples").to_frame()).drop(columns="difference")
    said = found["row"].map(paper_rows(attributed).sum())
    if not said.equals(found["here"].astype(said.dtype)):
        found["here, attributed to the client"] = said
    found["paper, share"] = found["paper"] / published.value("text", "replies with a distortion", "value")
    estimates = [statistics.wilson(int(count), whole) for count in found["here"]]
    found["here, share"] = found["here"] / whole
    found["95% CI low"] = [estimate.low for estimate in estimates]
    found["95% CI high"] = [estimate.high for estimate in estimates]
    return found.astype(dict.fromkeys(("paper", "here"), "Int64"))


def percentages(table2: pd.DataFrame) -> pd.DataFrame:
    """Return the shares of `beside_table2` in percent, as `charts.beside` takes them: row, paper, here, low, high."""
    columns = {"paper": "paper, share", "here": "here, share", "low": "95% CI low", "high": "95% CI high"}
    return pd.DataFrame({"row": table2["row"]} | {name: 100 * table2[source] for name, source in columns.items()})


def share_by(flags: pd.Series, groups: list[str]) -> pd.DataFrame:
    """Return the share of true flags in each group with Wilson's interval: row, n, value, low, high."""
    rows = []
    for name, own in flags.groupby(groups):
        rows.append({"row": name, "n": len(own)} | statistics.wilson(int(own.sum()), len(own))._asdict())
    return pd.DataFrame(rows)


class Overlap(NamedTuple):
    """How many replies can name both of two classes, and how many would if the two were independent."""

    least: float
    most: float
    by_chance_of_all: float
    by_chance_of_naming: float


def overlap(first: float, second: float, others: float, naming: float, items: float) -> Overlap:
    """Return what the counts of two classes say of the replies that name both.

    Args:
        first, second: The replies that name each class.
        others: The labels of all other classes together.
        naming: The replies that name any class: each names the first, the second, or another.
        items: All replies.
    """
    neither = min(others, naming - max(first, second))  # at most: the others name at most so many replies
    least = max(0, first + second - naming)
    return Overlap(least, first + second - naming + neither, first * second / items, first * second / naming)


def pair(named: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """Return how often two classes occur in one reply: observed, expected by chance, and Fisher's exact test."""
    from scipy.stats import fisher_exact

    both = pd.crosstab(named[first], named[second]).reindex(index=[False, True], columns=[False, True], fill_value=0)
    odds, p = fisher_exact(both)
    observed, expected = (counts.loc[first, second] for counts in together(named))
    rows = [("replies that name both", f"{observed:.0f}"), ("expected by chance among all replies", f"{expected:.1f}")]
    ratio = f"{odds:.2f}" if np.isfinite(odds) else "none: one of the two is never named without the other"
    rows += [("odds ratio", ratio), ("p (Fisher's exact test)", "< 0.01" if p < 0.01 else f"{p:.2f}")]
    return pd.DataFrame(rows, columns=["measure", "here"])


def together(named: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return how many replies name two classes together, and how many would if the classes were independent."""
    matrix = named.astype(int)
    counts = matrix.sum()
    expected = np.outer(counts, counts) / max(len(named), 1)
    classes = list(named.columns)
    apart = ~np.eye(len(classes), dtype=bool)
    return (matrix.T @ matrix).where(apart), pd.DataFrame(expected, classes, classes).where(apart)
