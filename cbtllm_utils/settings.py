"""Settings of a step: each documented once, checked before anything runs, an error on one line."""

import ast
import difflib
import json
import re
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from cbtllm_utils.files import InputError

STATED, TOOL, OURS = "stated by the paper", "default of its tool", "our choice"
TYPE = re.compile(r"(str|int|float|bool|list|dict|function-\S+)\b")  # pydantic names the tried types of a union
TYPES = {  # of JSON schema, in words
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "object": "mapping",
    "null": "null",
}
SIGNS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
SCOPES = (  # parts of a program whose names are their own
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda),
    *(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
)
CELL_MAGIC = "get_ipython().run_cell_magic"  # with the magic's name, what is behind it, and the cell below
INJECTED = "# Parameters"  # the first line of the cell that papermill adds


def stated(default: Any, description: str, **limits: Any) -> Any:
    """Declare a setting whose default the paper states; `limits` are pydantic's: ge, gt, le, lt, min_length, …"""
    return declared(default, description, STATED, limits)


def tool_default(default: Any, description: str, **limits: Any) -> Any:
    """Declare a setting whose default is that of the tool that the paper names."""
    return declared(default, description, TOOL, limits)


def ours(default: Any, description: str, **limits: Any) -> Any:
    """Declare a setting whose default we chose."""
    return declared(default, description, OURS, limits)


def declared(default: Any, description: str, source: str, limits: Mapping[str, Any]) -> Any:
    """Declare a setting with its default, what it means, and where the default comes from."""
    return Field(default, description=description, json_schema_extra={"source": source}, **limits)


def as_number(value: object) -> object:
    """Return text such as "5e-3" as a number, which it is in YAML 1.2 and not in YAML 1.1; anything else as it is."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


Number = Annotated[float, BeforeValidator(as_number)]


class Settings(BaseModel):
    """Everything that a notebook takes: the values of its `parameters` cell and those of its mapping `settings`.

    A subclass declares each value once, with `stated`, `tool_default` or `ours`. Types are strict: 1.5 and true are
    not ints, "8" is not a number (but see `Number`), NaN and infinity are refused. Lists are declared as lists.

    Raises:
        InputError: For an unknown name, a wrong type or an impossible value, on one line.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=())

    run: str = ours("runs/demo", "folder of the run; every file that the notebook writes is in it", min_length=1)
    conditions: str = ours("", "printed on every table and figure")

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise InputError(complaint(error, type(self).model_fields)) from None

    @classmethod
    def from_notebook(cls, namespace: Mapping[str, Any]) -> Self:
        """Build the settings from the variables of a notebook: call it with `globals()`.

        A parameter is a variable that some cell assigns: those of a start-up file do not count. Where no cell assigns
        one (a script made of the notebook, a cell under `%%time`), every variable counts.

        Args:
            namespace: The variables of the `parameters` cell, the mapping `settings` among them, and IPython's `In`.

        Raises:
            InputError: As the class does; also for a name that the `parameters` cell, or the one that papermill adds
                below it, assigns and that nothing declares.
        """
        more = namespace.get("settings", {})
        if not isinstance(more, dict):
            raise InputError(f"settings = {as_json(more)}: expected a mapping of names to values")
        known = cls.model_fields.keys() | {"settings"}
        injected, written, assigned = parameter_names(namespace.get("In", []), known)
        for name in sorted((injected | written) - known):
            raise InputError(unknown(name, cls.model_fields))
        here = assigned if assigned & known else namespace.keys()
        given = {name: namespace[name] for name in cls.model_fields if name in namespace and name in here}
        for name in sorted(given.keys() & more.keys() - injected):
            raise InputError(f"settings: {name} is a parameter of this notebook; set it there")
        return cls(**more | given)

    @classmethod
    def documentation(cls) -> list[dict[str, str]]:
        """Return name, type, default, source and description of every setting."""
        types = cls.model_json_schema()["properties"]
        return [
            {
                "name": name,
                "type": type_in_words(types[name]),
                "default": as_json(field.get_default(call_default_factory=True)),
                "source": field.json_schema_extra["source"],
                "description": field.description,
            }
            for name, field in cls.model_fields.items()
        ]


def type_in_words(schema: Mapping[str, Any]) -> str:
    """Return what a JSON schema takes, with its limits: "whole number ≥ 1 or null"."""
    if "anyOf" in schema:
        return " or ".join(map(type_in_words, schema["anyOf"]))
    if values := schema.get("enum", [schema["const"]] if "const" in schema else []):
        return " / ".join(map(str, values))
    if schema.get("type") == "array":
        return f"list ({type_in_words(schema['items'])})"
    limits = [f"{sign} {schema[key]:g}" for key, sign in SIGNS.items() if key in schema]
    return " ".join([TYPES[schema.get("type", "object")], " and ".join(limits)]).strip()


def parameter_names(cells: list[str], known: Collection[str]) -> tuple[set[str], set[str], set[str]]:
    """Return what the cells run so far assign.

    The `parameters` cell is the first that assigns a known name. It may have been edited and run again: a later cell
    with at least half of its known names is a new version of it, one with fewer is another cell.

    Args:
        cells: IPython's `In`.
        known: The names that a parameter may have.

    Returns:
        The names in the cell that papermill added; those in the `parameters` cell; those in all cells.
    """
    injected, written, everywhere = set(), set(), set()
    for cell in cells:
        names = assigned_names(cell)
        everywhere |= names
        if cell.startswith(INJECTED):
            injected = names
        elif (here := names & set(known)) and 2 * len(here & written) >= len(written & set(known)):
            written = names
    return injected, written, everywhere


def assigned_names(cell: str) -> set[str]:
    """Return the variables that a cell assigns; the empty set for one that is not Python, which never ran.

    IPython's `In` has magics as calls. What is under a cell magic such as `%%time` is read as a cell.

    Names inside functions, classes and comprehensions are their own. (`symtable` counts a comprehension's variable as
    the cell's since Python 3.12, which compiles it there: PEP 709.)
    """
    try:
        left: list[ast.AST] = [ast.parse(cell)]
    except SyntaxError:
        return set()
    names = set()
    while left:
        node = left.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == CELL_MAGIC and len(node.args) == 3:
            names |= assigned_names(ast.literal_eval(node.args[2]))
        if not isinstance(node, SCOPES):
            left += ast.iter_child_nodes(node)
    return names


def complaint(error: ValidationError, names: Collection[str]) -> str:
    """Return pydantic's first complaint on one line: the setting, its value, what is expected."""
    first = error.errors()[0]
    if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
        return unknown(str(first["loc"][0]), names)
    reason = first["msg"].removeprefix("Value error, ").replace("Input should", "should")
    place = ".".join(str(part) for part in first["loc"] if not TYPE.match(str(part)))
    return f"{place} = {as_json(first['input'])}: {reason}" if place else reason


def unknown(name: str, among: Collection[str], kind: str = "parameter") -> str:
    """Return the message for a name that does not exist: the nearest one, and all others."""
    nearest = difflib.get_close_matches(str(name), among, 1)
    hint = f"did you mean {nearest[0]}? " if nearest else ""
    return f"unknown {kind} {name!r}; {hint}there are: {', '.join(sorted(among)) or 'none'}"


def as_json(value: object) -> str:
    """Return a value as JSON, which YAML reads as well."""
    return json.dumps(value, ensure_ascii=False, default=str)
