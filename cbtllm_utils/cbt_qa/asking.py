"""Ask for replies as notebooks 01 and 02 do: one call for each job, and a line that says what came back."""

import functools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from cbtllm_utils import files, published, response_cache, safe_spreadsheets
from cbtllm_utils.cbt_qa import dataset
from cbtllm_utils.cbt_qa.settings import DatasetSettings, PromptSettings
from cbtllm_utils.data import prompts
from cbtllm_utils.data.prompts import Prompt
from cbtllm_utils.data.psyqa import Dropped, Question
from cbtllm_utils.llm import batch_api, budget, client, completeness
from cbtllm_utils.llm.client import Completion
from cbtllm_utils.llm.failure import Failure
from cbtllm_utils.llm.recorded import is_recording
from cbtllm_utils.text import cleaning, reply_checks, screening, second_reader

PROMPT_STEP, DATASET_STEP = "01_prompt_design", "02_dataset_generation"

RECORDED = (
    "The replies are recorded from one model that mostly wrote one paragraph per component, so their share shows that "
    "the check works, and not what the prompt causes."
)


@dataclass(frozen=True)
class Asked:
    """What a prompt brought: the cleaned answers, why posts have none, and both in words."""

    answers: list[Completion]
    failures: dict[int | str, Failure]
    account: str


@dataclass(frozen=True)
class Flags:
    """Which posts are flagged for risk, by questionID: by the screen, by the second reader, by either (`by`).

    `note` says who read beside the screen and how many posts, `asked` how many readings were asked for.
    """

    screened: dict[int | str, bool]
    readings: dict[int | str, dict]
    unread: dict[int | str, Failure]
    by: dict[int | str, str | None]
    note: str
    asked: int

    @property
    def failures(self) -> dict[str, Failure]:
        """Return why posts have no reading, by a name that tells readings from replies."""
        return {f"{post} (second reader)": failure for post, failure in self.unread.items()}


def tell_conditions(chosen: PromptSettings | DatasetSettings) -> None:
    """Tell in the terminal when `conditions` speaks of recorded replies and a provider is asked."""
    if not is_recording(chosen.endpoint) and "recorded replies" in chosen.conditions:
        files.tell(
            f'`conditions` says "recorded replies", but {files.public(chosen.endpoint)} is asked: set `conditions` to '
            f'what is true of this run, such as conditions="invented posts, replies by {files.model_name(chosen.model)}"'
        )


def to_pay(requests: list[dict], endpoint: str, price: dict | None, model: str) -> str:
    """Return in words what requests will cost, as `budget.in_words` does; a recording costs nothing."""
    if is_recording(endpoint):
        return "recorded answers, nothing to pay"
    return budget.in_words(requests, price, model)


def draw(posts: Sequence[Question], chosen: PromptSettings) -> list[Question]:
    """Draw the post of the prototype and those that measure prompts, among posts that the risk screen does not flag."""
    unflagged = [post for post in posts if not screening.risk(f"{post.question}\n{post.description}")]
    return random.Random(chosen.seed).sample(unflagged, min(chosen.measured + 1, len(unflagged)))


def bill_of(posts: Sequence[Question], asked: Sequence[Prompt], chosen: PromptSettings, model: str = "") -> str:
    """Return in words what asking each prompt of all posts may cost; answers that are cached already count as well."""
    model = model or chosen.model
    requests = [one for p in asked for one in dataset.requests(posts, p, model, chosen.sampling)]
    return to_pay(requests, chosen.endpoint, chosen.price(model) or chosen.price(chosen.model), model)


def ask(posts: Sequence[Question], prompt: Prompt, chosen: PromptSettings, model: str = "") -> Asked:
    """Ask one prompt of posts, clean the answers, and say what came back.

    Args:
        posts: Each is asked once.
        prompt: What they are asked with.
        chosen: Endpoint, prices and limits.
        model: Who is asked, by default the model of the settings.
    """
    model = model or chosen.model
    price = chosen.price(model) or chosen.price(chosen.model)
    asking = {"endpoint": chosen.endpoint, "cache_path": f"{chosen.run}/prompts/responses.jsonl", "price": price}
    requests = dataset.requests(posts, prompt, model, chosen.sampling)
    raw, failures = completeness.ask(requests, chosen.run, PROMPT_STEP, **asking, **chosen.limits())
    answers, removed = cleaning.clean_all(raw)
    by = ", ".join(sorted({answer.model for answer in raw})) or "nobody"
    account = (
        f"{prompt.name}: {len(answers)} answers by {by}, {len(failures)} posts without an answer; "
        f"cleaned off the replies: {cleaning.described(removed)}"
    )
    return Asked(answers, failures, account)


def ask_each(posts: Sequence[Question], asked: Sequence[Prompt], chosen: PromptSettings) -> dict[str, Asked]:
    """Ask each prompt of the same posts, and return what it brought by the prompt's name.

    Raises:
        EndpointError: When more answers are missing than `allowed_missing`.
    """
    found = {prompt.name: ask(posts, prompt, chosen) for prompt in asked}
    lost = {f"{post} ({name})": f for name, one in found.items() for post, f in one.failures.items()}
    completeness.require(lost, len(posts) * len(asked), chosen.allowed_missing, chosen.run, PROMPT_STEP)
    return found


def forum_answers(posts: Sequence[Question], asked: Asked) -> list[tuple[int | str, str]]:
    """Return the forum's own answers, with their posts, to the posts whose prompt brought a reply."""
    replied = {answer.id for answer in asked.answers}
    return [(post.questionID, text) for post in posts if post.questionID in replied for text in post.answers]


def prototype(post: Question, prompt: Prompt, chosen: PromptSettings) -> Completion:
    """Return the stronger model's reply to a post, fit to be an example to others (§3.2).

    Raises:
        InputError: For a reply that fails a check or lacks one of the five components: it would be a bad example.
    """
    tell_conditions(chosen)
    asked = ask([post], prompt, chosen, chosen.prototype_model)
    completeness.require(asked.failures, 1, 0.0, chosen.run, PROMPT_STEP)
    if asked.failures:
        raise files.InputError(f"no prototype: {asked.failures[post.questionID]}; draw another `seed`")
    (reply,) = asked.answers
    rules = reply_checks.Rules(min_components=5)
    if unfit := reply_checks.problem(reply.text, reply.finish_reason, prompt, rules, post.questionID):
        raise files.InputError(f"the prototype cannot serve as an example: {unfit}; draw another `seed`")
    return reply


def variants(asked: Prompt, extended: Prompt, chosen: PromptSettings) -> list[Prompt]:
    """Return the prompts that can be compared; over a recording only the one that notebook 02 will ask.

    Args:
        asked: The prompt as it is.
        extended: The same with the prototype as an example.
        chosen: The settings, with files of further prompts in `compare`.
    """
    if is_recording(chosen.endpoint):
        return [extended if chosen.example else asked]
    without = [prompts.without(asked, component) for component in prompts.COMPONENTS]
    return [asked, extended, *without, *map(prompts.read, chosen.compare)]


def reply_cache(chosen: DatasetSettings) -> str:
    """Return where notebook 02 keeps every reply that was paid for."""
    return f"{chosen.run}/cbt_qa/responses.jsonl"


def reader_cache(chosen: DatasetSettings) -> str:
    """Return where notebook 02 keeps every answer of the second reader."""
    return f"{chosen.run}/cbt_qa/reader_responses.jsonl"


def bill(posts: Sequence[Question], prompt: Prompt, chosen: DatasetSettings) -> tuple[list[str], pd.DataFrame]:
    """Estimate what notebook 02 will cost, before the first request.

    Returns:
        In words what the requests that the response caches lack will cost, for the replies and for the second reader;
        and a row for each model with a price: tokens and cost of these requests, and the cost at the paper's size.
    """
    tell_conditions(chosen)
    size = published.value("Table 1", "No. of Question & Description", "Statistics")
    asked = dataset.requests(posts, prompt, chosen.model, chosen.sampling)
    missing = client.missing(asked, endpoint=chosen.endpoint, cache_path=reply_cache(chosen))
    price = chosen.price(chosen.model, chosen.batch)
    said = [f"replies: {to_pay(missing, chosen.endpoint, price, chosen.model)}"]
    lines = [(name, "replies", missing, asked, one) for name, one in chosen.prices.items()]
    if chosen.reader_endpoint:
        every, price = reader_requests(posts, chosen), chosen.price(chosen.reader_model)
        left = client.missing(every, endpoint=chosen.reader_endpoint, cache_path=reader_cache(chosen))
        said.append(f"second reader: {to_pay(left, chosen.reader_endpoint, price, chosen.reader_model)}")
        lines += [(chosen.reader_model, "second reader", left, every, price)] if price else []
    rows = [
        {"model": files.model_name(name), "asked for": what, "price of": price.get("date", "")}
        | {"requests": len(now), "cost": budget.estimate(now, price)["cost"]}
        | {"cost at the paper's size": budget.estimate(whole, price)["cost"] * size / max(len(whole), 1)}
        for name, what, now, whole, price in lines
    ]
    return said, pd.DataFrame(rows)


def reader_requests(posts: Sequence[Question], chosen: DatasetSettings) -> list[dict]:
    """Return what the second reader is asked: one request for each post."""
    return second_reader.risk_requests(posts, chosen.reader_model, chosen.reader_sampling)


def flags(posts: Sequence[Question], chosen: DatasetSettings) -> Flags:
    """Flag posts for risk: by the screen, and by the second reader where the settings name one.

    Raises:
        EndpointError: When more readings are missing than `allowed_missing`.
    """
    passages = {post.questionID: f"{post.question}\n{post.description}" for post in posts}
    screened = {post: screening.risk(passage) for post, passage in passages.items()}
    readings, unread, requests = {}, {}, []
    if chosen.reader_endpoint:
        requests, asking = reader_requests(posts, chosen), chosen.reading() | {"cache_path": reader_cache(chosen)}
        what = requests, passages, second_reader.RISK
        readings, unread = second_reader.ask(*what, chosen.run, DATASET_STEP, **asking)
    note = second_reader.note(chosen.reader_endpoint, chosen.reader_model, readings, unread)
    by = second_reader.flagged_by(screened, readings)
    found = Flags(screened, readings, unread, by, note, len(requests))
    if chosen.reader_endpoint:
        completeness.require(found.failures, len(requests), chosen.allowed_missing, chosen.run, DATASET_STEP)
    files.tell(f"second reader: {len(unread)} of {len(posts)} posts unread" if unread else "")
    return found


def replies(posts: Sequence[Question], prompt: Prompt, chosen: DatasetSettings) -> dataset.Outcome:
    """Ask for replies, one by one or by batches, check them, and ask again for those that fail (`dataset.generate`)."""
    price = chosen.price(chosen.model, chosen.batch)
    asking = {"endpoint": chosen.endpoint, "cache_path": reply_cache(chosen), "price": price}
    if chosen.batch:
        asking |= {"complete": batch_api.complete, "budget": chosen.budget, "poll_seconds": chosen.poll_seconds}
        asking |= {"most_requests": chosen.batch_requests, "max_retries": chosen.max_retries}
        asking |= {"timeout": chosen.timeout}
    else:
        asking |= chosen.limits()
    ask_all = functools.partial(completeness.ask, run=chosen.run, step=DATASET_STEP, **asking)
    names = ("min_characters", "max_characters", "min_components")
    rules = reply_checks.Rules(**{name: getattr(chosen, name) for name in names})
    way = {"model": chosen.model, "sampling": chosen.sampling, "max_attempts": chosen.max_attempts}
    return dataset.generate(list(posts), prompt, ask_all, rules=rules, **way)


def paid(chosen: DatasetSettings) -> str:
    """Return in words what all answers in the response cache took, those that failed a check included."""
    price = chosen.price(chosen.model, chosen.batch)
    entries = list(response_cache.read(reply_cache(chosen)).values())
    tokens = [sum(entry[kind] for entry in entries) for kind in ("prompt_tokens", "completion_tokens")]
    by = ", ".join(sorted({files.model_name(entry["model"]) for entry in entries})) or "nobody"
    said = f"{len(entries):,} answers by {by}"
    if is_recording(chosen.endpoint) and not any(tokens):
        return f"{said}; nothing was paid"
    said += f", {tokens[0]:,} tokens sent and {tokens[1]:,} received"
    if estimated := sum(entry["estimated"] for entry in entries):
        said += f" ({estimated:,} answers without a count, estimated)"
    if not price:
        return f"{said}; no price is given in `prices`"
    named = files.model_name(chosen.model)
    several = f" if all were paid at the price of {named}" if len({e["model"] for e in entries}) > 1 else " paid"
    return f"{said}; {budget.cost_of(*tokens, price):.2f}{several}"


def left_out(
    posts: Sequence[Question], unread: list[Dropped], outcome: dataset.Outcome, risk: Flags, chosen: DatasetSettings
) -> pd.DataFrame:
    """List all that is not in the data set (`dataset.drops`) in cbt_qa/dropped.csv, and return the list.

    Args:
        posts: All posts of the file, those beyond `limit` among them.
        unread: Its records that could not be used.
        outcome: What asking for replies gave.
        risk: What asking the second reader gave.
        chosen: The settings.

    Raises:
        EndpointError: When more requests have no answer than `allowed_missing`.
        InputError: When not one post has a usable reply.
    """
    later = Failure(dataset.NOT_ASKED, "beyond `limit`")
    beyond = {post.questionID: later for post in posts[chosen.limit :]} if chosen.limit is not None else {}
    dropped = dataset.drops(list(posts), unread, outcome.dropped | beyond, chosen.questions)
    path = files.write_text(f"{chosen.run}/cbt_qa/dropped.csv", safe_spreadsheets.csv(dropped))
    files.tell(f"left out: {dataset.losses(dropped)}; see {files.shown(path)}" if outcome.dropped else "")
    asked = len(posts) - len(beyond) + risk.asked
    lost: Mapping = outcome.dropped | risk.failures
    completeness.require(lost, asked, chosen.allowed_missing, chosen.run, DATASET_STEP)
    dataset.require_replies(outcome)
    return dropped
