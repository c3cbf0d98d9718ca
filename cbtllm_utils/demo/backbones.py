"""Stand-ins for the four backbones: tiny models trained on the sample's posts and forum answers, in original files.

They let every later notebook do its real work in minutes. They know little Chinese and nothing of CBT: the recorded
CBT replies are never shown to them, so that what they learn of CBT comes from the LoRA training of notebook 04.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedModel

from cbtllm_utils import files
from cbtllm_utils.demo import formats, training, vocabularies
from cbtllm_utils.demo import scorers as demo_scorers
from cbtllm_utils.demo import texts as demo_texts
from cbtllm_utils.generate import workers
from cbtllm_utils.models import backbones, tokenizers

Tick = Callable[[], None]
LLAMA, CHINESE, ALPACA = "llama-7b", "chinese-llama-lora-7b", "chinese-alpaca-lora-7b"
BACKBONES = {  # the key in the profiles -> folder of the weights, folders of the deltas
    "llama-chinese-7b": (LLAMA, (CHINESE,)),
    "alpaca-chinese-7b": (LLAMA, (CHINESE, ALPACA)),
    "qwen-7b": ("qwen-7b", ()),
    "baichuan-7b": ("baichuan-7b", ()),
}
SCORERS = ("bert-zh-tiny", "bleurt-zh-tiny")
INSTRUCTED = "### Instruction:\n{post}\n\n### Response:\n{answer}"  # Alpaca's form, without its opening sentence
ALPHA = 2.0  # alpha / rank of the deltas
COVERAGE = 0.98  # of the characters by pieces of their own, sentencepiece's least; the rarer ones are spelt in bytes


@dataclass(frozen=True)
class Scale:
    """How large the stand-ins are and how long they train; `size` holds the keys of a LLaMA configuration."""

    size: dict[str, int]
    vocabulary: int  # tokens of LLaMA before Chinese-LLaMA adds its pieces
    wider_vocabulary: int  # about as many with them, and the tokens of Qwen and Baichuan
    steps: dict[str, int]  # by folder of `BACKBONES`
    batch: int
    length: int
    learning_rate: float
    rank: int  # of the two deltas
    seed: int


def documents(texts: Sequence[str], tokenizer: object) -> list[list[int]]:
    """The ids of each text, its end of text included."""
    return [[*tokenizer.encode(text), tokenizer.eos_token_id] for text in texts]


def learn(model: PreTrainedModel, texts: Sequence[str], tokenizer: object, scale: Scale, name: str, tick: Tick) -> None:
    """Nothing, after the model was trained on the texts for as many steps as the scale gives to `name`."""
    options = {"batch": scale.batch, "length": scale.length, "learning_rate": scale.learning_rate, "seed": scale.seed}
    training.train(model, documents(texts, tokenizer), steps=scale.steps[name], tick=tick, **options)


def qwen(place: Path, known: demo_texts.Corpus, scale: Scale, tick: Tick) -> None:
    """`qwen-7b`: config.json, model.safetensors with c_attn, w1, w2 and c_proj, qwen.tiktoken."""
    folder = place / "qwen-7b"
    folder.mkdir()
    (folder / "qwen.tiktoken").write_bytes(vocabularies.ranks(known.texts(), scale.wider_vocabulary, COVERAGE))
    pretrain("qwen", folder, known, scale, tick)


def baichuan(place: Path, known: demo_texts.Corpus, scale: Scale, tick: Tick) -> None:
    """`baichuan-7b`: config.json, pytorch_model.bin with W_pack, tokenizer.model that puts no space first."""
    folder = place / "baichuan-7b"
    model = vocabularies.pieces(known.texts(), scale.wider_vocabulary, COVERAGE, prefix_space=False)
    formats.write_pieces(folder, model, begin=False)
    pretrain("baichuan", folder, known, scale, tick)


def llama(place: Path, known: demo_texts.Corpus, scale: Scale, tick: Tick) -> None:
    """`llama-7b` in half precision, and on it the deltas `chinese-llama-lora-7b` and `chinese-alpaca-lora-7b`."""
    base = vocabularies.pieces(known.texts(), scale.vocabulary, COVERAGE, prefix_space=True)
    formats.write_pieces(place / LLAMA, base, begin=True)
    pretrain("llama", place / LLAMA, known, scale, tick)
    larger = vocabularies.pieces(known.texts(), scale.wider_vocabulary, 0.9995, prefix_space=True)
    more = vocabularies.added_pieces(base, larger)
    formats.write_pieces(place / CHINESE, more, begin=True)
    adapt(place, CHINESE, [], known.texts(), scale, tick)
    size = len(tokenizers.load_tokenizer(place / CHINESE))
    formats.write_pieces(place / ALPACA, more, begin=True, padding=size)
    told = [INSTRUCTED.format(post=post, answer=answer) for post, answer in known.training]
    adapt(place, ALPACA, [CHINESE], told, scale, tick)


def pretrain(family: str, folder: Path, known: demo_texts.Corpus, scale: Scale, tick: Tick) -> None:
    """Nothing, after a model was trained with the tokenizer in `folder` and written there as its family's files."""
    tokenizer = tokenizers.load_tokenizer(folder)
    model, config = formats.fresh(family, scale.size, len(tokenizer), scale.seed)
    learn(model, known.texts(), tokenizer, scale, folder.name, tick)
    files.write_json(folder / "config.json", config)
    formats.write_weights(formats.tensors(model, family), folder, family)


def adapt(place: Path, name: str, before: list[str], texts: list[str], scale: Scale, tick: Tick) -> None:
    """Nothing, after a delta was trained on LLaMA and the deltas `before` it, and written as the published ones are.

    LoRA on every linear layer; embeddings and lm_head are trained whole, since the vocabulary has grown.
    """
    model = backbones.load_model(place / LLAMA, [place / other for other in before], dtype=torch.float32)
    known, wider = (tokenizers.load_tokenizer(place / n) for n in ((before or [LLAMA])[-1], name))
    widen(model, known, wider)
    torch.manual_seed(scale.seed)
    options = {"r": scale.rank, "lora_alpha": ALPHA * scale.rank, "lora_dropout": 0.0, "target_modules": "all-linear"}
    with backbones.quiet():
        adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **options))
    model.model.embed_tokens.weight.requires_grad_(True)
    learn(model, texts, wider, scale, name, tick)
    formats.write_delta(adapted, place / name)


def widen(model: PreTrainedModel, known: object, wider: object) -> None:
    """Nothing; both embeddings have a row for each new piece, the mean of the pieces that spelt it before."""
    rows = model.model.embed_tokens.weight.data
    spelt = [known.encode(wider.decode([i]), add_special_tokens=False) for i in range(len(known), len(wider))]
    added = [rows[ids or slice(None)].mean(0, keepdim=True) for ids in spelt]
    model.resize_token_embeddings(len(wider), mean_resizing=False)
    model.model.embed_tokens.weight.data = torch.cat([rows, *added])
    model.lm_head.weight = model.model.embed_tokens.weight


def scorers(place: Path, known: demo_texts.Corpus, steps: tuple[int, int], seed: int, tick: Tick) -> None:
    """Nothing, after `bert-zh-tiny` and, on it, `bleurt-zh-tiny` were trained so many steps; a tick each at the end."""
    texts = [text for pair in known.training for text in pair]
    encoder = demo_scorers.encoder(texts, place / SCORERS[0], steps=steps[0], seed=seed)
    demo_scorers.bleurt(encoder, texts, place / SCORERS[1], steps=steps[1], seed=seed)
    for _ in range(sum(steps)):
        tick()


def build(
    folder: str | Path, known: demo_texts.Corpus, scale: Scale, scorer_steps: tuple[int, int], processes: int
) -> Path:
    """The folder, after all backbones and scorers were made there side by side; it appears whole or not at all."""
    with files.atomic(folder) as place:
        place.mkdir()
        options = {"place": place, "known": known}
        jobs = {LLAMA: functools.partial(llama, scale=scale, **options)}  # the longest first: it trains three times
        jobs["scorers"] = functools.partial(scorers, steps=scorer_steps, seed=scale.seed, **options)
        jobs["qwen-7b"] = functools.partial(qwen, scale=scale, **options)
        jobs["baichuan-7b"] = functools.partial(baichuan, scale=scale, **options)
        workers.run(jobs, sum(scale.steps.values()) + sum(scorer_steps), processes)
    return files.path(folder)


def load(folder: str | Path, backbone: str) -> tuple[PreTrainedModel, object]:
    """One of the `BACKBONES` in a folder that `build` made, and its tokenizer, as the later notebooks load them."""
    model, deltas = BACKBONES[backbone]
    places = [files.path(folder) / name for name in (model, *deltas)]
    return backbones.load_model(places[0], places[1:], dtype=torch.float32), tokenizers.load_tokenizer(places[-1])


def measures(model: PreTrainedModel, tokenizer: object, texts: Sequence[str]) -> dict[str, float]:
    """What one backbone is: parameters, vocabulary, context; and on texts it has not seen, its tokens and losses.

    Losses are in nats. Tokens differ between backbones and characters do not: the loss a character compares them.
    """
    ids = documents(texts, tokenizer)
    rate = sum(map(len, ids)) / sum(map(len, texts))
    loss = training.loss(model, ids)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "vocabulary": len(tokenizer),
        "context": model.config.max_position_embeddings,
        "tokens a character": rate,
        "loss a token": loss,
        "loss a character": loss * rate,
    }
