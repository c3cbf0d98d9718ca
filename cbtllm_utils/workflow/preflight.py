"""Everything that a profile lacks on this machine, in one message before any work."""

from collections.abc import Iterator

from cbtllm_utils import files
from cbtllm_utils.workflow import profiles

PSYQA = "PsyQA is given by its authors on a signed agreement (data/psyqa/README.md); put its file there"
WEIGHTS = "no such directory; put the weights there as transformers saves them (LLaMA's are given by Meta on request)"
RETIRED = {"gpt-3.5-turbo-16k": "retired by its vendor in 2024; name a model that answers in `model`"}


def check(profile: str) -> None:
    """Raise InputError that lists everything that is missing here and how to get it."""
    content = profiles.read(profile)
    missing = [*inputs(content), *keys(content), *models(content), *libraries(content), *machine(content)]
    if missing:
        lines = "\n".join(f"  - {line}" for line in missing)
        raise files.InputError(f"params/{profile}.yaml cannot run here yet; {len(missing)} missing:\n{lines}")


def values(content: dict, *names: str) -> Iterator[object]:
    """Yield the values of these parameters in any notebook that runs, defaults included, each once."""
    seen = []
    for notebook in profiles.CLASSES:
        if notebook not in content.get("skip", []):
            own = profiles.defaults(notebook)
            given = own | content.get("common", {}) | content.get(notebook, {})
            for name in names:
                if name in own and given[name] not in seen:
                    seen.append(given[name])
                    yield given[name]


def inputs(content: dict) -> Iterator[str]:
    """Yield a line for each missing input file, and for a full disk."""
    for name in values(content, "questions", "prompt", "annotations"):
        if name and not files.path(name).exists():
            yield f"{name}: no such file" + (f". {PSYQA}" if name.startswith("data/psyqa") else "")
    needed = content.get("requires", {}).get("disk_gb", 1)
    if files.free_bytes("runs") < needed * 10**9:
        yield f"disk: needs {needed} GB free space for runs/, this one has {files.free_bytes('runs') / 10**9:.1f} GB"


def keys(content: dict) -> Iterator[str]:
    """Yield a line for a key that an endpoint needs, and for a model that its vendor no longer runs."""
    if "openai" in values(content, "endpoint"):
        yield from (f"{name}: {RETIRED[name]}" for name in values(content, "model") if name in RETIRED)
    remote = [str(name) for name in values(content, "endpoint") if name and not str(name).startswith("replay:")]
    if remote and not files.environment("OPENAI_API_KEY"):
        yield f"OPENAI_API_KEY: the key for {remote[0]} (any text for a server of your own that asks for none)"


def models(content: dict) -> Iterator[str]:
    """Yield a line for each model that is neither a directory nor in the hub's cache, unless notebook 00 makes it."""
    wanted = list(values(content, "bertscore_model", "bleurt_model", "english_bertscore", "english_bleurt"))
    for entry in content.get("backbones", {}).values():
        wanted += [entry["model"], *entry.get("deltas", [])]
    for name in filter(None, dict.fromkeys(wanted)):
        if not (files.is_tiny(str(name)) and "00_demo_backbones" not in content.get("skip", [])):
            try:
                files.local_or_hub(name, "runs")
            except files.InputError as error:
                yield f"{name}: {WEIGHTS}" if str(name).startswith("data/") else str(error)


def libraries(content: dict) -> Iterator[str]:
    """Yield a line when weights in 4 bits are asked for and nothing here can hold them."""
    own = [entry["quantization"] for entry in content.get("backbones", {}).values() if "quantization" in entry]
    for kind in filter(None, dict.fromkeys([*values(content, "quantization"), *own])):
        from cbtllm_utils.models import quantization  # imports torch, which takes seconds

        try:
            quantization.check(kind)
        except files.InputError as error:
            yield str(error)


def machine(content: dict) -> Iterator[str]:
    """Yield a line when the profile needs a GPU that this machine and LAUNCH do not give."""
    needed = content.get("requires", {}).get("gpu_memory_gb")
    if needed and not files.environment("LAUNCH"):
        import torch

        there = torch.cuda.get_device_properties(0).total_memory / 10**9 if torch.cuda.is_available() else 0
        if there < needed:
            have = f"this one has {there:.0f} GB" if there else "none is visible to torch"
            yield f'GPU with {needed} GB: {have}; on a cluster set LAUNCH="srun --gres=gpu:1"'
