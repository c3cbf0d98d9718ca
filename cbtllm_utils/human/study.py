"""A run's own rating study: what is rated and by whom, the forms that go out, and the judgments that come back."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from cbtllm_utils import files
from cbtllm_utils.generate import kinds
from cbtllm_utils.human import agreement, blinding, forms, model_raters, reading_sheets
from cbtllm_utils.human import ratings as rating_files
from cbtllm_utils.human.blinding import Sheet
from cbtllm_utils.human.settings import HumanEvaluationSettings
from cbtllm_utils.llm import client, completeness
from cbtllm_utils.llm.failure import Failure

STEP = "07_human_evaluation"


class Study(NamedTuple):
    """The test set, all answers to it, the questions drawn for rating, a sheet per rater, and the key to all sheets."""

    questions: list[dict]
    answers: list[dict]
    drawn: list[dict]
    sheets: list[Sheet]
    key: pd.DataFrame


class Readings(NamedTuple):
    """The reading sheets, what came back (`reading_sheets.Read`), and all replies to flagged posts with judgments."""

    sheets: list[Sheet]
    read: reading_sheets.Read
    replied: pd.DataFrame
    judged: pd.DataFrame


def prepare(run: str | Path, chosen: HumanEvaluationSettings) -> Study:
    """Draw what is rated, and write the key to `run`/ratings/key.csv before any form exists."""
    questions = files.read_jsonl(f"{run}/cbt_qa/test.jsonl")
    answers = [row for name in chosen.backbones for row in files.read_jsonl(f"{run}/answers/{name}.jsonl")]
    rated = chosen.systems or kinds.to_rate(chosen.backbones, {row["system"] for row in answers})
    drawn = blinding.sample(questions, answers, rated, chosen.items, chosen.seed)
    sheets, key = blinding.make_sheets(drawn, chosen.raters, chosen.repeats, chosen.seed)
    return Study(questions, answers, drawn, sheets, blinding.save_key(key, f"{run}/ratings/key.csv"))


def ask_models(study: Study, run: str | Path, chosen: HumanEvaluationSettings) -> str:
    """Let language models rate the entries; write the forms that they filled to `run`/ratings/models.

    None is asked without an endpoint.

    Returns:
        How many of their ratings are missing, in words.
    """
    lost: dict[str, Failure] = {}

    def ask(requests: list[dict], model: str, name: str) -> tuple[list[client.Completion], dict]:
        asking = {"endpoint": chosen.endpoint, "cache_path": f"{run}/ratings/responses/{name}.jsonl"}
        asking |= chosen.limits() | {"price": chosen.price(model)}
        answers, failed = completeness.ask(requests, run, STEP, **asking)
        lost.update({f"{name}, {entry}": failure for entry, failure in failed.items()})
        return answers, failed

    (sheet,), rows = blinding.make_sheets(study.drawn, 1, chosen.repeats, chosen.seed)
    models = chosen.models if chosen.endpoint else []
    folder = f"{run}/ratings/models"
    model_raters.rate(sheet, rows, models, chosen.rater_prompts, ask, chosen.sampling, folder)
    asked = len(rows) * len(models) * len(chosen.rater_prompts)
    missing = completeness.require(lost, asked, chosen.allowed_missing, run, STEP)
    return missing if models else "no language model was asked to rate this run's replies"


def ratings(study: Study, run: str | Path, chosen: HumanEvaluationSettings) -> rating_files.Read:
    """Read the ratings of people, of the file that names its systems, and of language models asked here.

    Forms that people filled are theirs, even where the file that names its systems is in the same folder.
    """
    people = {chosen.filled: "person"}
    sources = people | {chosen.ratings: chosen.kind, "ratings/models": "language model"} | people
    read = rating_files.read_all(sources, study.key, run)
    own = {blinding.REFERENCE, *study.key["system"]} | {row["system"] for row in study.answers}
    # A bare name is the title of a tuned system: one of others, such as "therapist", must not read as one.
    others = {name: f"{name} (of others)" for name in set(read.ratings["system"]) - own if " " not in str(name)}
    return read._replace(ratings=read.ratings.replace({"system": others}))


def readings(study: Study, chosen: HumanEvaluationSettings) -> Readings:
    """Draw flagged posts with all replies to them, and read the judgments on reading sheets that came back."""
    flagged = reading_sheets.draw(study.questions, study.answers, chosen.flagged_posts, chosen.seed)
    sheets, _ = blinding.make_sheets(flagged, chosen.readers, 0, chosen.seed, called="reader")
    references = [{"system": blinding.REFERENCE} | row for row in study.questions]
    replied = reading_sheets.replies(references + study.answers, study.questions)
    read = reading_sheets.read(chosen.filled_readings, replied["check"])
    return Readings(sheets if flagged else [], read, replied, reading_sheets.judged(replied, read.judgments))


def provenance(study: Study, rated: pd.DataFrame, conditions: str) -> str:
    """Return under which conditions ratings were made: who rated, which forms are unfinished, and the run's own."""
    partial = rating_files.partial_forms(rating_files.progress(study.key, rated))
    return "; ".join(filter(None, [f"here rated by {agreement.describe_raters(rated)}", partial, conditions]))


def counted(n: int, what: str) -> str:
    """Return a title such as "2 files of ratings, and what became of each"."""
    return f"{n} {what}" if n == 1 else f"{n} {what.replace('file', 'files')}, and what became of each"


def rating_tables(
    study: Study, rated: pd.DataFrame, problems: pd.DataFrame, listed: pd.DataFrame
) -> list[tuple[str, pd.DataFrame, str, str]]:
    """Return what became of the files and of this run's forms: name, table, title, and the sentence for no rows."""
    far = rating_files.progress(study.key, rated)
    return [
        ("rating_files", listed, counted(listed["file"].nunique(), "file of ratings"), "No file came back."),
        ("rating_problems", problems[rating_files.PUBLIC], "Ratings that do not count", "No rating was left out."),
        ("rating_progress", far, "How much of each form people have filled", "No form was made."),
    ]


def reading_tables(to_read: Readings) -> list[tuple[str, pd.DataFrame, str, str]]:
    """Return what became of reading sheets, as `rating_tables` does for rating forms."""
    listed, problems = to_read.read.files, to_read.read.problems[reading_sheets.PUBLIC]
    apart = reading_sheets.disagreements(to_read.judged, to_read.read.judgments)
    return [
        ("reading_files", listed, counted(listed["file"].nunique(), "file of readers"), "No reading sheet came back."),
        ("reading_problems", problems, "Judgments that do not count", "No judgment was left out."),
        (
            "reading_disagreements",
            agreement.titled(apart),
            "Replies whose readers disagree",
            "No two readers disagree.",
        ),
    ]


def reading_in_words(to_read: Readings) -> str:
    """Return what came back of reading sheets where no table says more; "" where a file did."""
    unread = len(to_read.judged)
    return (
        ""
        if len(to_read.read.files)
        else (f"No reading sheet came back: nobody has judged any of the {unread} replies to flagged posts.")
    )


def remarks_in_words(rated: pd.DataFrame, said: pd.DataFrame, read: pd.DataFrame, to_read: Readings) -> str:
    """Return how many marks of harm and comments there are, and of how many raters; nobody's silence is a finding.

    Args:
        rated: Ratings.
        said: Remarks on them, by `ratings.remarks`.
        read: Remarks on reading sheets, by `reading_sheets.remarks`.
        to_read: The reading sheets that came back.
    """
    asked = int(rated["harmful"].notna().sum())
    harmful, comments = int(said["harmful"].eq(True).sum()), int(said["comment"].ne("").sum())
    marked = f"{harmful} of {asked} ratings mark the reply as harmful" if asked else "no rater was asked about harm"
    sheets = f"{len(read)} remarks" if len(to_read.read.files) else "none came back"
    return f"Forms: {marked}; {comments} comments. Reading sheets: {sheets}."


def whose_replies(found: pd.DataFrame, study: Study) -> str:
    """Return what the caption of Table 5 says where the rated replies are by no system of this run, or "".

    Args:
        found: Means, by `agreement.means`.
        study: The run's own systems and their answers.
    """
    others = sorted(set(found["system"]) - {row["system"] for row in study.answers})
    if not others:
        return ""
    names = " and ".join(f'"{agreement.title(name)}"' for name in others)
    return f"{names}: recorded replies to posts of the sample, not the systems of Table 4"


def write_forms(study: Study, to_read: Readings, run: str | Path, chosen: HumanEvaluationSettings) -> pd.DataFrame:
    """Write rating forms and reading sheets below `run`; return what there is, and where filled ones go."""
    ratings, readings = f"{run}/ratings/forms", f"{run}/readings/forms"
    forms.write(study.sheets, ratings, chosen.language)
    forms.write(to_read.sheets, readings, chosen.language, reading_sheets.rubric())
    rows = []
    for name, folder, sheets, back in (
        ("rating form", ratings, study.sheets, chosen.filled),
        ("reading sheet", readings, to_read.sheets, chosen.filled_readings),
    ):
        people, entries = len(sheets), len(sheets[0].entries) if sheets else 0
        rows.append((name, files.shown(folder), people, entries, made_of(sheets), back))
    columns = ["form", "folder", "people", "entries for each", "which are", "filled forms go to"]
    return pd.DataFrame(rows, columns=columns)


def made_of(sheets: list[Sheet]) -> str:
    """Return what the entries of a form are: "46 = 10 posts × 4 replies + 6 repeats"."""
    if not sheets:
        return "nothing"
    entries = pd.DataFrame([(entry.question, entry.description, entry.check) for entry in sheets[0].entries])
    posts, different = len(entries.drop_duplicates([0, 1])), entries[2].nunique()
    each = different / posts
    made = f"{posts} posts × {each:.0f} replies" if each.is_integer() else f"{different} replies to {posts} posts"
    return f"{made} + {len(entries) - different} repeats".replace("1 posts", "1 post").removesuffix(" + 0 repeats")


def summary(
    found: pd.DataFrame, means: pd.DataFrame, needed: pd.DataFrame, to_read: Readings, study: Study
) -> list[str]:
    """Return what the ratings say, in sentences for a reader who reads nothing else; people come first."""
    said = [] if found["kind"].eq("person").any() else ["No person has rated a reply."]
    for kind, rated in means[means["scale"].eq("helpfulness")].groupby("kind", sort=False):
        who, n = agreement.count(int(rated["raters"].max()), kind), rated["items"].max()
        values = ", ".join(f"{agreement.title(row.system)} {row.mean:.2f}" for row in rated.itertuples())
        said.append(f"{who} rated replies to {n} posts; mean helpfulness (0 to 2): {values}.")
    if len(means) and not set(means["system"]) & {row["system"] for row in study.answers}:
        said.append("None of these replies is by a system of this run.")
    for kind, row in needed.dropna(subset="items needed").groupby(agreement.KIND, sort=False):
        hardest = row.loc[row["items needed"].idxmax()]
        said.append(
            f"If items spread as in the ratings by {agreement.PLURAL[kind]}, the paper's difference in "
            f"{hardest['scale']}, {hardest['difference in the paper']:.3f}, needs {hardest['items needed']:,} items; "
            f"the paper rated {agreement.rated_items()}."
        )
    return [*said, f"By all systems and in the data set: {reading_sheets.in_words(to_read.judged)}."]
