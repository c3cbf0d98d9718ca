"""BLEURT by transformers' own classes, from the published PyTorch conversions: no TensorFlow, no remote code."""

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
import transformers

from cbtllm_utils import files
from cbtllm_utils.evaluate import score_cache

PIECES = ("spm.model", "sent_piece.model")  # BLEURT-20's vocabulary by its two names; the older ones have vocab.txt
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
SIZES = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act")
SIZES += ("max_position_embeddings", "type_vocab_size", "layer_norm_eps")
BUFFERS = ("position_ids", ".token_type_ids")  # not weights
LONGEST = 512  # tokens of a pair with its three marks; checkpoints named …-128 were trained with, and take, 128


class Scorer:
    """A BLEURT checkpoint in memory (Sellam et al. 2020; Pu et al. 2021 for BLEURT-20, a RemBERT).

    `cut` counts the pairs of the last call that were longer than `longest` tokens. The model reads both texts together,
    so that a reference can be tokenized once, but not encoded once.

    Args:
        folder: Holds config.json, model.safetensors or pytorch_model.bin, and the vocabulary.
        cache: A file in which scores outlive the process.
    """

    def __init__(self, folder: str | Path, batch_size: int = 16, cache: str | Path | None = None) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = load(Path(folder)).eval().to(self.device)
        self.encode, self.marks = vocabulary(Path(folder))
        self.longest = min(longest(folder), self.model.config.max_position_embeddings)
        self.batch_size, self.cut = batch_size, 0
        key = score_cache.key(folder, metric="bleurt", tokens=self.longest)
        self.cache = score_cache.ScoreCache(self.stream, key, cache)

    def score(self, *, references: Sequence[str], candidates: Sequence[str]) -> list[float]:
        """Return the score of each candidate, near 0 for nothing in common, near 1 for the same; jury calls this."""
        rows = self.cache(list(zip(references, candidates, strict=True)))
        self.cut = sum(int(cut) for _, cut in rows)
        return [value for value, _ in rows]

    def stream(self, pairs: list[score_cache.Pair]) -> Iterator[tuple[int, list[float]]]:
        """Yield the index of each pair and [score, 1 if it was cut], shortest first; each text is tokenized once."""
        tokens = {text: self.encode(text) for text in dict.fromkeys(text for pair in pairs for text in pair)}
        encoded = [truncate(tokens[reference], tokens[candidate], self.longest) for reference, candidate in pairs]
        by_length = sorted(range(len(encoded)), key=lambda i: len(encoded[i][0]) + len(encoded[i][1]))
        for start in range(0, len(by_length), self.batch_size):
            rows = by_length[start : start + self.batch_size]
            inputs = padded([encoded[i][:2] for i in rows], *self.marks)
            with torch.inference_mode():
                logits = self.model(**{name: value.to(self.device) for name, value in inputs.items()}).logits
            for row, value in zip(rows, logits[:, 0].float().tolist(), strict=True):
                yield row, [value, float(encoded[row][2])]


def longest(folder: str | Path) -> int:
    """Return how many tokens a checkpoint takes, by Google's bleurt_config.json or by its own name (bleurt-base-128).

    Folders above it say nothing, but for the hub's cache, where the name is the repository's; config.json, which counts
    the encoder's places, does not say.
    """
    place = Path(folder).absolute()
    config = place / "bleurt_config.json"
    if config.is_file() and isinstance(tokens := files.read_json(config).get("max_seq_length"), int):
        return tokens
    name = place.parents[1].name if place.parent.name == "snapshots" else place.name
    found = re.search(r"bleurt-\w+-(\d+)", name, re.I)
    return int(found[1]) if found else LONGEST


def truncate(reference: list[int], candidate: list[int], longest: int) -> tuple[list[int], list[int], bool]:
    """Return both texts' ids and whether they were cut: the longer one loses tokens until both fit with three marks."""
    room = longest - 3
    if len(reference) + len(candidate) <= room:
        return reference, candidate, False
    first = min(len(reference), max((room + 1) // 2, room - len(candidate)))
    return reference[:first], candidate[: room - first], True


def padded(pairs: Sequence[tuple[list[int], list[int]]], cls: int, sep: int, pad: int) -> dict[str, torch.Tensor]:
    """Return a batch for the model: [CLS] reference [SEP] candidate [SEP], padded to the longest."""
    rows = [[cls, *first, sep, *second, sep] for first, second in pairs]
    types = [[0] * (len(first) + 2) + [1] * (len(second) + 1) for first, second in pairs]
    width = max(map(len, rows))
    filled = {
        "input_ids": [row + [pad] * (width - len(row)) for row in rows],
        "token_type_ids": [row + [0] * (width - len(row)) for row in types],
        "attention_mask": [[1] * len(row) + [0] * (width - len(row)) for row in rows],
    }
    return {name: torch.tensor(value) for name, value in filled.items()}


def load(folder: Path) -> transformers.PreTrainedModel:
    """Return the checkpoint's model: a RemBERT where embeddings have a size of their own (BLEURT-20), else a BERT.

    Raises:
        InputError: When weights are missing or left over: an untrained head would score all the same.
    """
    if not any((folder / name).is_file() for name in WEIGHTS):
        raise files.InputError(f"{folder.name}: neither {' nor '.join(WEIGHTS)}; not a BLEURT checkpoint")
    config = files.read_json(folder / "config.json")
    common = {"layer_norm_eps": 1e-12, "num_labels": 1} | {name: config[name] for name in SIZES if name in config}
    if config.get("embedding_size"):
        sizes = transformers.RemBertConfig(input_embedding_size=config["embedding_size"], **common)
        kind, prefix = transformers.RemBertForSequenceClassification, "rembert."
    else:
        sizes = transformers.BertConfig(**common)
        kind, prefix = transformers.BertForSequenceClassification, "bert."
    with quiet():
        model, found = kind.from_pretrained(
            folder,
            config=sizes,
            dtype=torch.float32,
            key_mapping={r"^bleurt\.": prefix, "embedding_projection": "embedding_hidden_mapping_in"},
            output_loading_info=True,
        )
    missing = sorted(found["missing_keys"])
    unexpected = sorted(name for name in found["unexpected_keys"] if not name.endswith(BUFFERS))
    if missing or unexpected:
        raise files.InputError(
            f"{folder.name}: not a BLEURT checkpoint ({len(missing)} weights missing, {len(unexpected)} unknown: "
            f"{', '.join([*missing, *unexpected][:3])}); give a folder in the layout of BLEURT's PyTorch conversions"
        )
    return model


def vocabulary(folder: Path) -> tuple[Callable[[str], list[int]], tuple[int, int, int]]:
    """Return a function from text to ids without marks, and the ids of [CLS], [SEP] and [PAD]."""
    for name in PIECES:
        if (folder / name).is_file():
            import sentencepiece

            pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / name))
            return pieces.encode, tuple(pieces.piece_to_id(mark) for mark in ("[CLS]", "[SEP]", "[PAD]"))
    if not (folder / "vocab.txt").is_file():
        raise files.InputError(f"{folder.name}: neither {', '.join(PIECES)} nor vocab.txt; not a BLEURT checkpoint")
    tokenizer = transformers.BertTokenizer.from_pretrained(folder)
    marks = (tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id)
    return lambda text: tokenizer.encode(text, add_special_tokens=False, verbose=False), marks


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers while a scorer loads: an encoder without its other heads is what is wanted."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
