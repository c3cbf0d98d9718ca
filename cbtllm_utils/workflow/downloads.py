"""A profile's downloads: models of the hub at the commits that it names, announced before they begin."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from cbtllm_utils import USERS_OFFLINE, files
from cbtllm_utils.workflow import profiles

TEXTS = (".json", ".txt", ".model", ".jinja", ".tiktoken", ".md")  # configuration, tokenizer, card


def missing(needs: profiles.Requirements) -> dict[str, float]:
    """Return hub id -> GB, for those of a profile's downloads that are not whole in the hub's cache."""
    return {name: gb for name, gb in needs.downloads.items() if not there(name)}


def there(name: str) -> bool:
    """Return whether a model is here with all its weights; `fetch` gets them last, so that the rest is here as well."""
    try:
        folder = Path(files.local_or_hub(name, "runs"))
    except files.InputError:
        return False
    found = weights(place.name for place in folder.iterdir())
    name = "model.safetensors" if found and found[0].endswith(".safetensors") else "pytorch_model.bin"
    index = folder / f"{name}.index.json"  # a repository may have that of another format as well
    parts = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()) if index.exists() else ()
    return bool(found) and all((folder / part).exists() for part in parts)


def weights(names: Iterable[str]) -> list[str]:
    """Return which of a model's files hold its weights: safetensors where there are any, else PyTorch's own."""
    every = list(names)
    found = [name for name in every if name.endswith(".safetensors")]
    return found or [name for name in every if name.startswith("pytorch_model") and name.endswith(".bin")]


def announced(needs: profiles.Requirements) -> Iterator[str]:
    """Yield a line on what will be downloaded, and one on how long the run takes."""
    wanted = missing(needs)
    if wanted:
        named = ", ".join(f"{files.at_revision(name)[0]} ({gb:g} GB)" for name, gb in wanted.items())
        yield f"Downloads {sum(wanted.values()):.1f} GB from the Hugging Face hub into its cache, once: {named}"
    if needs.takes:
        yield f"Takes {needs.takes}"


def fetch(needs: profiles.Requirements) -> None:
    """Download what is missing; downloaded files stay, and the next call continues.

    Raises:
        InputError: When the hub cannot be reached, must not be asked, or does not have a model.
    """
    wanted = missing(needs)
    if wanted and (files.environment(USERS_OFFLINE) or "").lower() in ("1", "on", "yes", "true"):
        raise files.InputError(f"HF_HUB_OFFLINE is set, and {', '.join(wanted)} must be downloaded; unset it")
    for name in wanted:
        print(f"Downloading {name}", file=sys.stderr)
        # In a process of its own: here the hub's library has been told to stay offline.
        command = [sys.executable, "-m", "cbtllm_utils.workflow.downloads", name]
        done = subprocess.run(command, cwd=files.ROOT, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise files.InputError(done.stdout.strip() or f"{name}: the download was stopped from outside; run again")
        if not there(name):
            raise files.InputError(f"{name}: the hub has no weights of it in a format that is read here")


def download(name: str) -> None:
    """Download one model: first its configuration and tokenizer, then its weights in one format."""
    from huggingface_hub import model_info, snapshot_download
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # not each of its retries
    hub_id, revision = files.at_revision(name)
    listed = [one.rfilename for one in model_info(hub_id, revision=revision).siblings]
    every = [one for one in listed if "/" not in one]
    for wanted in ([one for one in every if one.endswith(TEXTS)], weights(every)):
        snapshot_download(hub_id, revision=revision, allow_patterns=wanted)


def main(name: str) -> int:
    """Download a model; return 0, or 1 after one line on standard output that says what to do."""
    os.environ["HF_HUB_OFFLINE"] = "0"  # before the library is imported, which reads it once
    del os.environ["HF_HUB_DISABLE_PROGRESS_BARS"]
    try:
        download(name)
    except Exception as error:  # of the hub's library, of its client for HTTP, of the disk: no common class
        reason = files.one_line(error)[:200]
        advice = "check the network (HTTPS_PROXY for a proxy, HF_ENDPOINT for a mirror of the hub) and run again: downloaded files are kept"
        print(f"{name}: cannot be downloaded ({type(error).__name__}: {reason}); {advice}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
