"""The CBT QA data set: replies asked for, checked, asked for again or dropped with a reason; then rows and Table 1."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import pandas as pd

from cbtllm_utils import files, statistics
from cbtllm_utils.data.prompts import Prompt, messages
from cbtllm_utils.data.psyqa import Dropped, Question
from cbtllm_utils.data.splits import SPLITS
from cbtllm_utils.data.topics import label
from cbtllm_utils.llm.client import Completion
from cbtllm_utils.llm.failure import UNANSWERED, Failure
from cbtllm_utils.text import cleaning, distortions, reply_checks, screening, sections
from cbtllm_utils.text.reply_checks import Rules, problem

TEXTS = ("question", "description", "reply")
UNREADABLE, NOT_ASKED = "unusable record", "not asked"  # kinds of loss besides those of requests and of replies


@dataclass
class Outcome:
    """What asking gave, by questionID: the replies, why posts were dropped, every reply that failed a check.

    `removed` counts what was cleaned off replies.
    """

    replies: dict[int | str, Completion] = field(default_factory=dict)
    dropped: dict[int | str, Failure] = field(default_factory=dict)
    failed: list[dict] = field(default_factory=list)
    removed: Counter = field(default_factory=Counter)


def requests(posts: Iterable[Question], prompt: Prompt, model: str, sampling: dict, attempt: int = 1) -> list[dict]:
    """Return one request per post for `client.complete`: id (the questionID), model, messages, sampling, attempt.

    The number of the attempt is part of the request's hash, so that a reply that failed a check is asked for again.

    Raises:
        InputError: For sampling with a key that would replace one of these.
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
    """Ask for replies, clean and check them; what fails is asked for again, `max_attempts` times in all, then dropped.

    A request without an answer is dropped at once: the client has retried it, and a rerun asks it again.

    Args:
        ask: `client.complete` with its endpoint and response cache.
        sampling: Further fields of a request, such as the temperature.
    """
    outcome, waiting = Outcome(), list(posts)
    for attempt in range(1, max_attempts + 1):
        raw, unanswered = ask(requests(waiting, prompt, model, sampling, attempt))
        answers, removed = cleaning.clean_all(raw)
        outcome.removed += removed
        problems = {a.id: problem(a.text, a.finish_reason, prompt, rules, a.id) for a in answers}
        failed = {item: failure for item, failure in problems.items() if failure}
        outcome.replies |= {answer.id: answer for answer in answers if answer.id not in failed}
        outcome.failed += [{"attempt": attempt, "questionID": item} | f._asdict() for item, f in failed.items()]
        lost = {post.questionID for post in waiting} - problems.keys() - unanswered.keys()
        outcome.dropped |= unanswered | dict.fromkeys(lost, Failure(UNANSWERED, "the endpoint returned nothing for it"))
        waiting = [post for post in waiting if post.questionID in failed]
        if not waiting:
            break
    for post in waiting:
        kind, reason = failed[post.questionID]
        outcome.dropped[post.questionID] = Failure(kind, f"{reason}, {max_attempts} times asked")
    return outcome


def require_replies(outcome: Outcome) -> None:
    """Raise InputError with the most frequent kind of loss and its reason when no post has a usable reply."""
    if outcome.replies:
        return
    kinds = Counter(failure.kind for failure in outcome.dropped.values()).most_common(1)
    if not kinds:
        raise files.InputError("no post has a usable reply: there are no posts")
    (kind, count) = kinds[0]
    reasons = Counter(failure.reason for failure in outcome.dropped.values() if failure.kind == kind)
    raise files.InputError(
        f"none of {len(outcome.dropped)} posts has a usable reply; {count} of them: {kind}: {reasons.most_common(1)[0][0]}"
    )


def failures(outcome: Outcome) -> pd.DataFrame:
    """Count the replies that failed a check: one row per kind and reason, one column per attempt.

    The words of a refusal differ from reply to reply, so that refusals are one row.
    """
    failed = pd.DataFrame(outcome.failed, columns=["attempt", "questionID", "kind", "reason"])
    if failed.empty:
        return failed
    why = failed["reason"].mask(failed["kind"] == reply_checks.REFUSED_BY_MODEL, "in its own words")
    counts = pd.crosstab([failed["kind"], why], failed["attempt"])
    return counts.rename(columns=lambda number: f"attempt {number}").rename_axis(columns=None).reset_index()


def losses(dropped: pd.DataFrame) -> str:
    """Return how many records of `drops` there are of each kind, for captions and the card."""
    counts = dropped["kind"].value_counts().sort_index()
    return ", ".join(f"{n} {kind}" for kind, n in counts.items()) or "none"


def drops(
    posts: list[Question], unread: list[Dropped], dropped: Mapping[int | str, Failure], source: str
) -> pd.DataFrame:
    """List all that is not in the data set: records that could not be used, and posts without a usable reply.

    Args:
        posts: All posts that `psyqa.read` returned, in the order of the file, which gives a post its index.
        unread: The records that it dropped.
        dropped: Kinds and reasons by questionID.

    Returns:
        file, index, questionID, kind, reason, in the order of the file.
    """
    gone = {record.index for record in unread}
    free = (index for index in range(len(posts) + len(unread)) if index not in gone)
    index = {post.questionID: place for post, place in zip(posts, free, strict=False)}
    lines = [(record.file, record.index, record.questionID, UNREADABLE, record.reason) for record in unread]
    lines += [(files.shown(source), index[item], item, *failure) for item, failure in dropped.items()]
    columns = ["file", "index", "questionID", "kind", "reason"]
    return pd.DataFrame(
        sorted(lines, key=lambda line: line[1]), columns=columns, dtype=object
    )  # so that no ID becomes 1.0


def rows(
    posts: list[Question],
    replies: Mapping[int | str, Completion],
    prompt: Prompt,
    topics: Mapping[str, str],
    assigned: pd.DataFrame,
    flagged: Mapping[int | str, str | None],
) -> list[dict]:
    """Return the data set: one row per post with a reply, in the posts' order.

    Args:
        topics: Topic by questionID (as text).
        assigned: What `splits.assign` returns.
        flagged: Who flagged each post for risk, as `second_reader.flagged_by` returns it.
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
                    "risk": flagged[post.questionID] is not None,
                    "flagged_by": flagged[post.questionID],
                    "advice": screening.advice(answer.text),
                    "split": place["split"],
                    "model": answer.model,
                    "prompt": prompt.hash,
                    "near_duplicate_of": place["near_duplicate_of"],
                }
            )
    return found


def topics(path: str | None) -> dict[str, str]:
    """Read topic by questionID (as text) from a CSV with these two columns; {} without a path."""
    if path is None:
        return {}
    if not files.path(path).is_file():
        raise files.InputError(f"{files.shown(path)}: no such file; `topics: null` runs without topics")
    table = files.read_csv(path, dtype=str)
    if not {"questionID", "topic"} <= set(table.columns):
        has = files.one_line(", ".join(table.columns))[:100]
        raise files.InputError(f"{files.shown(path)}: needs the columns questionID and topic, has {has}")
    return dict(zip(table["questionID"], table["topic"], strict=True))


def by_topic(posts: Iterable[Question], topic_of: Mapping[str, str]) -> pd.DataFrame:
    """Count the posts of each topic, the most frequent first; topics in English with the Chinese of the data."""
    labels = pd.Series([label(topic_of.get(str(post.questionID))) for post in posts], dtype=object)
    return labels.value_counts().rename_axis("topic").reset_index(name="posts")


def table1(items: list[dict]) -> pd.DataFrame:
    """Return the paper's Table 1 for this data set, rows and column as published; lengths in characters.

    A reply counts as having a distortion when it names one anywhere, as the paper counted [inferred].
    """
    lengths = {text: pd.Series([len(item[text]) for item in items]).mean() for text in TEXTS}
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
    """Return one row per split: examples, risk, near duplicates, mean characters, with 95% intervals."""

    def mean(texts: pd.Series) -> str:
        value, low, high = statistics.bootstrap(texts.str.len())
        return f"{value:.1f} ({low:.1f}–{high:.1f})" if low < high else f"{value:.1f}"

    groups = pd.DataFrame(items).groupby("split")
    counts = pd.DataFrame(
        {
            "examples": groups.size(),
            "flagged for risk": groups["risk"].agg(lambda flags: statistics.share_text(int(flags.sum()), len(flags))),
            "near duplicates": groups["near_duplicate_of"].count(),
        }
    )
    means = {f"{text} characters": groups[text].agg(mean) for text in TEXTS}
    return counts.assign(**means).reindex(SPLITS).rename_axis("split").reset_index()


def advice(items: list[dict]) -> pd.DataFrame:
    """Return what the replies to flagged and to other posts advise, as `reply_checks.referrals` finds it."""
    table = pd.DataFrame(items)
    kinds = table["risk"].map({True: "flagged for risk", False: "not flagged"})
    return reply_checks.referrals(table["reply"].groupby(kinds).agg(list), "post")


def unadvised(items: list[dict]) -> pd.DataFrame:
    """Return the flagged posts in whose replies the referral screen does not find both kinds of advice."""
    rows = [(item["questionID"], item["question"]) for item in items if item["risk"] and not item["advice"]]
    return pd.DataFrame(rows, columns=["questionID", "question"], dtype=object)


def overview(items: list[dict], posts: int, prompt: str) -> dict[str, int | str]:
    """Return the numbers of Figure 2, by the names of its boxes (`diagrams.overview`).

    Args:
        items: The data set.
        posts: How many posts were asked.
        prompt: The prompt's name.
    """
    models = ", ".join(sorted({item["model"] for item in items}))
    sides = Counter(item["split"] for item in items)
    sources = {"Forum questions": posts, "CBT prompt": prompt, "Language model": models, "CBT QA": len(items)}
    return sources | {"Training set": sides["train"], "Test set": sides["test"]}


def plainest(posts: Iterable[Question], items: list[dict], chosen: int | str | None = None) -> Question:
    """Choose the post of Figure 1: its forum answer has the fewest of the five components; of these, the longest.

    Args:
        items: The data set; posts flagged for risk are left out.
        chosen: A questionID, to choose another post than the rule would.

    Raises:
        InputError: When no such post has a forum answer.
    """
    fit = {item["questionID"] for item in items if not item["risk"] or item["questionID"] == chosen}
    candidates = [post for post in posts if post.questionID in fit and post.answers]
    if chosen is not None:
        candidates = [post for post in candidates if post.questionID == chosen]
    if not candidates:
        which = "no unflagged post has" if chosen is None else f"{chosen} is not in the data set or lacks"
        raise files.InputError(
            f"Figure 1: {which} a forum answer; set `figure1_item` to the questionID of one that has"
        )

    def rank(post: Question) -> tuple[int, int]:
        found = sections.structure(post.answers[0], sections.model_for(post.questionID))
        return len(found.present), -len(post.answers[0])

    return min(candidates, key=rank)
