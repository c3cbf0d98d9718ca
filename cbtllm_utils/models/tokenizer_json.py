"""A sentencepiece model as `tokenizer.json`, which other programs read (vLLM, `transformers serve`, LLaMA-Factory).

Both merge pairs of neighbors, the best first. In sentencepiece the best has the highest score, and of equal ones the
leftmost; in a `tokenizer.json` every merge has a rank of its own. So a file with nothing but merges cannot say what
Chinese-LLaMA needs: all its 20,000 added pieces have the highest score, 0. But merging the leftmost pair first, as long
as there is one of the highest score, is the same as cutting off, from left to right, the longest piece that consists of
such pairs alone. The text after a piece does not change the merges inside it. A pattern before the merges can do that
cutting (`pattern`). The rest is merges by score (`merges`).
"""

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sentencepiece import SentencePieceProcessor
from sentencepiece.sentencepiece_model_pb2 import ModelProto
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE

SPACE = "▁"  # sentencepiece's sign for a space
KINDS = ModelProto.SentencePiece
TRIES = 10
ROOTS = 64  # first characters that are tried one by one: an alternation has no index


class NotExpressibleError(ValueError):
    """A sentencepiece model with a feature that `tokenizer.json` cannot express."""


@dataclass(frozen=True)
class Derivation:
    """How sentencepiece puts a piece together, alone in a text.

    Attributes:
        last: The two parts of its last merge, and so of every merge that makes it in a longer text.
        before: Pairs (a, b) of pieces with equal scores: a was merged, and b, which shares a part with it, was not.
        first: What is left when no pair of the highest score is; the piece itself when it consists of such pairs.
    """

    last: tuple[str, str]
    before: tuple[tuple[str, str], ...]
    first: tuple[str, ...]


def build(model: bytes, bos: bool, pad: str | None = None) -> Tokenizer:
    """Return a tokenizer that splits texts as sentencepiece does with this model.

    Args:
        model: The content of a `tokenizer.model` of byte pairs.
        bos: Whether <s> is put before a text.
        pad: A token behind the last piece, such as Chinese-Alpaca's [PAD].

    Raises:
        NotExpressibleError: For a model of another kind: unigrams, normalization, unused pieces.
    """
    proto = ModelProto.FromString(model)
    check(proto)
    vocabulary = {piece.piece: i for i, piece in enumerate(proto.pieces)}
    scores = piece_scores(proto)
    found = derivations(proto, scores)
    unknown = proto.pieces[proto.trainer_spec.unk_id].piece
    settings = {"byte_fallback": proto.trainer_spec.byte_fallback, "fuse_unk": True, "unk_token": unknown}
    backend = Tokenizer(BPE(vocabulary, merges(scores, found, vocabulary), **settings))
    prefix = proto.normalizer_spec.add_dummy_prefix
    replaced = normalizers.Replace(" ", SPACE)
    backend.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), replaced]) if prefix else replaced
    if expression := pattern(found):
        backend.pre_tokenizer = pre_tokenizers.Split(Regex(expression), behavior="isolated")
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if prefix else steps)
    control = [piece.piece for piece in proto.pieces if piece.type in (KINDS.CONTROL, KINDS.UNKNOWN)]
    backend.add_special_tokens(
        [AddedToken(t, normalized=False, special=True) for t in [*control, *([pad] * bool(pad))]]
    )
    backend.add_tokens([AddedToken(piece.piece) for piece in proto.pieces if piece.type == KINDS.USER_DEFINED])
    if bos:
        first, number = proto.pieces[proto.trainer_spec.bos_id].piece, proto.trainer_spec.bos_id
        single, pair = f"{first} $A", f"{first} $A {first}:1 $B:1"
        backend.post_processor = processors.TemplateProcessing(
            single=single, pair=pair, special_tokens=[(first, number)]
        )
    return backend


def prefixes_space(model: bytes) -> bool:
    """Return whether a `tokenizer.model` puts a space before a text, as LLaMA's does and Baichuan's does not."""
    return ModelProto.FromString(model).normalizer_spec.add_dummy_prefix


def agreement(folder: Path, texts: Sequence[str]) -> dict[str, int]:
    """Return how many pieces and texts `tokenizer.json` and `tokenizer.model` of a folder split alike, and of how many.

    Pieces are those of several characters that sentencepiece makes of any text.
    """
    model = (folder / "tokenizer.model").read_bytes()
    backend, proto = Tokenizer.from_file(str(folder / "tokenizer.json")), ModelProto.FromString(model)
    backend.encode_special_tokens = True
    pieces = makeable(proto, piece_scores(proto))
    equal_texts = same(backend, SentencePieceProcessor(model_proto=model), texts)
    backend.normalizer = normalizers.Replace(" ", SPACE)
    counts = {"pieces": len(pieces), "equal_pieces": same(backend, unprefixed(proto), pieces)}
    return counts | {"texts": len(texts), "equal_texts": equal_texts}


def same(backend: Tokenizer, model: SentencePieceProcessor, texts: Sequence[str]) -> int:
    """Return how many texts have the same tokens in both."""
    made = backend.encode_batch(list(texts), add_special_tokens=False)
    return sum(one.ids == other for one, other in zip(made, model.encode(list(texts)), strict=True))


def check(proto: ModelProto) -> None:
    """Raise NotExpressibleError for a model that is not of byte pairs over the text as it is."""
    texts, kinds = proto.normalizer_spec, {piece.type for piece in proto.pieces}
    reasons = {
        "it is not of byte pairs": proto.trainer_spec.model_type != proto.trainer_spec.BPE,
        "it changes characters": bool(texts.precompiled_charsmap),
        "it drops spaces": texts.remove_extra_whitespaces,
        "it leaves spaces as they are": not texts.escape_whitespaces,
        "it puts the sign of a space behind a word": proto.trainer_spec.treat_whitespace_as_suffix,
        "it has unused pieces": KINDS.UNUSED in kinds,
        "it has pieces of a user and prefixes a space": KINDS.USER_DEFINED in kinds and texts.add_dummy_prefix,
    }
    if found := [reason for reason, holds in reasons.items() if holds]:
        raise NotExpressibleError(", ".join(found))


def piece_scores(proto: ModelProto) -> dict[str, float]:
    """Return the scores of the ordinary pieces, with -0.0 just below 0.0 where the installed sentencepiece has it so.

    Its trainer gives the first merge the score -0.0. Until 0.2.1 that was 0.0's equal, as it is in llama.cpp.
    """
    scores = {piece.piece: piece.score for piece in proto.pieces if piece.type == KINDS.NORMAL}
    probe = ModelProto()
    for piece, score in {"a": -1.0, "b": -1.0, "c": -1.0, "ab": -0.0, "bc": 0.0}.items():
        probe.pieces.add(piece=piece, score=score)
    probe.pieces.add(piece="<unk>", type=KINDS.UNKNOWN)
    probe.trainer_spec.model_type, probe.trainer_spec.unk_id = probe.trainer_spec.BPE, len(probe.pieces) - 1
    probe.normalizer_spec.add_dummy_prefix = False
    if SentencePieceProcessor(model_proto=probe.SerializeToString()).encode("abc", out_type=str) == ["ab", "c"]:
        return scores
    lower = math.nextafter(0.0, -1.0)
    return {piece: lower if math.copysign(1, score) < 0 and not score else score for piece, score in scores.items()}


def unprefixed(proto: ModelProto) -> SentencePieceProcessor:
    """Return sentencepiece with a model that puts no space before a text."""
    bare = ModelProto()
    bare.CopyFrom(proto)
    bare.normalizer_spec.add_dummy_prefix = False
    return SentencePieceProcessor(model_proto=bare.SerializeToString())


def makeable(proto: ModelProto, scores: dict[str, float]) -> list[str]:
    """Return the pieces of several characters that sentencepiece makes of any text.

    One that does not come out when it is a whole text comes out of none: what is merged inside a piece depends on
    nothing outside it.
    """
    long = [piece for piece in scores if len(piece) > 1]
    made = zip(long, unprefixed(proto).encode(long, out_type=str), strict=True)
    return [piece for piece, parts in made if parts == [piece]]


def derivations(proto: ModelProto, scores: dict[str, float]) -> dict[str, Derivation]:
    """Return how sentencepiece makes each piece of several characters, as far as these are pieces themselves."""
    highest = max((score for piece, score in scores.items() if len(piece) > 1), default=0.0)
    pieces = [piece for piece in makeable(proto, scores) if set(piece) <= scores.keys()]
    return {piece: derivation(piece, scores, highest) for piece in pieces}


def derivation(piece: str, scores: dict[str, float], highest: float) -> Derivation:
    """Return how sentencepiece makes a piece of its characters: the highest score first, of equal ones the leftmost."""
    parts, first, before = list(piece), None, []
    while True:
        pairs = [parts[i] + parts[i + 1] for i in range(len(parts) - 1)]
        known = [i for i, pair in enumerate(pairs) if pair in scores]
        chosen = max(known, key=lambda i: scores[pairs[i]])  # the first of the largest
        made = pairs[chosen]
        if first is None and scores[made] < highest:
            first = tuple(parts)
        start = len("".join(parts[:chosen]))
        before += [
            (made, rival) for rival in rivals(piece, start, start + len(made)) if scores.get(rival) == scores[made]
        ]
        if len(parts) == 2:
            return Derivation((parts[0], parts[1]), tuple(before), first or (piece,))
        parts[chosen : chosen + 2] = [made]


def rivals(piece: str, start: int, end: int) -> list[str]:
    """Return the parts of a piece that overlap with the characters from start to end and do not contain them."""
    right = [piece[i:j] for i in range(start + 1, end) for j in range(end + 1, len(piece) + 1)]
    return right + [piece[i:j] for i in range(start) for j in range(start + 1, end)]


def merges(scores: dict[str, float], found: dict[str, Derivation], vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    """Return the merges in the order of their ranks: by score, one for each piece, then what some pieces need besides.

    A piece that the pattern cuts off is a word of its own for the merges, where ranks and not places decide between
    equal scores (能不能: 不能 may come first). Where it is left in parts, these are merged last. Where no merges join
    them, the next try gives the piece more weight in the order of ranks.
    """
    weights = Counter(dict.fromkeys(found, 1))
    for _ in range(TRIES):
        pairs = [found[piece].last for piece in ranked(scores, found, weights)]
        reader = Tokenizer(BPE(vocabulary, pairs))
        parts = {piece: reader.encode(piece).tokens for piece in found}
        more = {piece: joined(left, found) for piece, left in parts.items() if len(left) > 1}
        lost = [piece for piece, ways in more.items() if not ways or found[piece].first != (piece,)]
        if not lost:
            break
        weights.update({piece: 9 * weights[piece] for piece in lost})
    last = (pair for piece, ways in more.items() if found[piece].first == (piece,) for pair in ways)
    return [*pairs, *dict.fromkeys(last)]


def ranked(scores: dict[str, float], found: dict[str, Derivation], weights: dict[str, int]) -> list[str]:
    """Return the pieces in the order of their merges: by score; of equal ones, the one that derivations prefer.

    Where preferences run in a circle, it is the one that least weight is against.
    """
    against, after = Counter(), defaultdict(Counter)
    for piece, one in found.items():
        for preferred, other in one.before:
            if preferred in found and other in found:
                against[other] += weights[piece]
                after[preferred][other] += weights[piece]
    places = {piece: i for i, piece in enumerate(found)}
    waiting = [(-scores[piece], against[piece], places[piece], piece) for piece in found]
    heapq.heapify(waiting)
    order: dict[str, None] = {}
    while waiting:
        _, count, _, piece = heapq.heappop(waiting)
        if piece in order or count != against[piece]:
            continue  # an older entry
        order[piece] = None
        for other, weight in after[piece].items():
            against[other] -= weight
            heapq.heappush(waiting, (-scores[other], against[other], places[other], other))
    return list(order)


def joined(parts: Sequence[str], known: Iterable[str]) -> list[tuple[str, str]]:
    """Return the merges of known pieces that make one piece of parts; none where that cannot be done."""
    for i in range(len(parts) - 1):
        pair = parts[i] + parts[i + 1]
        if len(parts) == 2:
            return [(parts[0], parts[1])]
        if pair in known and (rest := joined([*parts[:i], pair, *parts[i + 2 :]], known)):
            return [(parts[i], parts[i + 1]), *rest]
    return []


def pattern(found: dict[str, Derivation]) -> str | None:
    """Return the regular expression that cuts off the pieces of the highest score; None where there is one at most.

    A piece that is a part of others with lower scores (LLaMA: two spaces, of which four are made) stays with what is
    around it, for the merges.
    """
    cut = {piece for piece, one in found.items() if one.first == (piece,)}
    parts = {part for piece, one in found.items() if piece not in cut for part in one.first if len(part) > 1}
    if len(cut) < 2 or not cut - parts:
        return None
    if not (parts := parts & cut):
        return alternatives(trie(cut), lambda piece: True)
    longer = {
        part: [piece.removeprefix(part) for piece in cut if piece.startswith(part) and piece != part] for part in parts
    }
    everything = {part: alternatives(trie(rest), lambda piece: True) if rest else None for part, rest in longer.items()}
    whole = "|".join(text(part) + (f"(?!{rest})" if rest else "") for part, rest in sorted(everything.items()))
    piece = f"(?!{whole}){alternatives(trie(cut), lambda piece: piece not in parts)}"
    kept = "|".join(map(text, sorted(parts, key=len, reverse=True)))
    return rf"(?:(?!{piece})(?:{kept}|[\s\S]))+|{piece}"


def trie(pieces: Iterable[str]) -> dict:
    """Return pieces as nested dictionaries by character; "" holds the piece that ends there."""
    root: dict = {}
    for piece in pieces:
        node = root
        for character in piece:
            node = node.setdefault(character, {})
        node[""] = piece
    return root


def alternatives(node: dict, ends: Callable[[str], bool]) -> str:
    """Return a regular expression for the longest way through a trie."""
    ways = sorted((character, below) for character, below in node.items() if character)
    texts = [text(character) + branch(below, ends) for character, below in ways]
    if len(ways) <= ROOTS:
        return f"(?:{'|'.join(texts)})"
    groups = [range(i, min(i + ROOTS, len(ways))) for i in range(0, len(ways), ROOTS)]
    return "(?:{})".format(
        "|".join(
            f"(?=[{text(ways[group[0]][0])}-{text(ways[group[-1]][0])}])(?:{'|'.join(texts[i] for i in group)})"
            for group in groups
        )
    )


def branch(node: dict, ends: Callable[[str], bool]) -> str:
    """Return what follows a character in a trie: more of it, or the end where a piece may end."""
    end = "" in node and ends(node[""])
    more = alternatives(node, ends) if len(node) > ("" in node) else ""
    return f"{more}?" if more and end else more


def text(characters: str) -> str:
    """Return characters as a regular expression that matches them and nothing else."""
    return "".join(c if c.isalnum() else rf"\x{{{ord(c):x}}}" for c in characters)
