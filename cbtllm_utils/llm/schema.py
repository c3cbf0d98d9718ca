"""Answers by JSON schema: what a request asks for, and whether an answer is in that form.

A server that refuses a schema is asked for JSON alone, and one that refuses that for text, both with the schema in the
prompt (`weaker`). Every answer is checked here, whatever a server enforces.
"""

import json
from collections import Counter
from collections.abc import Iterable

import jsonschema

FORMS = ("json_schema", "json_object", "text")  # of an answer, each for servers that refuse the one before
IN_WORDS = {  # the weaker forms as captions say them
    "json_object": "json_object, with the schema in the prompt",
    "text": "plain text, with the schema in the prompt",
}
SCHEMA_IN_PROMPT = "\n\nAnswer with one JSON object and nothing else. It must fit this JSON schema:\n"


def json_object(fields: dict) -> dict:
    """Return the schema of an object with exactly these fields."""
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


def json_schema(name: str, fields: dict) -> dict:
    """Return a request's `response_format`: an object with exactly these fields, for providers that enforce one."""
    return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": json_object(fields)}}


def form(body: dict) -> str:
    """Return the form that a request's body asks for: one of `FORMS`, or another that a server knows."""
    return (body.get("response_format") or {}).get("type", "text")


def weaker(body: dict, allowed: str) -> dict:
    """Return a request's body that asks for nothing stronger than `allowed`, one of `FORMS`.

    The schema becomes a part of the system text, whose prompt says the form in words.
    """
    asked = form(body)
    if asked not in FORMS or FORMS.index(asked) >= FORMS.index(allowed):
        return body
    rest = {name: value for name, value in body.items() if name != "response_format"}
    rest |= {"response_format": {"type": allowed}} if allowed != "text" else {}
    if asked != "json_schema":
        return rest
    said = SCHEMA_IN_PROMPT + json.dumps(body["response_format"]["json_schema"]["schema"], ensure_ascii=False)
    first, *others = rest["messages"]
    if first["role"] != "system":
        first, others = {"role": "system", "content": ""}, rest["messages"]
    return rest | {"messages": [first | {"content": (first["content"] + said).strip()}, *others]}


def account(forms: Iterable[str]) -> str:
    """Return in words how answers were asked for where a server takes no schema; "" where all were by schema.

    Args:
        forms: Of each answer, one of `FORMS`, or "" for what the request says.
    """
    counts = Counter(filter(None, forms))
    said = [f"{number} by {IN_WORDS[one]}" for one, number in sorted(counts.items())]
    return f"the server takes no JSON schema, asked for {', '.join(said)}" if said else ""


def parse(text: str, fields: dict) -> dict:
    """Return the object that an answer holds; text around its braces is ignored.

    Raises:
        ValueError: With the first thing that is not in the form asked for.
    """
    try:
        found = json.loads(between_braces(text))
        jsonschema.validate(found, json_object(fields))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except jsonschema.ValidationError as error:
        place = ".".join(map(str, error.absolute_path))
        raise ValueError(f"{place}: {error.validator}" if place else str(error.validator)) from None
    except ValueError:
        raise ValueError("not JSON") from None
    return found


def between_braces(text: str) -> str:
    """Return an answer without what a model writes around its object, such as marks of a code block."""
    return text[text.find("{") : text.rfind("}") + 1]
