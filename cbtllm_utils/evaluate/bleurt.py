"""BLEURT by transformers' own classes, from the published PyTorch conversions: no TensorFlow, no remote code."""

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from cbtllm_utils import files
from cbtllm_utils.evaluate.score_cache import Kept, Pair

PIECES = ("spm.model", "sent_piece.model")  # BLEURT-20's vocabulary by its two names; the older ones have vocab.txt
TAKEN = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act")
TAKEN += ("max_position_embeddings", "type_vocab_size", "layer_norm_eps")
LONGEST = 512  # tokens of a pair with its three marks; checkpoints named …-128 were trained with, and take, 128


class Scorer:
    """A BLEURT checkpoint in memory: `score(references=…, candidates=…)` as jury calls it, and what it cut.

    `folder` holds config.json, model.safetensors or pytorch_model.bin, and the vocabulary (Sellam et al. 2020; Pu et
    al. 2021 for BLEURT-20, a RemBERT). `cut` counts the pairs of the last call that were longer than its `longest`
    tokens. The model reads both texts together: a reference can be cut into pieces once, but not encoded once.
    """

    kept: Kept | None = None  # set by whoever wants scores kept

    def __init__(self, folder: str | Path, batch_size: int = 16) -> None:
        import torch

        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = load(Path(folder)).eval().to(self.device)
        self.encode, self.marks = vocabulary(Path(folder))
        self.longest = min(longest(folder), self.model.config.max_position_embeddings)
        self.batch_size, self.cut = batch_size, 0

    def score(self, *, references: Sequence[str], candidates: Sequence[str]) -> list[float]:
        """The score of each candidate, in order: a float near 0 for nothing in common, near 1 for the same."""
        pairs = list(zip(references, candidates, strict=True))
        numbers = self.kept(pairs) if self.kept else [row for _, row in sorted(self.stream(pairs))]
        self.cut = sum(int(cut) for _, cut in numbers)
        return [value for value, _ in numbers]

    def stream(self, pairs: list[Pair]) -> Iterator[tuple[int, list[float]]]:
        """(place, [score, was cut]) of the pairs, the shortest first; each text is cut into pieces once."""
        import torch

        pieces = {text: self.encode(text) for text in dict.fromkeys(text for two in pairs for text in two)}
        encoded = [pair(pieces[reference], pieces[candidate], self.longest) for reference, candidate in pairs]
        by_length = sorted(range(len(encoded)), key=lambda i: len(encoded[i][0]) + len(encoded[i][1]))
        for start in range(0, len(by_length), self.batch_size):
            rows = by_length[start : start + self.batch_size]
            inputs = padded([encoded[i][:2] for i in rows], *self.marks)
            with torch.inference_mode():
                logits = self.model(**{name: value.to(self.device) for name, value in inputs.items()}).logits
            for row, value in zip(rows, logits[:, 0].float().tolist(), strict=True):
                yield row, [value, float(encoded[row][2])]


def longest(folder: str | Path) -> int:
    """How many tokens a checkpoint takes, by its name (bleurt-base-128), be it a folder or the hub's copy of one."""
    found = re.search(r"bleurt-\w+-(\d+)", str(folder), re.I)
    return int(found[1]) if found else LONGEST


def pair(reference: list[int], candidate: list[int], longest: int) -> tuple[list[int], list[int], bool]:
    """Both texts' ids, the longer one cut token by token until they fit with three marks, and whether it was cut."""
    room = longest - 3
    if len(reference) + len(candidate) <= room:
        return reference, candidate, False
    first = min(len(reference), max((room + 1) // 2, room - len(candidate)))
    return reference[:first], candidate[: room - first], True


def padded(pairs: Sequence[tuple[list[int], list[int]]], cls: int, sep: int, pad: int) -> dict:
    """A batch for the model: [CLS] reference [SEP] candidate [SEP], padded to the longest."""
    import torch

    rows = [[cls, *first, sep, *second, sep] for first, second in pairs]
    kinds = [[0] * (len(first) + 2) + [1] * (len(second) + 1) for first, second in pairs]
    width = max(map(len, rows))
    filled = {
        "input_ids": [row + [pad] * (width - len(row)) for row in rows],
        "token_type_ids": [kind + [0] * (width - len(kind)) for kind in kinds],
        "attention_mask": [[1] * len(row) + [0] * (width - len(row)) for row in rows],
    }
    return {name: torch.tensor(value) for name, value in filled.items()}


def load(folder: Path) -> object:
    """The checkpoint's model: a RemBERT where embeddings have a size of their own (BLEURT-20), a BERT elsewhere.

    InputError when weights are missing, or left over: a head that stays as chance made it would score all the same.
    """
    import transformers

    config = files.read_json(folder / "config.json")
    common = {"layer_norm_eps": 1e-12} | {name: config[name] for name in TAKEN if name in config}
    if config.get("embedding_size"):
        settings = transformers.RemBertConfig(input_embedding_size=config["embedding_size"], num_labels=1, **common)
        model, prefix = transformers.RemBertForSequenceClassification(settings), "rembert."
    else:
        model, prefix = (
            transformers.BertForSequenceClassification(transformers.BertConfig(num_labels=1, **common)),
            "bert.",
        )
    names = {r"^bleurt\.": prefix, "embedding_projection": "embedding_hidden_mapping_in"}
    state = {n: value for n, value in weights(folder).items() if not n.endswith(("position_ids", ".token_type_ids"))}
    for old, new in names.items():
        state = {re.sub(old, new, name): value for name, value in state.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    if missing or unexpected:
        wrong = ", ".join([*missing, *unexpected][:3])
        raise files.InputError(
            f"{folder.name}: no BLEURT checkpoint ({len(missing)} weights missing, "
            f"{len(unexpected)} unknown: {wrong}); "
            "give a folder in the layout of BLEURT's PyTorch conversions"
        )
    return model


def weights(folder: Path) -> dict:
    """The checkpoint's tensors by name, from safetensors, else from a pickle that may hold nothing but tensors."""
    import torch
    from safetensors.torch import load_file

    if (folder / "model.safetensors").is_file():
        return load_file(folder / "model.safetensors")
    if not (folder / "pytorch_model.bin").is_file():
        raise files.InputError(f"{folder.name}: neither model.safetensors nor pytorch_model.bin; no BLEURT checkpoint")
    return torch.load(folder / "pytorch_model.bin", map_location="cpu", weights_only=True)


def vocabulary(folder: Path) -> tuple[Callable[[str], list[int]], tuple[int, int, int]]:
    """A function from text to ids without marks, and the ids of [CLS], [SEP] and [PAD]."""
    from transformers import BertTokenizer

    for name in PIECES:
        if (folder / name).is_file():
            import sentencepiece

            pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / name))
            return pieces.encode, tuple(pieces.piece_to_id(mark) for mark in ("[CLS]", "[SEP]", "[PAD]"))
    if not (folder / "vocab.txt").is_file():
        raise files.InputError(f"{folder.name}: neither {', '.join(PIECES)} nor vocab.txt; no BLEURT checkpoint")
    tokenizer = BertTokenizer.from_pretrained(folder)
    marks = (tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id)
    return lambda text: tokenizer.encode(text, add_special_tokens=False, verbose=False), marks


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence for transformers while a scorer loads: an encoder without its other heads is what is wanted."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
