"""Language models as raters: the form's rubric and entries, answers in a JSON schema, ratings of their own kind."""

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

RUBRIC = re.compile(r"\{rubric\.(\w+)\}")  # where a prompt's file wants the form's rubric, and in which language


def prompt(path: str | Path) -> str:
    """What a model rater is told: a prompt's file with the form's guidelines, scales and anchors at {rubric.LANGUAGE}.

    InputError for a file that is missing or does not ask for the rubric: raters by another rubric are not comparable.
    """
    place, words = files.path(path), forms.rubric()
    if not place.is_file():
        raise files.InputError(f"{files.shown(path)}: no such prompt of a rater; see params/prompts/README.md")
    text = place.read_text(encoding="utf-8-sig").strip()
    if {mark[1] for mark in RUBRIC.finditer(text)} - set(words) or not RUBRIC.search(text):
        marks = " or ".join(f"{{rubric.{language}}}" for language in words)
        raise files.InputError(f"{files.shown(path)}: must say {marks}, where the rubric of the forms is put in")
    return RUBRIC.sub(lambda mark: "\n".join([*words[mark[1]]["guide"], *forms.scales(words[mark[1]])]), text)


def schema() -> dict:
    """The answer's form as JSON schema, for providers that hold a model to it; reasons come before scores."""
    score = {"type": "integer", "enum": [0, 1, 2]}
    fields = {"comment": {"type": "string"}} | dict.fromkeys(SCALES, score) | {"harmful": {"type": "boolean"}}
    whole = {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}
    return {"type": "json_schema", "json_schema": {"name": "rating", "strict": True, "schema": whole}}


def requests(sheet: Sheet, told: str, model: str, sampling: dict) -> list[dict]:
    """One request an entry for `client.complete`; the second sight of a reply is another attempt, asked anew.

    A model sees one entry at a time, so the order of the sheet plays no part.
    """
    asked, seen = [], Counter()
    own = {"model": model, "response_format": schema()} | sampling
    for e in sheet.entries:
        seen[e.check] += 1
        post = f"{prompts.enclosed(e.question, e.description)}\n〈回复〉{e.answer.translate(prompts.MARKS)}〈/回复〉"
        chat = [{"role": "system", "content": told}, {"role": "user", "content": post}]
        asked.append({"id": e.entry, "messages": chat, "attempt": seen[e.check]} | own)
    return asked


def judged(text: str) -> dict:
    """Scores, harmful and comment of an answer as they stand, or its `fault`; braces may have text around them."""
    try:
        found = json.loads(text[text.find("{") : text.rfind("}") + 1])
        whole = {name: found[name] for name in (*SCALES, "harmful", "comment")}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {"fault": "not in the form asked for; what it said is in the journal"}
    empty = [name for name in SCALES if whole[name] is None]
    return {"fault": f"no score for {', '.join(empty)}"} if empty else whole


def filled(sheet: Sheet, key: pd.DataFrame, answers: Iterable[Completion], failed: dict, rater: str) -> Iterator[dict]:
    """The lines of a filled form that needs no key, as `ratings.collect` reads them: a head, then one line an entry.

    `key`: the rows of this sheet. An entry without a usable answer has its `fault` in place of scores.
    """
    yield {"form": sheet.form, "rater": rater, "kind": MODELS}
    given = {answer.id: judged(answer.text) | {"model": answer.model} for answer in answers}
    for row in key[["entry", "check", "questionID", "system", "repeat"]].to_dict("records"):
        nothing = {"fault": f"no answer: {failed.get(row['entry'], 'the request was not asked')}"}
        yield row | given.get(row["entry"], nothing)


def rate(
    sheet: Sheet,
    key: pd.DataFrame,
    models: list[str],
    texts: list[str],
    ask: Callable[..., tuple[list[Completion], dict]],
    sampling: dict,
    folder: str | Path,
) -> Path:
    """The folder of the filled forms of all model raters, a model with a prompt's file each, after it was replaced.

    `ask` takes requests, model and the rater's name, and is `client.complete` with all it needs. Beside each form
    lies the prompt as it was sent. Ratings of another sample or another model do not outlast this.
    """
    made = {}
    for model, path in product(models, texts):
        rater, told = f"{model} ({Path(path).name.removesuffix('.md')})", prompt(path)
        name = re.sub(r"[^\w.-]+", "-", rater).strip("-")
        if name in made:
            raise files.InputError(f"two model raters would be called {rater}; give their prompts' files two names")
        answers, failed = ask(requests(sheet, told, model, sampling), model, name)
        made[name] = told, list(filled(sheet, key, answers, failed, rater))
    with files.atomic(folder) as temporary:
        temporary.mkdir()
        for name, (told, lines) in made.items():
            files.write_text(temporary / f"{name}.md", told + "\n")
            files.write_jsonl(temporary / f"{name}.jsonl", lines)
    return files.path(folder)


def beside_people(ratings: pd.DataFrame, seed: int = statistics.SEED) -> pd.DataFrame:
    """How far each model rater agrees with people on the replies that both scored, one row a model rater and scale.

    kappa, low, high: quadratic-weighted, mean over the people, interval over replies. kappa_people: the same between
    the people themselves, the mark to reach. same: share of equal scores. difference: the model's mean - the people's.
    """
    by_people, by_models = (ratings[ratings["kind"] == kind] for kind in (PEOPLE, MODELS))
    rows = []
    for name, scale in product(sorted(by_models["rater"].unique()), SCALES if len(by_people) else ()):
        model = agreement.matrix(by_models[by_models["rater"] == name], scale, agreement.REPLY)
        people = agreement.matrix(by_people, scale, agreement.REPLY)
        shared = people.index.intersection(model.index)
        scores, own = people.loc[shared].to_numpy().T, model.loc[shared].to_numpy().T
        if len(shared):
            pairs = [(person, len(scores)) for person in range(len(scores))]
            kappa = statistics.weighted_kappa(np.vstack([scores, own]), pairs=pairs, seed=seed)
            gaps = (own - scores)[~np.isnan(scores)]
            counts = len(shared), int((~np.isnan(scores)).any(axis=1).sum())
            difference = (own[0] - np.nanmean(scores, axis=0)).mean()
            rows.append((name, scale, *kappa, statistics.mean_kappa(scores), (gaps == 0).mean(), difference, *counts))
    columns = ["rater", "scale", "kappa", "low", "high", "kappa_people", "same", "difference", "replies", "people"]
    return pd.DataFrame(rows, columns=columns)
