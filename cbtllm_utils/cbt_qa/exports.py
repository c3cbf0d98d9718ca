"""The data set as others read it: JSON Lines, a form without posts, and a card."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from huggingface_hub import DatasetCardData

from cbtllm_utils import files, hashing, hub, notices
from cbtllm_utils.data.splits import SPLITS

RELEASED = (  # fields that the released form keeps
    *("questionID", "reply", "split", "risk", "flagged_by", "advice", "model", "prompt"),
)
QUOTE = 12  # characters in a row that a reply shares with its post: a quotation, not chance
RELEASE = "release"  # the folder of the form without posts, and its name for `datasets.load_dataset`
SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K"}  # the hub's size_categories, by what they are below


def write_all(
    items: list[dict], folder: str | Path, losses: str, removed: str, reader: str, people: str, conditions: str
) -> pd.DataFrame:
    """Write the data set in every form, with its card, to `folder`; return the form without posts (`release`).

    The words are those of `card`.
    """
    write_rows(items, folder)
    released = release(items, Path(folder) / RELEASE)
    card(items, released, losses, removed, reader, people, conditions, Path(folder) / "README.md")
    files.write_text(Path(folder) / hub.LICENSE, LICENSE)
    return released


def write_rows(items: list[dict], folder: str | Path) -> None:
    """Write cbt_qa.jsonl and its two halves, train.jsonl and test.jsonl, to `folder`."""
    files.write_jsonl(Path(folder) / "cbt_qa.jsonl", items)
    for split in SPLITS:
        files.write_jsonl(Path(folder) / f"{split}.jsonl", [item for item in items if item["split"] == split])


def quotes(reply: str, post: str) -> bool:
    """Return whether a reply repeats at least QUOTE characters of its post in a row."""
    return any(reply[start : start + QUOTE] in post for start in range(len(reply) - QUOTE + 1))


def release(items: list[dict], folder: str | Path) -> pd.DataFrame:
    """Write the data set without its posts to a folder of its own, with a card, and return it.

    `post` is `hashing.text` of question, line break and description: who has PsyQA can join and check. `quotes` marks
    replies that repeat a part of their post, as the prompt asks; PsyQA's agreement decides whether they may be shared.
    """
    released = []
    for item in items:
        post = f"{item['question']}\n{item['description']}"
        fields = {name: item[name] for name in RELEASED}
        released.append(fields | {"post": hashing.text(post), "quotes": quotes(item["reply"], post)})
    with files.atomic(folder) as temporary:
        for split in SPLITS:
            files.write_jsonl(temporary / f"{split}.jsonl", [row for row in released if row["split"] == split])
        files.write_text(temporary / "README.md", release_card(released))
        files.write_text(temporary / hub.LICENSE, LICENSE)
    return pd.DataFrame(released, columns=[*RELEASED, "post", "quotes"])


def metadata(rows: dict[str, list[dict]], name: str) -> str:
    """Return the YAML above a data set's card, by which `datasets.load_dataset(folder)` finds splits and types.

    The types are said because a reader would guess them from the first rows, where a field may be empty. Other files of
    the folder are read by nobody who does not name them. A split without examples is not named: `datasets` cannot load
    an empty file.

    Args:
        rows: Folder below the card, "" for the card's own -> its examples. The first is what is loaded by default.
        name: The data set's name to read.
    """
    names = {place: place or "default" for place, examples in rows.items() if examples}
    data = DatasetCardData(
        pretty_name=name,
        language=["zh"],
        license="other",
        license_name="psyqa-agreement",
        license_link=hub.LICENSE,
        multilinguality="monolingual",
        language_creators=["found", "machine-generated"],
        annotations_creators=["machine-generated"],
        size_categories=size(len(next(iter(rows.values())))),
        task_categories=["text-generation", "question-answering"],
        tags=hub.TAGS,
        configs=[{"config_name": names[place], "data_files": data_files(place, rows[place])} for place in names],
        dataset_info=[{"config_name": names[place], "features": features(rows[place])} for place in names],
    )
    return hub.header(data)


def data_files(place: str, rows: list[dict]) -> list[dict]:
    """Return the file of each split that has examples, in a folder below the card."""
    return [{"split": split, "path": (Path(place) / f"{split}.jsonl").as_posix()} for split in filled(rows)]


def filled(rows: list[dict]) -> list[str]:
    """Return the splits that have examples."""
    return [split for split in SPLITS if any(row["split"] == split for row in rows)]


def splits_in_words(rows: list[dict]) -> str:
    """Return which splits can be loaded, such as "splits train and test"."""
    names = filled(rows)
    return f"split{'s' * (len(names) > 1)} {' and '.join(names)}" if names else "no split: there is no example to load"


def size(number: int) -> str:
    """Return the hub's word for so many examples."""
    return next((word for limit, word in SIZES.items() if number < limit), "100K<n<1M")


def features(rows: list[dict]) -> list[dict]:
    """Return the type of each field, as `datasets` writes it into a card; an ID of the forum is a number or a text."""
    identifier = kind(row["questionID"] for row in rows)
    found = {field: kind(row[field] for row in rows) for field in rows[0]}
    known = found | ({"near_duplicate_of": identifier} if "near_duplicate_of" in found else {})
    return [{"name": field, "dtype": dtype} for field, dtype in known.items()]


def kind(values: Iterable) -> str:
    """Return the type of a field's values, of which some or all may be missing."""
    types = {type(value) for value in values if value is not None}
    return {frozenset({bool}): "bool", frozenset({int}): "int64"}.get(frozenset(types), "string")


LICENSE = """# What may be shared
- Posts from PsyQA are under its authors' agreement, and so is what was made from them: they may not be redistributed.
- Replies, IDs and hashes may be shared only as far as that agreement allows; so may replies that quote their post.
- Posts of the bundled sample are invented, and free to redistribute with their replies.
"""
RELEASE_CARD = """# CBT QA without its posts, made by notebook 02

> **Important.** {english}
>
> {chinese}
>
> {psyqa}

{items} replies by {models} to posts that are not in this folder (arXiv 2403.16008, §3). No person has written or checked
a reply. `questionID` and `post`, the first characters of the SHA-256 of question, line break and description, let who
has the posts join both. `quotes` marks the {quotes} replies that repeat a part of their post.

```python
from datasets import load_dataset

released = load_dataset("{folder}")  # a folder or its name on the hub; {splits}
```

The license `psyqa-agreement` above is that of PsyQA's posts. Posts of the bundled sample are invented and free to
redistribute with their replies.
"""
CARD = """# CBT QA, made by notebook 02

> **Important.** {english}
>
> {chinese}

Conditions: {conditions}.

{items} examples ({train} train, {test} test), each a post (question, description) and a reply in the structure of
cognitive behavioral therapy (arXiv 2403.16008, §3). Replies by: {models}; prompt {prompts}. No person has written or
checked a reply. Left out: {losses}. Cleaned off replies: {removed}. {flagged}. A post that neither a screen nor a
model flags may still speak of danger. {advised}By the reading sheets: {people}.

| file | content |
|---|---|
| `cbt_qa.jsonl`, `train.jsonl`, `test.jsonl` | one example per line, with its split, topic, risk, model and the prompt's hash |
| `dropped.csv` | every record that was left out: its kind of loss, and why |
| `release/` | without the posts: IDs, hashes of the posts, replies, a card. {quotes} replies quote their post |
| `responses.jsonl` | every answer as it came |

With Hugging Face `datasets`, and its cache beside the files so that no post is copied elsewhere; `FOLDER` is this one:
`load_dataset("FOLDER", cache_dir="FOLDER/cache")` has the posts ({splits});
`load_dataset("FOLDER", "release", cache_dir="FOLDER/cache")` has them without the posts.

**Upload `release/` alone, never this folder.** Posts from PsyQA: {psyqa} PsyQA may not be redistributed; of this folder
only `release/` is meant to be shared, and only as far as PsyQA's agreement allows. The bundled sample is invented and
free to redistribute with its replies: the license `psyqa-agreement` above is that of PsyQA's posts and not the sample's.
"""


def release_card(released: list[dict]) -> str:
    """Return the card of the form without posts."""
    return metadata({"": released}, "CBT QA without its posts") + RELEASE_CARD.format(
        items=len(released),
        models=", ".join(sorted({row["model"] for row in released})),
        quotes=sum(row["quotes"] for row in released),
        folder=RELEASE,
        splits=splits_in_words(released),
        english=notices.notice("en"),
        chinese=notices.notice("zh"),
        psyqa=notices.notice("psyqa"),
    )


def flagged(by: pd.Series, reader: str) -> str:
    """Return in words how many posts are flagged for risk, by whom, and who read: a sentence without its full stop.

    Args:
        by: Who flagged each post; missing for a post that is not flagged.
        reader: Which second reader read how many posts, in words.
    """
    counts = by.value_counts().sort_index()
    if counts.empty:
        return f"No post is flagged for risk ({reader})"
    posts = "1 post is" if counts.sum() == 1 else f"{counts.sum()} posts are"
    each = ", ".join(f"{name} {n}" for name, n in counts.items())
    return f"{posts} flagged for risk (by {each}; {reader})"


def advised(table: pd.DataFrame) -> str:
    """Return in words how many replies to flagged posts advise help; "" where no post is flagged."""
    if not table["risk"].any():
        return ""
    return (
        f"In {int((table['risk'] & table['advice']).sum())} of the replies to flagged posts the referral screen finds "
        "advice to turn to a crisis resource and to a trusted person. "
    )


def card(
    items: list[dict],
    released: pd.DataFrame,
    losses: str,
    removed: str,
    reader: str,
    people: str,
    conditions: str,
    path: str | Path,
) -> Path:
    """Write the data set's card: notices, counts, files, what may be shared. Return its path.

    Args:
        items: The data set.
        released: What `release` returns.
        losses: What is not in it, by kind.
        removed: What was cleaned off replies.
        reader: Which second reader read how many posts, in words.
        people: How many of the replies to flagged posts were read by a person, in words.
        conditions: As on every table and figure.
        path: Where to.
    """
    table = pd.DataFrame(items, columns=None if items else list(RELEASED))
    numbers = {
        "items": len(table),
        "train": int((table["split"] == "train").sum()),
        "test": int((table["split"] == "test").sum()),
        "models": ", ".join(sorted(table["model"].unique())),
        "prompts": ", ".join(sorted(table["prompt"].unique())),
        "flagged": flagged(table["flagged_by"], reader),
        "advised": advised(table),
        "people": people,
        "splits": splits_in_words(items),
        "quotes": int(released["quotes"].sum()),
    }
    shown = {"english": notices.notice("en"), "chinese": notices.notice("zh"), "psyqa": notices.notice("psyqa")}
    rows = {"": items, RELEASE: released.astype(object).where(released.notna(), None).to_dict("records")}
    text = CARD.format(conditions=conditions, losses=losses, removed=removed, **numbers, **shown)
    return files.write_text(path, metadata(rows, "CBT QA") + text)
