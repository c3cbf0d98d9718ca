"""Data set, adapters, merged models and cards as plain `datasets`, `peft` and `transformers` read them."""

import json
import os
import shutil
import subprocess
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
import torch

from benchmarks.tools import harness
from benchmarks.tools.harness import Figure, Place
from cbtllm_utils import files, hub
from cbtllm_utils.finetune import adapters, card, examples, stock
from cbtllm_utils.models import chat_templates, prompt_forms
from cbtllm_utils.workflow import profiles

TITLE = "The ecosystem's formats: datasets, peft, transformers, huggingface_hub"
ENVIRONMENTS = {
    "formats": [
        *("datasets==5.2.0", "huggingface_hub==2.4.0", "peft==0.21.2", "transformers==5.24.0", "torch==2.13.0"),
        "check-jsonschema==0.39.0",
    ]
}
PACKAGES = ["datasets", "huggingface_hub", "peft", "transformers", "torch", "check-jsonschema"]
LAST, PROMPTS, NEW_TOKENS = 32, 8, 60  # positions of logits; prompts asked; tokens of a greedy reply
CLOSE = 1e-4  # logits of 32-bit weights, summed in another order
TYPES = {  # fields that are no texts
    "default": {"questionID": "int64", "near_duplicate_of": "int64", "risk": "bool", "advice": "bool"},
    "release": {"questionID": "int64", "risk": "bool", "advice": "bool", "quotes": "bool"},
}
MODEL_FIELDS = {"base_model_relation"}  # documented by the hub; huggingface_hub passes on what it does not know
DATASET_FIELDS = {"license_link", "license_name", "tags", "configs", "dataset_info"}
RELATIONS = {None, "adapter", "finetune", "merge", "quantized"}


def check(place: Place) -> list[Figure]:
    """Return what plain libraries, in an environment without this package, made of a run's files."""
    return [*data_set(place), *models(place), *cards(place), *workflows(place)]


def run_inside(place: Place, script: str, *arguments: object) -> dict:
    """Return what a script of `inside/` found, offline, with its home and its caches in the check's folder."""
    home = place.work / "home"
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(home), "HOME": str(home)}
    home.mkdir(exist_ok=True)
    said = harness.inside(place.environments["formats"], script, *arguments, env=environment, cwd=place.work)
    return json.loads(said)


def data_set(place: Place) -> list[Figure]:
    """Load the exported folder, its form without posts, and that form from its own folder."""
    folder = place.work / "cbt_qa"
    shutil.copytree(place.run / "cbt_qa", folder)
    wanted = {split: files.read_jsonl(folder / f"{split}.jsonl") for split in ("train", "test")}
    posts = [row["description"] for rows in wanted.values() for row in rows]
    whole = run_inside(place, "load_data_folder.py", folder, folder / "cache")
    found = [compared("load_dataset(folder): examples", whole["rows"], wanted), typed(whole, "default")]
    shared = {split: files.read_jsonl(folder / "release" / f"{split}.jsonl") for split in ("train", "test")}
    ways = {'(folder, "release")': (folder, folder / "cache", "release")}
    ways["(folder/release)"] = folder / "release", folder / "cache"
    for words, arguments in ways.items():
        loaded = run_inside(place, "load_data_folder.py", *arguments)
        found += [compared(f"load_dataset{words}: examples", loaded["rows"], shared), typed(loaded, "release")]
    holding = [path for path in (folder / "release").rglob("*") if any(p in path.read_text("utf-8") for p in posts)]
    found.append(Figure("files of release/ that hold a post", str(len(holding)), "0", not holding))
    found += quotations(wanted["train"] + wanted["test"])
    outside = [path for path in (place.work / "home").rglob("*") if path.is_file() and holds(path, posts)]
    return [*found, Figure("files with a post outside the cache that was named", str(len(outside)), "0", not outside)]


def quotations(rows: list[dict]) -> list[Figure]:
    """Return how much of a post the replies in release/ quote; not judged, since PsyQA's agreement decides."""
    longest = 0
    for row in rows:
        post = f"{row['question']}\n{row['description']}"
        longest = max(longest, SequenceMatcher(None, post, row["reply"], autojunk=False).find_longest_match().size)
    titles = sum(row["question"] in row["reply"] for row in rows)
    return [
        Figure("… longest quotation of a post in its reply, characters", str(longest), "", None),
        Figure("… replies that hold the whole title of their post", f"{titles} of {len(rows)}", "", None),
    ]


def compared(what: str, found: dict, wanted: dict) -> Figure:
    """Return how many rows are equal, all of both splits wanted."""
    equal = sum(a == b for split in wanted for a, b in zip(found.get(split, []), wanted[split], strict=False))
    total = sum(map(len, wanted.values()))
    same = f"{' + '.join(f'{len(rows)} {split}' for split, rows in found.items())}, {equal} of {total} equal"
    words = f"{' + '.join(f'{len(rows)} {split}' for split, rows in wanted.items())}, {total} of {total} equal"
    return Figure(what, same, words, found == wanted)


def typed(loaded: dict, configuration: str) -> Figure:
    """Return whether every field has its type in both splits, empty ones included."""
    wrong = [
        f"{split} {name} {dtype}"
        for split, types in loaded["types"].items()
        for name, dtype in types.items()
        if dtype != TYPES[configuration].get(name, "string")
    ]
    return Figure("… fields of another type", ", ".join(wrong) or "none", "none", not wrong)


def holds(path: Path, texts: list[str]) -> bool:
    """Return whether a file holds one of the texts."""
    content = path.read_bytes()
    return any(text.encode() in content for text in texts)


def models(place: Place) -> list[Figure]:
    """Compare logits and greedy replies of adapters on stock backbones, and of merged models, with the package's."""
    backbones = profiles.backbones(profiles.read("demo"), "04_lora_training")
    plan = {"models": {}, "last": LAST, "new_tokens": NEW_TOKENS, "logits": str(place.work / "logits")}
    (place.work / "logits").mkdir()
    shutil.copytree(place.run / "adapters", place.work / "adapters")
    ours = {}
    for backbone in backbones:
        ours[backbone] = expected(place, backbone, plan["models"])
    files.write_json(place.work / "plan.json", plan)
    theirs = run_inside(place, "load_models.py", place.work / "plan.json")
    return [figure for backbone in backbones for figure in judged(place, backbone, ours[backbone], theirs)]


def expected(place: Place, backbone: str, plan: dict) -> dict:
    """Write a backbone's stock and merged directories, plan what is asked of them, and return the package's answers."""
    adapter = place.run / "adapters" / backbone
    about = files.read_json(adapter / "training.json")
    source = about["model"], about["deltas"], str(place.run)
    stock.write(*source, place.work / "stock" / backbone, "fp32")
    stock.write(*source, place.work / "merged" / backbone, "fp32", adapter)
    tokenizer = adapters.tokenizer(*source)
    rows = files.read_jsonl(place.run / "cbt_qa" / "test.jsonl")[:PROMPTS]
    template, cutoff = about["settings"]["template"], about["settings"]["cutoff"]
    ids = [row["input_ids"] for row in examples.encode(rows, tokenizer, template, cutoff)]
    prompts = [tokenizer.encode(prompt_forms.prompt(row, template, tokenizer)) for row in rows]
    plain = adapters.plain_form(adapter).relative_to(place.run).as_posix()
    asked = {"ids": ids, "prompts": prompts}
    plan[f"adapter-{backbone}"] = asked | {"base": f"stock/{backbone}", "adapter": plain}
    plan[f"untuned-{backbone}"] = asked | {"base": f"stock/{backbone}", "adapter": None}
    plan[f"merged-{backbone}"] = asked | {"base": f"merged/{backbone}", "adapter": None}
    model = adapters.fitted(adapters.backbone(*source, "fp32"), adapter).eval()
    with torch.no_grad():
        logits = np.stack([model(torch.tensor([one])).logits[0, -LAST:].numpy() for one in ids])
    return {
        "logits": logits,
        "replies": greedy(model, tokenizer, prompts),
        "stops": chat_templates.stops(tokenizer),
        "base": files.read_json(place.run / plain / adapters.CONFIG),
    }


def greedy(model: torch.nn.Module, tokenizer: object, prompts: list[list[int]]) -> list[list[int]]:
    """Return the greedy replies as token ids, up to the token that ends them."""
    options = {"do_sample": False, "max_new_tokens": NEW_TOKENS, "eos_token_id": tokenizer.eos_token_id}
    with torch.no_grad():
        return [model.generate(torch.tensor([one]), **options)[0, len(one) :].tolist() for one in prompts]


def judged(place: Place, backbone: str, ours: dict, theirs: dict) -> list[Figure]:
    """Return the figures of one backbone."""
    kinds = ("adapter", "untuned", "merged")
    logits = {kind: np.load(place.work / "logits" / f"{kind}-{backbone}.npy") for kind in kinds}
    away = {kind: float(np.abs(logits[kind] - ours["logits"]).max()) for kind in kinds}
    found = []
    for kind, words in (("adapter", "adapter by peft on the stock directory"), ("merged", "merged model")):
        equal = sum(a == b for a, b in zip(theirs[f"{kind}-{backbone}"]["replies"], ours["replies"], strict=True))
        about = f"{backbone}, {words}"
        found += [
            Figure(f"{about}: largest difference of logits", f"{away[kind]:.1e}", f"≤ {CLOSE:g}", away[kind] <= CLOSE),
            Figure("… greedy replies equal", f"{equal} of {PROMPTS}", f"{PROMPTS} of {PROMPTS}", equal == PROMPTS),
        ]
    stops = theirs[f"merged-{backbone}"]["stops"]
    named = ours["base"]["base_model_name_or_path"]
    return [
        *found,
        Figure("… tokens that end a reply", str(stops), str(ours["stops"]), stops == ours["stops"]),
        Figure("… logits without the adapter", f"{away['untuned']:.1e}", "> 0.1", away["untuned"] > 0.1),
        Figure("… backbone that the adapter names", named, f"stock/{backbone}", named == f"stock/{backbone}"),
    ]


def cards(place: Place) -> list[Figure]:
    """Read every card by huggingface_hub's classes, and compare its fields with what the hub documents."""
    folders = {
        "dataset": [place.work / "cbt_qa", place.work / "cbt_qa" / "release"],
        "model": sorted(path for kind in ("adapters", "stock", "merged") for path in (place.work / kind).iterdir()),
    }
    folders["model"] += on_the_hub(place.work / "paper")
    wrong, number = {}, 0
    for kind, places in folders.items():
        found = run_inside(place, "read_cards.py", kind, *(path / "README.md" for path in places))
        number += len(found)
        known = MODEL_FIELDS if kind == "model" else DATASET_FIELDS
        wrong |= {path: said for path, read in found.items() if (said := faults(Path(path), read, known))}
    right = f"{number - len(wrong)} of {number}"
    named = "".join(f"; {Path(path).relative_to(place.work)}: {', '.join(said)}" for path, said in wrong.items())
    return [
        Figure("cards whose metadata is the hub's", right + named, f"{number} of {number}", not wrong),
        Figure("the hub's own validation (`card.validate()`)", "not run: it sends the card to the hub", "", None),
    ]


def on_the_hub(folder: Path) -> list[Path]:
    """Write the metadata of the profile `paper`, whose backbones have ids on the hub, and return its folders."""
    for name, source in profiles.read("paper")["backbones"].items():
        bases = [source["model"], *source["deltas"]]
        headers = {"stock": stock.metadata(bases, False), "merged": stock.metadata(bases, True)}
        headers["adapter"] = hub.model_header("peft", bases, "adapter", card.LICENSE_NAME)
        for kind, header in headers.items():
            files.write_text(folder / f"{kind}-{name}" / "README.md", f"{header}# A card\n")
            files.write_text(folder / f"{kind}-{name}" / hub.LICENSE, card.LICENSE)
    return sorted(folder.iterdir())


def faults(path: Path, read: dict, known: set[str]) -> list[str]:
    """Return what is wrong with a card's metadata, by the hub's documentation of it."""
    data = read["metadata"]
    text = "".join(
        file.read_text("utf-8") for file in path.parent.iterdir() if file.suffix in {".md", ".json", ".yaml"}
    )
    bases = data.get("base_model") or []
    checks = {
        "changed by reading and writing": read["same"],
        "unknown fields": set(read["other"]) <= known,
        "license": data["license"] == "other" and data["license_name"] == data["license_name"].lower(),
        "license_link": data["license_link"] in ("LICENSE", "LICENSE.md")
        and (path.parent / data["license_link"]).is_file(),
        "language": data["language"] in ("zh", ["zh"]),
        "base_model": all(hub.is_id(base) for base in ([bases] if isinstance(bases, str) else bases)),
        "base_model_relation": data.get("base_model_relation") in RELATIONS,
        "a folder of this machine": str(files.ROOT) not in text,
    }
    return [words for words, holds_ in checks.items() if not holds_]


def workflows(place: Place) -> list[Figure]:
    """Validate the workflows of GitHub Actions by their published schema; they are not run here."""
    every = sorted(files.path(".github/workflows").glob("*.yml"))
    program = place.environments["formats"] / "check-jsonschema"
    command = [program, "--builtin-schema", "vendor.github-workflows", *every]
    done = subprocess.run(command, capture_output=True, text=True)
    said = "valid, not run" if done.returncode == 0 else files.one_line(done.stdout)[:200]
    return [Figure(f"workflows ({', '.join(path.name for path in every)})", said, "valid", done.returncode == 0)]
