"""PsyQA's questions in every shape in which they are found: read one by one, or dropped with a reason."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from cbtllm_utils import files

CHUNK = 1 << 20  # characters read at a time: memory stays at one chunk and one record, however long the file
BETWEEN = re.compile(r"[ \t\r\n,]*")
HALF = re.compile("[\ud800-\udfff]")
LONGEST = 200  # characters of an id: it stands in tables, messages and lists
MARKED = re.compile(r"\[QUESTION\](.*?)\[DESCRIPTION\](.*?)(?:\[LABEL\](.*?))?(?:\[ANSWER\](.*))?", re.S)


@dataclass(frozen=True, slots=True)
class Question:
    """One post of the forum. Names are PsyQA's; a file without ids counts them from 0."""

    questionID: int | str
    question: str
    description: str
    keywords: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Dropped:
    """One record that could not be used: where it stands and why."""

    file: str
    index: int
    questionID: int | str | None
    reason: str


def read(path: str | Path) -> tuple[list[Question], list[Dropped]]:
    """The questions of a file, and the records that were dropped, each with its reason.

    Reads PsyQA's JSON array, JSON Lines under any name, and the generation splits' lists of marked strings. InputError
    when the file is missing or breaks off: nothing after a break could be told from nothing at all.
    """
    read_questions, dropped, seen = [], [], {}
    for index, record in enumerate(records(files.path(path))):
        found = question(record, index)
        if isinstance(found, Question) and found.questionID in seen:
            found = (
                found.questionID,
                f"questionID {found.questionID} stands already at index {seen[found.questionID]}",
            )
        if isinstance(found, Question):
            seen[found.questionID] = index
            read_questions.append(found)
        else:
            dropped.append(Dropped(files.shown(path), index, *found))
    if not read_questions and not dropped:
        raise files.InputError(
            f"{files.shown(path)}: holds no records; expected a JSON array or one JSON object a line"
        )
    return read_questions, dropped


def records(path: Path) -> Iterator[object]:
    """The values of a JSON array, or of one value a line, in order; an unreadable line is a ValueError in its place."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            start = file.read(CHUNK)
            if start.lstrip().startswith("["):
                yield from elements(start.lstrip()[1:], file, files.shown(path))
            else:
                file.seek(0)
                for line in file:
                    if line.strip("\ufeff \t\r\n"):
                        yield line_value(line.lstrip("\ufeff"))
    except FileNotFoundError:
        raise files.InputError(
            f"{files.shown(path)}: no such file; data/psyqa/README.md says how to get PsyQA"
        ) from None
    except UnicodeDecodeError as error:
        raise files.InputError(f"{files.shown(path)}: not UTF-8 at byte {error.start}; convert it first") from None


def line_value(line: str) -> object:
    """The value of one line of JSON Lines, or the error that it is."""
    try:
        return json.loads(line)
    except ValueError as error:
        return error
    except RecursionError:
        return ValueError("nested too deeply")


def elements(buffer: str, file: TextIO, name: str) -> Iterator[object]:
    """The elements of a JSON array whose opening bracket is already behind us, decoded as they are read."""
    decoder, number, start = json.JSONDecoder(), 0, 0
    while True:
        start = BETWEEN.match(buffer, start).end()
        if buffer.startswith("]", start):
            if (buffer[start + 1 :] + file.read()).strip():
                raise files.InputError(f"{name}: text goes on after the array's end; put all records into one array")
            return
        try:
            value, end = decoder.raw_decode(buffer, start)
            if end == len(buffer) and (more := file.read(CHUNK)):  # 12 may go on as 123
                buffer, start = buffer[start:] + more, 0
                continue
        except RecursionError:
            raise files.InputError(f"{name}: record {number} is nested too deeply; take it out") from None
        except ValueError as error:
            more = file.read(max(CHUNK, len(buffer) - start))  # twice as much each time: a long record stays linear
            if not more:
                reason = f"breaks off or is no JSON in record {number} ({getattr(error, 'msg', error)})"
                raise files.InputError(f"{name}: {reason}; restore the file") from None
            buffer, start = buffer[start:] + more, 0
            continue
        yield value
        start, number = end, number + 1


def question(record: object, index: int) -> Question | tuple[int | str | None, str]:
    """The record as a Question, or its id and the reason why it is none."""
    if isinstance(record, ValueError):
        return None, f"not JSON: {record}"
    if isinstance(record, str):
        return marked(record, index)
    if not isinstance(record, dict):
        return None, f"a {type(record).__name__} where an object is expected"
    identifier = record.get("questionID", record.get("idx", index))
    if not isinstance(identifier, int | str) or isinstance(identifier, bool):
        return None, f"questionID is a {type(identifier).__name__}"
    if not usable(identifier):
        return None, "questionID is no text that a file could hold, or a number beyond 64 bits"
    if reason := fault(record):
        return identifier, reason
    words = record.get("keywords") or ""
    keywords = re.split(r"[,，]", words) if isinstance(words, str) else [str(word) for word in words]
    texts = [a.get("answer_text") if isinstance(a, dict) else a for a in record.get("answers") or []]
    answers = [text for text in texts if isinstance(text, str)]
    named = [word.strip() for word in keywords if word.strip()]
    return Question(identifier, record["question"], record.get("description", ""), named, answers)


def usable(identifier: int | str) -> bool:
    """Whether every format can hold an id."""
    if isinstance(identifier, str):
        return identifier.isprintable() and len(identifier) <= LONGEST
    return -(2**63) <= identifier < 2**63


def fault(record: dict) -> str | None:
    """What makes a record unusable, or None."""
    for name, kinds in (("question", str), ("description", str), ("keywords", str | list), ("answers", list)):
        value = record.get(name)
        if name in record and not isinstance(value, kinds) and not (kinds is not str and value is None):
            return f"{name} is a {type(value).__name__}, expected {'a list' if kinds is list else 'text'}"
    if not record.get("question", "").strip():
        return "question is missing or blank"
    if HALF.search(record["question"] + record.get("description", "")):
        return "a character is broken (half of a surrogate pair), so that no file could hold the text"
    return None


def marked(text: str, index: int) -> Question | tuple[None, str]:
    """The Question in a string of a generation split: [QUESTION]…[DESCRIPTION]…[LABEL]…[ANSWER][strategy]…"""
    found = MARKED.fullmatch(text.strip())
    if not found or not found[1].strip():
        return None, "a text without [QUESTION] and [DESCRIPTION]"
    labels = [word.strip() for word in re.split(r"[,，]", found[3] or "") if word.strip()]
    answer = re.sub(r"\[[A-Z][A-Za-z -]+\]", "", found[4] or "").strip()
    return Question(index, found[1].strip(), found[2].strip(), labels, [answer] if answer else [])
