"""The log of a training: written and shown while it runs, then read for its summary, losses and curves."""

import math
import resource
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from accelerate.utils import gather_object
from datasets import Dataset
from tqdm import tqdm
from transformers.trainer_callback import TrainerCallback

from cbtllm_utils import files, hashing, published
from cbtllm_utils.finetune.live_log import LiveLog
from cbtllm_utils.finetune.settings import TrainingSettings
from cbtllm_utils.finetune.trainer import heldout_loss
from cbtllm_utils.models import prompt_forms

Training = tuple[list[dict], dict]  # the rows of its log, and its summary
COLUMNS = ["backbone", "weights trained, millions", "training examples", "steps", "held-out examples"]
COLUMNS += ["loss before", "loss after", "likelihood of a character, after ÷ before"]


def peak_memory() -> float:
    """Return this process's peak memory in GB: what the GPU allocated, or without one the resident set."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


class Progress(TrainerCallback):
    """A progress bar on stderr, the held-out loss before training and after each epoch, the live log and the cost.

    Args:
        heldout: Held-out examples; without any there is no held-out loss.
        batch: Examples of one forward pass for the held-out loss.
        live: Where every row is seen at once, written by one process of several.
    """

    def __init__(self, heldout: Dataset, batch: int, live: LiveLog) -> None:
        self.heldout, self.batch, self.live = heldout, batch, live

    def on_train_begin(self, args: object, state: object, control: object, model: object, **_: object) -> None:
        self.begin, self.paused = state.global_step, 0.0
        self.measurements = 1 + math.ceil(args.num_train_epochs)  # of the held-out loss
        if state.is_world_process_zero:
            self.live.begin(state.log_history)
        if float(state.epoch or 0).is_integer():
            self.log_heldout(model, state)  # A resumed run may lack it: a kill came after the checkpoint.
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self.bar = tqdm(
            total=state.max_steps,
            initial=state.global_step,
            desc="training",
            file=sys.stderr,
            mininterval=5,
            disable=not state.is_world_process_zero,
        )
        self.first = self.last = self.now(state)

    def now(self, state: object) -> tuple[float, int]:
        """Return the seconds on a clock that stops while the held-out loss is computed, and the tokens seen so far."""
        return time.monotonic() - self.paused, state.num_input_tokens_seen

    def on_step_end(self, args: object, state: object, control: object, **_: object) -> None:
        self.bar.update()
        if state.global_step >= state.max_steps:
            control.should_save = False  # The end is saved after its held-out loss: on_epoch_end.

    def on_log(self, args: object, state: object, control: object, logs: dict, **_: object) -> None:
        if "loss" in logs:
            last, self.last = self.last, self.now(state)
            speed = round(throughput(last, self.last), 1)
            self.log(state, state.log_history.pop() | {"tokens_per_second": speed})
            postfix = {"loss": f"{logs['loss']:.3f}", "rate": f"{logs['learning_rate']:.1e}"}
            self.bar.set_postfix(postfix | {"peak": f"{peak_memory():.1f} GB"}, refresh=False)

    def on_epoch_end(self, args: object, state: object, control: object, model: object, **_: object) -> None:
        if ended := state.global_step >= state.max_steps:
            self.log_cost(state)
        self.log_heldout(model, state)
        control.should_save |= ended

    def log_heldout(self, model: object, state: object) -> None:
        """Log the held-out loss, once per step."""
        known = any("heldout_loss" in row for row in state.log_history if row["step"] == state.global_step)
        if len(self.heldout) and not known:
            start = time.monotonic()
            loss = heldout_loss(model, self.heldout, self.batch)
            seconds = time.monotonic() - start
            self.paused += seconds
            row = {"step": state.global_step, "heldout_loss": loss, "heldout_seconds": round(seconds, 3)}
            self.log(state, row)

    def log(self, state: object, row: dict) -> None:
        """Add a row with memory and time to the log that checkpoints keep, and to the live one."""
        state.log_history.append(row)
        row["peak_memory_gb"] = round(max(gather_object([peak_memory()])), 3)
        row["seconds_left"] = self.seconds_left(state)
        row["time"] = round(time.time(), 3)
        if state.is_world_process_zero:
            self.live.add(row)

    def seconds_left(self, state: object) -> float | None:
        """Return how long the remaining steps and held-out losses take, at the speed of those so far.

        Only steps of this process count: it may have another machine than a killed one had. None before the first.
        """
        taken, left = state.global_step - self.begin, state.max_steps - state.global_step
        if left and not taken:
            return None
        steps = left / taken * (self.now(state)[0] - self.first[0]) if left else 0
        heldout = [row.get("heldout_seconds", 0) for row in state.log_history if "heldout_loss" in row]
        measured = (self.measurements - len(heldout)) * heldout[-1] if heldout else 0
        return round(steps + measured, 1)

    def log_cost(self, state: object) -> None:
        """Add time, throughput and memory of the steps taken now to the log.

        Memory is that of the process that had most. All vary from run to run and are not part of the results.
        """
        end = self.now(state)
        row = {"seconds": end[0] - self.first[0], "tokens_per_second": throughput(self.first, end)}
        row["peak_memory_gb"] = max(gather_object([peak_memory()]))
        state.log_history.append({"step": state.global_step} | row)

    def on_train_end(self, args: object, state: object, control: object, **_: object) -> None:
        self.bar.close()
        if state.is_world_process_zero:
            self.live.end()


def throughput(begin: tuple[float, int], end: tuple[float, int]) -> float:
    """Return tokens per second of all processes between two moments, each this process's seconds and tokens so far."""
    return sum(gather_object([end[1] - begin[1]])) / (end[0] - begin[0])


def learned(examples: Dataset) -> tuple[int, float]:
    """Return the reply tokens that carry a label, and the characters that they hold.

    A cut reply counts with the share of its characters that its remaining tokens have of all.
    """
    table = examples.select_columns(["reply_tokens", "reply_cut", "characters"]).to_pandas()
    tokens = table["reply_tokens"] - table["reply_cut"]
    return int(tokens.sum()), float((table["characters"] * tokens / table["reply_tokens"]).sum())


def summary(
    rows: list[dict], examples: Dataset, heldout: Dataset, settings: TrainingSettings, **more: Any
) -> dict[str, dict]:
    """Return the last row of training/<backbone>.jsonl: settings, counts, held-out loss before and after."""
    counts = {"examples": len(examples), "heldout_examples": len(heldout), "steps": rows[-1]["step"]}
    for name, one in (("reply", examples), ("heldout_reply", heldout)):
        counts[f"{name}_tokens"], counts[f"{name}_characters"] = learned(one)
    if losses := [row["heldout_loss"] for row in rows if "heldout_loss" in row]:
        counts |= {"heldout_loss_before": losses[0], "heldout_loss_after": losses[-1]}
        counts |= {"perplexity_before": math.exp(losses[0]), "perplexity_after": math.exp(losses[-1])}
    return {"summary": more | counts | {"settings": settings.hyperparameters()}}


def origin(settings: TrainingSettings, train: list[dict], tokenizer: object, trained: int) -> dict:
    """Return what `summary` says of where a training comes from: weights, data, form of the prompt, who wrote replies.

    Args:
        trained: Number of trained weights.
    """
    return {
        "backbone": settings.backbone,
        "model": files.public(settings.model),
        "deltas": [files.public(name) for name in settings.deltas],
        "data": hashing.sha256(f"{settings.run}/cbt_qa/train.jsonl"),
        "prompt_form": prompt_forms.wording(settings.template, tokenizer),
        "prompts": sorted({row["prompt"] for row in train}),
        "models": sorted({row["model"] for row in train}),
        "trained_weights": trained,
    }


def plan(examples: int, settings: TrainingSettings) -> pd.DataFrame:
    """Return the steps of the paper's training, were its batch the default of its tool, and of this one."""
    share = published.value("text", "train share", "value") / 100
    in_paper = round(published.value("text", "items", "value") * share)
    plans = {"paper, inferred": (in_paper, TrainingSettings()), "here": (examples, settings)}
    rows = [(who, n, chosen.examples_per_step, *chosen.steps(n)) for who, (n, chosen) in plans.items()]
    return pd.DataFrame(rows, columns=["training", "examples", "examples per step", "steps per epoch", "steps"])


def losses(log: list[dict], heldout: Dataset) -> pd.DataFrame:
    """Return the held-out losses before and after training: per reply token, perplexity, per character, in nats.

    Tokens differ between backbones, characters do not: only the last column compares one backbone with another.
    """
    values = [row["heldout_loss"] for row in log if "heldout_loss" in row]
    tokens, characters = learned(heldout)
    rows = [
        (when, value, math.exp(value), value * tokens / characters)
        for when, value in (("before", values[0]), ("after", values[-1]))
    ]
    return pd.DataFrame(rows, columns=["training", "loss per token", "perplexity", "loss per character"])


def curves(log: list[dict], about: dict) -> dict[str, pd.Series]:
    """Return the losses over steps in nats per character, to draw: of the training examples, and held out.

    Args:
        log: The rows of a training.
        about: The training's `summary`, which knows how many characters a token holds.
    """
    found = {}
    for name, key, kind in (("training", "loss", "reply"), ("held out", "heldout_loss", "heldout_reply")):
        if values := {row["step"]: row[key] for row in log if key in row}:
            found[name] = pd.Series(values) * about[f"{kind}_tokens"] / about[f"{kind}_characters"]
    return found


def epochs(about: dict) -> list[int]:
    """Return the steps at which an epoch of a training ends, from its `summary`."""
    per_epoch, last = TrainingSettings(**about["settings"]).steps(about["examples"])
    return list(range(per_epoch, last + 1, per_epoch))


def read(run: str | Path, backbones: Iterable[str]) -> dict[str, Training]:
    """Return log and summary of each training in a run, by backbone; one that was not trained here is left out.

    So is one without the characters of its replies, which notebook 04 did not log before version 0.6; a line says so.
    """
    found = {}
    for backbone in backbones:
        place = files.path(run) / "training" / f"{backbone}.jsonl"
        if place.is_file():
            *log, last = files.read_jsonl(place)
            if "heldout_reply_characters" in last["summary"]:
                found[backbone] = log, last["summary"]
            else:
                print(f"{files.shown(place)} lacks the characters of its replies and is left out; run 04_lora_training")
    return found


def compared(trainings: Mapping[str, Training]) -> pd.DataFrame:
    """Return one row per training (`read`): what was trained on how much, and its held-out loss per character.

    Returns:
        backbone, weights trained in millions, training examples, steps, held-out examples, the held-out loss before
        and after training in nats per character, and how many times as likely a character became: e^(before − after).
    """
    rows = []
    for backbone, (log, about) in trainings.items():
        heldout = curves(log, about).get("held out", pd.Series([math.nan]))
        before, after = heldout.iloc[0], heldout.iloc[-1]
        sizes = about["trained_weights"] / 1e6, about["examples"], about["steps"], about["heldout_examples"]
        rows.append((published.backbone_title(backbone), *sizes, before, after, math.exp(before - after)))
    return pd.DataFrame(rows, columns=COLUMNS)


def drawn(trainings: Mapping[str, Training]) -> tuple[dict[str, dict[str, pd.Series]], dict[str, list[int]]]:
    """Return the curves and the ends of the epochs of trainings (`read`) by their title, as `charts.training` takes."""
    titled = {published.backbone_title(backbone): training for backbone, training in trainings.items()}
    return {name: curves(*one) for name, one in titled.items()}, {name: epochs(one[1]) for name, one in titled.items()}


def in_words(log: list[dict], about: dict, weights: int) -> list[str]:
    """Return what a training did, in sentences.

    Args:
        weights: Number of the backbone's weights.
    """
    trained = (
        f"Training changed {about['trained_weights']:,} weights, while the backbone has {weights:,}, in "
        f"{about['steps']:,} steps on {about['examples']:,} examples."
    )
    heldout = curves(log, about).get("held out")
    if heldout is None:
        return ["No example was held out, so no loss tells what was learned.", trained]
    before, after = heldout.iloc[0], heldout.iloc[-1]
    how = "fell" if after < before else "rose"
    lowest = int(heldout.to_numpy().argmin())
    last = "after the last epoch, so more epochs might lower it further"
    least = last if lowest == len(heldout) - 1 else f"after epoch {lowest} of {len(heldout) - 1}"
    return [
        f"The loss of {about['heldout_examples']:,} held-out replies {how} from {before:.2f} to {after:.2f} nats per "
        f"character: on average, a character became {math.exp(before - after):.2g} times as likely.",
        f"It was lowest {least}.",
        trained,
    ]
