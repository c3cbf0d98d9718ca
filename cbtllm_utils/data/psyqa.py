"""PsyQA's questions in every shape in which the file is found; unusable records are dropped with a reason."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from cbtllm_utils import files

SURROGATE = re.compile("[\ud800-\udfff]")  # half of a pair, which UTF-8 cannot hold
LONGEST_ID = 200  # characters: an ID is printed in tables, messages and lists
SHOWN = 100  # characters of a record's field names in a reason
MARKED = re.compile(r"\[QUESTION\](.*?)\[DESCRIPTION\](.*?)(?:\[LABEL\](.*?))?(?:\[ANSWER\](.*))?", re.S)


@dataclass(frozen=True, slots=True)
class Question:
    """One post of the forum, with PsyQA's field names. A file without IDs counts its posts from 0."""

    questionID: int | str
    question: str
    description: str
    keywords: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Dropped:
    """One record that could not be used: its file, its place there, its ID where it has one, and the reason."""

    file: str
    index: int
    questionID: int | str | None
    reason: str


def read(path: str | Path) -> tuple[list[Question], list[Dropped]]:
    """Read the questions of a file, and list the records that were dropped.

    The whole file is held in memory: PsyQA's 117 MB take 300 MB and two seconds.

    Args:
        path: PsyQA's JSON array, JSON Lines under any name, or a generation split's list of marked strings.

    Raises:
        InputError: When the file is missing, holds no post, or is an array that is not valid JSON. An unreadable line
            of JSON Lines is dropped like any other record.
    """
    questions: list[Question] = []
    dropped: list[Dropped] = []
    first_index: dict[int | str, int] = {}
    for index, record in enumerate(records(files.path(path))):
        found = parse(record, index)
        if isinstance(found, Question) and found.questionID in first_index:
            reason = f"questionID {found.questionID} occurs already at index {first_index[found.questionID]}"
            found = (found.questionID, reason)
        if isinstance(found, Question):
            first_index[found.questionID] = index
            questions.append(found)
        else:
            dropped.append(Dropped(files.shown(path), index, *found))
    if not questions and not dropped:
        raise files.InputError(
            f"{files.shown(path)}: holds no records; expected a JSON array or one JSON object a line"
        )
    if not questions:
        first = f"record {dropped[0].index}: {dropped[0].reason}"
        raise files.InputError(
            f"{files.shown(path)}: not posts of PsyQA, none of {len(dropped)} records can be used ({first}); "
            "data/psyqa/README.md says what a post is"
        )
    return questions, dropped


def records(path: Path) -> list[object]:
    """Return the values of a JSON array, or of one value a line with a ValueError in the place of a bad line."""
    name, text = files.shown(path), files.read_text(path, "data/psyqa/README.md says how to get PsyQA").lstrip()
    if text.startswith("{") and isinstance(whole := line_value(text), dict):
        return [whole]  # on several lines, as data of other kinds may be
    if not text.startswith("["):
        return [line_value(line.lstrip("\ufeff")) for line in text.split("\n") if line.strip("\ufeff \t\r")]
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise files.InputError(f"{name}: cut off or not JSON ({error}); restore the file") from None
    except RecursionError:
        raise files.InputError(f"{name}: a record is nested too deeply; take it out") from None


def line_value(line: str) -> object:
    """Return the value of one line of JSON Lines, or the error that reading it raises."""
    try:
        return json.loads(line)
    except ValueError as error:
        return error
    except RecursionError:
        return ValueError("nested too deeply")


def parse(record: object, index: int) -> Question | tuple[int | str | None, str]:
    """Return a record as a Question, or its ID and the reason why it cannot be used."""
    if isinstance(record, ValueError):
        return None, f"not JSON: {record}"
    if isinstance(record, str):
        return parse_marked(record, index)
    if not isinstance(record, dict):
        return None, f"a {type(record).__name__} where an object is expected"
    identifier = record.get("questionID", record.get("idx", index))
    if not isinstance(identifier, int | str) or isinstance(identifier, bool):
        return None, f"questionID is a {type(identifier).__name__}"
    if not usable_id(identifier):
        return None, "questionID is text that a file cannot hold, or a number beyond 64 bits"
    if reason := problem(record):
        return identifier, reason
    words = record.get("keywords") or ""
    keywords = re.split(r"[,，]", words) if isinstance(words, str) else [str(word) for word in words]
    texts = [a.get("answer_text") if isinstance(a, dict) else a for a in record.get("answers") or []]
    return Question(
        questionID=identifier,
        question=record["question"],
        description=record.get("description", ""),
        keywords=[word.strip() for word in keywords if word.strip()],
        answers=[text for text in texts if isinstance(text, str)],
    )


def usable_id(identifier: int | str) -> bool:
    """Return whether every file format that we write can hold an ID."""
    if isinstance(identifier, str):
        return identifier.isprintable() and len(identifier) <= LONGEST_ID
    return -(2**63) <= identifier < 2**63


def problem(record: dict) -> str | None:
    """Return what makes a record unusable, or None."""
    if "question" not in record:
        return f"no field question; its fields: {files.one_line(', '.join(record))[:SHOWN] or 'none'}"
    for name, kinds in (("question", str), ("description", str), ("keywords", str | list), ("answers", list)):
        value = record.get(name)
        optional = kinds is not str and value is None
        if name in record and not isinstance(value, kinds) and not optional:
            return f"{name} is a {type(value).__name__}, expected {'a list' if kinds is list else 'text'}"
    if not record["question"].strip():
        return "question is blank"
    if SURROGATE.search(record["question"] + record.get("description", "")):
        return "a character is broken (half of a surrogate pair), so that no file could hold the text"
    return None


def parse_marked(text: str, index: int) -> Question | tuple[None, str]:
    """Parse a string of a generation split: [QUESTION]…[DESCRIPTION]…[LABEL]…[ANSWER][strategy]…"""
    found = MARKED.fullmatch(text.strip())
    if not found or not found[1].strip():
        return None, "a text without [QUESTION] and [DESCRIPTION]"
    labels = [word.strip() for word in re.split(r"[,，]", found[3] or "") if word.strip()]
    answer = re.sub(r"\[[A-Z][A-Za-z -]+\]", "", found[4] or "").strip()
    return Question(index, found[1].strip(), found[2].strip(), labels, [answer] if answer else [])
