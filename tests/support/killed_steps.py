"""The steps that the kill tests run in processes of their own, at the smallest size; imported once, forked often."""

import functools

import torch
from jury import Jury
from tiny import Bytes, llama

from cbtllm_utils import files
from cbtllm_utils.evaluate import jury_zh, metrics
from cbtllm_utils.finetune import adapters, training
from cbtllm_utils.finetune import examples as tokenized
from cbtllm_utils.finetune.settings import TrainingSettings
from cbtllm_utils.generate import answering

torch.set_num_threads(1)
LOADED = (Jury, jury_zh)  # what scoring loads when it begins
PROMPTS = [f"{'我睡不着' * (i % 7)}{i}" for i in range(40)]
RECORDED = files.read_jsonl("data/sample/recorded_replies.jsonl")[:41]
REPLIES = ["".join(text for _, text in row["sections"])[: 60 + 9 * i] for i, row in enumerate(RECORDED)]


def train(folder):
    """Step 04: sixteen steps, a checkpoint every two of them; the log and the adapter."""
    row = {"questionID": 1, "question": "怎么办", "description": "我睡不着", "reply": "你好。"}
    rows = [row | {"description": "我" * (1 + i % 5), "reply": "你好。" * (1 + i % 3)} for i in range(16)]
    examples = tokenized.encode(rows, Bytes(), "triad-v0.2.0", 400)
    values = {"rank": 4, "learning_rate": 1e-2, "batch": 2, "accumulation": 1, "cutoff": 400, "epochs": 2}
    values |= {"template": "triad-v0.2.0", "precision": "fp32", "targets": "all-linear", "logging_steps": 1}
    settings = TrainingSettings(checkpoint_steps=2, model="backbones/tiny", **values)
    model = adapters.fresh(llama(), settings)
    log = training.train(model, examples, examples.select(range(4)), settings, folder / "work")
    with files.atomic(folder / "made") as place:
        model.save_pretrained(place, save_embedding_layers=False)  # else peft asks the hub
        files.write_json(place / "log.json", log)


def answer(folder):
    """Step 05: forty replies, four at a time."""
    decoding = {"max_new_tokens": 24, "temperature": 0.95, "top_p": 0.7, "top_k": 50, "seed": 1, "batch_size": 4}
    rows = [{"questionID": i} for i in range(len(PROMPTS))]
    model = llama(initializer_range=0.4)
    found = answering.answer(model, Bytes(), rows, PROMPTS, "tiny", folder / "responses", **decoding)
    files.write_json(folder / "made" / "answers.json", found)


def score(folder, models):
    """Step 06: BERTScore and BLEURT of forty pairs."""
    places = {
        "bertscore_model": models / "bert-zh-tiny",
        "bertscore_layer": 2,
        "bleurt_model": models / "bleurt-zh-tiny",
    }
    scorers = metrics.load(**places, cache=folder / "responses")
    found = metrics.evaluate(scorers, REPLIES[1:], REPLIES[:-1]).items
    files.write_json(folder / "made" / "items.json", found[["bertscore", "bleurt"]].to_numpy().tolist())


def steps(models):
    """The steps that run in one process, by name."""
    return {"04": train, "05": answer, "06": functools.partial(score, models=models)}
