"""Asynchronous work from where a loop already runs, as in a notebook."""

import asyncio
import threading
from collections.abc import Callable, Coroutine


def in_thread(work: Callable[[], Coroutine]) -> object:
    """The result of a coroutine, run in a thread of its own: a notebook has a running loop already.

    An interrupt (Ctrl-C, the notebook's stop button) cancels the work before it is passed on.
    """
    outcome: dict[str, object] = {}

    async def main() -> object:
        outcome["loop"], outcome["task"] = asyncio.get_running_loop(), asyncio.current_task()
        return await work()

    def run() -> None:
        try:
            outcome["value"] = asyncio.run(main())
        except BaseException as error:  # handed over to the caller's thread
            outcome["error"] = error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        thread.join()
    except KeyboardInterrupt:
        if "task" in outcome:
            outcome["loop"].call_soon_threadsafe(outcome["task"].cancel)
        thread.join()
        raise
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]
