"""Training in several processes, each on a device of its own: started here, or by torchrun on several machines.

python -m cbtllm_utils.finetune.parallel FOLDER, under torchrun, is one of these processes.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

import psutil
import torch
from peft import PeftModel

from cbtllm_utils import files
from cbtllm_utils.finetune import adapters, training
from cbtllm_utils.finetune.settings import Settings

PARENT = "CBTLLM_PARENT"  # environment: the process without which the others shall not go on


def train(
    model: PeftModel,
    examples: list[dict],
    heldout: list[dict],
    settings: Settings,
    folder: Path,
    logging_steps: int,
    checkpoint_steps: int,
    source: dict,
) -> list[dict]:
    """The log of `training.train`, here or, as `settings.processes` says, in as many processes.

    These read the backbone themselves, from `source`: {model, deltas, run}; this process then takes over their adapter.
    Where they share out the weights, each reads its share alone, and here the model is an outline (`adapters.outline`).
    InputError with the command for each machine when this one has fewer GPUs than processes.
    """
    before = training.ended(folder)
    if settings.processes == 1:
        log = training.train(model, examples, heldout, settings, folder, logging_steps, checkpoint_steps)
    else:
        if not before:
            job = {"source": source, "settings": asdict(settings), "examples": examples, "heldout": heldout}
            job |= {"logging_steps": logging_steps, "checkpoint_steps": checkpoint_steps}
            files.write_text(folder / "job.json", json.dumps(job))
            if not settings.sharded:
                model.to("cpu")  # the processes need the GPUs' memory
                torch.cuda.empty_cache()
            launch(folder, settings.processes)
        log = training.take(model, folder)
        if not settings.sharded:
            model.to(training.device())
        (folder / "job.json").unlink(missing_ok=True)  # it holds every item
    print("trained before: " * before + training.took(folder), file=sys.stderr)  # measured: no part of a result
    return log


def launch(folder: Path, processes: int) -> None:
    """Nothing, after so many processes on this machine ended well; InputError with what one of them said."""
    gpus = torch.cuda.device_count() or processes
    if gpus < processes:
        place = files.shown(folder) if folder.is_relative_to(files.ROOT) else folder
        each = max(number for number in range(1, gpus + 1) if processes % number == 0)  # as many on every machine
        raise files.InputError(
            f"processes = {processes}, and this machine has {gpus} GPUs. On each of several machines that share these "
            f"files run, in the repository: torchrun --nnodes={processes // each} --nproc-per-node={each} "
            f"--rdzv-backend=c10d --rdzv-endpoint=FIRST_MACHINE:29500 -m cbtllm_utils.finetune.parallel {place}; then this "
            "notebook again"
        )
    (folder / "error").unlink(missing_ok=True)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command += ["-m", "cbtllm_utils.finetune.parallel", str(folder)]
    surroundings = {"OMP_NUM_THREADS": "1"} | os.environ | {PARENT: str(os.getpid())}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, cwd=files.ROOT, env=surroundings, **pipes) as running:
        try:
            while said := running.stdout.read1():  # also a bar that has not come to the end of its line
                sys.stderr.write(said.decode(errors="replace"))
                sys.stderr.flush()
        except BaseException:  # an interrupt: torchrun ends what it has started
            running.terminate()
            raise
    status = running.returncode
    if (folder / "error").exists():
        raise files.InputError((folder / "error").read_text(encoding="utf-8"))
    if status or not training.ended(folder):
        raise RuntimeError(f"training in {processes} processes ended with exit code {status}; was memory short?")


def end_with(parent: int) -> None:
    """Nothing; this process ends when that one has: nobody would take what it makes."""
    with contextlib.suppress(psutil.NoSuchProcess):
        while psutil.Process(parent).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.2)
    os._exit(1)


def work(folder: Path) -> None:
    """Nothing, after this process has done its part of the job that lies in the folder."""
    job = files.read_json(folder / "job.json")
    settings = Settings(**job["settings"])
    if os.environ["WORLD_SIZE"] != str(settings.processes):
        raise files.InputError(
            f"{os.environ['WORLD_SIZE']} processes were started where processes = {settings.processes}"
        )
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    how = {"precision": settings.precision, "kind": settings.quantization}
    base = adapters.backbone(**job["source"], **how, shares=settings.processes if settings.sharded else 1)
    model = adapters.fresh(base, settings, job["source"]["model"])
    steps = (job["logging_steps"], job["checkpoint_steps"])
    training.train(model, job["examples"], job["heldout"], settings, folder, *steps)


def main() -> int:
    """The exit status; what a user can mend is left in the folder's file `error`."""
    folder = files.path(sys.argv[1])
    if parent := os.environ.get(PARENT):
        threading.Thread(target=end_with, args=(int(parent),), daemon=True).start()
    try:
        work(folder)
    except files.InputError as error:
        files.write_text(folder / "error", str(error))
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
