"""Profiles: parameter files that hold what differs from the notebooks' own values, checked before anything runs."""

import ast
import re
from collections.abc import Collection, Iterator
from pathlib import Path

import yaml

from cbtllm_utils import files
from cbtllm_utils.generate import kinds
from cbtllm_utils.settings import Number, Settings, ours, unknown
from cbtllm_utils.workflow.steps import STEPS

NOTEBOOKS = files.ROOT / "notebooks"
PARAMS = files.ROOT / "params"
CLASSES = {step.notebook: step.settings for step in STEPS}
LISTS = ("skip", "more_seeds")  # sections that are lists; all others are keys: values


class Requirements(Settings):
    """What a profile needs of a machine."""

    gpu_memory_gb: Number | None = ours(None, "memory of the GPU", gt=0)
    disk_gb: Number = ours(1.0, "free disk below runs/", gt=0)
    memory_gb: Number | None = ours(None, "main memory that a notebook takes at most", gt=0)
    downloads: dict[str, Number] = ours(
        {}, "models of the hub that `make reproduce` downloads by itself, with their GB"
    )
    takes: str = ours("", "how long a run takes, said before it begins")


class Loader(yaml.SafeLoader):
    """YAML with the numbers of YAML 1.2: 5e-3 is a number, 042 is text; dates are text."""

    yaml_implicit_resolvers = {  # noqa: RUF012, PyYAML's own name
        first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] in ("null", "bool", "merge")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?(0|[1-9][0-9_]*)$"), list("-+0123456789"))
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?((\d[\d_]*\.\d*|\.\d+)([eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.(inf|Inf|INF))$|\.(nan|NaN|NAN)$"),
    list("-+.0123456789"),
)


def load(text: str) -> object:
    """Return the value of a YAML text; yaml.YAMLError where it is not YAML."""
    return yaml.load(text, Loader)  # a SafeLoader: it builds plain values only


def names(folder: Path, suffix: str) -> list[str]:
    """Return the names without suffix of a folder's files, in order."""
    return sorted(file.stem for file in folder.glob(f"*{suffix}"))


def known(kind: str, name: str, among: Collection[str], where: str) -> str:
    """Return the name when it is among those that exist; else InputError names the nearest one and all others."""
    if name in among:
        return name
    raise files.InputError(f"{where}: {unknown(name, among, kind)}")


def read(profile: str) -> dict:
    """Return a profile: common, backbones, skip, requires, more_seeds, and one section for each notebook.

    It is as written, but where a GPU is, each backbone is repeated for every one of `more_seeds`. A run that holds
    such trainings keeps them in its graph wherever it is read later.

    Raises:
        InputError: When a section, a name, a type or a value cannot be used; the message says where.
    """
    known("profile", profile, names(PARAMS, ".yaml"), "params/")
    where = f"params/{profile}.yaml"
    try:
        content = load((PARAMS / f"{profile}.yaml").read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise files.InputError(f"{where}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise files.InputError(f"{where}: holds a {type(content).__name__} where sections are expected")
    for section, values in content.items():
        known("section", section, ["common", "backbones", "requires", *LISTS, *CLASSES], where)
        if not isinstance(values, list if section in LISTS else dict):
            raise files.InputError(
                f"{where}: section {section} must be {'a list' if section in LISTS else 'keys: values'}"
            )
    check(content, where)
    repeat = content.get("more_seeds") and (replicated(profile, content) or gpu())
    return with_more_seeds(content) if repeat else content


def requirements(content: dict) -> Requirements:
    """Return what a profile needs of a machine."""
    return Requirements(**content.get("requires", {}))


def replicated(profile: str, content: dict) -> bool:
    """Return whether a profile's run holds an adapter of one of its `more_seeds`."""
    names = [f"{backbone}-seed{seed}" for backbone in content.get("backbones", {}) for seed in content["more_seeds"]]
    return any(files.path(f"runs/{profile}/adapters/{name}").exists() for name in names)


def gpu() -> bool:
    """Return whether the steps that need a GPU will have one: LAUNCH brings it, or torch sees it here."""
    if files.environment("LAUNCH"):
        return True
    import torch  # takes seconds, which other profiles need not wait

    return torch.cuda.is_available()


def with_more_seeds(content: dict) -> dict:
    """Return a profile with each backbone trained and answering once more for every one of its `more_seeds`."""
    repeated = {}
    for backbone, entry in content.get("backbones", {}).items():
        repeated[backbone] = entry
        for seed in content["more_seeds"]:
            repeated[f"{backbone}-seed{seed}"] = entry | {"seed": seed}
    return content | {"backbones": repeated}


def check(content: dict, where: str) -> None:
    """Raise InputError unless every notebook of a profile can be given its values."""
    for name in content.get("skip", []):
        known("notebook", name, list(CLASSES), f"{where}, skip")
    for seed in content.get("more_seeds", []):
        if type(seed) is not int or seed < 0:
            raise files.InputError(f"{where}, more_seeds: {seed!r} is not a seed; use whole numbers from 0 on")
    within(f"{where}, requires", Requirements, content.get("requires", {}))
    everywhere = {name for settings in CLASSES.values() for name in settings.model_fields}
    for name in content.get("common", {}):
        known("parameter", name, everywhere, f"{where}, common")
    for backbone, entry in content.get("backbones", {}).items():
        if not re.fullmatch(r"\w[\w.-]*", str(backbone), re.ASCII):
            raise files.InputError(f"{where}: backbone {backbone!r} names files; use letters, digits, - . _")
        for name in entry if isinstance(entry, dict) else ():
            known("parameter", name, everywhere, f"{where}, backbone {backbone}")
        if not isinstance(entry, dict) or "model" not in entry:
            raise files.InputError(f"{where}, backbone {backbone}: needs `model`, and `deltas` where it has any")
    sections = [content.get("common", {}), *content.get("backbones", {}).values()]
    sections += [values for name, values in content.items() if name in CLASSES]
    if any("run" in values for values in sections):
        raise files.InputError(f"{where}: the run of a profile is runs/<profile>; leave `run` out")
    for notebook, settings in CLASSES.items():
        for name in content.get(notebook, {}):
            known("parameter", name, settings.model_fields, f"{where}, {notebook}")
        for backbone in backbones(content, notebook):
            parameters(content, "runs/check", notebook, backbone, where=f"{where}, {notebook}")


def within(where: str, settings: type[Settings], values: dict) -> Settings:
    """Return settings built from values; InputError that begins with where they are written."""
    try:
        return settings(**values)
    except files.InputError as error:
        raise files.InputError(f"{where}: {error}") from None


def backbones(content: dict, notebook: str) -> list[str | None]:
    """Return the backbones for which a profile runs a notebook: [None] for one that runs once."""
    per_backbone = next(step.per_backbone for step in STEPS if step.notebook == notebook)
    return list(content.get("backbones", {})) if per_backbone else [None]


def compared(notebook: str, names: list[str]) -> list[str]:
    """Return those of the backbones that a notebook takes: replicates by other seeds only where seeds are compared."""
    if next(step.seeds for step in STEPS if step.notebook == notebook):
        return names
    return [name for name in names if kinds.replicate_of(name) == name or kinds.replicate_of(name) not in names]


def cells(notebook: str) -> list[dict]:
    """Return a source notebook's cells, each with type, source and tags."""
    content = files.read_json(NOTEBOOKS / f"{notebook}.ipynb")
    return [
        {"type": c["cell_type"], "source": "".join(c["source"]), "tags": c["metadata"].get("tags", [])}
        for c in content["cells"]
    ]


def declared(notebook: str) -> dict[str, object]:
    """Return a notebook's own values by name, from its cell tagged `parameters`."""
    source = next((c["source"] for c in cells(notebook) if "parameters" in c["tags"]), "")
    return dict(assignments(source))


def assignments(source: str) -> Iterator[tuple[str, object]]:
    """Yield name and value of each literal that a source assigns."""
    for line in ast.parse(source).body:
        target = line.target if isinstance(line, ast.AnnAssign) else line.targets[0]
        yield target.id, ast.literal_eval(line.value)


def parameters(
    content: dict, run: str, notebook: str, backbone: str | None = None, *, where: str = "", **extra: object
) -> dict:
    """Return what papermill gives a notebook: every value of its `parameters` cell, and `settings` with all others.

    The later word counts: the defaults of the settings class, the notebook's own values, the profile's `common`, its
    section for the notebook, its entry for the backbone, `extra`. `common` and the backbone's entry reach only
    notebooks that take such a value.

    Raises:
        InputError: For an unknown backbone, an unknown name, a wrong type, an impossible value.
    """
    settings, own = CLASSES[notebook], declared(notebook)
    entries = content.get("backbones", {})
    if "backbone" in settings.model_fields:
        backbone = known("backbone", backbone or str(own.get("backbone")), list(entries), notebook)
        entry = {"backbone": backbone} | entries[backbone]
    elif backbone is not None:
        raise files.InputError(f"{notebook} does not take a backbone; leave out backbone={backbone}")
    else:
        entry = {"backbones": compared(notebook, list(entries))} if entries else {}
    offered = {"run": run} | content.get("common", {}) | content.get(notebook, {}) | entry
    given = {name: value for name, value in offered.items() if name in settings.model_fields}
    flat = own.get("settings", {}) | {name: value for name, value in own.items() if name != "settings"}
    chosen = within(where or notebook, settings, flat | given | extra).model_dump()
    rest = {name: value for name, value in chosen.items() if name not in own}
    mine = {name: chosen[name] for name in own if name != "settings"}
    return mine | ({"settings": rest} if "settings" in own else {})


def defaults(notebook: str) -> dict[str, object]:
    """Return every value that a notebook takes, as it is where no profile says otherwise."""
    own = declared(notebook)
    return CLASSES[notebook](**own.pop("settings", {}) | own).model_dump()


def flat(parameters: dict) -> dict:
    """Return a notebook's parameters as one mapping, those of `settings` among them."""
    return {name: value for name, value in parameters.items() if name != "settings"} | parameters.get("settings", {})
