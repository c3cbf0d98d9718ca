"""Run one notebook headless: python -m cbtllm_utils.workflow.run 04_lora_training --profile paper backbone=qwen-7b"""

import argparse
import contextlib
import logging
import os
import signal
import sys
import time
from pathlib import Path

import yaml

from cbtllm_utils import files
from cbtllm_utils.settings import as_json
from cbtllm_utils.workflow import environment, fingerprint, graph, locks, profiles, provenance
from cbtllm_utils.workflow.progress import NotebookProgress

NEAR = 0.8  # of the memory that there is: a kernel that is killed with more most likely ran out of it
LONGEST = 80  # bytes of a folder of sockets; the name of a socket has at most 107, on macOS 103


def execute(notebook: str, target: Path, parameters: dict, progress: NotebookProgress) -> None:
    """Execute a notebook with papermill and write it to `target`, even when a cell fails or its kernel dies."""
    import papermill
    from papermill.engines import NBClientEngine, papermill_engines
    from traitlets.config import Config

    class Engine(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, nb_man: object, kernel_name: str, **options: object) -> None:
            begin = nb_man.cell_start

            def cell_start(cell: object, cell_index: int | None = None, **rest: object) -> None:
                progress.begin((cell_index or 0) + 1)
                begin(cell, cell_index, **rest)

            nb_man.cell_start = cell_start
            super().execute_managed_notebook(nb_man, kernel_name, **options)

    class Kernel(environment.Kernel):
        async def is_alive(self) -> bool:
            alive = await super().is_alive()
            if not alive and self.provisioner:
                progress.exit_status = await self.provisioner.poll()
            return alive

    papermill_engines.register("cbtllm", Engine)
    with environment.temporary_folder() as folder:
        # Kernels started together race for TCP ports (papermill#511): each gets its own sockets, readable by its owner.
        transport = "ipc" if len(folder) < LONGEST else "tcp"
        config = Config(KernelManager={"transport": transport, "connection_file": f"{folder}/kernel.json"})
        config.NotebookClient.kernel_manager_class = Kernel
        # A kernel that is told to end may call that an error on the terminal: it ends by an interrupt.
        config.NotebookClient.extra_arguments = ["--IPKernelApp.log_level=50"]
        papermill.execute_notebook(
            str(profiles.NOTEBOOKS / f"{notebook}.ipynb"),
            str(target),
            parameters,
            engine_name="cbtllm",
            kernel_name="python3",
            cwd=str(files.ROOT),
            progress_bar=False,
            stderr_file=progress,
            config=config,
        )
        written = Path(folder) / "written"
        progress.written = written.read_text(encoding="utf-8").split("\0") if written.exists() else []


def prepare(notebook: str, profile: str, backbone: str | None = None, **extra: object) -> tuple[graph.Task, str]:
    """Return what is to run, and the run's folder; InputError when a value cannot be used.

    Args:
        notebook: Its name.
        profile: A parameter file below params/.
        backbone: For which backbone, where the notebook takes one.
        extra: Values that go before the profile's, `run` among them.
    """
    content = profiles.read(profile)
    profiles.known("notebook", notebook, profiles.CLASSES, "notebooks/")
    run = str(extra.pop("run", f"runs/{profile}"))
    (step,) = [step for step in graph.STEPS if step.notebook == notebook]
    parameters = profiles.parameters(content, run, notebook, backbone, **extra)
    return graph.task(step, backbone, parameters, content), run


def run_task(task: graph.Task, run: str, profile: str) -> Path:
    """Run a notebook and record it; return the path of the executed copy.

    Raises:
        InputError: When a cell failed, or the kernel died; its copy is kept as <name>.failed.ipynb.
    """
    folder, name, parameters = files.path(run), task.name, task.parameters
    provenance.forget(run, name)  # from here on its outputs may be of two runs, until it has ended
    write_parameters(folder / "parameters" / f"{name}.yaml", parameters)
    entry = {"parameters": parameters, "fingerprint": fingerprint.fingerprint(task, run)}
    cells = len(profiles.cells(task.step.notebook))
    progress = NotebookProgress(name, cells + 1)  # papermill adds one with the parameters
    progress.start()
    try:
        final = executed(task.step.notebook, folder / "notebooks" / f"{name}.ipynb", parameters, progress)
    finally:
        progress.done.set()
    for note in progress.notes:
        print(f"{name}: {note}", file=sys.stderr)
    entry |= {
        "files": provenance.below(run, progress.written),
        "seconds": round(time.monotonic() - progress.start_time, 1),
    }
    provenance.record(run, profile, name, entry | {"peak_memory_mib": progress.peak >> 20})
    return final


def run_notebook(notebook: str, profile: str, backbone: str | None = None, **extra: object) -> Path:
    """Run a notebook by hand, alone with its name in the run; return the path of the executed copy.

    Args:
        notebook, profile, backbone, extra: As for `prepare`.
    """
    task, run = prepare(notebook, profile, backbone, **extra)
    with locks.one_step(run, task.name):
        return run_task(task, run, profile)


def write_parameters(place: Path, parameters: dict) -> None:
    """Write every value of a step, as papermill gets it: `papermill NOTEBOOK OUT -f <place>` does what the runner does.

    Those that the notebook's `parameters` cell lacks are in the mapping `settings`: papermill warns about such a name.
    """
    files.write_text(place, yaml.safe_dump(parameters, allow_unicode=True, sort_keys=False))


def executed(notebook: str, final: Path, parameters: dict, progress: NotebookProgress) -> Path:
    """Execute a notebook and return the path of its copy; InputError names the cell that failed, and why."""
    import papermill

    failed = final.with_name(f"{final.stem}.failed.ipynb")
    with files.atomic(final) as temporary:
        try:
            execute(notebook, temporary, parameters, progress)
        except papermill.PapermillExecutionError as error:
            text = graph.in_full(files.one_line(error.evalue), graph.named_files(parameters))
            why = f"cell {error.cell_index + 1}: {error.ename}: {text}"
        except RuntimeError as error:  # the kernel died, or did not start
            status = progress.exit_status
            said = files.one_line(error) if status is None else why_dead(status, progress.peak)
            why = f"cell {progress.cell}: {said}"
        else:
            why = ""
        if why:
            temporary.replace(failed)  # not copied: the disk may be full
            raise files.InputError(f"{final.stem}: {why} (see {files.shown(failed)})")
    failed.unlink(missing_ok=True)
    return final


def why_dead(status: int, peak: int) -> str:
    """Return on one line how a kernel ended, the likely reason, and what to do.

    Args:
        status: Its exit status; minus the number of the signal that ended it.
        peak: The most memory that its processes were seen with, in bytes.
    """
    if status >= 0:
        return f"the kernel's process ended itself (exit status {status}), as os._exit and some libraries do"
    name = next((one.name for one in signal.Signals if one == -status), f"signal {-status}")
    if name == "SIGKILL":
        from cbtllm_utils.finetune import memory

        had, limit = peak / 1e9, memory.host().memory
        seen = f"its processes last used up to {had:.1f} GB of the {limit:.1f} GB available here"
        if had > NEAR * limit:
            why, advice = "most likely out of memory", "run again with more memory, JOBS=1 or a smaller batch"
        else:
            why = "by somebody, or because memory suddenly ran out"
            advice = "run again, with JOBS=1 where others run here"
        return f"the kernel was killed ({name}), {why}: {seen}; {advice}, finished work is kept"
    if name in ("SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT"):
        advice = "run again; if that fails as well, `make clean` and set up again"
        return f"the kernel crashed ({name}) in a library's compiled code, not in Python; {advice}"
    return f"the kernel was stopped from outside ({name}); run again"


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Return what the command line says; values are YAML, as in a parameter file."""
    parser = argparse.ArgumentParser(prog="python -m cbtllm_utils.workflow.run", description="Run one notebook.")
    parser.add_argument("notebook", help="its name, e.g. 04_lora_training")
    parser.add_argument(
        "values", nargs="*", metavar="name=value", help="parameters for this run, e.g. backbone=qwen-7b"
    )
    parser.add_argument("--profile", default="demo", help="a parameter file below params/ (demo)")
    parser.add_argument("--held", action="store_true", help="the caller (`make reproduce`) already holds the run")
    parser.add_argument(
        "--list", action="store_true", help="print every parameter of the notebook in the profile instead"
    )
    return parser.parse_intermixed_args(argv)


def parsed(pairs: list[str]) -> dict:
    """Return name=value pairs as a mapping; a value is YAML."""
    values = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign or not name.isidentifier():
            raise files.InputError(f"{pair!r} is not a parameter; write name=value, e.g. backbone=qwen-7b")
        try:
            values[name] = profiles.load(text)
        except yaml.YAMLError:
            raise files.InputError(f"{pair!r}: the value is not YAML; quote it") from None
    return values


def listed(notebook: str, profile: str) -> str:
    """Return every parameter of a notebook: the profile's value, what it means, and the default with its source."""
    profiles.known("notebook", notebook, profiles.CLASSES, "notebooks/")
    given = profiles.flat(profiles.parameters(profiles.read(profile), f"runs/{profile}", notebook))
    lines = []
    for row in profiles.CLASSES[notebook].documentation():
        value, default = as_json(given[row["name"]]), row["default"]
        source = row["source"] if value == default else f"{row['source']}: {default}"
        lines.append(f"{row['name']} = {value}   # {row['description']} ({source})")
    return "\n".join(lines)


def end_kernels() -> None:
    """Kill every process that was started from here: an interrupt can leave a kernel behind."""
    import psutil

    started = psutil.Process().children(recursive=True)
    for process in started:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(started, timeout=10)


def main(argv: list[str] | None = None) -> int:
    """Run a notebook; return 0, or 1 with one line that says what, where and what to do, or 130 after an interrupt."""
    given = arguments(argv)
    logging.getLogger("papermill").setLevel(logging.CRITICAL)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the kernel must end with this process
    try:
        if given.list:
            print(listed(given.notebook, given.profile))
        elif given.held:
            task, run = prepare(given.notebook, given.profile, **parsed(given.values))
            print(files.shown(run_task(task, run, given.profile)))
        else:
            print(files.shown(run_notebook(given.notebook, given.profile, **parsed(given.values))))
    except (files.InputError, OSError) as error:
        print(f"error: {files.explain(error) if isinstance(error, OSError) else error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        end_kernels()
        print(f"{given.notebook}: interrupted; no half-written file remains; run it again to continue", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="replace")  # a terminal may lack a character
    status = main()
    sys.stdout.flush()
    if status == 130:
        os._exit(status)  # what asyncio would still say about cancelled tasks helps nobody
    sys.exit(status)
