"""The case study (§4.7): the same posts put to every tuned backbone and to one untuned, and what each reply lacks."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from cbtllm_utils import files
from cbtllm_utils.data.prompts import COMPONENTS
from cbtllm_utils.finetune import adapters
from cbtllm_utils.generate import answering, kinds, prompted
from cbtllm_utils.human import reading_sheets
from cbtllm_utils.models import devices, prompt_forms
from cbtllm_utils.published import backbone_title
from cbtllm_utils.text import distortions, screening, sections
from cbtllm_utils.text.referral import Referral

NOT_ASKED = "–"  # of a reply to a post that is not flagged: nobody is asked to read it
THE_PAPER, DATA_SET = "the paper", "the data set"
RECORDED = {THE_PAPER: "Published reply", DATA_SET: "Data set's own reply"}  # what wrote a reply -> its heading
ORIGIN = {
    THE_PAPER: "the paper (Figure 4)",
    DATA_SET: "the data set",
    **{kind: f"{kind} systems" for kind in kinds.KINDS},
}
ALL_FIVE, NOT_READ = "all five", reading_sheets.remark(None, 0)
AGAINST, DIRECTS = "advises against", "directs to help"  # by the screen, which goes by wording
JUDGMENTS = ["people's judgment", AGAINST, DIRECTS]
SAFETY = "what to do in danger has no component of its own"
ORDER = (
    "A reply to a post flagged for risk should say early what to do in danger. The classifier has no class for that: it "
    "gives such a passage to one of the five components, and so may call their order wrong."
)


def published() -> dict:
    """Return the paper's case (Figure 4) as a row of the data set; its reply is that of "the paper".

    `risk` says whether the risk screen flags its query.
    """
    case = files.read_json("data/published/figure4_case.json")
    query = {"questionID": "figure 4", "question": case["question"].rstrip("？"), "description": case["description"]}
    query["risk"] = screening.risk(f"{query['question']}\n{query['description']}")
    return query | {"reply": case["reply_zh"], "sections": case["sections"], "query_en": case["query_en"]}


def choose_posts(rows: Iterable[Mapping], number: int) -> list[dict]:
    """Choose posts of the test set by their place, not by their replies.

    Args:
        rows: The data set, with split, risk and topic.
        number: How many posts.

    Returns:
        The first post flagged for risk, if any, then the first of each further topic, then the first others.
    """
    test = [dict(row) for row in rows if row["split"] == "test"]
    flagged = [row for row in test if row["risk"]][:1]
    ordered = flagged + [row for row in test if row not in flagged]
    by_topic = {row.get("topic"): row for row in reversed(ordered)}.values()
    first = [row for row in ordered if row in by_topic]
    return (first + [row for row in ordered if row not in first])[:number]


def answered(run: str, backbone: str) -> list[str]:
    """Return the kinds of a backbone's systems (`kinds.KINDS`) of which notebook 05 wrote answers, in their order."""
    names = {row["system"] for row in files.read_jsonl(f"{run}/answers/{backbone}.jsonl")}
    return [kind for kind in kinds.KINDS if kinds.system(backbone, kind) in names]


def scored_replies(run: str, backbone: str, posts: Iterable[Mapping], kind: str) -> list[dict]:
    """Return a system's replies to posts of the test set: those that notebook 05 wrote, and that are scored.

    Returns:
        One row for each post: system, questionID, reply, finish_reason, tokens, and the model's name.

    Raises:
        InputError: When a post has no answer there.
    """
    place, system = f"{run}/answers/{backbone}.jsonl", kinds.system(backbone, kind)
    found = {row["questionID"]: row for row in files.read_jsonl(place) if row["system"] == system}
    model = model_of(files.read_json(f"{run}/answers/{backbone}.json"), kind)
    for post in posts:
        if post["questionID"] not in found:
            raise files.InputError(
                f"{files.shown(place)}: no answer of {system} to question {post['questionID']}; run "
                f"05_answer_generation for {backbone} on the whole test set"
            )
    return [found[post["questionID"]] | {"model": model} for post in posts]


def model_of(made: Mapping, kind: str) -> str:
    """Return the model of a system, from the record of notebook 05; a tuned one may have whole weights of its own."""
    return made.get("tuned_model") or made["model"] if kind == kinds.TUNED else made["model"]


def new_replies(run: str, backbone: str, post: Mapping, wanted: Collection[str]) -> list[dict]:
    """Let systems of a backbone answer one more post, each alone in its batch; return rows as above.

    Models, deltas, form of the prompt, precision and decoding are those that notebook 05 recorded beside its answers;
    where the adapter was trained on another model, a warning says so. One model at a time is in memory.

    Raises:
        InputError: When the adapter, the form of the prompt or the CBT prompt is another than that of these answers.
    """
    adapter, made = f"{run}/adapters/{backbone}", files.read_json(f"{run}/answers/{backbone}.json")
    devices.use_threads(made.get("threads", 1))
    released, precision = made.get("tuned_model"), devices.precision(made.get("precision", "auto"))
    check_adapter(made, run, adapter, wanted)
    found, model = [], None
    for kind in (kind for kind in kinds.KINDS if kind in wanted):
        if model is None or (kind == kinds.TUNED and released):
            del model
            devices.free_memory()
            deltas = [] if kind == kinds.TUNED and released else made["deltas"]
            model, tokenizer = adapters.load(model_of(made, kind), deltas, run, precision)
        if kind == kinds.TUNED and not released:
            adapters.check_template(adapter, made["template"], tokenizer)
            model = adapters.attach(model, adapter)
        prompt = prompt_for(run, post, kind, made, model, tokenizer)
        [reply] = answering.generate(model, tokenizer, [prompt], batch_size=1, **made["decoding"])
        row = {"system": kinds.system(backbone, kind), "questionID": post["questionID"]} | reply
        found.append(row | {"model": model_of(made, kind)})
    del model
    devices.free_memory()  # the next backbone needs it
    return found


def check_adapter(made: Mapping, run: str, adapter: str, wanted: Collection[str]) -> None:
    """Raise InputError unless the adapter of a tuned system is the one that gave its answers, and fits its model."""
    released = made.get("tuned_model")
    if kinds.TUNED in wanted and released and made.get("tuned_commit") != files.hub_commit(released):
        raise files.InputError(f"{released}: another commit than that which gave the answers; run 05 again")
    if kinds.TUNED in wanted and not released:
        if made.get("adapter") != adapters.identity(adapter):
            name = files.path(adapter).name
            raise files.InputError(
                f"{files.shown(adapter)}: not the adapter that gave the answers of {name}; run 05_answer_generation again"
            )
        adapters.check(made["model"], made["deltas"], run, adapter)


def prompt_for(run: str, post: Mapping, kind: str, made: Mapping, model: object, tokenizer: object) -> str:
    """Return a post's prompt for a system as notebook 05 made it, of the same form, words and CBT prompt.

    Raises:
        InputError: When one of these has changed since.
    """
    template, again = made["template"], "run 05_answer_generation again"
    own = kind == kinds.TUNED and made.get("tuned_model")  # has a tokenizer, and so a chat template, of its own
    if not own and made.get("prompt_form") not in (None, prompt_forms.wording(template, tokenizer)):
        raise files.InputError(f"template = {template}: worded otherwise than for the answers of this run; {again}")
    if kind != kinds.PROMPTED:
        return prompt_forms.prompt(post, template, tokenizer)
    cbt = prompted.prompt(run)
    if made["prompted"]["prompt"] != cbt.hash:
        raise files.InputError(f"{files.shown(run)}/prompts/cbt.json: not the prompt of the answers; {again}")
    room = prompted.context(model) - made["decoding"]["max_new_tokens"]
    [post], _ = prompted.fitted([post], template, tokenizer, cbt, room)
    return prompt_forms.prompt(post, template, tokenizer, cbt)


def replies(
    run: str, backbones: Sequence[str], plain: str | None, paper: Mapping, posts: Sequence[Mapping]
) -> list[dict]:
    """Return the replies to the paper's query and to posts of the test set, post by post.

    To each post: the reply that the data set holds, then those of every backbone tuned, then the other systems of one
    backbone, untuned and prompted, where notebook 05 asked them.

    Args:
        plain: The backbone that answers without its adapter as well; the last one by default.
    """
    found = recorded_replies([paper, *posts])
    for backbone in backbones:
        there = answered(run, backbone)
        wanted = there if backbone == (plain or backbones[-1]) else [kind for kind in there if kind == kinds.TUNED]
        found += new_replies(run, backbone, paper, wanted)
        for kind in wanted:
            found += scored_replies(run, backbone, posts, kind)
    places = {post["questionID"]: place for place, post in enumerate((paper, *posts))}
    return sorted(found, key=lambda row: (places[row["questionID"]], kind_of(row) in (kinds.UNTUNED, kinds.PROMPTED)))


def kind_of(answer: Mapping) -> str:
    """Return what wrote a reply: the paper, the data set, or the kind of its system (`kinds.KINDS`)."""
    return answer.get("written by") or kinds.split(answer["system"])[1]


def how_made(run: str, backbones: Iterable[str]) -> pd.DataFrame:
    """Return one row for each backbone: what made its answers in notebook 05, as its record says.

    Where vLLM or a server made them, a column says what answers the paper's query here.
    """
    columns = {"engine": "engine", "device": "device", "precision": "precision", "batch_size": "prompts at a time"}
    records = {backbone_title(name): files.read_json(f"{run}/answers/{name}.json") for name in backbones}
    rows = [
        {"backbone": name} | {c: record.get(key, "–") for key, c in columns.items()} for name, record in records.items()
    ]
    found = pd.DataFrame(rows)
    if found["engine"].str.startswith(answering.LIBRARIES[0]).all():
        return found
    return found.assign(**{"the paper's query": f"by {answering.engine()}"})


def recorded_replies(posts: Iterable[Mapping]) -> list[dict]:
    """Return the replies that the data set holds for the posts, as rows of the system that wrote them."""
    return [
        {"system": post.get("model", THE_PAPER), "questionID": post["questionID"], "reply": post["reply"]}
        | {"finish_reason": "stop", "tokens": None, "written by": DATA_SET if "model" in post else THE_PAPER}
        for post in posts
    ]


def title(answer: Mapping) -> str:
    """Return the heading of a reply: what wrote it, and that it is tiny if it is one of notebook 00's models."""
    if kind_of(answer) in RECORDED:
        return RECORDED[kind_of(answer)]
    name = kinds.title(answer["system"])
    return f"{name} (tiny)" if files.is_tiny(answer.get("model", "")) else name


def describe(answers: Iterable[Mapping], posts: Iterable[Mapping], folder: str | Path) -> pd.DataFrame:
    """Describe each reply by what the screens and the component classifier find in it, and what people say of it.

    Args:
        answers: Rows as `scored_replies` returns them.
        posts: Their posts, with `risk`.
        folder: Where the sheets are that people filled; it may be absent.

    Returns:
        One row for each reply: whether it has each of the five components (by form, not by sense) and in order, which
        distortions it attributes to the client, what the screens for risk and referral say, whether a person read the
        reply where its post is flagged, its length, and whether it ended by itself.
    """
    answers, posts = list(answers), list(posts)
    flagged = {post["questionID"] for post in posts if post["risk"]}
    said = people_said(answers, posts, folder)
    words, rows = distortions.taxonomy().set_index("label")["english"], []
    for answer in answers:
        structure = sections.structure(answer["reply"], sections.model_for(answer["questionID"]))
        named = dict.fromkeys(words[mention.label] for mention in distortions.find(answer["reply"]))
        rows.append(
            {
                "post": str(answer["questionID"]),
                "reply": title(answer),
                "written by": kind_of(answer),
                **{component: component in structure.present for component in COMPONENTS},
                "in order": structure.complete and structure.in_order,
                "distortions named": ", ".join(named) or "none",
                "flagged for risk": answer["questionID"] in flagged,
                **quoted_advice(answer["reply"]),
                "people's judgment": said.get((answer["system"], answer["questionID"]), NOT_ASKED),
                "characters": len(answer["reply"]),
                "ended by itself": answer["finish_reason"] == "stop",
            }
        )
    return pd.DataFrame(rows)


def people_said(answers: list[Mapping], posts: list[Mapping], folder: str | Path) -> dict[tuple, str]:
    """Return what people say of each reply to a flagged post, by system and post: "not read by a person" at first."""
    replies = reading_sheets.replies(answers, posts)
    judged = reading_sheets.judged(replies, reading_sheets.read(folder, replies["check"]).judgments)
    rows = judged[["system", "questionID", "verdict", "readers"]].itertuples(index=False, name=None)
    return {(system, post): reading_sheets.remark(verdict, readers) for system, post, verdict, readers in rows}


def quoted_advice(reply: str) -> dict[str, str]:
    """Return the help that a reply advises against, and the help that it directs to, each with its words; or "none".

    The screen goes by wording. Help that the reply advises against as well is not among what it directs to.
    """
    advised = screening.advised(reply)
    directed = [one for one in screening.find_referral(reply) if one.to in advised]
    return {AGAINST: quoted(screening.find_against(reply)), DIRECTS: quoted(directed)}


def quoted(referrals: Iterable[Referral]) -> str:
    """Return what the screen finds, by the kind of help, in the reply's own words."""
    found: dict[str, list[str]] = {}
    for one in referrals:
        found.setdefault(one.to.replace("_", " "), []).append(f"“{one.text.strip()}”")
    return "; ".join(f"{to} {', '.join(dict.fromkeys(words))}" for to, words in found.items()) or "none"


def components(described: pd.DataFrame) -> pd.DataFrame:
    """Return of the table of `describe` what each reply has and lacks, with yes and no for flags."""
    flags = described.select_dtypes(bool).replace({True: "yes", False: "no"})
    columns = ["post", "reply", *COMPONENTS, "in order", "distortions named", "characters", "ended by itself"]
    return described.assign(**flags)[columns]


def to_flagged(described: pd.DataFrame) -> pd.DataFrame:
    """Return of the table of `describe` the replies to posts flagged for risk: people's judgment, the screen's."""
    return described.loc[described["flagged for risk"], ["post", "reply", *JUDGMENTS]]


def by_kind(described: pd.DataFrame) -> pd.DataFrame:
    """Return in how many of the paper's, the data set's and each kind of system's replies each component is found."""
    rows = described[[*COMPONENTS]].assign(**{ALL_FIVE: described[[*COMPONENTS]].all(axis=1)})
    groups = rows.groupby(described["written by"], sort=False)
    counts, sizes = groups.sum(), groups.size()
    told = counts.apply(lambda column: [f"{n} of {of}" for n, of in zip(column, sizes, strict=True)])
    there = [origin for origin in ORIGIN if origin in told.index]
    return told.loc[there].rename(index=ORIGIN).rename_axis("replies by").reset_index()


def summary(described: pd.DataFrame) -> list[str]:
    """Return what the table of `describe` says, in sentences for a reader who reads nothing else."""
    whole = described[[*COMPONENTS]].all(axis=1)
    paper = described["written by"].eq(THE_PAPER)
    [published_reply] = described[paper].to_dict("records")
    has = "all five components" if whole[paper].all() else "not all five components"
    counts = [
        f"{whole[of].sum()} of {of.sum()} {kind}"
        for kind in kinds.KINDS
        if (of := described["written by"].eq(kind)).any()
    ]
    flagged = described[described["flagged for risk"]]
    unread = flagged["people's judgment"].isin([NOT_READ, NOT_ASKED])  # an empty reply is on no sheet
    against, posts = flagged[AGAINST].ne("none").sum(), flagged["post"].nunique()
    return [
        f"The published reply has {has} and names these distortions: {published_reply['distortions named']}; "
        "by our reading, which no therapist has checked, the post supports neither well.",
        f"All five components are found by their wording in {', '.join(counts)} replies; this says nothing of sense.",
        f"Replies shown here to posts flagged for risk: {len(flagged)}, to {posts} post{'s' * (posts != 1)} of the test "
        f"set. Of these, by their wording, advise against a hotline or other help: {against}; read by people: "
        f"{(~unread).sum()}.",
    ]


def segments(answer: Mapping) -> list[tuple[str, str]]:
    """Cut the reply of a row into (component, text); the texts join to the reply.

    `sections.segment` gives each sentence its likeliest component; where `sections.structure` finds too little evidence
    for that component, it is "".
    """
    model = sections.model_for(answer["questionID"])
    present = sections.structure(answer["reply"], model).present
    found = sections.segment(answer["reply"], model)
    return [(component if component in present else "", text) for component, text in found]


def about_order(post: Mapping) -> str:
    """Return what a reader must know of the order of components in replies to a post: "" unless it is flagged."""
    return ORDER if post["risk"] else ""


def warning(row: Mapping) -> str:
    """Return what stands above a reply to a flagged post, from its row of `describe`; "" above any other.

    Whether a person has read the reply, and the help that it advises against.
    """
    if not row["flagged for risk"]:
        return ""
    asked = row["people's judgment"] != NOT_ASKED  # an empty reply is on no sheet
    said = "To a post flagged for risk" + (f", {row[JUDGMENTS[0]].upper()}" if asked else "")
    return said if row[AGAINST] == "none" else f"{said}; ADVISES AGAINST {row[AGAINST]}"


def remark(row: Mapping, finish_reason: str) -> str:
    """Return in one line what a reply lacks, from its row of `describe`, and why it did not end by itself.

    First, to a post flagged for risk: the sentences that direct to help, by the screen.
    """
    remarks = []
    if row["flagged for risk"]:
        remarks.append(f"{DIRECTS}: {row[DIRECTS]}")
    missing = [component.replace("_", " ") for component in COMPONENTS if not row[component]]
    if missing:
        remarks.append(f"lacks {', '.join(missing)}")
    else:
        safety = f" ({SAFETY})" if row["flagged for risk"] else ""
        remarks.append("all five components" + ("" if row["in order"] else f", not in order{safety}"))
    if not row["ended by itself"]:
        remarks.append("cut off at the limit" if finish_reason == "length" else finish_reason)
    return "; ".join([*remarks, f"distortions named: {row['distortions named']}"])
