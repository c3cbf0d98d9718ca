"""Load tokenizers: one call for the original files of 2023 and for current models; no remote code is run."""

import base64
import binascii
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX  # Qwen-7B's pattern, unchanged since
from transformers.tokenization_utils_sentencepiece import SentencePieceBackend

from cbtllm_utils import files, hashing
from cbtllm_utils.models import chat_templates, tokenizer_json

QWEN_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{i}|>" for i in range(205))]
SETTINGS = ("tokenizer_config.json", "added_tokens.json")
FAST, FAST_5 = "PreTrainedTokenizerFast", "TokenizersBackend"  # one class; transformers 4 knows the first name alone
MADE_OF = "made_of"  # in tokenizer_config.json: the file that tokenizer.json was made of


def load_tokenizer(path: str | Path) -> object:
    """Return the tokenizer in a folder, one of transformers' classes or of their subclasses here.

    `qwen.tiktoken` is Qwen (v1); a lone `tokenizer.model` is sentencepiece's (LLaMA, Chinese-LLaMA and -Alpaca,
    Baichuan), and so is one beside a `tokenizer.json` that was made of it here; everything else is AutoTokenizer's. For
    a model with deltas it is in the last delta's directory. The padding id is never None: a tokenizer without one pads
    with eos, as LLaMA-Factory did. The attribute `stops` of a current one holds the tokens at which replies end, as
    generation_config.json and the chat template say.

    Raises:
        InputError: When the folder holds no tokenizer that can be read.
    """
    folder = files.path(path)
    if not folder.is_dir():
        raise files.InputError(f"{files.shown(folder)}: no such folder; it should hold a tokenizer")
    if (folder / "tokenizer.model").exists() and (not (folder / "tokenizer.json").exists() or made_here(folder)):
        return sentencepiece_tokenizer(folder)
    if (original := folder / "qwen.tiktoken").exists():
        return qwen_tokenizer(original)
    return current_tokenizer(folder)


def check_size(tokenizer: object, embeddings: int, where: str) -> None:
    """Raise InputError when a tokenizer has a token behind the last of a model's embeddings.

    Control tokens count, although few texts hold them: a token without an embedding ends a run whenever it comes. More
    embeddings than tokens are usual (Qwen-7B: 151,936 and 151,851).
    """
    token, last = max(tokenizer.get_vocab().items(), key=lambda item: item[1])
    if last >= embeddings:
        raise files.InputError(
            f"{where}: its tokenizer has {last + 1:,} tokens (the last is {token!r}) and the model {embeddings:,} "
            "embeddings; give the tokenizer that belongs to these weights, or weights with a row for each token"
        )


def identity(tokenizer: object) -> str:
    """Return a hash of how a tokenizer splits and joins text; tokenizers of equal models may differ in it."""
    if isinstance(tokenizer, SentencePieceTokenizer):
        model = tokenizer.sp_model.serialized_model_proto().hex()
        held = [model, tokenizer.add_bos_token, tokenizer.pad_token_id]
    else:
        inner = getattr(tokenizer, "backend_tokenizer", None)
        held = json.loads(inner.to_str()) if inner else {"vocabulary": sorted(tokenizer.get_vocab().items())}
        held |= {"padding": None, "truncation": None}  # as the last call left them
    return hashing.text(json.dumps([held, getattr(tokenizer, "clean_up_tokenization_spaces", None)]))


class SentencePieceTokenizer(SentencePieceBackend):
    """A `tokenizer.model` as sentencepiece itself reads it; no text can spell a special token.

    Why not LlamaTokenizer: it splits Chinese-LLaMA's texts otherwise than the authors did (all 20,000 added
    pieces have score 0, and ties go to the leftmost), and cannot do without a prefixed space.
    """

    def __init__(self, file: Path, add_bos: bool, pad: str) -> None:
        tokens = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": pad}
        pattern = "bos" if add_bos else "none"
        super().__init__(vocab_file=str(file), split_special_tokens=True, special_tokens_pattern=pattern, **tokens)
        self.add_bos_token = add_bos

    def _decode(self, token_ids: int | list[int], skip_special_tokens: bool = False, **kwargs: object) -> str:
        # decode() calls this; the inherited method strips spaces and spells bytes as <0x0A>. Control pieces are empty
        # text to sentencepiece, and ids behind its last piece ([PAD], rounded-up embeddings) represent no text either.
        ids = [token_ids] if isinstance(token_ids, int) else token_ids
        return self.sp_model.decode([i for i in ids if i < self.vocab_size])


def sentencepiece_tokenizer(folder: Path) -> SentencePieceTokenizer:
    """Return the tokenizer in a folder with `tokenizer.model`, `tokenizer_config.json`, perhaps `added_tokens.json`.

    Chinese-Alpaca adds `[PAD]` after the last piece; the others pad with eos.

    Raises:
        InputError: For a file of another kind and for other added tokens.
    """
    where, file = files.shown(folder), folder / "tokenizer.model"
    settings, added = ({} if not (folder / n).exists() else files.read_json(folder / n) for n in SETTINGS)
    if not isinstance(settings, dict) or not isinstance(added, dict):
        raise files.InputError(f"{where}: {' and '.join(SETTINGS)} hold objects; one of them holds something else")
    add_bos = settings.get("add_bos_token", True) is not False  # LLaMA's default; Baichuan-7B says false
    try:
        tokenizer = SentencePieceTokenizer(file, add_bos, "[PAD]" if "[PAD]" in added else "</s>")
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise files.InputError(f"{where}/tokenizer.model: not sentencepiece's ({reason})") from None
    model = tokenizer.sp_model
    if (tokenizer.bos_token_id, tokenizer.eos_token_id) != (model.bos_id(), model.eos_id()):
        raise files.InputError(
            f"{where}/tokenizer.model: has no <s> and </s>; it does not belong to a backbone of this study"
        )
    known = tokenizer.get_vocab() if added else {}
    for token, place in added.items():  # Other files repeat <s>, </s> and <unk> here, which the model has already.
        if known.get(token) != place:
            end = model.get_piece_size()
            raise files.InputError(f"{where}/added_tokens.json: {token!r} = {place}; expected [PAD] = {end} at most")
    return tokenizer


def made_here(folder: Path) -> bool:
    """Return whether a folder's `tokenizer.json` was made of its `tokenizer.model` by `save`."""
    settings = files.read_json(file) if (file := folder / SETTINGS[0]).exists() else None
    return isinstance(settings, dict) and settings.get(MADE_OF) == "tokenizer.model"


def save(tokenizer: object, place: Path, folder: Path, chat: Mapping[str, object] = MappingProxyType({})) -> None:
    """Write a tokenizer so that other programs read it without remote code; `chat`: `prompt_forms.chat_settings`.

    sentencepiece's is written as it is in its folder `place`, with a `tokenizer.json` made of it: llama.cpp reads the
    first, transformers and vLLM the second. The class named in the settings is one that every version of transformers
    from 4 on takes as the file says. A chat template writes <s> and </s> itself, for which control tokens in a text
    must be read as such; without one they stay text.

    Raises:
        NotExpressibleError: When no `tokenizer.json` splits texts as this model does; all else is written.
    """
    if not isinstance(tokenizer, SentencePieceTokenizer):
        tokenizer.save_pretrained(folder)
        settings = files.read_json(folder / SETTINGS[0])
        known = {"tokenizer_class": FAST} if settings["tokenizer_class"] == type(tokenizer).__name__ == FAST_5 else {}
        files.write_json(folder / SETTINGS[0], settings | known | dict(chat))
        return
    for name in ("tokenizer.model", "added_tokens.json"):
        if (place / name).exists():
            shutil.copy(place / name, folder / name)
    first = tokenizer.add_bos_token
    files.write_json(folder / SETTINGS[0], {"add_bos_token": first})
    pad = tokenizer.pad_token if tokenizer.pad_token_id >= tokenizer.vocab_size else None
    model = tokenizer.sp_model.serialized_model_proto()
    made = tokenizer_json.build(model, first, pad)
    files.write_text(folder / "tokenizer.json", made.to_str())
    prefix = tokenizer_json.prefixes_space(model)
    names = {f"{name}_token": getattr(tokenizer, f"{name}_token") for name in ("bos", "eos", "unk", "pad")}
    more = {"tokenizer_class": FAST, "add_bos_token": first, "add_eos_token": False, MADE_OF: "tokenizer.model"}
    more |= {"clean_up_tokenization_spaces": False, "split_special_tokens": not chat}
    more |= {"add_prefix_space": prefix}  # for llama.cpp, which prefixes one where nothing is said
    files.write_json(folder / SETTINGS[0], more | names | dict(chat))


def current_tokenizer(folder: Path) -> object:
    """Return AutoTokenizer's, without remote code; raise InputError when the folder holds none that it can read."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # The library raises whatever it likes for files of another kind, even Exception.
        raise files.InputError(f"{files.shown(folder)}: no tokenizer ({' '.join(str(error).split())[:200]})") from None
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.stops = stops(tokenizer, folder / "generation_config.json")
    return tokenizer


def stops(tokenizer: object, file: Path) -> list[int]:
    """Return the tokens at which a reply ends: eos, those of generation_config.json, the one of the chat template.

    Qwen2.5-Instruct: <|im_end|> and <|endoftext|>; its base model: the same two in the other order.
    """
    more = files.read_json(file).get("eos_token_id") if file.exists() else None
    more = more if isinstance(more, list) else [more]
    found = [tokenizer.eos_token_id, *more, chat_templates.end_of_turn(tokenizer)]
    return list(dict.fromkeys(i for i in found if i is not None))


def qwen_tokenizer(file: Path) -> PreTrainedTokenizerFast:
    """Return the tokenizer of a `qwen.tiktoken` file: its ranks, then 208 special tokens.

    There is no bos, and eos = pad = <|endoftext|>. tiktoken merges the pair of the lowest rank; a list of merges in the
    same order needs nothing but the file. 0 of 1,820 texts differed from tiktoken on the published file.
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
    """Return the tokens of a tiktoken file with their ranks 0, 1, 2, …; raise InputError naming a wrong line."""
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
