"""A tokenizer on sentencepiece itself, with as much of transformers' interface as training and answering need."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import sentencepiece

from cbtllm_utils import files

SETTINGS = ("tokenizer_config.json", "added_tokens.json")


@dataclass(frozen=True)
class SentencePieceTokenizer:
    """Text to ids and back by a `tokenizer.model`.

    Why not transformers': its fast LLaMA tokenizer splits Chinese-LLaMA's text otherwise than the authors did (all
    20,000 added pieces have score 0, and ties go to the leftmost), and cannot do without a prefixed space.
    """

    model: sentencepiece.SentencePieceProcessor
    bos_token_id: int
    eos_token_id: int
    pad_token_id: int
    add_bos_token: bool
    size: int

    def __len__(self) -> int:
        return self.size

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """The ids of a text, after bos where the backbone was trained so. No text can spell a special token."""
        return [self.bos_token_id] * (add_special_tokens and self.add_bos_token) + self.model.encode(text)

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = True) -> str:
        """The text of ids (list or 1-d tensor); special tokens and ids that stand for no text are left out."""
        special = {self.bos_token_id, self.eos_token_id, self.pad_token_id} if skip_special_tokens else set()
        kept = [int(i) for i in ids if int(i) not in special and int(i) < self.model.get_piece_size()]
        return self.model.decode(kept)


def load(folder: Path) -> SentencePieceTokenizer:
    """The tokenizer in a folder with `tokenizer.model`, `tokenizer_config.json` and perhaps `added_tokens.json`.

    Chinese-Alpaca adds `[PAD]` after the last piece; the others pad with eos. InputError for other added tokens.
    """
    where = files.shown(folder)
    try:
        model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    except (OSError, RuntimeError) as error:
        raise files.InputError(
            f"{where}/tokenizer.model: not sentencepiece's ({' '.join(str(error).split())[:120]})"
        ) from None
    settings, added = ({} if not (folder / n).exists() else files.read_json(folder / n) for n in SETTINGS)
    if not isinstance(settings, dict) or not isinstance(added, dict):
        raise files.InputError(f"{where}: {' and '.join(SETTINGS)} hold objects; one of them holds something else")
    pieces, pad = model.get_piece_size(), added.get("[PAD]", model.eos_id())
    if model.bos_id() < 0 or model.eos_id() < 0:
        raise files.InputError(f"{where}/tokenizer.model: has no <s> and </s>; it is not a backbone's of this study")
    known = {model.id_to_piece(i): i for i in range(pieces)}
    for token, place in added.items():  # other files repeat <s>, </s> and <unk> here, which the model holds already
        if known.get(token) != place and (token, place) != ("[PAD]", pieces):
            raise files.InputError(f"{where}/added_tokens.json: {token!r} = {place}; expected [PAD] = {pieces} at most")
    begin = settings.get("add_bos_token", True) is not False  # LLaMA's default; Baichuan-7B says false
    return SentencePieceTokenizer(model, model.bos_id(), model.eos_id(), pad, begin, max(pieces, pad + 1))
