"""Answers by JSON schema: what a request asks for, and whether an answer is in that form.

A server that refuses a schema is asked for JSON alone, by `response_format: {type: json_object}` in `sampling`: the
prompts say the form too, and every answer is checked here.
"""

import json

import jsonschema


def json_object(fields: dict) -> dict:
    """Return the schema of an object with exactly these fields."""
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


def json_schema(name: str, fields: dict) -> dict:
    """Return a request's `response_format`: an object with exactly these fields, for providers that enforce one."""
    return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": json_object(fields)}}


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
