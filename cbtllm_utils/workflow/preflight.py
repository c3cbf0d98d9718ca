"""Report everything that a profile lacks on this machine, in one message before any work."""

import shutil
import sys
from collections.abc import Callable, Iterator

from cbtllm_utils import files
from cbtllm_utils.data import prompts, psyqa
from cbtllm_utils.generate import vllm_process
from cbtllm_utils.generate.settings import AnswerSettings
from cbtllm_utils.llm import key
from cbtllm_utils.llm.recorded import REPLAY, is_recording
from cbtllm_utils.workflow import graph, profiles

WEIGHTS = "no such directory; put the weights there as transformers saves them (LLaMA's are given by Meta on request)"
ENDPOINTS, ASKED = ("endpoint", "reader_endpoint"), ("model", "reader_model")  # who is asked, and which model there
VLLM_NEEDS = (7, 5)  # its compute capability: one above the V100's
RETIRED = {"gpt-3.5-turbo-16k": "retired by its vendor in 2024; name a model that answers in `model`"}


def check(profile: str) -> None:
    """Raise InputError that lists everything that is missing or wrong here and how to get it."""
    needs = profiles.requirements(profiles.read(profile))
    given = [profiles.flat(task.parameters) for task in graph.tasks(profile)]
    missing = [*inputs(given), *disk(needs), *keys(given), *models(given, needs), *libraries(given), *engines(given)]
    missing += [*machine(needs), *build()]
    if missing:
        lines = "\n".join(f"  - {line}" for line in missing)
        raise files.InputError(
            f"params/{profile}.yaml cannot run here yet; {len(missing)} missing or of another kind:\n{lines}"
        )


def values(given: list[dict], *names: str) -> list[str]:
    """Return the values of these parameters in any task, each once."""
    found = [values[name] for values in given for name in names if values.get(name)]
    return list(dict.fromkeys(value for each in found for value in (each if isinstance(each, list) else [each])))


def readers() -> dict[str, Callable[[str], object]]:
    """Return parameter -> what reads its files, in a second or two; the files of other parameters are looked for."""
    from cbtllm_utils.text import recognition  # imports pandas

    return {
        **dict.fromkeys(("prompt", "translation", "compare"), prompts.read),
        "questions": psyqa.read,
        "annotations": recognition.annotations,
    }


def inputs(given: list[dict]) -> Iterator[str]:
    """Yield a line for each input file that is missing or of another kind."""
    for name in [*values(given, "topics", "ratings", "rater_prompts"), *recordings(given)]:
        if not files.path(name).exists():
            yield f"{name}: no such file"
    for parameter, read in readers().items():
        for name in values(given, parameter):
            try:
                read(name)
            except files.InputError as error:
                yield graph.in_full(str(error), [name])


def recordings(given: list[dict]) -> list[str]:
    """Return the files of recorded answers."""
    endpoints = values(given, *ENDPOINTS)
    return [name.removeprefix(REPLAY) for name in endpoints if is_recording(name)]


def disk(needs: profiles.Requirements) -> Iterator[str]:
    """Yield a line for a full disk."""
    runs = files.path("runs")
    free = shutil.disk_usage(runs if runs.exists() else files.ROOT).free / 10**9
    if free < needs.disk_gb:
        yield f"disk: needs {needs.disk_gb:g} GB free space for runs/, this one has {free:.1f} GB"


def keys(given: list[dict]) -> Iterator[str]:
    """Yield a line for a key that an endpoint needs, and for a model that its vendor no longer runs."""
    remote = [name for name in values(given, *ENDPOINTS) if not is_recording(name)]
    if "openai" in remote:
        yield from (f"{name}: {RETIRED[name]}" for name in values(given, *ASKED) if name in RETIRED)
    if remote and not files.environment(key.NAME):
        yield f"{key.NAME}: the key for {remote[0]} (any text for a server of your own that asks for none)"
    elif remote and (wrong := key.problem()):
        yield wrong


def models(given: list[dict], needs: profiles.Requirements) -> Iterator[str]:
    """Yield a line for each model that is neither a directory nor in the hub's cache.

    Notebook 00 makes tiny ones, and what the profile downloads by itself is fetched before the first notebook.
    """
    local = [values for values in given if "deltas" in values]
    scorers = values(given, "bertscore_model", "bleurt_model", "english_bertscore", "english_bleurt")
    for name in dict.fromkeys([*values(local, "model", "deltas", "tuned_model"), *scorers]):
        if not files.is_tiny(name) and name not in needs.downloads:
            try:
                files.local_or_hub(name, "runs")
            except files.InputError as error:
                yield f"{name}: {WEIGHTS}" if name.startswith("data/") else str(error)


def build() -> Iterator[str]:
    """Yield a line when this machine's GPU is one that the installed torch has no kernels for."""
    if not files.environment("LAUNCH"):
        from cbtllm_utils.models import devices

        yield from filter(None, [devices.gpu_problem()])


def libraries(given: list[dict]) -> Iterator[str]:
    """Yield a line when weights in 4 bits are asked for and nothing here can hold them."""
    for kind in values(given, "quantization"):
        from cbtllm_utils.models import devices  # imports torch, which takes seconds

        try:
            devices.check_quantization(kind)
        except files.InputError as error:
            yield str(error)


def engines(given: list[dict]) -> Iterator[str]:
    """Yield a line when vLLM is to answer and its program is not here or does not start, or the GPUs do not suffice."""
    default = AnswerSettings.model_fields["vllm"].default
    asked = [own for own in given if own.get("engine") == "vllm" and not own.get("endpoint")]
    for program in dict.fromkeys(own.get("vllm") or default for own in asked):
        try:
            vllm_process.check_starts(vllm_process.command(program))
        except files.InputError as error:
            yield str(error)
    if asked and not files.environment("LAUNCH"):
        yield from gpus_of_vllm(max(own.get("tensor_parallel") or 1 for own in asked))


def gpus_of_vllm(number: int) -> Iterator[str]:
    """Yield a line when torch sees GPUs, and fewer than vLLM is to use or one that it has no kernels for."""
    import torch

    if not torch.cuda.is_available():
        return
    if number > (there := torch.cuda.device_count()):
        yield f"tensor_parallel = {number}: torch sees {there} GPUs here"
    capability = torch.cuda.get_device_capability()
    if not torch.version.hip and capability < VLLM_NEEDS:
        stated = "{}.{}".format(*capability), "{}.{}".format(*VLLM_NEEDS)
        yield (
            f"engine = vllm: {torch.cuda.get_device_name()} has compute capability {stated[0]}, vLLM needs {stated[1]}; "
            "set `engine: transformers`"
        )


def machine(needs: profiles.Requirements) -> Iterator[str]:
    """Yield a line when the profile needs a GPU and neither this machine nor LAUNCH gives one.

    How much memory it needs is an estimate: a smaller GPU or main memory is a warning and stops nothing.
    """
    if needs.memory_gb:
        import psutil

        there = psutil.virtual_memory().total / 10**9
        if there < needs.memory_gb:
            wanted = f"{needs.memory_gb:g} GB of main memory"
            print(f"warning: {wanted}: this machine has {there:.0f} GB, and may run out of it", file=sys.stderr)
    if needs.gpu_memory_gb and not files.environment("LAUNCH"):
        import torch

        wanted = f"GPU with {needs.gpu_memory_gb:g} GB"
        there = torch.cuda.get_device_properties(0).total_memory / 10**9 if torch.cuda.is_available() else 0
        if not there:
            yield f'{wanted}: none is visible to torch; on a cluster set LAUNCH="srun --gres=gpu:1"'
        elif there < needs.gpu_memory_gb:
            advice = "a training that does not fit needs `quantization: nf4` in a copy of the profile"
            print(f"warning: {wanted}: this one has {there:.0f} GB; {advice}", file=sys.stderr)
