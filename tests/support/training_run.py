"""A LoRA training of the tiny model on a few examples, for the tests of several rooms."""

from pathlib import Path

import torch
from tiny import Bytes, llama

from cbtllm_utils.finetune import adapters, examples, training, training_log
from cbtllm_utils.finetune.settings import TrainingSettings

torch.set_num_threads(1)  # so small a model is slower on several threads
ROW = {"questionID": 1, "question": "怎么办", "description": "我睡不着", "reply": "你好。"}


def settings(**values):
    base = {"template": "triad-v0.2.0", "rank": 4, "learning_rate": 1e-2, "batch": 2, "accumulation": 2, "cutoff": 400}
    base |= {"precision": "fp32", "gradient_checkpointing": False, "targets": "all-linear", "logging_steps": 1}
    return TrainingSettings(**{"model": "backbones/tiny"} | base | values)


def encoded(number=14):
    """So many examples of 106 to 130 tokens."""
    rows = [
        ROW | {"questionID": i, "description": "我" * (1 + i % 5), "reply": "你好。" * (1 + i % 3)}
        for i in range(number)
    ]
    return examples.encode(rows, Bytes(), "triad-v0.2.0", 400)


def trained(folder, **values):
    """Train for 3 epochs of 4 steps; return model and log."""
    wanted = settings(**values)
    model = adapters.fresh(llama(), wanted)
    work = Path(folder) / "-".join(["work", *map(str, values.values())])
    return model, training.train(model, encoded(), encoded(4), wanted, work)


def losses_of(log):
    return [row["loss"] for row in log if "loss" in row]


def summary(log, **values):
    more = {"backbone": "qwen-7b", "model": "backbones/qwen-7b", "deltas": ["backbones/d"], "data": "abc"}
    more |= {"prompts": ["0123"], "models": ["recorded"]}
    return training_log.summary(log, encoded(), encoded(4), settings(**values), **more)["summary"]


def written(model, log, folder):
    return adapters.write(model, folder, summary(log), "made for a test")
