"""The data set in the forms that others read: LLaMA-Factory's triads, Hugging Face `datasets`, and one to give away."""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from cbtllm_utils import files, hashing, notices
from cbtllm_utils.data.splits import SPLITS
from cbtllm_utils.models import prompt_forms

if TYPE_CHECKING:
    from datasets import DatasetDict, Features

GIVEN = ("questionID", "reply", "split", "risk", "advice", "model", "prompt")  # what the released form keeps as it is
QUOTE = 12  # characters in a row that a reply shares with its post: no chance, a quotation


def write_rows(items: list[dict], folder: str | Path) -> None:
    """Nothing, after cbt_qa.jsonl and its two halves, train.jsonl and test.jsonl, were written to `folder`."""
    files.write_jsonl(Path(folder) / "cbt_qa.jsonl", items)
    for split in SPLITS:
        files.write_jsonl(Path(folder) / f"{split}.jsonl", [item for item in items if item["split"] == split])


def llama_factory(items: list[dict], folder: str | Path) -> Path:
    """`folder`, after the splits in both forms of the prompt and dataset_info.json were written there.

    `cbt_qa_train_triad` has the paper's instruction triads (§4.1), `cbt_qa_train_card` the instruction as system text,
    as the released model's card prompts it; the same for test. Notebook 04 writes the recipe that reads them
    (LLaMA-Factory's alpaca format).
    """
    columns = {"prompt": "instruction", "query": "input", "response": "output", "system": "system"}
    info = {}
    with files.atomic(folder) as temporary:
        temporary.mkdir()
        for split in SPLITS:
            own = [prompt_forms.triad(item) for item in items if item["split"] == split]
            cards = [
                {"system": i["instruction"], "instruction": i["input"], "input": "", "output": i["output"]} for i in own
            ]
            for form, rows in (("triad", own), ("card", cards)):
                files.write_json(temporary / f"{split}_{form}.json", rows)
                held = {name: field for name, field in columns.items() if not rows or field in rows[0]}
                info[f"cbt_qa_{split}_{form}"] = {"file_name": f"{split}_{form}.json", "columns": held}
        files.write_json(temporary / "dataset_info.json", info)
    return files.path(folder)


def features(items: list[dict]) -> "Features":
    """The columns and their types; ids are whole numbers where all are, else text."""
    from datasets import ClassLabel, Features, Value

    kind = "int64" if all(isinstance(item["questionID"], int) for item in items) else "string"
    texts = dict.fromkeys(("question", "description", "reply", "topic", "model", "prompt"), Value("string"))
    types = texts | {"questionID": Value(kind), "near_duplicate_of": Value(kind)}
    types |= {"risk": Value("bool"), "advice": Value("bool"), "split": ClassLabel(names=list(SPLITS))}
    return Features({name: types[name] for name in items[0]})


def dataset(items: list[dict], folder: str | Path) -> "DatasetDict":
    """The data set as `datasets.load_from_disk(folder)` reads it, after it was written there: the same bytes each time.

    A split without items is left out: the library cannot read one back.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "IProgress not found")  # tqdm, at its first import in a notebook
        import datasets

    types, parts = features(items), {}
    for split in SPLITS:
        if not (own := [item for item in items if item["split"] == split]):
            continue
        texts = own if types["questionID"].dtype == "int64" else [named(item) for item in own]
        columns = {name: [item[name] for item in texts] for name in types}
        part = datasets.Dataset.from_dict(columns, features=types, split=split)
        # Left alone, the fingerprint depends on more than the content, and with it the files.
        parts[split] = datasets.Dataset(part.data, info=part.info, split=part.split, fingerprint=mark(own))
    with files.atomic(folder) as temporary, quiet():
        datasets.DatasetDict(parts).save_to_disk(str(temporary))
    return datasets.load_from_disk(str(files.path(folder)))


def named(item: dict) -> dict:
    """The item with its ids as text."""
    ids = {name: None if item[name] is None else str(item[name]) for name in ("questionID", "near_duplicate_of")}
    return item | ids


def mark(items: list[dict]) -> str:
    """A hash of the items."""
    return hashing.text("\n".join(repr(item) for item in items))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """`datasets` without its progress bars."""
    import datasets

    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def quoted(reply: str, post: str) -> bool:
    """Whether a reply repeats at least QUOTE characters of its post in a row."""
    return any(reply[start : start + QUOTE] in post for start in range(len(reply) - QUOTE + 1))


def release(items: list[dict], path: str | Path) -> pd.DataFrame:
    """The data set without its posts, after it was written as JSON Lines: ids, hashes, replies, and what made them.

    `post` is `hashes.text` of question, line break, description: who has PsyQA can join and check. `quotes` marks
    replies that repeat a stretch of their post, as the prompt asks; PsyQA's agreement decides whether they may go out.
    """
    released = []
    for item in items:
        post = f"{item['question']}\n{item['description']}"
        kept = {name: item[name] for name in GIVEN}
        released.append(kept | {"post": hashing.text(post), "quotes": quoted(item["reply"], post)})
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

{items} items ({train} train, {test} test), each a post (question, description) and a reply in the structure of cognitive
behavioural therapy (arXiv 2403.16008, §3). Replies by: {models}; prompt {prompts}. No person has written or checked a
reply. {risk} posts speak of risk by a word list that is meant to miss nothing; {advised} of their replies name help.

| file | content |
|---|---|
| `cbt_qa.jsonl`, `train.jsonl`, `test.jsonl` | one item a line, with its split, topic, risk, model and the prompt's hash |
| `dropped.csv` | every record that is not among them, and why |
| `dataset/` | the same for `datasets.load_from_disk` |
| `llama_factory/` | both forms of the prompt and `dataset_info.json` for LLaMA-Factory; recipes: `adapters/*/llama_factory.yaml` |
| `release.jsonl` | without the posts: ids, hashes of the posts, replies. {quotes} replies quote their post |
| `responses.jsonl` | every answer as it came |

Posts from PsyQA: {psyqa} PsyQA may not be redistributed; of this folder only `release.jsonl` is meant to be given away,
and only as far as PsyQA's agreement allows. The bundled sample is invented and free to redistribute.
"""


def card(items: list[dict], released: pd.DataFrame, conditions: str, path: str | Path) -> Path:
    """The path, after the data set's card was written there: notices, counts, files, what may be given away."""
    table = pd.DataFrame(items)
    numbers = {
        "items": len(table),
        "train": int((table["split"] == "train").sum()),
        "test": int((table["split"] == "test").sum()),
        "models": ", ".join(sorted(table["model"].unique())),
        "prompts": ", ".join(sorted(table["prompt"].unique())),
        "risk": int(table["risk"].sum()),
        "advised": int((table["risk"] & table["advice"]).sum()),
        "quotes": int(released["quotes"].sum()),
    }
    shown = {"english": notices.notice("en"), "chinese": notices.notice("zh"), "psyqa": notices.notice("psyqa")}
    return files.write_text(path, CARD.format(conditions=conditions, **numbers, **shown))
