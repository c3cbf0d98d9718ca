"""Cases of §4.7: the same posts put to every tuned backbone and to one untuned, and what each reply has and lacks."""

import gc
from collections.abc import Iterable, Mapping

import pandas as pd

from cbtllm_utils import files
from cbtllm_utils.data.prompts import COMPONENTS
from cbtllm_utils.finetune import adapters
from cbtllm_utils.generate import answering
from cbtllm_utils.models import devices, prompt_forms
from cbtllm_utils.text import distortions, screening, sections


def published() -> dict:
    """The paper's case (Figure 4) as an item: question, description, and its reply as the reply of "the paper"."""
    case = files.read_json("data/published/figure4_case.json")
    query = {"questionID": "figure 4", "question": case["question"].rstrip("？"), "description": case["description"]}
    return query | {"reply": case["reply_zh"], "sections": case["sections"], "query_en": case["query_en"]}


def chosen(rows: Iterable[Mapping], number: int) -> list[dict]:
    """So many test items, by their place and not by their replies: the first with words of risk, if any, then the first
    of every topic not yet there, then the first others."""
    test = [dict(row) for row in rows if row["split"] == "test"]
    risky = [row for row in test if row["risk"]][:1]
    ordered = risky + [row for row in test if row not in risky]
    topical = list({row.get("topic"): row for row in reversed(ordered)}.values())
    first = [row for row in ordered if row in topical]
    return (first + [row for row in ordered if row not in first])[:number]


def replies(run: str, backbone: str, items: list[Mapping], tuned: bool, precision: str, **decoding: object) -> list:
    """One row an item: system, questionID, model, reply, finish_reason, tokens.

    Base model, deltas and form of prompt are those that the adapter's training.json names. Decoded as in notebook 05,
    so an item of the test set gets the same reply.
    """
    record = files.read_json(f"{run}/adapters/{backbone}/training.json")
    model, tokenizer = adapters.load(record["model"], record["deltas"], run, devices.precision(precision))
    if tuned:
        model = adapters.attach(model, f"{run}/adapters/{backbone}")
    asked = [prompt_forms.prompt(item, record["settings"]["template"], tokenizer) for item in items]
    answers = answering.generate(model, tokenizer, asked, **decoding)
    del model
    gc.collect()  # the next backbone needs the room
    system = backbone if tuned else f"{backbone}-untuned"
    return [
        {"system": system, "questionID": item["questionID"], "model": record["model"]} | answer
        for item, answer in zip(items, answers, strict=True)
    ]


def title(answer: Mapping) -> str:
    """What stands above a reply: its system, and whether that is one of notebook 00's stand-ins."""
    return f"{answer['system']} (tiny)" if files.is_tiny(answer.get("model", "")) else answer["system"]


def recorded(items: Iterable[Mapping]) -> list[dict]:
    """The replies that the data set holds for the items, as rows of the system that wrote them."""
    return [
        {"system": item.get("model", "the paper"), "questionID": item["questionID"], "reply": item["reply"]}
        | {"finish_reason": "stop", "tokens": None}
        for item in items
    ]


def findings(answers: Iterable[Mapping], items: Iterable[Mapping]) -> pd.DataFrame:
    """One row a reply: which of the five parts it has (`sections.structure`: shape, not sense), whether in order, the
    distortions that it attributes to the client, whether the post speaks of risk and the reply names help, and how it
    ended."""
    posts = {item["questionID"]: item["question"] + item["description"] for item in items}
    rows = []
    for answer in answers:
        found = sections.structure(answer["reply"])
        named = dict.fromkeys(mention.label for mention in distortions.find(answer["reply"]))
        rows.append(
            {"item": str(answer["questionID"]), "system": answer["system"]}
            | {section: section in found.present for section in COMPONENTS}
            | {"in order": found.complete and found.in_order, "distortions named": ", ".join(named) or "none"}
            | {
                "risk in post": screening.risk(posts[answer["questionID"]]),
                "names help": screening.advice(answer["reply"]),
            }
            | {"characters": len(answer["reply"]), "ended": answer["finish_reason"] == "stop"}
        )
    return pd.DataFrame(rows)


def shown(findings: pd.DataFrame) -> pd.DataFrame:
    """The findings to print: yes and no, and names with spaces."""
    flags = findings.select_dtypes(bool)
    words = flags.replace({True: "yes", False: "no"})
    return findings.assign(**words).rename(columns=lambda name: name.replace("_", " "))


def stretches(reply: str) -> list[tuple[str, str]]:
    """The reply as (component, text), joining to it; "" as component where the segmenter had to guess.

    `sections.segment` gives every sentence the likeliest component, `sections.structure` names those with evidence of
    their own: only these are shown as present.
    """
    present = sections.structure(reply).present
    return [(section if section in present else "", text) for section, text in sections.segment(reply)]


def remark(finding: Mapping) -> str:
    """What a reply lacks, in one line, from its row of `findings`."""
    missing = [section.replace("_", " ") for section in COMPONENTS if not finding[section]]
    parts = [
        f"lacks {', '.join(missing)}" if missing else "all five parts" + ("" if finding["in order"] else ", mixed")
    ]
    parts += ["broken off at the limit"] if not finding["ended"] else []
    parts += (
        ["NAMES NO HELP for a post with words of risk"] if finding["risk in post"] and not finding["names help"] else []
    )
    return "; ".join([*parts, f"distortions named: {finding['distortions named'].replace('_', ' ')}"])
