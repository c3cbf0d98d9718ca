"""What one sees of a training: a line while it runs, the held-out loss after each epoch, and what it took."""

import resource
import sys
import time

import torch
from accelerate.utils import gather_object
from tqdm import tqdm
from transformers.trainer_callback import TrainerCallback

from cbtllm_utils.finetune.trainer import heldout_loss


def peak_memory() -> float:
    """The most memory that the GPU held for this process so far, or that the process had where there is none, in GB."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


class Watch(TrainerCallback):
    """One line on stderr while training runs, and the held-out loss after each epoch."""

    def __init__(self, heldout: list[dict], batch: int, tokens: int) -> None:
        self.heldout, self.batch, self.tokens, self.start = heldout, batch, tokens, time.monotonic()

    def on_train_begin(self, args: object, state: object, control: object, model: object, **named: object) -> None:
        if float(state.epoch or 0).is_integer() or state.global_step >= state.max_steps:
            self.note(model, state)  # before training; or a checkpoint came to disk and its note did not
        self.begin = state.global_step
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
        self.start = time.monotonic()

    def on_step_end(self, args: object, state: object, control: object, **named: object) -> None:
        self.bar.update()
        if state.global_step >= state.max_steps:
            control.should_save = False  # the end is kept with what is noted of it: one without would pass for whole

    def on_log(self, args: object, state: object, control: object, logs: dict, **named: object) -> None:
        if "loss" in logs:
            shown = {"loss": f"{logs['loss']:.3f}", "rate": f"{logs['learning_rate']:.1e}"}
            self.bar.set_postfix(shown | {"peak": f"{peak_memory():.1f} GB"}, refresh=False)

    def on_epoch_end(self, args: object, state: object, control: object, model: object, **named: object) -> None:
        if ended := state.global_step >= state.max_steps:
            self.cost(args, state)
        self.note(model, state)
        control.should_save |= ended  # the end is kept: the same training ends at once

    def note(self, model: object, state: object) -> None:
        """The held-out loss, once a step, into the log that checkpoints keep."""
        noted = any("heldout_loss" in row for row in state.log_history if row["step"] == state.global_step)
        if self.heldout and not noted:
            start = time.monotonic()
            loss = heldout_loss(model, self.heldout, self.batch)
            state.log_history.append({"step": state.global_step, "heldout_loss": loss})
            self.start += time.monotonic() - start  # it is no part of what training takes

    def cost(self, args: object, state: object) -> None:
        """Seconds, speed (tokens without padding, of all processes) and memory (of the process that had most) of the
        steps taken now, into the log: no part of a result, since they vary."""
        seconds, share = time.monotonic() - self.start, 1 - self.begin / state.max_steps
        speed = self.tokens * args.num_train_epochs * share / seconds
        peak = max(gather_object([peak_memory()]))
        row = {"seconds": seconds, "tokens_per_second": speed, "peak_memory_gb": peak}
        state.log_history.append({"step": state.global_step} | row)

    def on_train_end(self, args: object, state: object, control: object, **named: object) -> None:
        self.bar.close()
