"""Tokenizers of the backbones: one call for the original files of 2023 and for current models."""

import base64
import binascii
import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX  # Qwen-7B's pattern, unchanged since

from cbtllm_utils import files, hashing
from cbtllm_utils.models import chat_templates, sentencepiece_tokenizer

QWEN_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{i}|>" for i in range(205))]


def load_tokenizer(path: str | Path) -> object:
    """The tokenizer in a folder: `encode(text, add_special_tokens=True)`, `decode(ids)`, `len`, bos/eos/pad_token_id.

    `qwen.tiktoken` is Qwen (v1); a lone `tokenizer.model` is sentencepiece's (LLaMA, Chinese-LLaMA and -Alpaca,
    Baichuan); everything else is AutoTokenizer's, without remote code. With deltas it is the last delta's directory.
    The padding id is never None: a tokenizer without one pads with eos, as LLaMA-Factory did. `chats.stops` of it are
    the tokens at which its model's replies end, as generation_config.json and the chat template say.
    """
    folder = files.path(path)
    if not folder.is_dir():
        raise files.InputError(f"{files.shown(folder)}: no such folder; it should hold a tokenizer")
    if (folder / "tokenizer.model").exists() and not (folder / "tokenizer.json").exists():
        return sentencepiece_tokenizer.load(folder)
    original = folder / "qwen.tiktoken"
    tokenizer = qwen_tokenizer(original) if original.exists() else current_tokenizer(folder)
    generation = files.read_json(place) if (place := folder / "generation_config.json").exists() else {}
    generation = generation if isinstance(generation, dict) else {}
    tokenizer.stops = stops(tokenizer, generation.get("eos_token_id"))
    if original.exists() and generation.get("chat_format") == "chatml":  # Qwen-7B-Chat and its sizes
        tokenizer.chat_template = chat_templates.CHATML
        tokenizer.stops += tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|im_start|>"])  # its get_stop_words_ids
    return tokenizer


def identity(tokenizer: object) -> str:
    """The hash of what decides how a tokenizer cuts a text and joins tokens: two can differ in it beside equal weights.

    Of one that neither sentencepiece nor `tokenizers` is inside of, its vocabulary.
    """
    if isinstance(tokenizer, sentencepiece_tokenizer.SentencePieceTokenizer):
        held = [tokenizer.model.serialized_model_proto().hex(), tokenizer.add_bos_token, tokenizer.pad_token_id]
    else:
        inner = getattr(tokenizer, "backend_tokenizer", None)
        held = json.loads(inner.to_str()) if inner else {"vocabulary": sorted(tokenizer.get_vocab().items())}
        held |= {"padding": None, "truncation": None}  # as it was last asked
    return hashing.text(json.dumps([held, getattr(tokenizer, "clean_up_tokenization_spaces", None)]))


def current_tokenizer(folder: Path) -> object:
    """AutoTokenizer's, without remote code; InputError when the folder holds none that it can read."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (
        Exception
    ) as error:  # the library's parts raise what they like for files of another kind, Exception itself too
        raise files.InputError(f"{files.shown(folder)}: no tokenizer ({' '.join(str(error).split())[:200]})") from None
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def stops(tokenizer: object, generation: object) -> list[int]:
    """The tokens at which a reply ends: eos, what generation_config.json says besides, and what its chat template puts
    after a reply. Qwen2.5-Instruct: <|im_end|> and <|endoftext|>; its base: the same two, the other way round."""
    more = [i for i in (generation if isinstance(generation, list) else [generation]) if type(i) is int]
    found = [tokenizer.eos_token_id, *more, chat_templates.end_of_turn(tokenizer)]
    return list(dict.fromkeys(i for i in found if i is not None))


def qwen_tokenizer(file: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a `qwen.tiktoken` file: ranks, then 208 special tokens; no bos, eos = pad = <|endoftext|>.

    tiktoken merges the pair of the lowest rank; here the same order is a list of merges, so that the file is all that
    is needed. 0 of 1,820 texts differed from tiktoken on the published file.
    """
    ranks = read_ranks(file)
    letters = bytes_to_unicode()
    text = {token: "".join(letters[byte] for byte in token) for token in ranks}
    splits = ((token, token[:i], token[i:]) for token in ranks for i in range(1, len(token)))
    merges = sorted((ranks[t], ranks[a], ranks[b], a, b) for t, a, b in splits if a in ranks and b in ranks)
    vocabulary = {text[token]: rank for token, rank in ranks.items()}
    backend = Tokenizer(BPE(vocabulary, [(text[a], text[b]) for *_, a, b in merges], ignore_merges=True))
    backend.normalizer = normalizers.NFC()
    pattern = pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated")
    bytewise = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([pattern, bytewise])
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in QWEN_SPECIAL])
    end = QWEN_SPECIAL[0]
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=end, pad_token=end, clean_up_tokenization_spaces=False
    )


def read_ranks(file: Path) -> dict[bytes, int]:
    """The tokens of a tiktoken file with their ranks 0, 1, 2, …; InputError with the line that is none."""
    ranks = {}
    for number, line in enumerate(file.read_bytes().splitlines(), 1):
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error):
            raise files.InputError(f"{files.shown(file)}, line {number}: expected `base64 rank`") from None
    if sorted(ranks.values()) != list(range(len(ranks))) or any(bytes([b]) not in ranks for b in range(256)):
        raise files.InputError(f"{files.shown(file)}: ranks have gaps or single bytes are missing; fetch it again")
    return ranks
