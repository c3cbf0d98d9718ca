"""Small vocabularies learnt from little text, in the files of the original backbones."""

import base64
import io
import itertools
from collections import Counter
from collections.abc import Sequence

import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from cbtllm_utils import files


def pieces(texts: Sequence[str], size: int, coverage: float, prefix_space: bool) -> bytes:
    """A `tokenizer.model` of `size` pieces: byte pairs, and bytes for rare characters, as LLaMA's and Baichuan's.

    `coverage` is the share of the texts' characters that get a piece of their own, .98 to 1; LLaMA's puts a space
    first, Baichuan's does not. Same texts, same file. InputError when `size` is too small for the characters; where the
    texts hold too few pairs, the file has fewer pieces.
    """
    made, lines = io.BytesIO(), (line for text in texts for line in text.split("\n") if line)
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=lines,
            model_writer=made,
            model_type="bpe",
            vocab_size=size,
            character_coverage=coverage,
            byte_fallback=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=prefix_space,
            minloglevel=2,
            num_threads=1,
        )
    except RuntimeError as error:
        reason = str(error).rpartition("] ")[2] or str(error)  # sometimes the broken condition is all it says
        raise files.InputError(f"a vocabulary of {size} pieces cannot be learnt from these texts: {reason}") from None
    return made.getvalue()


def added_pieces(base: bytes, larger: bytes) -> bytes:
    """The base `tokenizer.model` and after it the pieces that only the larger one has, all of score 0.

    So Chinese-LLaMA's was made (ymcui/Chinese-LLaMA-Alpaca, scripts/merge_tokenizer/merge_tokenizers.py).
    """
    model, other = (sentencepiece_model_pb2.ModelProto() for _ in range(2))
    model.ParseFromString(base)
    other.ParseFromString(larger)
    held = {piece.piece for piece in model.pieces}
    for piece in other.pieces:
        if piece.piece not in held:
            model.pieces.add(piece=piece.piece, score=0.0)
    return model.SerializeToString()


def rare(texts: Sequence[str], coverage: float) -> list[str]:
    """The characters that are left when the most frequent, which make up this share of the texts, are taken away."""
    counts = Counter("".join(texts)).most_common()
    enough = coverage * sum(count for _, count in counts)
    sums = itertools.accumulate(count for _, count in counts)
    return [character for (character, _), upto in zip(counts, sums, strict=True) if upto > enough]


def ranks(texts: Sequence[str], size: int, coverage: float) -> bytes:
    """A `qwen.tiktoken` of `size` tokens: byte-level byte-pair encoding, `base64 rank` a line, the 256 bytes first.

    Then whole characters, those that make up `coverage` of the texts, each after the bytes that lead to it; then words.
    Learnt from bytes, so small a vocabulary would hold frequent halves of two neighbours instead of characters.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated")
    left = str.maketrans(dict.fromkeys(rare(texts, coverage), "\n"))
    trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False)
    tokenizer.train_from_iterator((text.translate(left) for text in texts), trainer)
    found = [bytes([byte]) for byte in range(256)]
    for piece, _ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]):
        token = piece.encode()
        found += [token[:end] for end in range(2, len(token))] if len(piece) == 1 else []
        found.append(token)
    tokens = list(dict.fromkeys(found))[:size]
    return b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(tokens))
