"""Damaged copies of texts with grades: what the tiny BLEURT of the demo learns from, after BLEURT's own pretraining."""

import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import sacrebleu
import torch
from transformers import AutoTokenizer, BertForMaskedLM

from cbtllm_utils.evaluate.bleurt import quiet

SENTENCE = re.compile(r"[^。！？!?\n]+[。！？!?\n”’]*")
KINDS = ("dropped", "swapped", "shuffled", "scrambled", "refilled")
SHORTEST, LONGEST = 20, 80  # characters of a reference: 8 pairs make about 1,000 tokens, an eighth of a second
Pair = tuple[str, str, float]  # reference, candidate, grade


def pairs(
    texts: Sequence[str], number: int, seed: int, refill: Callable[[Sequence[str], Sequence[float]], list[str]]
) -> list[Pair]:
    """So many (reference, candidate, grade): the grade, 0 to 1, is the mean of BLEU, chrF and the share left whole.

    Sellam et al. (2020, §4) train on such signals too. `refill` masks a share of each text and guesses it anew.
    """
    chance = random.Random(seed)
    cuts = [piece(chance.choice(texts), chance) for _ in range(number)]
    kinds = [KINDS[i % len(KINDS)] for i in range(number)]
    shares = [chance.choice((0.0, 1.0)) if chance.random() < 0.15 else chance.random() for _ in range(number)]
    others = [chance.choice(cuts) for _ in range(number)]
    copies = [damaged(*given, chance) for given in zip(cuts, kinds, shares, others, strict=True)]
    places = [i for i, kind in enumerate(kinds) if kind == "refilled"]
    for i, text in zip(places, refill([cuts[i] for i in places], [shares[i] for i in places]), strict=True):
        copies[i] = text
    return [(cut, copy, grade(cut, copy, share)) for cut, copy, share in zip(cuts, copies, shares, strict=True)]


def piece(text: str, chance: random.Random) -> str:
    """Whole sentences of a text from a random one on, about SHORTEST to LONGEST characters."""
    sentences = SENTENCE.findall(text) or [text]
    rest = "".join(sentences[chance.randrange(len(sentences)) :])
    return rest[: chance.randint(SHORTEST, LONGEST)]


def damaged(text: str, kind: str, share: float, other: str, chance: random.Random) -> str:
    """The text with about `share` of it harmed; "refilled" is left as it is, a model does that."""
    sentences = re.findall(r"[^，。！？!?\n]+[，。！？!?\n”’]*", text) or [text]
    hit = [chance.random() < share for _ in sentences]
    if kind == "dropped":
        return "".join(s for s, harmed in zip(sentences, hit, strict=True) if not harmed) or sentences[0]
    if kind == "swapped":
        foreign = re.findall(r"[^，。！？!?\n]+[，。！？!?\n”’]*", other) or [other]
        return "".join(chance.choice(foreign) if harmed else s for s, harmed in zip(sentences, hit, strict=True))
    if kind == "shuffled":
        return "".join(reordered(sentences, share, chance))
    return "".join(reordered(list(text), share, chance)) if kind == "scrambled" else text


def reordered(parts: list[str], share: float, chance: random.Random) -> list[str]:
    """The parts with about `share` of them put in each other's places."""
    moved = [i for i in range(len(parts)) if chance.random() < share]
    result = list(parts)
    for place, source in zip(moved, chance.sample(moved, len(moved)), strict=True):
        result[place] = parts[source]
    return result


def grade(reference: str, candidate: str, share: float) -> float:
    """The mean of BLEU over characters, chrF (both by sacrebleu, 0 to 1) and the share that was not harmed."""
    spaced = [" ".join(text.replace(" ", "")) for text in (candidate, reference)]
    bleu = sacrebleu.sentence_bleu(spaced[0], [spaced[1]], tokenize="none").score
    return (bleu / 100 + sacrebleu.sentence_chrf(candidate, [reference]).score / 100 + 1 - share) / 3


def refiller(encoder_folder: str | Path, batch: int = 32) -> Callable[[Sequence[str], Sequence[float]], list[str]]:
    """A function that masks a share of each text's characters and lets the encoder guess them."""
    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(encoder_folder)
        model = BertForMaskedLM.from_pretrained(encoder_folder).eval()

    @torch.inference_mode()
    def refill(texts: Sequence[str], shares: Sequence[float]) -> list[str]:
        filled = []
        for start in range(0, len(texts), batch):
            inputs = tokenizer(list(texts[start : start + batch]), padding=True, truncation=True, return_tensors="pt")
            ids, given = inputs["input_ids"], torch.tensor(shares[start : start + batch])[:, None]
            hidden = (torch.rand(ids.shape) < given) & (ids >= len(tokenizer.all_special_ids))
            guesses = model(**inputs | {"input_ids": ids.masked_fill(hidden, tokenizer.mask_token_id)}).logits.argmax(
                -1
            )
            rows = torch.where(hidden, guesses, ids)
            filled += [tokenizer.decode(row, skip_special_tokens=True).replace(" ", "") for row in rows]
        return filled

    return refill


def shared(ids: torch.Tensor, types: torch.Tensor, marks: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Which places hold a character, and for each whether the other text has it: alone, and before the same next one.

    `ids` and `types` are batch x length, ids below `marks` are none; the answers batch x length, batch x length x 2.
    """
    real = ids >= marks
    same = (ids[:, :, None] == ids[:, None, :]) & (types[:, :, None] != types[:, None, :])
    same &= real[:, :, None] & real[:, None, :]
    after = torch.zeros_like(same)
    after[:, :-1, :-1] = same[:, 1:, 1:]
    return real, torch.stack([same.any(-1), (same & after).any(-1)], -1).float()
