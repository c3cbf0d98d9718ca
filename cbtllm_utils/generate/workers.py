"""Several long jobs side by side, each in a process of its own, under one progress bar."""

import contextlib
import functools
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection, wait

from tqdm import tqdm


def run(jobs: Mapping[str, Callable], total: int, processes: int) -> None:
    """Nothing, after every job was called with `tick=`; the first that fails is raised, the others are ended.

    At most `processes` run at a time, in the jobs' order: put the longest first. A job can be pickled (a module's
    function or a partial of one) and calls tick() `total` times with all others together. It runs on one thread: small
    sums gain nothing from two, and do not depend on the machine's other work.
    """
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    count, waiting, running = context.Value("q", 0), list(jobs.items()), {}
    try:
        with tqdm(total=total, file=sys.stderr, mininterval=2) as bar:
            while waiting or running:
                while waiting and len(running) < processes:
                    (name, job), (receiver, sender) = waiting.pop(0), context.Pipe(duplex=False)
                    process = context.Process(target=call, args=(job, count, sender), daemon=True)
                    with deaf():
                        process.start()
                    sender.close()  # ours: the job's copy alone keeps the pipe open, so that its death closes it
                    running[receiver] = (name, process)
                bar.set_description(", ".join(name for name, _ in running.values()), refresh=False)
                for receiver in wait(list(running), timeout=1):
                    finish(receiver, *running.pop(receiver))
                bar.update(count.value - bar.n)
    finally:
        for _, process in running.values():
            process.terminate()
            process.join()


@contextlib.contextmanager
def deaf() -> Iterator[None]:
    """Processes started here do not hear an interrupt: whoever started them ends them, without a traceback of each."""
    if threading.current_thread() is not threading.main_thread():  # others cannot set it
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def finish(receiver: Connection, name: str, process: multiprocessing.Process) -> None:
    """Nothing, when the job ended well; else its error, or a RuntimeError when its process died."""
    try:
        error = receiver.recv()
    except EOFError:
        process.join()
        error = RuntimeError(f"{name}: its process ended with exit code {process.exitcode}; was memory short?")
    process.join()
    if error is not None:
        raise error


def call(job: Callable, count: object, sender: Connection) -> None:
    """Nothing, after the job was called; its error, or None, is sent. The process ends when its parent does."""
    import torch

    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
    try:
        job(tick=functools.partial(add_one, count))
    except Exception as error:
        traceback.print_exc()
        sender.send(error)
    else:
        sender.send(None)


def add_one(count: object) -> None:
    """Nothing; the count that all processes share is one higher."""
    with count.get_lock():
        count.value += 1
