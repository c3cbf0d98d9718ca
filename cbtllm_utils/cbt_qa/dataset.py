"""The CBT QA data set: replies asked for, checked, asked for again or dropped with a reason; then rows and Table 1."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import pandas as pd

from cbtllm_utils import files
from cbtllm_utils.data.prompts import Prompt, messages
from cbtllm_utils.data.psyqa import Dropped, Question
from cbtllm_utils.data.splits import SPLITS
from cbtllm_utils.llm.client import Completion
from cbtllm_utils.text import distortions, screening, sections
from cbtllm_utils.text.reply_checks import Rules, fault

TEXTS = ("question", "description", "reply")


@dataclass
class Outcome:
    """What asking came to, by questionID: the replies, why posts were dropped, every reply that failed its check."""

    replies: dict[int | str, Completion] = field(default_factory=dict)
    dropped: dict[int | str, str] = field(default_factory=dict)
    failed: list[dict] = field(default_factory=list)


def requests(posts: Iterable[Question], prompt: Prompt, model: str, sampling: dict, attempt: int = 1) -> list[dict]:
    """One request a post for `client.complete`: id (the questionID), model, messages, sampling, attempt.

    The number of the attempt enters the request's hash, so that a reply that failed its check is asked for anew.
    InputError for sampling that would change what a request is.
    """
    if taken := {"id", "model", "messages", "attempt", "n", "stream"} & sampling.keys():
        raise files.InputError(f"sampling: {', '.join(sorted(taken))} cannot be set there; leave it out")
    own = {"model": model, **sampling, "attempt": attempt}
    return [{"id": p.questionID, "messages": messages(prompt, p.question, p.description), **own} for p in posts]


def generate(
    posts: list[Question],
    prompt: Prompt,
    ask: Callable[[list[dict]], tuple[list[Completion], dict]],
    *,
    model: str,
    sampling: dict,
    rules: Rules,
    max_attempts: int,
) -> Outcome:
    """The replies that pass their check; what fails it is asked for again, `max_attempts` times in all, then dropped.

    `ask` is `client.complete` with its endpoint and journal. A request that found no answer at all is dropped at
    once: it was retried by the client, and a rerun asks it again. InputError when not one post has a usable reply.
    """
    outcome, waiting = Outcome(), list(posts)
    for attempt in range(1, max_attempts + 1):
        answers, unanswered = ask(requests(waiting, prompt, model, sampling, attempt))
        said = {post.questionID: f"{post.question}\n{post.description}" for post in waiting}
        faults = {a.id: fault(a.text, a.finish_reason, prompt, rules, said[a.id]) for a in answers}
        failed = {item: reason for item, reason in faults.items() if reason}
        outcome.replies |= {answer.id: answer for answer in answers if answer.id not in failed}
        outcome.failed += [{"attempt": attempt, "questionID": item, "reason": why} for item, why in failed.items()]
        lost = said.keys() - faults.keys() - unanswered.keys()
        unanswered |= dict.fromkeys(lost, "the endpoint said nothing of it")
        outcome.dropped |= {item: f"no answer: {reason}" for item, reason in unanswered.items()}
        waiting = [post for post in waiting if post.questionID in failed]
        if not waiting:
            break
    outcome.dropped |= {item: f"{failed[item]}, {max_attempts} times asked" for item in [p.questionID for p in waiting]}
    if not outcome.replies:
        first = next((f"{item}: {reason}" for item, reason in outcome.dropped.items()), "there are no posts")
        raise files.InputError(f"not one of {len(posts)} posts has a usable reply; the first: {first}")
    return outcome


def drops(posts: list[Question], unread: list[Dropped], dropped: Mapping[int | str, str], source: str) -> pd.DataFrame:
    """All that is not in the data set: file, index, questionID, reason; records that `questions.read` dropped (unread)
    and posts without a usable reply. `posts` are all that it read of the file `source`: they stand there in this order,
    between the unread records, which gives a post its index.
    """
    gone = {record.index for record in unread}
    free = (index for index in range(len(posts) + len(unread)) if index not in gone)
    index = {post.questionID: place for post, place in zip(posts, free, strict=False)}
    lines = [(record.file, record.index, record.questionID, record.reason) for record in unread]
    lines += [(files.shown(source), index[item], item, reason) for item, reason in dropped.items()]
    columns = ["file", "index", "questionID", "reason"]
    return pd.DataFrame(sorted(lines, key=lambda line: line[1]), columns=columns, dtype=object)  # no id becomes 1.0


def rows(
    posts: list[Question],
    replies: Mapping[int | str, Completion],
    prompt: Prompt,
    topics: Mapping[str, str],
    assigned: pd.DataFrame,
) -> list[dict]:
    """The data set, one row a post that has a reply, in the posts' order.

    `topics` is topic by questionID (as text; None where there is none), `assigned` what `splits.assign` returns.
    """
    found = []
    for post in posts:
        if answer := replies.get(post.questionID):
            place = assigned.loc[post.questionID]
            found.append(
                {
                    "questionID": post.questionID,
                    "question": post.question,
                    "description": post.description,
                    "reply": answer.text,
                    "topic": topics.get(str(post.questionID)),
                    "risk": screening.risk(f"{post.question}\n{post.description}"),
                    "advice": screening.advice(answer.text),
                    "split": place["split"],
                    "model": answer.model,
                    "prompt": prompt.hash,
                    "near_duplicate_of": place["near_duplicate_of"],
                }
            )
    return found


def topics(path: str | None) -> dict[str, str]:
    """Topic by questionID (as text) from a CSV with these two columns; {} for no path."""
    if path is None:
        return {}
    if not files.path(path).is_file():
        raise files.InputError(f"{files.shown(path)}: no such file; `topics: null` goes without")
    table = files.read_csv(path, dtype=str)
    if not {"questionID", "topic"} <= set(table.columns):
        raise files.InputError(
            f"{files.shown(path)}: needs the columns questionID and topic, has {', '.join(table.columns)}"
        )
    return dict(zip(table["questionID"], table["topic"], strict=True))


def table1(items: list[dict]) -> pd.DataFrame:
    """Table 1 of the paper for this data set, rows and column as published; lengths in characters.

    A reply counts as having a distortion when it names one anywhere, as the paper counted [inferred].
    """
    lengths = {part: pd.Series([len(item[part]) for item in items]).mean() for part in TEXTS}
    named = pd.Series([bool(distortions.find(item["reply"], "named")) for item in items]).mean()
    values = {
        "No. of Question & Description": len(items),
        "No. of CBT Response": len(items),
        "Characters Per Question": lengths["question"],
        "Characters Per Description": lengths["description"],
        "Characters Per CBT Response": lengths["reply"],
        "Percentage of Cognitive Distortions": 100 * named,
    }
    return pd.DataFrame({"Statistics": values})


def by_split(items: list[dict]) -> pd.DataFrame:
    """One row a split: items, risk, advice, near duplicates and mean characters, to see that both are alike."""
    table = pd.DataFrame(items).assign(**{f"{t} characters": [len(item[t]) for item in items] for t in TEXTS})
    groups = table.groupby("split")
    counts = groups.agg(items=("reply", "size"), risk=("risk", "sum"), near_duplicates=("near_duplicate_of", "count"))
    return counts.join(groups[[f"{t} characters" for t in TEXTS]].mean()).reindex(SPLITS).reset_index()


def plainest(posts: Iterable[Question], items: list[dict], chosen: int | str | None = None) -> Question:
    """The post for Figure 1: without risk, its forum answer has the fewest of the five parts; of these the longest.

    `chosen` names a questionID instead. InputError where no such post has an answer from the forum.
    """
    fit = {item["questionID"] for item in items if not item["risk"] or item["questionID"] == chosen}
    candidates = [post for post in posts if post.questionID in fit and post.answers]
    if chosen is not None:
        candidates = [post for post in candidates if post.questionID == chosen]
    if not candidates:
        which = "no post without risk has" if chosen is None else f"{chosen} is not in the data set or lacks"
        raise files.InputError(
            f"Figure 1: {which} a forum answer; set `figure1_item` to the questionID of one that has"
        )

    def order(post: Question) -> tuple[int, int]:
        return len(sections.structure(post.answers[0]).present), -len(post.answers[0])

    return min(candidates, key=order)
