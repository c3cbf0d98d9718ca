"""LoRA training through `training.train`, as notebook 04 calls it, beside a bare PyTorch loop and plain Trainer."""

import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.table import Row
from cbtllm_utils import files
from cbtllm_utils.finetune import adapters, settings, trainer, training
from cbtllm_utils.models import prompt_forms

ITEMS, VOCABULARY, CHARACTERS = 240, 4000, 1.3  # of a token: what a tokenizer of so many makes of the sample
SETTINGS = settings.Settings(
    rank=16,
    dropout=0.0,
    targets="all-linear",
    learning_rate=1e-2,
    epochs=1,
    batch=4,
    accumulation=1,
    precision="fp32",
    gradient_checkpointing=False,
)


def model() -> object:
    """A tiny LLaMA, as wide as the stand-ins and twice as deep, with a fresh adapter; its weights do not matter."""
    import torch
    import transformers

    torch.manual_seed(0)
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 128, "intermediate_size": 344, "num_hidden_layers": 4}
    config = transformers.LlamaConfig(num_attention_heads=4, **sizes)
    return adapters.fresh(transformers.LlamaForCausalLM(config), SETTINGS, "backbones/tiny").train()


def examples() -> list[dict]:
    """Random tokens, of the lengths that the sample's prompts and replies have."""
    posts = {post["questionID"]: post for post in files.read_json("data/sample/psyqa_sample.json")}
    draw, found = random.Random(0), []
    for row in files.read_jsonl("data/sample/recorded_replies.jsonl")[:ITEMS]:
        asked = prompt_forms.prompt(posts[row["questionID"]], "card")
        said = "".join(text for _, text in row["sections"])
        lengths = [round(len(text) / CHARACTERS) for text in (asked, said)]
        ids = [draw.randrange(VOCABULARY) for _ in range(sum(lengths))]
        found.append({"input_ids": ids, "labels": [prompt_forms.IGNORED] * lengths[0] + ids[lengths[0] :]})
    return found


def ours(rows: list[dict]) -> None:
    """Through `training.train`."""
    with tempfile.TemporaryDirectory() as folder:
        training.train(model(), rows, [], SETTINGS, Path(folder))


def bare(rows: list[dict]) -> None:
    """The same batches in the same order, the same sums, without a Trainer, a log or a checkpoint."""
    import torch

    net = model()
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    update = torch.optim.AdamW(trained, lr=SETTINGS.learning_rate, weight_decay=0.0)
    total = settings.steps(len(rows), SETTINGS)[1]
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(update, total)
    order = list(trainer.Grouped(SETTINGS.items, [len(e["input_ids"]) for e in rows], SETTINGS.seed, lambda: 0))
    for start in range(0, len(order), SETTINGS.batch):
        batch = trainer.collate([rows[place] for place in order[start : start + SETTINGS.batch]])
        del batch["items"]
        net(**batch, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, SETTINGS.max_gradient)
        update.step()
        decay.step()
        update.zero_grad()


def default(rows: list[dict]) -> None:
    """Trainer with its usual collator: batches in random order, padded, with a mask, logits everywhere."""
    import torch
    import transformers

    def collate(batch: list[dict]) -> dict:
        ids, labels = ([torch.tensor(e[name]) for e in batch] for name in ("input_ids", "labels"))
        padded = torch.nn.utils.rnn.pad_sequence
        mask = padded([torch.ones_like(one) for one in ids], batch_first=True)
        labels = padded(labels, batch_first=True, padding_value=prompt_forms.IGNORED)
        return {"input_ids": padded(ids, batch_first=True), "attention_mask": mask, "labels": labels}

    with tempfile.TemporaryDirectory() as folder:
        given = training.arguments(SETTINGS, Path(folder), logging_steps=10, checkpoint_steps=0)
        made = transformers.Trainer(model=model(), args=given, train_dataset=rows, data_collator=collate)
        made.remove_callback(transformers.trainer_callback.PrinterCallback)
        made.train()


def seconds(work: Callable, rows: list[dict]) -> float:
    """The seconds that the processor worked on one thread, which others' work disturbs least."""
    start = time.process_time()
    work(rows)
    return time.process_time() - start


def rows() -> Iterator[Row]:
    """Thousands of tokens a second would say the same: each side sees the same tokens once."""
    import torch

    torch.set_num_threads(1)
    found = examples()
    tokens = sum(len(example["input_ids"]) for example in found)
    took = {}
    for work in (ours, bare, default):
        work(found[:8])  # what is slow the first time
        took[work] = seconds(work, found)
    mine, loop, usual = took.values()
    name = f"LoRA on {ITEMS} items of the sample's lengths ({tokens / mine / 1e3:.1f}k tokens/s), batches of 4"
    yield Row(name, mine, "bare PyTorch loop", loop, "≥ 0.9 of its speed", loop >= 0.9 * mine)
    yield Row("… the same", mine, "Trainer, default padding", usual, "≥ 1.3 x", usual >= 1.3 * mine)
