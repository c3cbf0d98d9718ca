"""The data set as others read it: JSON Lines, a form without posts, and a card."""

from pathlib import Path

import pandas as pd

from cbtllm_utils import files, hashing, notices
from cbtllm_utils.data.splits import SPLITS

RELEASED = (  # fields that the released form keeps
    *("questionID", "reply", "split", "risk", "flagged_by", "advice", "model", "prompt"),
)
QUOTE = 12  # characters in a row that a reply shares with its post: a quotation, not chance


def write_all(
    items: list[dict], folder: str | Path, losses: str, removed: str, reader: str, people: str, conditions: str
) -> pd.DataFrame:
    """Write the data set in every form, with its card, to `folder`; return the form without posts (`release`).

    The words are those of `card`.
    """
    write_rows(items, folder)
    released = release(items, Path(folder) / "release.jsonl")
    card(items, released, losses, removed, reader, people, conditions, Path(folder) / "README.md")
    return released


def write_rows(items: list[dict], folder: str | Path) -> None:
    """Write cbt_qa.jsonl and its two halves, train.jsonl and test.jsonl, to `folder`."""
    files.write_jsonl(Path(folder) / "cbt_qa.jsonl", items)
    for split in SPLITS:
        files.write_jsonl(Path(folder) / f"{split}.jsonl", [item for item in items if item["split"] == split])


def quotes(reply: str, post: str) -> bool:
    """Return whether a reply repeats at least QUOTE characters of its post in a row."""
    return any(reply[start : start + QUOTE] in post for start in range(len(reply) - QUOTE + 1))


def release(items: list[dict], path: str | Path) -> pd.DataFrame:
    """Write the data set without its posts as JSON Lines, and return it.

    `post` is `hashing.text` of question, line break and description: who has PsyQA can join and check. `quotes` marks
    replies that repeat a part of their post, as the prompt asks; PsyQA's agreement decides whether they may be shared.
    """
    released = []
    for item in items:
        post = f"{item['question']}\n{item['description']}"
        fields = {name: item[name] for name in RELEASED}
        released.append(fields | {"post": hashing.text(post), "quotes": quotes(item["reply"], post)})
    files.write_jsonl(path, released)
    return pd.DataFrame(released)


CARD = """---
language: zh
task_categories: [question-answering]
---
# CBT QA, made by notebook 02

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
| `release.jsonl` | without the posts: IDs, hashes of the posts, replies. {quotes} replies quote their post |
| `responses.jsonl` | every answer as it came |

With Hugging Face `datasets`, and its cache beside the files so that no post is copied elsewhere:
`load_dataset("json", data_files={{"train": "train.jsonl", "test": "test.jsonl"}}, cache_dir="cache")`.

Posts from PsyQA: {psyqa} PsyQA may not be redistributed; of this folder only `release.jsonl` is meant to be shared, and
only as far as PsyQA's agreement allows. The bundled sample is invented and free to redistribute.
"""


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
    table = pd.DataFrame(items)
    numbers = {
        "items": len(table),
        "train": int((table["split"] == "train").sum()),
        "test": int((table["split"] == "test").sum()),
        "models": ", ".join(sorted(table["model"].unique())),
        "prompts": ", ".join(sorted(table["prompt"].unique())),
        "flagged": flagged(table["flagged_by"], reader),
        "advised": advised(table),
        "people": people,
        "quotes": int(released["quotes"].sum()),
    }
    shown = {"english": notices.notice("en"), "chinese": notices.notice("zh"), "psyqa": notices.notice("psyqa")}
    return files.write_text(
        path, CARD.format(conditions=conditions, losses=losses, removed=removed, **numbers, **shown)
    )
