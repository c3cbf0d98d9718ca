"""What a training can give away: the backbone with its adapter merged in, as transformers reads it; the hub."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from cbtllm_utils import files
from cbtllm_utils.finetune import adapters
from cbtllm_utils.models import backbones, chat_templates
from cbtllm_utils.models.devices import DTYPES

CARD = """---
library_name: transformers
pipeline_tag: text-generation
license: other
language: zh
tags: [mental-health, cognitive-behavioral-therapy, research-only]
---
# A backbone tuned on CBT QA
The weights of `{model}`{deltas} with the adapter merged into them that the card below describes. They have the names of a
class built into transformers: `AutoModelForCausalLM.from_pretrained(folder)` reads them, without peft or remote code.
{tokenizer}

**Licence.** That of the backbone ({licence}) and, for what was learnt, that of the posts and replies: PsyQA's agreement
where they are PsyQA's. Who passes this on answers for both.

# The card of the adapter
{card}"""
PIECES = """The tokenizer is sentencepiece's `tokenizer.model`, to be read by sentencepiece itself (as
`cbtllm_utils.models.tokenizers.load_tokenizer(folder)` does): transformers' own reading of it may split Chinese otherwise."""


def merge(
    model: str, deltas: list[str], run: str | Path, adapter: str | Path, folder: str | Path, precision: str
) -> Path:
    """The folder, after the backbone with the adapter merged into it was written there: weights under stock names,
    tokenizer, generation_config.json with all that ends a reply, licence files and card.

    It happens in the machine's own memory, once the size of the weights, from the original files and so in 16 or 32
    bits also where training held them in 4. Without a training at hand:
    `publishing.merge("Qwen/Qwen-7B", [], "runs/paper", "runs/paper/adapters/qwen-7b", "runs/merged/qwen-7b", "fp16")`.
    """
    places = [files.local_or_hub(name, run) for name in (model, *deltas)]
    tokenizer = adapters.tokenizer(model, deltas, run)
    merged = adapters.attach(backbones.load_model(places[0], places[1:], dtype=DTYPES[precision]), adapter)
    merged.generation_config.eos_token_id = chat_templates.stops(tokenizer)
    merged.generation_config.pad_token_id = tokenizer.pad_token_id
    try:
        merged.generation_config.validate(strict=True)
    except ValueError:  # LLaMA-2's names a temperature and not that it samples, which can be read but not written
        merged.generation_config.do_sample = True
    with files.atomic(folder) as temporary:
        merged.save_pretrained(temporary)
        pieces = keep_tokenizer(tokenizer, Path(places[-1]), temporary)
        licences = [file for place in places for file in sorted(Path(place).iterdir()) if licence(file)]
        for file in licences:
            shutil.copy(file, temporary / file.name)
        text = CARD.format(
            model=files.public(model),
            deltas="".join(f", `{files.public(delta)}`" for delta in deltas),
            tokenizer=PIECES if pieces else "The tokenizer is `AutoTokenizer.from_pretrained(folder)`'s.",
            licence=", ".join(f"`{file.name}`" for file in licences) or "no such file lay beside its weights",
            card=adapter_card(files.path(adapter) / "README.md"),
        )
        files.write_text(temporary / "README.md", text)
    return files.path(folder)


def adapter_card(file: Path) -> str:
    """An adapter's card without its metadata; an adapter from elsewhere may have none."""
    text = file.read_text(encoding="utf-8") if file.exists() else "It came without a card.\n"
    return text.split("---\n", 2)[2] if text.startswith("---\n") and text.count("---\n") > 1 else text


def licence(file: Path) -> bool:
    """Whether a file beside a model's weights says what may be done with them."""
    return any(word in file.name.lower() for word in ("licen", "notice", "use_policy", "许可"))


def keep_tokenizer(tokenizer: object, place: Path, folder: Path) -> bool:
    """Whether it is sentencepiece's, after the tokenizer was written to the folder: without a word of remote code."""
    if hasattr(tokenizer, "save_pretrained"):
        tokenizer.save_pretrained(folder)
        return False
    for name in ("tokenizer.model", "added_tokens.json"):
        if (place / name).exists():
            shutil.copy(place / name, folder / name)
    files.write_json(folder / "tokenizer_config.json", {"add_bos_token": tokenizer.add_bos_token})
    return True


def push(folder: str | Path, repository: str) -> None:
    """Nothing, after a folder was put into a repository of the hub, made private where it is new.

    By the hub's own command, which knows its login (`hf auth login`, or HF_TOKEN) and goes on after a break. It alone
    may use the network: runs are offline otherwise. InputError with the command to repeat when it fails.
    """
    command = ["upload", repository, str(files.path(folder)), "--private"]
    online = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    done = subprocess.run(
        [sys.executable, "-m", "huggingface_hub.cli.hf", *command],
        env=online | {"HF_HUB_DISABLE_UPDATE_CHECK": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        reason = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "no reason given")
        raise files.InputError(
            f"push_to = {repository}: {reason[:200]}; what was made is kept. Log in with `hf auth login`, then: "
            f"hf upload {repository} {files.shown(folder)} --private"
        )
