"""Run one notebook headless: python -m cbtllm_utils.workflow.run 04_lora_training --profile paper backbone=qwen-7b"""

import argparse
import contextlib
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import yaml

from cbtllm_utils import files
from cbtllm_utils.workflow import graph, profiles, provenance

SETTINGS = {  # for the kernel, unless the user has set them: no network, and the same sums on the same machine
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",  # of loading weights: they would hide the bars that say how far the work is
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONWARNINGS": "ignore:IProgress not found",  # tqdm's advice to a browser would be taken for the progress
}


class Watch(threading.Thread):
    """Says every twenty seconds how far a notebook is, and keeps the peak memory of its processes together."""

    def __init__(self, name: str, cells: int) -> None:
        super().__init__(daemon=True)
        self.name, self.cells, self.cell, self.line, self.peak = name, cells, 0, "", 0
        self.start_time, self.done = time.monotonic(), threading.Event()

    def write(self, text: str) -> None:
        """Take what a cell writes to stderr: the last line of its progress bar. Warnings stay in the notebook."""
        lines = [line for line in text.replace("\r", "\n").split("\n") if line.strip() and line[0] != " "]
        lines = [line for line in lines if not re.match(r".+:\d+: \w*Warning: ", line)]
        self.line = files.one_line(lines[-1]) if lines else self.line

    def flush(self) -> None:
        """Nothing: the line is shown at the next beat."""

    def run(self) -> None:
        import psutil

        beat, me = 0, psutil.Process()
        while not self.done.wait(0.5):
            memory = 0
            for process in me.children(recursive=True):
                try:
                    memory += process.memory_info().rss
                except psutil.Error:
                    continue  # it ended between the two lines
            self.peak, beat = max(self.peak, memory), beat + 1
            if beat % 40 == 0:
                seconds = time.monotonic() - self.start_time
                where = f"{self.name}: cell {self.cell} of {self.cells}, {seconds:.0f} s"
                print(f"      {where}  {numbers(self.line)[:100]}".rstrip(), file=sys.stderr, flush=True)


def numbers(line: str) -> str:
    """A progress bar's numbers without the bar."""
    return re.sub(r"\|[^|]*\| ", " ", line)


def execute(notebook: str, target: Path, parameters: dict, watch: Watch) -> None:
    """Nothing, after papermill has written the executed notebook to `target`, also when a cell failed."""
    import papermill
    from papermill.engines import NBClientEngine, papermill_engines
    from traitlets.config import Config

    class Engine(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, nb_man: object, kernel_name: str, **options: object) -> None:
            begin = nb_man.cell_start

            def cell_start(cell: object, cell_index: int | None = None, **rest: object) -> None:
                watch.cell, watch.line = (cell_index or 0) + 1, ""
                begin(cell, cell_index, **rest)

            nb_man.cell_start = cell_start
            super().execute_managed_notebook(nb_man, kernel_name, **options)

    papermill_engines.register("cbtllm", Engine)
    with tempfile.TemporaryDirectory(prefix="cbtllm-") as sockets:
        # Kernels started together race for TCP ports (papermill#511): each gets its own sockets, readable by none else.
        config = Config(KernelManager={"transport": "ipc", "ip": f"{sockets}/ipc"})
        # A kernel that is told to end may call that an error, on the terminal: it ends by an interrupt.
        config.NotebookClient.extra_arguments = ["--IPKernelApp.log_level=50"]
        papermill.execute_notebook(
            str(profiles.NOTEBOOKS / f"{notebook}.ipynb"),
            str(target),
            parameters,
            engine_name="cbtllm",
            kernel_name="python3",
            cwd=str(files.ROOT),
            progress_bar=False,
            stderr_file=watch,
            config=config,
        )


def run_notebook(notebook: str, profile: str, backbone: str | None = None, **extra: object) -> Path:
    """The executed copy's path. A copy that failed is kept as <name>.failed.ipynb; InputError says where and why."""
    import papermill

    content = profiles.read(profile)
    profiles.known("notebook", notebook, profiles.names(profiles.NOTEBOOKS, ".ipynb"), "notebooks/")
    run = str(extra.pop("run", f"runs/{profile}"))
    parameters = profiles.parameters(content, run, notebook, backbone, **extra)
    name = graph.task_name(notebook, backbone)
    resolved = yaml.safe_dump(parameters, allow_unicode=True, sort_keys=False)
    files.write_text(files.path(run) / "parameters" / f"{name}.yaml", resolved)
    final = files.path(run) / "notebooks" / f"{name}.ipynb"
    failed = final.with_name(f"{name}.failed.ipynb")
    watch = Watch(name, len(profiles.cells(notebook)) + 1)  # papermill adds a cell with the parameters
    watch.start()
    try:
        with files.atomic(final) as temporary:
            try:
                execute(notebook, temporary, parameters, watch)
            except papermill.PapermillExecutionError as error:
                shutil.copy(temporary, failed)
                text = files.one_line(error.evalue)
                raise files.InputError(
                    f"{name}: cell {error.cell_index + 1}: {error.ename}: {text} (see {files.shown(failed)})"
                ) from None
    finally:
        watch.done.set()
    failed.unlink(missing_ok=True)
    seconds = round(time.monotonic() - watch.start_time, 1)
    entry = {"parameters": parameters, "seconds": seconds, "peak_memory_mib": watch.peak >> 20}
    provenance.record(run, profile, name, entry)
    return final


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """What the command line says; values are YAML, as in a parameter file."""
    parser = argparse.ArgumentParser(
        prog="python -m cbtllm_utils.workflow.run", description="Run one notebook headless."
    )
    parser.add_argument("notebook", help="its name, e.g. 04_lora_training")
    parser.add_argument(
        "values", nargs="*", metavar="name=value", help="parameters for this run, e.g. backbone=qwen-7b"
    )
    parser.add_argument("--profile", default="demo", help="a parameter file below params/ (demo)")
    return parser.parse_intermixed_args(argv)


def parsed(pairs: list[str]) -> dict:
    """name=value pairs as a dict; a value is YAML."""
    values = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign or not name.isidentifier():
            raise files.InputError(f"{pair!r} is no parameter; write name=value, e.g. backbone=qwen-7b")
        try:
            values[name] = profiles.load(text)
        except yaml.YAMLError:
            raise files.InputError(f"{pair!r}: the value is not YAML; quote it") from None
    return values


def end_kernels() -> None:
    """Nothing, after every process that was started from here has ended: an interrupt can leave a kernel behind."""
    import psutil

    started = psutil.Process().children(recursive=True)
    for process in started:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(started, timeout=10)


def main(argv: list[str] | None = None) -> int:
    """The exit status: 0 well, 1 with one line that says what, where and what to do, 130 interrupted."""
    import logging

    given = arguments(argv)
    os.environ.update({name: value for name, value in SETTINGS.items() if name not in os.environ})
    logging.getLogger("papermill").setLevel(logging.CRITICAL)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the kernel must go with us
    try:
        print(files.shown(run_notebook(given.notebook, given.profile, **parsed(given.values))))
    except (files.InputError, OSError) as error:
        print(f"error: {files.explain(error) if isinstance(error, OSError) else error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        end_kernels()
        print(f"{given.notebook}: interrupted; nothing half-written was kept, run it again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    if status == 130:
        os._exit(status)  # what asyncio would still say of the tasks that were broken off helps nobody
    sys.exit(status)
