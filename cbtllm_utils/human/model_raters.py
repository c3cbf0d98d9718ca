"""Language models as raters, by the forms' own rubric; their ratings are labeled as a language model's everywhere."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from cbtllm_utils import files, statistics
from cbtllm_utils.data import prompts
from cbtllm_utils.human import agreement, forms
from cbtllm_utils.human.blinding import SCALES, Sheet
from cbtllm_utils.human.ratings import MODELS, PEOPLE
from cbtllm_utils.llm.client import Completion
from cbtllm_utils.llm.failure import UNANSWERED, Failure
from cbtllm_utils.llm.schema import account, between_braces, json_schema
from cbtllm_utils.text import cleaning, endings
from cbtllm_utils.text.reply_checks import CUT_OFF

RUBRIC = re.compile(r"\{rubric\.(\w+)\}")  # where a prompt file wants the forms' rubric, and in which language


def load_prompt(path: str | Path) -> str:
    """Return a rater's prompt: the file with the forms' guidelines, scales and anchors at {rubric.LANGUAGE}.

    Raises:
        InputError: For a file that is missing or lacks the rubric: raters by another rubric are not comparable.
    """
    place, texts = files.path(path), forms.rubric()
    if not place.is_file():
        raise files.InputError(f"{files.shown(path)}: no such prompt of a rater; see params/prompts/README.md")
    text = place.read_text(encoding="utf-8-sig").strip()
    if {mark[1] for mark in RUBRIC.finditer(text)} - set(texts) or not RUBRIC.search(text):
        marks = " or ".join(f"{{rubric.{language}}}" for language in texts)
        raise files.InputError(f"{files.shown(path)}: must say {marks}, where the rubric of the forms is put in")
    return RUBRIC.sub(lambda mark: "\n".join([*texts[mark[1]]["guide"], *forms.scale_lines(texts[mark[1]])]), text)


def schema() -> dict:
    """Return the form of a model's answer; the reasons come before the scores."""
    score = {"type": "integer", "enum": [0, 1, 2]}
    fields = {"comment": {"type": "string"}} | dict.fromkeys(SCALES, score) | {"harmful": {"type": "boolean"}}
    return json_schema("rating", fields)


def requests(sheet: Sheet, prompt: str, model: str, sampling: dict) -> list[dict]:
    """Return a request for each entry, as `client.complete` takes them; a repeated reply is another attempt.

    A model sees one entry at a time, so the order of the sheet does not matter.
    """
    found, times = [], Counter()
    own = {"model": model, "response_format": schema()} | sampling
    for e in sheet.entries:
        times[e.check] += 1
        post = f"{prompts.enclosed(e.question, e.description)}\n〈回复〉{e.answer.translate(prompts.MARKS)}〈/回复〉"
        chat = [{"role": "system", "content": prompt}, {"role": "user", "content": post}]
        found.append({"id": e.entry, "messages": chat, "attempt": times[e.check]} | own)
    return found


def parse(answer: Completion) -> dict:
    """Return scores, harmful and comment of an answer, or its `problem`. Text around the braces is ignored."""
    if reason := endings.stated(answer.finish_reason):
        return {"problem": f"{CUT_OFF}: {reason}; the answer is in the response cache"}
    try:
        found = json.loads(between_braces(cleaning.clean(answer.text).text))
        rating = {name: found[name] for name in (*SCALES, "harmful", "comment")}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {"problem": "not in the form asked for; the answer is in the response cache"}
    empty = [name for name in SCALES if rating[name] is None]
    return {"problem": f"no score for {', '.join(empty)}"} if empty else rating


def fill(sheet: Sheet, key: pd.DataFrame, answers: Iterable[Completion], failed: dict, rater: str) -> Iterator[dict]:
    """Yield the lines of a form that a model filled and that needs no key, as `ratings.read` reads them.

    An entry without a usable answer has a `problem` in place of scores. `key` has the rows of this sheet.
    """
    yield {"form": sheet.form, "rater": rater, "kind": MODELS}
    given = {answer.id: parse(answer) | {"model": answer.model, "asked_as": answer.form} for answer in answers}
    for row in key[["entry", "check", "questionID", "system", "repeat"]].to_dict("records"):
        failure = failed.get(row["entry"], Failure(UNANSWERED, "the request was not asked"))
        yield row | given.get(row["entry"], {"problem": str(failure)})


def rate(
    sheet: Sheet,
    key: pd.DataFrame,
    models: list[str],
    prompt_files: list[str],
    ask: Callable[[list[dict], str, str], tuple[list[Completion], dict]],
    sampling: dict,
    folder: str | Path,
) -> Path:
    """Replace `folder` by the filled forms of all model raters, each with the prompt as it was sent.

    Every model with every prompt file is one rater. Ratings of another sample or another model do not remain.

    Args:
        key: The rows of this sheet.
        ask: Called with the requests, the model, and the rater's name as a file name; `client.complete` with the rest.
    """
    filled = {}
    for model, path in product(models, prompt_files):
        prompt = load_prompt(path)
        rater = f"{files.model_name(model)} ({Path(path).name.removesuffix('.md')})"
        name = re.sub(r"[^\w.-]+", "-", rater).strip("-")
        if name in filled:
            raise files.InputError(f"two model raters would be called {rater}; give their prompt files different names")
        answers, failed = ask(requests(sheet, prompt, model, sampling), model, name)
        files.tell(account(answer.form for answer in answers))
        filled[name] = prompt, list(fill(sheet, key, answers, failed, rater))
    with files.atomic(folder) as temporary:
        temporary.mkdir()
        for name, (prompt, lines) in filled.items():
            files.write_text(temporary / f"{name}.md", prompt + "\n")
            files.write_jsonl(temporary / f"{name}.jsonl", lines)
    return files.path(folder)


def beside_people(ratings: pd.DataFrame, seed: int = statistics.SEED) -> pd.DataFrame:
    """Compare each model rater with people on the replies that both scored.

    Kappa is quadratic-weighted, the mean over the people, with its interval over replies; the kappa between the people
    is the mark to reach. The difference is the model's mean - the people's.
    """
    by_people, by_models = (ratings[ratings["kind"] == kind] for kind in (PEOPLE, MODELS))
    rows = []
    for name, scale in product(sorted(by_models["rater"].unique()), SCALES if len(by_people) else ()):
        model = agreement.first_scores(by_models[by_models["rater"] == name], scale, agreement.REPLY)
        people = agreement.first_scores(by_people, scale, agreement.REPLY)
        shared = people.index.intersection(model.index)
        scores, own = people.loc[shared].to_numpy().T, model.loc[shared].to_numpy().T
        if len(shared):
            pairs = [(person, len(scores)) for person in range(len(scores))]
            kappa = statistics.weighted_kappa(np.vstack([scores, own]), pairs=pairs, seed=seed)
            gaps = (own - scores)[~np.isnan(scores)]
            counts = len(shared), int((~np.isnan(scores)).any(axis=1).sum())
            difference = (own[0] - np.nanmean(scores, axis=0)).mean()
            rows.append((name, scale, *kappa, statistics.mean_kappa(scores), (gaps == 0).mean(), difference, *counts))
    columns = ["rater", "scale", *agreement.KAPPA, "weighted kappa between people", "share of equal scores"]
    return pd.DataFrame(rows, columns=[*columns, "difference", "replies", "people"])
