"""What a server takes of a request: which fields it refuses by name, and how JSON is asked for without a schema.

Servers share OpenAI's API, and not all of its fields: `transformers serve` takes no top_k, OpenAI's reasoning models no
temperature but 1, llama-cpp-python no schema. A field is left out where that changes no answer; else the run stops
with the setting to change. The tables below say which field changes nothing at which value.
"""

import json
import re
from collections.abc import Collection, Mapping

from cbtllm_utils.llm import schema
from cbtllm_utils.llm.errors import MODERATED, MOST_READ, TOO_LONG, what_was_said, words
from cbtllm_utils.llm.exchange import OURS

SAME_AS_UNSET = {  # by OpenAI's API what holds without the field; no generation_config of a model says otherwise
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "best_of": (1,),
    "echo": (False,),
    "stop": ([], ""),
    "logit_bias": ({},),
    "response_format": ({"type": "text"},),
}
ONLY_WHEN_DRAWING = ("top_k", "top_p", "min_p", "typical_p", "seed")  # at temperature 0 no token is drawn
NO_PART_OF_TEXT = ("user", "metadata", "store", "logprobs", "top_logprobs", "safety_identifier", "prompt_cache_key")
WHAT_TO_SET = {  # besides leaving the field to the server, where that would change answers
    "temperature": "set what it says, often `temperature: 1`",
    "seed": "without it a rerun draws other replies, which are cached; at temperature 0 it decides nothing",
    "max_tokens": "some want it as max_completion_tokens: `sampling: {max_tokens: null, max_completion_tokens: …}`",
    "max_completion_tokens": "some want it as max_tokens: `sampling: {max_completion_tokens: null, max_tokens: …}`",
    "stop_token_ids": "name the stops in the served model's generation_config.json (eos_token_id), then leave them out",
    "add_special_tokens": "the prompts begin with their own bos, which must not come twice: ask vLLM, or set `route: chat`",
    "chat_template_kwargs": "leave it out for a model that does not think first; docs/provider.md says how others are told",
}
REFUSING = (400, 406, 415, 422, 500, 501)  # HTTP's status of such a refusal
REFUSAL = words(
    r"support|unrecogni[sz]ed|unknown|unexpected|extra|permitted|allowed|forbidden|invalid|illegal|must|should|cannot|can't",
    r"\bonly\b|unavailable|deprecated|range|fail|error|between|greater|less|required|not (found|implemented)",
    r"不支持|非法|无效|有误|错误|不合法|必须|应该|应为|不能|不可|仅|只|范围|無效|錯誤|必須",
)
LOCATED = re.compile(
    r"loc\\*['\"]\s*:\s*[(\[]([^)\]]*)"
)  # pydantic's place of an error, as JSON or as Python writes it
PARAM = re.compile(r"param\\*['\"]\s*:\s*\\*['\"]([\w.\[\]]+)")  # OpenAI's
GO = re.compile(r"Go struct field \w+\.(\w+)")  # Ollama's
SUGGESTED = words(r"did you mean[^?]*\??")  # names another field
OUT_OF_MEMORY = words(r"out of memory|(cannot|failed to|unable to) allocate")  # whatever else it names
BY_NAME = words(
    r"extra inputs|(unsupported|unknown|unrecognized|unexpected) (request )?(parameter|argument|field|keyword)"
)
COMMON = ("seed", "stop", "user", "store", "metadata", "thinking", "echo")  # words that occur in other sentences
ABOUT_JSON = words(
    r"response_?format|json_?schema|json_?object|grammar|structured.?output|guided.?(json|decoding)|json.?mode"
)

GRAMMAR_FAILED = words(r"grammar rejected tokens")  # vLLM's, of one answer: the server takes grammars


def named(status: int, content: str, sent: Mapping) -> list[str]:
    """Return which fields of a request's body a refusal names; [] where it is about something else.

    Args:
        status: HTTP's.
        content: The response's body.
        sent: The request's body.
    """
    fields = {name: name for name in sent if name not in OURS}
    fields |= {inner: "chat_template_kwargs" for inner in sent.get("chat_template_kwargs", {})}
    if status not in REFUSING:
        return []
    if places := LOCATED.findall(content[:MOST_READ]):
        words_of = [re.findall(r"\w+", place) for place in places]
        return unique(fields[word] for place in words_of for word in place[:2] if word in fields)
    codes, said = what_was_said(content)
    text = SUGGESTED.sub("", " ".join([*codes, said])[:MOST_READ])
    if TOO_LONG.search(text) or OUT_OF_MEMORY.search(text):  # names a limit, and is about this post
        return []
    param = PARAM.search(content) or GO.search(text)
    if param and (name := re.split(r"[.\[]", param[1])[0]) in fields:
        return [fields[name]]
    if not REFUSAL.search(text) or (MODERATED.search(text) and not BY_NAME.search(text)):
        return []
    found = unique(field for name, field in fields.items() if mentions(text, name))
    return found or (["response_format"] if "response_format" in fields and ABOUT_JSON.search(text) else [])


def unique(names: Collection[str]) -> list[str]:
    """Return names without repetition, in their order."""
    return list(dict.fromkeys(names))


def mentions(text: str, name: str) -> bool:
    """Return whether a message names a field: as it is, in camel case, and a common word only as a field."""
    camel = re.sub(r"_(\w)", lambda found: found[1].upper(), name)
    either = f"(?:{re.escape(name)}|{re.escape(camel)})"
    if name not in COMMON:
        return bool(re.search(rf"(?<![A-Za-z_]){either}(?![A-Za-z_])", text))
    if BY_NAME.search(text) and re.search(rf"(?<![\w.]){either}(?![\w.])", text):
        return True
    before = r"(?:parameter|argument|field|option|property|key|invalid|unsupported|参数|字段)s?\W{0,4}"
    behind = r"\W{0,3}(?:is|are|must|should|does|cannot|parameter|field|参数|字段|不)"
    return bool(re.search(rf"['\"`‘“]{either}['\"`’”]|{before}\b{either}\b|\b{either}\b{behind}|^{either}:", text))


def changes_nothing(field: str, request: Mapping, sent: Mapping) -> bool:
    """Return whether a request without a field gets the same answers, by the tables above."""
    greedy = sent.get("temperature") == 0
    if field == "stop_token_ids" and set(sent[field]) <= set(request.get("known_stops", ())):
        return True
    never_read = field in NO_PART_OF_TEXT or (greedy and field in ONLY_WHEN_DRAWING)
    return never_read or sent[field] in SAME_AS_UNSET.get(field, ())


def advice(field: str, request: Mapping, sent: Mapping) -> str:
    """Return in one line what to set where a server refuses a field that decides answers."""
    inside = field in request.get("extra_body", {})
    without = f"{{extra_body: {{{field}: null}}}}" if inside else f"{{{field}: null}}"
    value = json.dumps(sent[field], ensure_ascii=False)[:60]
    own = f"{WHAT_TO_SET[field]}; or " if field in WHAT_TO_SET else ""
    return (
        f"the server refuses {field} = {value}, which decides answers: {own}leave it to the server's own value by "
        f"`sampling: {without}` (of the second reader: `reader_sampling`)"
    )


class Accepted:
    """What a server was found to take, for all requests of a run: fields to leave out, and the form of JSON.

    A value that was answered is taken: an error that names its field later is about its own request. Of answers by JSON
    the form is such a value; a stronger one than is asked for by now was refused before, and is asked again.
    """

    def __init__(self) -> None:
        self.left_out: list[str] = []
        self.form = schema.FORMS[0]
        self.taken: set[tuple[str, str]] = set()  # fields and values of requests that were answered
        self.failed_grammars: list[dict] = []  # bodies of which a grammar failed once

    def refused(self, status: int, content: str, sent: dict) -> list[str]:
        """Return which fields of a request's body this server refuses by name; [] for an error about something else."""
        if GRAMMAR_FAILED.search(content) and sent not in self.failed_grammars:
            self.failed_grammars.append(sent)
            return []
        values, stronger = self.values(sent), schema.weaker(sent, self.form) != sent
        return [
            field
            for field in named(status, content, sent)
            if (field, values[field]) not in self.taken or (field == "response_format" and stronger)
        ]

    @staticmethod
    def values(sent: dict) -> dict[str, str]:
        """Return the fields of a body with their values as text; of an answer by JSON, its form alone."""
        own = {name: json.dumps(value) for name, value in sent.items() if name not in OURS}
        return own | {"response_format": schema.form(sent)}

    def fit(self, body: dict) -> dict:
        """Return a request's body as this server takes it."""
        fitted = {name: value for name, value in body.items() if name not in self.left_out}
        return schema.weaker(fitted, self.form)

    def adapt(self, refused: list[str], request: dict, sent: dict) -> str | None:
        """Take note of refused fields; return None when the request can be asked again, else what to set."""
        for field in refused:
            if field == "response_format" and schema.form(sent) in schema.FORMS[:-1]:
                following = schema.FORMS.index(schema.form(sent)) + 1
                self.form = schema.FORMS[max(following, schema.FORMS.index(self.form))]
            elif changes_nothing(field, request, sent):
                self.left_out = unique([*self.left_out, field])
            else:
                return advice(field, request, sent)
        return None

    def answered(self, sent: dict, body: dict) -> dict:
        """Note an answer; return what the response cache says where it was not asked for as the request has it."""
        self.taken |= self.values(sent).items()
        gone = [name for name in self.left_out if name in body]
        weaker = schema.form(sent) != schema.form(body)
        return ({"left_out": gone} if gone else {}) | ({"form": schema.form(sent)} if weaker else {})

    def in_words(self) -> str:
        """Return which fields are left out, for the terminal; "" for none. Of forms each reader says how many."""
        names = ", ".join(self.left_out)
        return f"the server refuses {names}: left out, which changes no answer" if names else ""
