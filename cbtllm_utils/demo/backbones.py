"""Make tiny models in the file formats of the four backbones, trained on the sample's posts and forum answers.

With them every later notebook does its real work in minutes. They know little Chinese and nothing of CBT: the recorded
CBT replies are never shown to them, so what they learn of CBT comes from the LoRA training of notebook 04.
"""

import multiprocessing
import os
import random
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from peft import LoraConfig, get_peft_model
from tqdm import tqdm
from transformers import PreTrainedModel

from cbtllm_utils import files, published
from cbtllm_utils.data import psyqa, splits
from cbtllm_utils.demo import formats, scorers, training
from cbtllm_utils.demo.settings import ALPACA, BAICHUAN, CHINESE, LLAMA, QWEN, DemoSettings
from cbtllm_utils.generate import answering
from cbtllm_utils.models import backbones, tokenizers

BACKBONES = {  # the key in the profiles -> folder of the weights, folders of the deltas
    "llama-chinese-7b": (LLAMA, (CHINESE,)),
    "alpaca-chinese-7b": (LLAMA, (CHINESE, ALPACA)),
    "qwen-7b": (QWEN, ()),
    "baichuan-7b": (BAICHUAN, ()),
}
SCORERS = ("bert-zh-tiny", "bleurt-zh-tiny")
INSTRUCTED = "### Instruction:\n{post}\n\n### Response:\n{answer}"  # Alpaca's form, without its opening sentence
ALPHA = 2.0  # alpha / rank of the deltas
COVERAGE = 0.98  # share of characters with a piece of their own, sentencepiece's least; rarer ones are spelled in bytes


@dataclass(frozen=True)
class Corpus:
    """Pairs of post and forum answer: what the tiny models may see, and what they are tested on."""

    training: list[tuple[str, str]]
    heldout: list[tuple[str, str]]

    def texts(self, split: str = "training") -> list[str]:
        """Return each post with its answer as one text."""
        return [f"{post}\n{answer}" for post, answer in getattr(self, split)]


def corpus(path: str | Path, heldout: int, seed: int) -> Corpus:
    """Return the posts of a file, each with its first answer, shuffled; the first `heldout` of them for the test."""
    found, _ = psyqa.read(path)
    pairs = [(f"{q.question}\n{q.description}", q.answers[0]) for q in found if q.answers]
    if len(pairs) <= heldout:
        raise files.InputError(
            f"{files.shown(path)}: {len(pairs)} answered posts; more than heldout = {heldout} are needed"
        )
    random.Random(seed).shuffle(pairs)
    return Corpus(pairs[heldout:], pairs[:heldout])


def tests_among(known: Corpus, chosen: DemoSettings) -> str:
    """Return in words how many posts of the test set, as notebook 02 draws it by default, are among the texts.

    Made before that notebook runs: where it leaves out posts or has another seed, the count is another.
    """
    posts, _ = psyqa.read(chosen.questions)
    passages = [f"{post.question}\n{post.description}" for post in posts]
    drawn = splits.assign([post.questionID for post in posts], passages)
    test = {text for text, split in zip(passages, drawn["split"], strict=True) if split == "test"}
    read = len(test & {post for post, _ in known.training})
    return f"{read} of the {len(test)} test posts are among the training texts; no CBT reply is"


def build(folder: str | Path, known: Corpus, chosen: DemoSettings) -> Path:
    """Make all backbones and scorers side by side, each on one core, in a folder that appears whole or not at all."""
    spawn = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    with (
        files.atomic(folder) as place,
        ProcessPoolExecutor(chosen.processes, mp_context=spawn, initializer=start_worker) as pool,
    ):
        place.mkdir()
        jobs = (make_llama, make_scorers, make_qwen, make_baichuan)  # the longest first: LLaMA trains three times
        try:
            done = as_completed([pool.submit(job, place, known, chosen) for job in jobs])
            for job in tqdm(done, total=len(jobs), desc="models", file=sys.stderr):
                job.result()
        except BaseException as error:
            for process in multiprocessing.active_children():
                process.terminate()
            if isinstance(error, BrokenProcessPool):
                raise RuntimeError(
                    "a training process was killed, perhaps because memory ran out; try processes = 1"
                ) from error
            raise
    return files.path(folder)


def start_worker() -> None:
    """Use one thread, ignore SIGINT (the parent terminates workers), and end when the parent is killed."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def make_llama(place: Path, known: Corpus, chosen: DemoSettings) -> None:
    """Write `llama-7b` in half precision, and on it the deltas `chinese-llama-lora-7b` and `chinese-alpaca-lora-7b`."""
    base = formats.pieces(known.texts(), chosen.vocabulary, COVERAGE, prefix_space=True)
    formats.write_pieces(place / LLAMA, base, begin=True)
    pretrain("llama", place / LLAMA, known, chosen)
    larger = formats.pieces(known.texts(), chosen.wider_vocabulary, 0.9995, prefix_space=True)
    extended = formats.added_pieces(base, larger)
    formats.write_pieces(place / CHINESE, extended, begin=True)
    adapt(place, CHINESE, [], known.texts(), chosen)
    size = len(tokenizers.load_tokenizer(place / CHINESE))
    formats.write_pieces(place / ALPACA, extended, begin=True, padding=size)
    instructed = [INSTRUCTED.format(post=post, answer=answer) for post, answer in known.training]
    adapt(place, ALPACA, [CHINESE], instructed, chosen)


def make_qwen(place: Path, known: Corpus, chosen: DemoSettings) -> None:
    """Write `qwen-7b`: config.json, model.safetensors with c_attn, w1, w2 and c_proj, qwen.tiktoken."""
    (place / QWEN).mkdir()
    (place / QWEN / "qwen.tiktoken").write_bytes(formats.ranks(known.texts(), chosen.wider_vocabulary, COVERAGE))
    pretrain("qwen", place / QWEN, known, chosen)


def make_baichuan(place: Path, known: Corpus, chosen: DemoSettings) -> None:
    """Write `baichuan-7b`: config.json, pytorch_model.bin with W_pack, tokenizer.model without a prefixed space."""
    model = formats.pieces(known.texts(), chosen.wider_vocabulary, COVERAGE, prefix_space=False)
    formats.write_pieces(place / BAICHUAN, model, begin=False)
    pretrain("baichuan", place / BAICHUAN, known, chosen)


def make_scorers(place: Path, known: Corpus, chosen: DemoSettings) -> None:
    """Write `bert-zh-tiny` and, trained on it, `bleurt-zh-tiny`."""
    texts = [text for pair in known.training for text in pair]
    steps = chosen.scorer_steps
    encoder = scorers.encoder(texts, place / SCORERS[0], steps=steps[0], seed=chosen.seed)
    scorers.bleurt(encoder, texts, place / SCORERS[1], steps=steps[1], seed=chosen.seed)


def pretrain(family: str, folder: Path, known: Corpus, chosen: DemoSettings) -> None:
    """Train a model with the tokenizer in `folder` and write it there as its family's files."""
    tokenizer = tokenizers.load_tokenizer(folder)
    model, config = formats.fresh(family, chosen.size, len(tokenizer), chosen.seed)
    train(model, known.texts(), tokenizer, chosen, folder.name)
    files.write_json(folder / "config.json", config)
    formats.write_weights(model, folder, family)


def adapt(place: Path, name: str, before: list[str], texts: list[str], chosen: DemoSettings) -> None:
    """Train a delta on LLaMA with the deltas `before` it and write it as the published ones are.

    LoRA on every linear layer; embeddings and lm_head are trained whole, since the vocabulary has grown.
    """
    model = backbones.load_model(place / LLAMA, [place / other for other in before], dtype=torch.float32)
    known, wider = (tokenizers.load_tokenizer(place / n) for n in ((before or [LLAMA])[-1], name))
    widen(model, known, wider)
    torch.manual_seed(chosen.seed)
    options = {"r": chosen.rank, "lora_alpha": ALPHA * chosen.rank, "lora_dropout": 0.0, "target_modules": "all-linear"}
    with backbones.quiet():
        adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **options))
    model.model.embed_tokens.weight.requires_grad_(True)
    train(model, texts, wider, chosen, name)
    formats.write_delta(adapted, place / name)


def widen(model: PreTrainedModel, known: object, wider: object) -> None:
    """Give both embeddings a row for each new piece: the mean of the rows of the pieces that spelled it before."""
    rows = model.model.embed_tokens.weight.data
    spelled = [known.encode(wider.decode([i]), add_special_tokens=False) for i in range(len(known), len(wider))]
    added = [rows[ids or slice(None)].mean(0, keepdim=True) for ids in spelled]
    model.resize_token_embeddings(len(wider), mean_resizing=False)
    model.model.embed_tokens.weight.data = torch.cat([rows, *added])
    model.lm_head.weight = model.model.embed_tokens.weight


def train(model: PreTrainedModel, texts: Sequence[str], tokenizer: object, chosen: DemoSettings, name: str) -> None:
    """Train a model on texts for as many steps as the settings give to the folder `name`."""
    options = {"batch": chosen.batch, "length": chosen.length}
    options |= {"learning_rate": chosen.learning_rate, "seed": chosen.seed}
    training.train(model, documents(texts, tokenizer), steps=chosen.steps[name], **options)


def documents(texts: Sequence[str], tokenizer: object) -> list[list[int]]:
    """Return the ids of each text, with its end of text."""
    return [[*tokenizer.encode(text), tokenizer.eos_token_id] for text in texts]


def load(folder: str | Path, backbone: str) -> tuple[PreTrainedModel, object]:
    """Return one of the `BACKBONES` in a folder that `build` made, and its tokenizer, as later notebooks load them."""
    model, deltas = BACKBONES[backbone]
    places = [files.path(folder) / name for name in (model, *deltas)]
    return backbones.load_model(places[0], places[1:], dtype=torch.float32), tokenizers.load_tokenizer(places[-1])


def measures(model: PreTrainedModel, tokenizer: object, texts: Sequence[str]) -> dict[str, float]:
    """Return parameters, vocabulary, context, and on held-out texts the tokens per character and losses in nats.

    Tokens differ between backbones and characters do not: the loss per character compares them.
    """
    ids = documents(texts, tokenizer)
    rate = sum(map(len, ids)) / sum(map(len, texts))
    loss = training.loss(model, ids)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "vocabulary": len(tokenizer),
        "context": model.config.max_position_embeddings,
        "tokens per character": rate,
        "loss per token": loss,
        "loss per character": loss * rate,
    }


def sizes(folder: str | Path) -> pd.DataFrame:
    """Return each folder that `build` made with its size in MB."""
    made = sorted(files.path(folder).iterdir())
    size = [sum(file.stat().st_size for file in one.rglob("*")) / 1e6 for one in made]
    return pd.DataFrame({"folder": [one.name for one in made], "MB": size})


def continuations(loaded: Mapping[str, tuple], post: str, seed: int) -> pd.DataFrame:
    """Let each model continue a post by up to 60 tokens drawn at random; the post itself is the first row."""
    drawn = {"max_new_tokens": 60, "temperature": 0.8, "top_p": 0.9, "top_k": 0, "seed": seed, "batch_size": 1}
    rows = [("the post", post)]
    for name, (model, tokenizer) in loaded.items():
        rows.append((published.backbone_title(name), answering.generate(model, tokenizer, [post], **drawn)[0]["reply"]))
    return pd.DataFrame(rows, columns=["by", "text"])
