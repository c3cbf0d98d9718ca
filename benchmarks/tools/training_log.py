"""A training of the paper's 3,768 steps, watched by tail and TensorBoard, killed at random moments and continued.

The model is the smallest that trains, on random tokens; steps, points of the curve and checkpoints are those of
params/paper.yaml. The same training without a kill says what is wanted.
"""

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import torch
import transformers
from datasets import Dataset

from benchmarks.tools import harness
from benchmarks.tools.harness import Figure, Place
from cbtllm_utils import files, hashing
from cbtllm_utils.finetune import adapters, training
from cbtllm_utils.finetune import examples as tokenized
from cbtllm_utils.finetune.settings import TrainingSettings

TITLE = "A training of 3,768 steps, watched and killed"
ENVIRONMENTS = {"tensorboard": ["tensorboard==2.21.0"]}
PACKAGES = ["tensorboard"]

BACKBONE = "baichuan-7b"
EPOCH, STEPS = TrainingSettings().steps(20_094)  # the paper's examples: 1,256 steps per epoch
LOGGING, CHECKPOINTS = 50, 250  # params/paper.yaml
HELD_OUT = 20
KILLS = 6  # at random; two more follow a line at once whose checkpoint is being written, one a held-out loss
RESULTS = ("step", "epoch", "loss", "heldout_loss", "learning_rate")


def settings() -> TrainingSettings:
    """Return the paper's settings, but for one example per step in 32 bits."""
    return TrainingSettings(
        backbone=BACKBONE,
        batch=1,
        accumulation=1,
        learning_rate=1e-3,
        precision="fp32",
        gradient_checkpointing=False,
        targets="all-linear",
        logging_steps=LOGGING,
        checkpoint_steps=CHECKPOINTS,
        tensorboard=True,
    )


def random_examples(number: int, seed: int) -> Dataset:
    """Return so many examples of 8 to 24 random tokens, of which the first four are the prompt."""
    draw, rows = random.Random(seed), []
    for _ in range(number):
        ids = [draw.randrange(3, 100) for _ in range(draw.randint(8, 24))]
        rows.append({"input_ids": ids, "labels": [tokenized.IGNORED] * 4 + ids[4:]})
    return tokenized.dataset(rows)


def train(folder: Path) -> None:
    """Train to the end, from the last checkpoint where there is one; write the adapter."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sizes = {"vocab_size": 100, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    base = transformers.LlamaForCausalLM(transformers.LlamaConfig(num_attention_heads=2, **sizes))
    model = adapters.fresh(base, settings())
    data = random_examples(EPOCH, 1), random_examples(HELD_OUT, 2)
    log = training.train(model, *data, settings(), folder / "training" / f".{BACKBONE}-0")
    model.save_pretrained(folder / "adapter", save_embedding_layers=False)
    files.write_json(folder / "log.json", log)


def live(folder: Path) -> Path:
    return folder / "training" / "live" / f"{BACKBONE}.jsonl"


def lines(file: Path) -> list[dict]:
    """Return the whole lines of a file that may be written at this moment."""
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def started(folder: Path, environment: Path) -> subprocess.Popen:
    """Start the training in a process of its own, with TensorBoard's packages behind the package's own."""
    library = next(environment.parent.glob("lib/python*/site-packages"))
    command = [sys.executable, "-m", "benchmarks.tools.training_log", folder, library]
    alone = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(files.ROOT)}
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "said.txt").open("a") as said:
        return subprocess.Popen(command, env=os.environ | alone, cwd=folder, stdout=said, stderr=said)


def finished(folder: Path, environment: Path) -> None:
    """Train to the end."""
    if code := started(folder, environment).wait():
        raise RuntimeError(f"the training ended with {code}: {(folder / 'said.txt').read_text()[-500:]}")


def struck(folder: Path, environment: Path, reached: int, key: str, delay: float) -> int:
    """Kill a training some seconds after the line of a step; return how many lines its last checkpoint lacks."""
    child = started(folder, environment)
    while not any(row["step"] >= reached and key in row for row in lines(live(folder))[-2:]):
        if child.poll() is not None:
            raise RuntimeError(f"the training ended before step {reached}: {(folder / 'said.txt').read_text()[-500:]}")
        time.sleep(0.002)
    time.sleep(delay)
    child.kill()
    child.wait()
    begun = training.state(folder / "training" / f".{BACKBONE}-0").get("log_history", [])
    return len(lines(live(folder))) - sum("loss" in row or "heldout_loss" in row for row in begun)


def tear(file: Path) -> None:
    """Cut the last line in its middle, as a full disk or a crashed machine leaves it."""
    text = file.read_text(encoding="utf-8")
    file.write_text(text[: len(text) - len(text.splitlines()[-1]) // 2], encoding="utf-8")


@contextlib.contextmanager
def tensorboard(environment: Path, folder: Path) -> Iterator[str]:
    """Yield the address of a TensorBoard that reads the folder again every second."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--logdir", folder, "--host", "127.0.0.1", "--port", str(port), "--reload_interval", "1"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen([environment / "tensorboard", *options], **quiet)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def served(address: str, tag: str) -> list[list]:
    """Return the points of a curve that TensorBoard's page draws: step and value."""
    query = urllib.parse.urlencode({"run": BACKBONE, "tag": tag})
    with urllib.request.urlopen(f"{address}/data/plugin/scalars/scalars?{query}", timeout=30) as answer:
        return [[step, value] for _, step, value in json.load(answer)]


def results(rows: list[dict]) -> list[dict]:
    """Return the rows without times and memory."""
    return [{name: row[name] for name in RESULTS if name in row} for row in rows]


def points(rows: list[dict], name: str) -> list[list]:
    """Return step and value of a field, in the 32 bits of TensorBoard."""
    return [[row["step"], torch.tensor(row[name]).item()] for row in rows if row.get(name) is not None]


def misjudged(rows: list[dict]) -> tuple[float, float, float]:
    """Return the first line's time left, the time that it then took, and the largest relative error of all lines.

    Lines of the last tenth do not count: there, a second is a large part.
    """
    end = rows[-1]["time"]
    pairs = [(row["seconds_left"], end - row["time"]) for row in rows if row["seconds_left"] is not None]
    pairs = [pair for pair in pairs if pair[1] > pairs[0][1] / 10]
    return *pairs[0], max(abs(said - real) / real for said, real in pairs)


def killed(folder: Path, environment: Path) -> tuple[int, int, list[dict]]:
    """Kill a training again and again and let it end; return the kills, the lines that were taken again, the last ones.

    The last ones are those that the process wrote that reached the end.
    """
    draw = random.Random(0)
    moments = [(step, "loss", draw.uniform(0, 0.5)) for step in draw.sample(range(LOGGING, STEPS - 8 * LOGGING), KILLS)]
    moments += [(2 * CHECKPOINTS, "loss", 0.002), (8 * CHECKPOINTS, "loss", 0.01), (2 * EPOCH, "heldout_loss", 0.0)]
    again = 0
    for number, moment in enumerate(sorted(moments)):
        again += struck(folder, environment, *moment)
        if number % 3 == 0:
            tear(live(folder))
    before = time.time()
    finished(folder, environment)
    return len(moments), again, [row for row in lines(live(folder)) if row["time"] > before]


def check(place: Place) -> list[Figure]:
    """Train once without a kill and once with many; compare lines, weights, TensorBoard's points, the time left."""
    environment, whole, cut = place.environments["tensorboard"], place.work / "whole", place.work / "cut"
    live(whole).parent.mkdir(parents=True)
    live(whole).touch()
    with (place.work / "tail.txt").open("w") as seen:
        tail = subprocess.Popen(["tail", "-f", live(whole)], stdout=seen)
    finished(whole, environment)
    time.sleep(1)
    tail.terminate()
    tail.wait()
    wanted = lines(live(whole))
    with tensorboard(environment, cut / "training" / "tensorboard") as address:
        kills, again, last = killed(cut, environment)
        time.sleep(10)
        drawn = {name: served(address, name) for name in ("loss", "heldout_loss")}
    found = lines(live(cut))
    read = json.loads(harness.inside(environment, "tensorboard_points.py", cut / f"training/tensorboard/{BACKBONE}"))
    names = [name for name in read if read[name] == points(found, name)]
    steps = [row["step"] for row in found if "loss" in row]
    held = [row["step"] for row in found if "heldout_loss" in row]
    said, real, error = misjudged(last)
    after = f"after the last of {kills} kills (SIGKILL)"
    logs = sorted((place.run / "training").glob("*.jsonl"))
    notebooks = [file for file in logs if same_as_live(file)]
    weights = {hashing.sha256(folder / "adapter" / "adapter_model.safetensors") for folder in (whole, cut)}
    return [
        Figure("steps", f"{found[-1]['step']:,}", f"{STEPS:,}", found[-1]["step"] == STEPS),
        Figure("lines that `tail -f` showed", *equal(lines(place.work / "tail.txt"), wanted)),
        Figure(f"lines {after}; {again} were taken again", *equal(results(found), results(wanted))),
        Figure("steps with a loss, each once", *equal(steps, list(range(LOGGING, STEPS + 1, LOGGING)))),
        Figure("steps with a held-out loss, each once", *equal(held, [0, EPOCH, 2 * EPOCH, STEPS])),
        Figure("the log that the training returned", *equal(files.read_json(cut / "log.json"), results(found))),
        Figure("different weights with and without kills", str(len(weights) - 1), "0", len(weights) == 1),
        Figure("TensorBoard's reader: curves", str(len(names)), str(len(read)), len(names) == len(read) > 2),
        *(
            Figure(f"points of {name} on TensorBoard's page", *equal(drawn[name], points(found, name)))
            for name in drawn
        ),
        Figure(f"seconds left, first line {after}", f"{said:.1f}", f"{real:.1f} ± a half", abs(said - real) < real / 2),
        Figure("… largest error of a line before the last tenth", f"{error:.0%}", "", None),
        Figure("notebook 04's logs equal to the live ones", str(len(notebooks)), str(len(logs)), notebooks == logs),
    ]


def equal(found: list, wanted: list) -> tuple[str, str, bool]:
    """Return how many are as wanted at their place, of how many, and whether all are and none is too many."""
    same = sum(one == other for one, other in zip(found, wanted, strict=False))
    return f"{same} of {len(found)}", f"{len(wanted)} of {len(wanted)}", found == wanted


def same_as_live(file: Path) -> bool:
    """Return whether a run's log of a training holds the losses of its live log, and nothing else but its summary."""
    place = file.parent / "live" / file.name
    return place.exists() and files.read_jsonl(file)[:-1] == results(lines(place))


if __name__ == "__main__":
    sys.path.append(sys.argv[2])
    train(Path(sys.argv[1]))
