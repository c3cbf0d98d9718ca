"""Profiles: parameter files that hold what differs from the notebooks' own values, checked before anything runs."""

import ast
import datetime
import difflib
import json
import re
from pathlib import Path

import yaml

from cbtllm_utils import files

NOTEBOOKS = files.ROOT / "notebooks"
PARAMS = files.ROOT / "params"
REQUIRES = {"gpu_memory_gb": (None, (float,)), "disk_gb": (None, (float,))}  # what a profile needs of a machine


def names(folder: Path, suffix: str) -> list[str]:
    """The names without suffix of a folder's files, in order."""
    return sorted(file.stem for file in folder.glob(f"*{suffix}"))


def known(kind: str, name: str, among: list[str], where: str) -> str:
    """The name, when it is among those that exist; else InputError that names the nearest and all others."""
    if name in among:
        return name
    nearest = difflib.get_close_matches(str(name), among, 1)
    hint = f"did you mean {nearest[0]}? " if nearest else ""
    raise files.InputError(f"{where}: unknown {kind} {name!r}; {hint}there are: {', '.join(among) or 'none'}")


def read(profile: str) -> dict:
    """A profile as written: common, backbones, skip, and one section a notebook. InputError when it cannot be used."""
    known("profile", profile, names(PARAMS, ".yaml"), "params/")
    where = f"params/{profile}.yaml"
    try:
        content = yaml.safe_load((PARAMS / f"{profile}.yaml").read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise files.InputError(f"{where}: not YAML: {' '.join(str(error).split())}") from None
    content = dated(content)
    if not isinstance(content, dict):
        raise files.InputError(f"{where}: holds a {type(content).__name__} where sections are expected")
    for section, values in content.items():
        known("section", section, ["common", "backbones", "skip", "requires", *names(NOTEBOOKS, ".ipynb")], where)
        if not isinstance(values, list if section == "skip" else dict):
            raise files.InputError(
                f"{where}: section {section} must be {'a list' if section == 'skip' else 'keys: values'}"
            )
    check(content, where)
    return content


def dated(value: object) -> object:
    """The value with YAML's dates as text, which is all that they are here."""
    if isinstance(value, dict):
        return {key: dated(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [dated(inner) for inner in value]
    return value.isoformat() if isinstance(value, datetime.date) else value


def check(content: dict, where: str) -> None:
    """Nothing, when every key of a profile is a parameter of the right type; else InputError."""
    everywhere = {name: kinds for notebook in names(NOTEBOOKS, ".ipynb") for name, kinds in declared(notebook).items()}
    for name in content.get("skip", []):
        known("notebook", name, names(NOTEBOOKS, ".ipynb"), f"{where}, skip")
    for section, values in content.items():
        entries = [values, *values.values()] if section == "backbones" else [values]
        if any("run" in entry for entry in entries if isinstance(entry, dict)):
            raise files.InputError(f"{where}, {section}: a profile's run lies in runs/<profile>; leave `run` away")
        if section == "backbones":
            for backbone, entry in values.items():
                if not re.fullmatch(r"\w[\w.-]*", str(backbone), re.ASCII):
                    raise files.InputError(f"{where}: backbone {backbone!r} names files; use letters, digits, - . _")
                checked(entry if isinstance(entry, dict) else {}, everywhere, f"{where}, backbone {backbone}")
                if not isinstance(entry, dict) or "model" not in entry:
                    raise files.InputError(
                        f"{where}, backbone {backbone}: needs `model`, and `deltas` where it has any"
                    )
        elif section == "requires":
            checked(values, REQUIRES, f"{where}, requires")
        elif section != "skip":
            checked(values, everywhere if section == "common" else declared(section), f"{where}, {section}")
    apart(content, where)


def apart(content: dict, where: str) -> None:
    """Nothing, when no two backbones are pushed to one repository, each over the other; else InputError."""
    above = content.get("common", {}) | content.get("04_lora_training", {})
    taken: dict[str, str] = {}
    for backbone, entry in content.get("backbones", {}).items():
        target = (above | entry).get("push_to")
        if target and target in taken:
            raise files.InputError(
                f"{where}: push_to = {target} of {taken[target]} and of {backbone}: the second would replace the first; "
                "give each backbone a repository of its own, in its entry of `backbones`"
            )
        taken[target] = backbone


def cells(notebook: str) -> list[dict]:
    """A source notebook's cells, each with type, source and tags."""
    content = files.read_json(NOTEBOOKS / f"{notebook}.ipynb")
    return [
        {"type": c["cell_type"], "source": "".join(c["source"]), "tags": c["metadata"].get("tags", [])}
        for c in content["cells"]
    ]


def declared(notebook: str) -> dict[str, tuple[object, tuple[type, ...]]]:
    """A notebook's parameters: name -> (default value, allowed types), from its cell tagged `parameters`."""
    source = next((c["source"] for c in cells(notebook) if "parameters" in c["tags"]), "")
    found = {}
    for line in ast.parse(source).body:
        annotated = isinstance(line, ast.AnnAssign)
        value = ast.literal_eval(line.value)
        kinds = annotation(ast.unparse(line.annotation)) if annotated else (type(value),)
        found[(line.target if annotated else line.targets[0]).id] = (value, kinds)
    return found


def annotation(text: str) -> tuple[type, ...]:
    """The types that an annotation such as `list[str] | None` allows."""
    simple = {kind.__name__: kind for kind in (bool, int, float, str, list, dict)} | {"None": type(None)}
    return tuple(simple[option.partition("[")[0].strip()] for option in text.split("|"))


def checked(values: dict, allowed: dict[str, tuple[object, tuple[type, ...]]], where: str) -> dict:
    """The values, when each is a declared parameter of its type; else InputError naming key, file and allowed keys."""
    for key, value in values.items():
        kinds = allowed[known("parameter", key, sorted(allowed), where)][1]
        if not any(fits(value, kind) for kind in kinds):
            expected = " or ".join(kind.__name__ for kind in kinds)
            given = json.dumps(value, ensure_ascii=False, default=str)
            raise files.InputError(f"{where}: {key} = {given} is a {type(value).__name__}, expected {expected}")
    return values


def fits(value: object, kind: type) -> bool:
    """Whether a value has a type: an int is a float too, a bool is neither."""
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def parameters(content: dict, run: str, notebook: str, backbone: str | None = None, **extra: object) -> dict:
    """Every parameter of a notebook: its own values, then common, its section, its backbone's entry, then `extra`.

    `common`, the list of backbones and a backbone's entry reach only the notebooks that declare such a parameter.
    """
    allowed = declared(notebook)
    backbones = content.get("backbones", {})
    entry = {}
    if "backbone" in allowed:
        entry = {"backbone": known("backbone", backbone or allowed["backbone"][0], list(backbones), notebook)}
        entry |= backbones[entry["backbone"]]
    elif backbone is not None:
        raise files.InputError(f"{notebook} takes no backbone; leave backbone={backbone} away")
    shared = {"run": run} | content.get("common", {}) | ({"backbones": list(backbones)} if backbones else {})
    offered = shared | content.get(notebook, {}) | entry
    own = {name: value for name, (value, _) in allowed.items()}
    return own | {k: v for k, v in offered.items() if k in allowed} | checked(extra, allowed, notebook)
