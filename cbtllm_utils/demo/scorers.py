"""Make two tiny scorers from the sample, so that BERTScore and BLEURT run offline.

Both have the files of published models: bert-base-chinese's, and those of BLEURT's PyTorch conversions. Their scores
can be compared with each other within one run, never with published ones.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pandas as pd
import sacrebleu
import torch
from safetensors.torch import save_file
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, BertForSequenceClassification, BertTokenizer

from cbtllm_utils import files
from cbtllm_utils.demo.training import updater
from cbtllm_utils.evaluate.bleurt import quiet

# 4 layers x 198k + (about 2,000 characters + 512 places) x 128: about 1.1 million parameters
SIZE = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 512}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # few passes: nothing to overfit
PLACES = 512  # as many as bert-base-chinese and BLEURT-20 have: longer texts are cut there and here
MASKED = 0.2  # the share of characters that the encoder must guess
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SENTENCE = re.compile(r"[^。！？!?\n]+[。！？!?\n”’]*")
CLAUSE = re.compile(r"[^，。！？!?\n]+[，。！？!?\n”’]*")
KINDS = ("dropped", "swapped", "shuffled", "scrambled", "refilled")
SHORTEST, LONGEST = 20, 80  # characters of a reference: 8 pairs make about 1,000 tokens, an eighth of a second
Pair = tuple[str, str, float]  # reference, candidate, grade


def described(steps: Sequence[int]) -> pd.DataFrame:
    """Return what each scorer learns, from what, and in how many steps.

    Args:
        steps: Training steps of the encoder and of the BLEURT, as the setting `scorer_steps`.
    """
    rows = [
        ("BERTScore", "the encoder", f"{MASKED:.0%} of the characters are masked", "the masked characters"),
        ("BLEURT", "the encoder with a grade", "pairs of a piece of text and its damaged copy", "the computed grade"),
    ]
    columns = ["for the metric", "model", "it reads", "it learns to give"]
    return pd.DataFrame(rows, columns=columns).assign(steps=list(steps))


def vocabulary(texts: Sequence[str]) -> list[str]:
    """Return the entries of a vocab.txt: special tokens, printable ASCII, then characters, most frequent first.

    A character seen once is left out, so that [UNK] is trained too. Letters and digits also come as ##continuations.
    """
    latin = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    counts = Counter(character for text in texts for character in text.lower() if not character.isspace())
    seen = sorted((c for c, n in counts.items() if n > 1 and c not in latin), key=lambda c: (-counts[c], c))
    return [*SPECIAL, *latin, *seen, *(f"##{c}" for c in latin if c.isalnum())]


def encoder(
    texts: Sequence[str],
    folder: str | Path,
    *,
    steps: int,
    seed: int = 0,
    batch: int = 8,
    length: int = 128,
    learning_rate: float = 4e-3,
    size: dict = SIZE,
) -> Path:
    """Write a character-level BERT, trained to guess masked characters of `texts`, and return its folder.

    Holds config.json, model.safetensors (BertForMaskedLM), vocab.txt and the tokenizer's files. Sees `steps` batches of
    `batch` windows of `length` characters. Same texts, numbers and machine: same bytes.
    """
    with files.atomic(folder) as place, torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        tokenizer = save_tokenizer(vocabulary(texts), place)
        config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=PLACES, **NO_DROPOUT, **size)
        model = BertForMaskedLM(config).train()
        share_query_and_key(model)
        update = updater(model, learning_rate, steps)
        for ids, positions, targets in windows(texts, tokenizer, steps, batch, length):
            asked = targets >= 0
            guesses = model.cls(model.bert(input_ids=ids, position_ids=positions)[0][asked])
            update(cross_entropy(guesses, targets[asked]))
        model.save_pretrained(place)
    return files.path(folder)


def save_tokenizer(entries: Sequence[str], place: Path) -> object:
    """Write the files of a BERT tokenizer with these entries to `place` and return it."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "vocab.txt").write_text("".join(f"{entry}\n" for entry in entries), encoding="utf-8", newline="\n")
    tokenizer = BertTokenizer(vocab=str(place / "vocab.txt"), model_max_length=PLACES)
    tokenizer.save_pretrained(place)
    return tokenizer


def share_query_and_key(model: object) -> None:
    """Start each layer's keys as a copy of its queries, so that characters attend to their equals first.

    Trockman and Kolter (2023). A scorer must see what two texts share; from random weights, and with position
    embeddings as large as the characters', that took more than twice the steps.
    """
    torch.nn.init.normal_(model.bert.embeddings.word_embeddings.weight, std=0.1)  # places and types keep 0.02
    for layer in model.bert.encoder.layer:
        query, key = layer.attention.self.query, layer.attention.self.key
        torch.nn.init.normal_(query.weight, std=query.in_features**-0.5)
        with torch.no_grad():
            key.weight.copy_(query.weight)


def windows(texts: Sequence[str], tokenizer: object, steps: int, batch: int, length: int) -> Iterator[tuple]:
    """Yield ids, positions and targets, each `batch` x `length`; a target of -1 does not count.

    Of the chosen characters 8 in 10 are masked, 1 replaced, 1 left (Devlin et al. 2019, §3.1). A window begins at any
    of the 512 places, so that short windows train them all.
    """
    encoded = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    stream = torch.tensor([i for ids in encoded for i in [*ids, tokenizer.sep_token_id]])
    stream = stream.repeat(1 + length // len(stream))
    along, first = torch.arange(length - 1), torch.zeros(batch, 1, dtype=torch.long)
    for _ in range(steps):
        ids = stream[torch.randint(len(stream) - length + 2, (batch, 1)) + along]
        chance, chosen = torch.rand(ids.shape), ids != tokenizer.sep_token_id
        targets = torch.where(chosen & (chance < MASKED), ids, -1)
        any_ids = torch.randint(len(SPECIAL), len(tokenizer), ids.shape)
        ids = torch.where((targets >= 0) & (chance < 0.9 * MASKED), any_ids, ids)
        ids = torch.where((targets >= 0) & (chance < 0.8 * MASKED), tokenizer.mask_token_id, ids)
        positions = 1 + torch.randint(PLACES - length + 1, (batch, 1)) + along
        columns = ((first + tokenizer.cls_token_id, ids), (first, positions), (first - 1, targets))
        yield tuple(torch.cat(column, 1) for column in columns)


def bleurt(
    encoder_folder: str | Path,
    texts: Sequence[str],
    folder: str | Path,
    *,
    steps: int,
    seed: int = 0,
    batch: int = 8,
    learning_rate: float = 4e-3,
) -> Path:
    """Write a BLEURT, the encoder with a linear head trained to grade damaged copies of `texts`; return its folder.

    Holds config.json (model_type "bleurt"), model.safetensors with keys bleurt.* and classifier.*, and vocab.txt: the
    layout of the PyTorch conversions of BLEURT (Sellam et al. 2020). Sees `steps` batches of `batch` pairs. While it
    learns, each character must also tell whether the other text has it, and has it before the same next one.
    """
    with files.atomic(folder) as place, torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        tokenizer = AutoTokenizer.from_pretrained(encoder_folder)
        examples = pairs(texts, batch * steps, seed, refiller(encoder_folder))
        model = BertForSequenceClassification.from_pretrained(encoder_folder, num_labels=1).train()
        model.shared = torch.nn.Linear(model.config.hidden_size, 2)
        update = updater(model, learning_rate, steps)
        for start in range(0, batch * steps, batch):
            references, candidates, grades = (list(c) for c in zip(*examples[start : start + batch], strict=True))
            inputs = tokenizer(references, candidates, padding=True, truncation=True, return_tensors="pt")
            states = model.bert(**inputs)
            real, wanted = shared(inputs["input_ids"], inputs["token_type_ids"], len(SPECIAL))
            grade = model.classifier(states.pooler_output)[:, 0]
            guesses = model.shared(states.last_hidden_state[real])
            update(mse_loss(grade, torch.tensor(grades)) + binary_cross_entropy_with_logits(guesses, wanted[real]))
        del model.shared
        save_tokenizer(sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get), place)
        config = model.config.to_diff_dict() | {
            "model_type": "bleurt",
            "architectures": ["BleurtForSequenceClassification"],
        }
        files.write_json(place / "config.json", config)
        weights = {re.sub(r"^bert\.", "bleurt.", name): value for name, value in model.state_dict().items()}
        save_file(weights, place / "model.safetensors", metadata={"format": "pt"})
    return files.path(folder)


def pairs(
    texts: Sequence[str], number: int, seed: int, refill: Callable[[Sequence[str], Sequence[float]], list[str]]
) -> list[Pair]:
    """Return `number` of (reference, candidate, grade); the grade is the mean of BLEU, chrF and the unharmed share.

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
    """Return whole sentences of a text from a random one on, about SHORTEST to LONGEST characters."""
    sentences = SENTENCE.findall(text) or [text]
    rest = "".join(sentences[chance.randrange(len(sentences)) :])
    return rest[: chance.randint(SHORTEST, LONGEST)]


def damaged(text: str, kind: str, share: float, other: str, chance: random.Random) -> str:
    """Return the text with about `share` of it harmed; "refilled" is unchanged here, the encoder does that."""
    clauses = CLAUSE.findall(text) or [text]
    hit = [chance.random() < share for _ in clauses]
    if kind == "dropped":
        return "".join(c for c, harmed in zip(clauses, hit, strict=True) if not harmed) or clauses[0]
    if kind == "swapped":
        foreign = CLAUSE.findall(other) or [other]
        return "".join(chance.choice(foreign) if harmed else c for c, harmed in zip(clauses, hit, strict=True))
    if kind == "shuffled":
        return "".join(reordered(clauses, share, chance))
    return "".join(reordered(list(text), share, chance)) if kind == "scrambled" else text


def reordered(parts: list[str], share: float, chance: random.Random) -> list[str]:
    """Return the parts with about `share` of them in each other's places."""
    moved = [i for i in range(len(parts)) if chance.random() < share]
    result = list(parts)
    for place, source in zip(moved, chance.sample(moved, len(moved)), strict=True):
        result[place] = parts[source]
    return result


def grade(reference: str, candidate: str, share: float) -> float:
    """Return the mean of BLEU over characters, chrF (both by sacrebleu, 0 to 1) and the unharmed share."""
    spaced = [" ".join(text.replace(" ", "")) for text in (candidate, reference)]
    bleu = sacrebleu.sentence_bleu(spaced[0], [spaced[1]], tokenize="none").score
    return (bleu / 100 + sacrebleu.sentence_chrf(candidate, [reference]).score / 100 + 1 - share) / 3


def refiller(encoder_folder: str | Path, batch: int = 32) -> Callable[[Sequence[str], Sequence[float]], list[str]]:
    """Return a function that masks a share of each text's characters and lets the encoder guess them."""
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


def shared(ids: torch.Tensor, types: torch.Tensor, special: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which ids are characters, and for each whether the other text has it, and has it before the same next one.

    Args:
        ids: batch x length; those below `special` are not characters.
        types: batch x length, 0 in the first text and 1 in the second.

    Returns:
        batch x length; batch x length x 2.
    """
    real = ids >= special
    same = (ids[:, :, None] == ids[:, None, :]) & (types[:, :, None] != types[:, None, :])
    same &= real[:, :, None] & real[:, None, :]
    after = torch.zeros_like(same)
    after[:, :-1, :-1] = same[:, 1:, 1:]
    return real, torch.stack([same.any(-1), (same & after).any(-1)], -1).float()
