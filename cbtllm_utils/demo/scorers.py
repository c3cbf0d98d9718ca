"""Two tiny scorers made on the spot, so that BERTScore and BLEURT run offline: what they know is the sample's surface.

Both come in the files of the published models: bert-base-chinese's, and those of BLEURT's PyTorch conversions. Their
scores can be compared with each other within one run, never with published ones.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, BertForSequenceClassification, BertTokenizer

from cbtllm_utils import files
from cbtllm_utils.demo.pairs import pairs, refiller, shared
from cbtllm_utils.demo.training import updater
from cbtllm_utils.evaluate.bleurt import quiet

# 4 layers x 198k + (about 2,000 characters + 512 places) x 128: about 1.1 million parameters
SIZE = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 512}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # few passes: nothing to overfit
PLACES = 512  # as many as bert-base-chinese and BLEURT-20 have: longer texts are cut there and here
MASKED = 0.2  # the share of characters that the encoder must guess
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def vocabulary(texts: Sequence[str]) -> list[str]:
    """The entries of a vocab.txt: special tokens, printable ASCII, then the texts' characters, most frequent first.

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
    tick: Callable[[], None] = lambda: None,
) -> Path:
    """The folder of a character-level BERT that was trained to guess masked characters of `texts`.

    Holds config.json, model.safetensors (BertForMaskedLM), vocab.txt and the tokenizer's files. Sees `steps` batches of
    `batch` windows of `length` characters. `tick` is called after each. Same texts, numbers and machine: same bytes.
    """
    with files.atomic(folder) as place, torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        tokenizer = save_tokenizer(vocabulary(texts), place)
        config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=PLACES, **NO_DROPOUT, **size)
        model = BertForMaskedLM(config).train()
        liken(model)
        update = updater(model, learning_rate, steps)
        for ids, positions, targets in windows(texts, tokenizer, steps, batch, length):
            asked = targets >= 0
            guesses = model.cls(model.bert(input_ids=ids, position_ids=positions)[0][asked])
            update(cross_entropy(guesses, targets[asked]))
            tick()
        model.save_pretrained(place)
    return files.path(folder)


def save_tokenizer(entries: Sequence[str], place: Path) -> object:
    """A BERT tokenizer with these entries, after its files were written to `place`."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "vocab.txt").write_text("".join(f"{entry}\n" for entry in entries), encoding="utf-8", newline="\n")
    tokenizer = BertTokenizer(vocab=str(place / "vocab.txt"), model_max_length=PLACES)
    tokenizer.save_pretrained(place)
    return tokenizer


def liken(model: object) -> None:
    """Nothing; a character of `model` now looks first at its likes: keys begin as queries (Trockman and Kolter 2023).

    A scorer must see what two texts share. From weights by chance, and with places as loud as characters, the encoder
    and the head together needed more than twice the steps to see it.
    """
    torch.nn.init.normal_(model.bert.embeddings.word_embeddings.weight, std=0.1)  # places and types keep 0.02
    for layer in model.bert.encoder.layer:
        query, key = layer.attention.self.query, layer.attention.self.key
        torch.nn.init.normal_(query.weight, std=query.in_features**-0.5)
        with torch.no_grad():
            key.weight.copy_(query.weight)


def windows(texts: Sequence[str], tokenizer: object, steps: int, batch: int, length: int) -> Iterator[tuple]:
    """Batches for the encoder: ids, positions and targets, each `batch` x `length`; a target of -1 is not asked for.

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
    tick: Callable[[], None] = lambda: None,
) -> Path:
    """The folder of a BLEURT: the encoder and a linear head, trained to grade damaged copies of `texts` (see `pairs`).

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
            told = model.shared(states.last_hidden_state[real])
            update(mse_loss(grade, torch.tensor(grades)) + binary_cross_entropy_with_logits(told, wanted[real]))
            tick()
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
