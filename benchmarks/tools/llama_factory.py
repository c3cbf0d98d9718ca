"""LLaMA-Factory trains what `make stock` writes, reads our adapters, and its adapters are read here."""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import yaml

from benchmarks.tools.harness import Figure, Place, inside
from cbtllm_utils import files
from cbtllm_utils.finetune import adapters, examples, llama_factory, trainer, training
from cbtllm_utils.finetune.settings import TrainingSettings
from cbtllm_utils.generate import answering
from cbtllm_utils.models import chat_templates, prompt_forms
from cbtllm_utils.workflow import profiles, stock

TITLE = "LLaMA-Factory, the paper's tool, trains and merges on the stock directories of a run"
# torchaudio, which it imports even for text, does not load beside a CPU build of torch, nor 2.11.1 beside torch 2.12.
ENVIRONMENTS = {"llama_factory": ["llamafactory==0.9.5", "torch==2.12.1", "torchaudio==2.11.0"]}
PACKAGES = ["llamafactory", "transformers", "peft", "torch", "datasets"]
WHOLE = ("llama-chinese-7b", "qwen-7b")  # trained for an epoch; Qwen's q, k and v are one layer here, three there
EPOCH, STEPS = "num_train_epochs=1", "max_steps=8"  # in place of what the recipe says; the second for the others
SEEDS = (42, 1, 2)
PROMPTS, TOKENS = 12, 200  # that are answered, and most tokens of a reply
CHAT = (  # as Qwen's makers end and begin turns
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ALONE = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}  # the last: its own, not this process's


def settings(backbone: str, run: Path) -> TrainingSettings:
    """Return the settings of notebook 04 in the demo."""
    given = profiles.parameters(profiles.read("demo"), str(run), stock.NOTEBOOK, backbone)
    return TrainingSettings(**profiles.flat(given))


def command(place: Place, run: Path, *words: object) -> None:
    """Run `llamafactory-cli` in the run's folder, as a user does; RuntimeError with its last lines when it fails."""
    tool = place.environments["llama_factory"]
    path = f"{tool}{os.pathsep}{os.environ['PATH']}"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | ALONE | {"PATH": path}
    done = subprocess.run(
        [tool / "llamafactory-cli", *map(str, words)], cwd=run, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"llamafactory-cli {words[0]}: {' / '.join(done.stderr.splitlines()[-5:])}")


def asked(place: Place, run: Path, what: str, *arguments: object) -> object:
    """Return what `inside/llama_factory.py` found."""
    out = place.work / f"{what}.json"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | ALONE
    inside(place.environments["llama_factory"], "llama_factory.py", what, out, *arguments, env=environment, cwd=run)
    return json.loads(out.read_text())


def losses(model: object, rows: object) -> float:
    """Return the mean over examples of the loss of each, as LLaMA-Factory's evaluation takes it in batches of one."""
    each = [trainer.heldout_loss(model, rows.select([i]), 1) for i in range(len(rows))]
    return sum(each) / len(each)


def logged(folder: Path) -> list[dict]:
    """Return the log of a training of LLaMA-Factory's."""
    return files.read_json(folder / "trainer_state.json")["log_history"]


def heldout(folder: Path) -> list[float]:
    """Return the held-out losses of a training of LLaMA-Factory's, the first before training."""
    return [row["eval_loss"] for row in logged(folder) if "eval_loss" in row]


def same_examples(place: Place, run: Path, chosen: TrainingSettings, forms: list[str]) -> list[Figure]:
    """Compare the token ids and labels that LLaMA-Factory takes from tokenized directories, in each form of prompt.

    The form of the settings is in the directory that `make stock` wrote, where it did.
    """
    tokenizer = adapters.tokenizer(chosen.model, chosen.deltas, run)
    rows = [files.read_jsonl(run / "cbt_qa" / f"{split}.jsonl") for split in ("train", "test")]
    written, ours = run / "llama_factory" / chosen.backbone / "examples", {}
    for form in forms:
        train, test = (examples.encode(split, tokenizer, form, chosen.cutoff) for split in rows)
        stocked = form == chosen.template and written.exists()
        own = place.work / f"{chosen.backbone}-{form}"
        folder = written if stocked else llama_factory.write_examples(train, test, own)
        ours[form, str(folder)] = {"train_dataset": train, "eval_dataset": test}
    recipe = next((run / "llama_factory").glob("*/train.yaml"))
    theirs = asked(place, run, "examples", recipe, *(folder for _, folder in ours))
    figures = []
    for (form, folder), splits in ours.items():
        equal = [
            sum([list(a["input_ids"]), list(a["labels"])] == b for a, b in zip(mine, theirs[folder][name], strict=True))
            for name, mine in splits.items()
        ]
        what = f"{chosen.backbone}: examples with the same token ids and labels, form {form}"
        wanted = " + ".join(str(len(mine)) for mine in splits.values())
        said = " + ".join(map(str, equal))
        figures.append(Figure(what, said, wanted, said == wanted))
    return figures


def chat_model(run: Path) -> TrainingSettings:
    """Put Qwen's stock directory, with a chat template, into the run as a current chat model; return its settings."""
    folder = shutil.copytree(run / "stock" / "qwen-7b", run / "backbones" / "chat")
    own = files.read_json(folder / "tokenizer_config.json")
    files.write_json(folder / "tokenizer_config.json", own | {"chat_template": CHAT, "eos_token": "<|im_end|>"})
    values = {"backbone": "chat-model", "model": "backbones/chat", "template": prompt_forms.CHAT}
    return settings("qwen-7b", run).model_copy(update=values)


def trained(place: Place, run: Path, chosen: TrainingSettings, limit: str) -> list[Figure]:
    """Train by the recipe as it is written but for `limit`, and read the adapter here."""
    name = chosen.backbone
    recipe = run / "llama_factory" / name / "train.yaml"
    command(place, run, "train", recipe.relative_to(run), limit)
    folder = Path(yaml.safe_load(recipe.read_text(encoding="utf-8"))["output_dir"])
    theirs = heldout(run / folder)
    rows = files.read_jsonl(run / "cbt_qa" / "test.jsonl")
    base, tokenizer = adapters.load(chosen.model, chosen.deltas, run, "fp32")
    test = examples.encode(rows, tokenizer, chosen.template, chosen.cutoff)
    before, after = losses(base, test), losses(adapters.attach(base, run / folder), test)
    steps = logged(run / folder)[-1]["step"]
    return [
        Figure(
            f"{name}: held-out loss before training ({limit})",
            f"{theirs[0]:.6f}",
            f"{before:.6f}",
            abs(theirs[0] - before) < 1e-5,
        ),
        Figure(
            f"{name}: held-out loss of its adapter after {steps} steps ({limit}), read here",
            f"{after:.6f}",
            f"{theirs[-1]:.6f}",
            abs(after - theirs[-1]) < 1e-4,
        ),
    ]


def over_seeds(place: Place, run: Path, chosen: TrainingSettings) -> Figure:
    """Compare the losses after an epoch for several seeds there and here, which draw other orders, too.

    LLaMA-Factory was trained with the first seed already. The two agree when the ranges of their losses overlap.
    """
    recipe = Path("llama_factory") / chosen.backbone / "train.yaml"
    theirs = [heldout(run / "llama_factory" / chosen.backbone / "adapter")[-1]]
    for seed in SEEDS[1:]:
        folder = f"llama_factory/{chosen.backbone}/seed-{seed}"
        command(place, run, "train", recipe, EPOCH, f"seed={seed}", f"output_dir={folder}")
        theirs.append(heldout(run / folder)[-1])
    rows = [files.read_jsonl(run / "cbt_qa" / f"{split}.jsonl") for split in ("train", "test")]
    ours = []
    for seed in SEEDS:
        own = chosen.model_copy(update={"seed": seed, "epochs": 1.0})
        base, tokenizer = adapters.load(own.model, own.deltas, run, "fp32")
        train, test = (examples.encode(split, tokenizer, own.template, own.cutoff) for split in rows)
        model = adapters.fresh(base, own)
        with tempfile.TemporaryDirectory(dir=run) as work:
            training.train_here(model, train, test.select([]), own, Path(work))
        ours.append(losses(model.eval(), test))
    seeds = ", ".join(map(str, SEEDS))
    what = f"{chosen.backbone}: held-out losses after {len(train)} steps ({EPOCH}), seeds {seeds}"
    said, wanted = (", ".join(f"{loss:.4f}" for loss in found) for found in (theirs, ours))
    overlap = min(theirs) <= max(ours) and min(ours) <= max(theirs)
    return Figure(what, said, f"a range that overlaps with {wanted}", overlap)


def replies(place: Place, run: Path, chosen: TrainingSettings, limit: str) -> list[Figure]:
    """Ask LLaMA-Factory's export of our adapter, and its own adapter on the stock directory, as we ask both here."""
    name = chosen.backbone
    ours, theirs = run / "adapters" / name, run / "llama_factory" / name / "adapter"
    merged = place.work / f"merged-{name}"
    form = ours / "stock" if (ours / "stock").exists() else ours
    options = {"model_name_or_path": run / "stock" / name, "adapter_name_or_path": form, "export_dir": merged}
    options |= {"template": "empty", "infer_dtype": "float32", "finetuning_type": "lora"}
    command(place, run, "export", *(word for key, value in options.items() for word in (f"--{key}", value)))
    source = chosen.model, chosen.deltas, run
    tokenizer = adapters.tokenizer(*source)
    rows = files.read_jsonl(run / "cbt_qa" / "test.jsonl")[:PROMPTS]
    texts = [prompt_forms.prompt(row, chosen.template, tokenizer) for row in rows]
    prompts = [{"ids": chat_templates.ids(tokenizer, text), "text": text} for text in texts]
    if tokenizer.bos_token_id in prompts[0]["ids"][:1]:
        prompts = [one | {"text": f"{tokenizer.bos_token}{one['text']}"} for one in prompts]
    models = [{"model_name_or_path": str(merged)}]
    models += [{"model_name_or_path": str(run / "stock" / name), "adapter_name_or_path": str(theirs)}]
    files.write_json(place.work / "asked.json", {"models": models, "prompts": prompts, "tokens": TOKENS})
    answered = asked(place, run, "replies", place.work / "asked.json")
    figures = []
    for folder, said, whose in zip(
        (ours, theirs), answered, ("our adapter, merged by its export", f"its adapter ({limit})"), strict=True
    ):
        model = adapters.attach(adapters.backbone(*source, "fp32"), folder)
        mine = [greedy(model, tokenizer, text) for text in texts]
        ids = sum(tokens == found for (tokens, _), found in zip(mine, said["ids"], strict=True))
        what = f"{name}: greedy replies of {whose}, at most {TOKENS} tokens each, equal to those here"
        wanted = f"{PROMPTS} of {PROMPTS}"
        figures.append(Figure(f"{what}, asked with token ids", f"{ids} of {PROMPTS}", wanted, ids == PROMPTS))
        if folder == ours:
            words = sum(text == found.strip() for (_, text), found in zip(mine, said["texts"], strict=True))
            what += ", asked with the text of the prompt by its template `empty`"
            figures.append(Figure(what, f"{words} of {PROMPTS}", wanted, words == PROMPTS))
    return figures


def greedy(model: object, tokenizer: object, prompt: str) -> tuple[list[int], str]:
    """Return the tokens of a greedy reply, the one that ends it included, and its text."""
    options = {"temperature": 0, "top_p": 1, "top_k": 0, "seed": 0, "max_new_tokens": TOKENS}
    (tokens,) = answering.new_tokens(model, tokenizer, [prompt], **options)
    return tokens, answering.decode(tokenizer, tokens)["reply"]


def check(place: Place) -> list[Figure]:
    """Write the four backbones and a chat model, and have LLaMA-Factory read, train, merge and answer."""
    run, figures = place.work / "run", []
    for part in ("cbt_qa", "adapters", "backbones"):
        shutil.copytree(place.run / part, run / part)
    for name in profiles.backbones(profiles.read("demo"), stock.NOTEBOOK):
        chosen = settings(name, run)
        stock.write("demo", name, run)
        limit = EPOCH if name in WHOLE else STEPS
        figures += same_examples(place, run, chosen, list(prompt_forms.FORMS)) + trained(place, run, chosen, limit)
        if name in WHOLE:
            figures.append(over_seeds(place, run, chosen))
        figures += replies(place, run, chosen, limit)
    return figures + same_examples(place, run, chat_model(run), [prompt_forms.CHAT])
