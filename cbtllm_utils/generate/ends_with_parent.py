"""Run a command until whoever started this process ends, by whatever death; standard library alone.

Its standard input is a pipe that the parent holds open. The system closes it when the parent ends, even by `kill -9`,
and the parent closes it to stop the command. Then the command is asked to end, and what is left of its process group is
killed. It works on Linux and macOS, and for a kernel whose threads start processes: Linux's own signal at a parent's
death (prctl) comes when the *thread* ends that started the process, and reaches no grandchildren.
"""

import os
import signal
import subprocess
import sys
import threading

PATIENCE = 20.0  # seconds between the request to end and the kill


def main(command: list[str]) -> None:
    """Run the command in this process's group, of which this process is the leader, and end the group with it."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    threading.Thread(target=stop_at_end_of_input, args=(child,), daemon=True).start()
    child.wait()
    end_group()


def stop_at_end_of_input(child: subprocess.Popen) -> None:
    """Wait until standard input closes; then end the command."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    child.terminate()
    try:
        child.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        end_group()


def end_group() -> None:
    """Kill this process and all that the command left behind."""
    if os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])
