"""LLaMA-Factory's side of `benchmarks.training`, run by the Python of its own environment: FOLDER ORDER."""

import importlib.machinery
import json
import resource
import sys
import time
import types
from pathlib import Path

import torch
from transformers import TrainerCallback

sys.modules["torchaudio"] = types.ModuleType("torchaudio")  # LLaMA-Factory imports it even for text.
sys.modules["torchaudio"].__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
from llamafactory.train.tuner import run_exp  # noqa: E402

SETTINGS = {  # those of benchmarks/training.py under LLaMA-Factory's names
    "stage": "sft",
    "do_train": True,
    "finetuning_type": "lora",
    "lora_rank": 16,
    "lora_alpha": 32,
    "lora_dropout": 0.0,
    "lora_target": "all",
    "learning_rate": 1e-2,
    "lr_scheduler_type": "cosine",
    "num_train_epochs": 1,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 1,
    "disable_gradient_checkpointing": True,
    "logging_steps": 5,
    "save_strategy": "no",
    "seed": 42,
    "use_cpu": True,
    "report_to": "none",
    "template": "default",
    "dataset": "none",  # LLaMA-Factory wants a name; tokenized_path decides.
}


class Cost(TrainerCallback):
    """Print CPU seconds between the first and the last step, peak memory in MiB, and the mean loss."""

    def on_train_begin(self, args: object, state: object, control: object, **_: object) -> None:
        self.start = time.process_time()

    def on_train_end(self, args: object, state: object, control: object, **_: object) -> None:
        cpu = time.process_time() - self.start
        losses = [row["loss"] for row in state.log_history if "loss" in row]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        self.found = {"cpu": cpu, "peak": peak, "loss": sum(losses) / len(losses)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, order, cost = Path(sys.argv[1]), sys.argv[2], Cost()
    places = {"model_name_or_path": str(folder / "model"), "tokenized_path": str(folder / "theirs")}
    places |= {"output_dir": str(folder / f"output-{order}"), "overwrite_output_dir": True}
    run_exp(SETTINGS | places | {"train_sampling_strategy": order}, callbacks=[cost])
    print(json.dumps(cost.found))
