"""jury's five metrics for Chinese texts and without a network: one small subclass for each.

As shipped, jury 2.3.1 splits at spaces (a Chinese text is one word), fetches a script, a lexicon and weights from the
web, scores only the first prediction in chrF, and fails on texts without a word. Each subclass replaces jury's public
`evaluate`, which `jury.Jury` calls with one prediction and one reference per item, and `download_and_prepare` where
jury would fetch something. Each result gains `scores`, one per item; BLEU and chrF gain `counts`, whose sums make them.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import bert_score
import numpy as np
import torch
from jury.collator import Collator
from jury.metrics.bertscore.bertscore_for_language_generation import BertscoreForLanguageGeneration
from jury.metrics.bleu.bleu_for_language_generation import BleuForLanguageGeneration
from jury.metrics.bleurt.bleurt_for_language_generation import BleurtForLanguageGeneration
from jury.metrics.chrf.chrf_for_language_generation import CHRFForLanguageGeneration
from jury.metrics.meteor.meteor_for_language_generation import MeteorForLanguageGeneration
from nltk.translate.meteor_score import single_meteor_score
from sacrebleu.tokenizers.tokenizer_zh import TokenizerZh
from transformers import AutoConfig

from cbtllm_utils import files
from cbtllm_utils.evaluate import bleurt, ngrams, score_cache

SACREBLEU_ZH = TokenizerZh()


def characters(text: str) -> list[str]:
    """Return sacrebleu's `zh` tokens of the lower-cased text: Chinese characters, and words between them by 13a."""
    return SACREBLEU_ZH(text.lower()).split()


def words(text: str) -> list[str]:
    """Return jieba's words of the lower-cased text, without spaces."""
    import jieba

    jieba.setLogLevel("ERROR")
    return [word for word in jieba.lcut(text.lower()) if not word.isspace()]


TOKENIZERS = {"characters": characters, "words": words}


class Offline:
    """A metric that fetches nothing."""

    def download_and_prepare(self, *args: object, **options: object) -> None:
        """Do nothing, where jury would fetch what the metric needs."""


class Bleu(Offline, BleuForLanguageGeneration):
    """BLEU of orders 1 to 4 over the whole corpus, unsmoothed, of Chinese tokens; items smoothed."""

    def __init__(self, tokenize: str) -> None:
        self.tokenize = TOKENIZERS[tokenize]
        super().__init__(resulting_name="bleu", keep_in_memory=True)

    def evaluate(self, predictions: Collator, references: Collator, **options: object) -> dict:
        pairs = zip(predictions, references, strict=True)
        counts = np.array([ngrams.bleu_counts(self.tokenize(p), self.tokenize(r)) for (p,), (r,) in pairs])
        scores = ngrams.bleu(counts, smooth=True)
        return {"score": float(ngrams.bleu(counts.sum(axis=0))), "scores": scores, "counts": counts}


class NoWordNet:
    """WordNet without entries: the English one has no Chinese words, and nltk would look for its files."""

    @staticmethod
    def synsets(word: str) -> list:
        return []


class Meteor(Offline, MeteorForLanguageGeneration):
    """The mean of nltk's METEOR (exact matches and English stems) of Chinese tokens; `scores` by item."""

    def __init__(self, tokenize: str) -> None:
        self.tokenize = TOKENIZERS[tokenize]
        super().__init__(resulting_name="meteor", keep_in_memory=True)

    def evaluate(self, predictions: Collator, references: Collator, **options: object) -> dict:
        pairs = [(self.tokenize(r), self.tokenize(p)) for (p,), (r,) in zip(predictions, references, strict=True)]
        scores = [float(single_meteor_score(*pair, wordnet=NoWordNet())) if all(pair) else 0.0 for pair in pairs]
        return {"score": float(np.mean(scores)), "scores": scores}


class Chrf(CHRFForLanguageGeneration):
    """chrF over the whole corpus, each prediction against its own reference, as sacrebleu has it."""

    def __init__(self) -> None:
        super().__init__(resulting_name="chrf", keep_in_memory=True)

    def evaluate(self, predictions: Collator, references: Collator, **options: object) -> dict:
        pairs = zip(predictions, references, strict=True)
        counts = np.array([ngrams.chrf_counts(p, r) for (p,), (r,) in pairs])
        return {"score": float(ngrams.chrf(counts.sum(axis=0))), "scores": ngrams.chrf(counts), "counts": counts}


class EmptyIsZero:
    """A neural metric by jury's own `evaluate`, but an item with an empty text gets 0 and does not reach the model.

    The result has `scores` by item and `cut`, how many items were longer than the model reads.
    """

    def evaluate(self, predictions: Collator, references: Collator, **options: object) -> dict:
        pairs = zip(predictions, references, strict=True)
        full = [i for i, ((p,), (r,)) in enumerate(pairs) if p.strip() and r.strip()]
        scores, cut = np.zeros(len(predictions)), 0
        if full:
            texts = (Collator([side[i] for i in full], keep=True) for side in (predictions, references))
            scores[full] = super().evaluate(*texts, **options)[self.item_scores]
            cut = self.scorer.cut
        return {"score": float(scores.mean()), "scores": scores.tolist(), "cut": cut}


class BertScorer(bert_score.BERTScorer):
    """bert_score's own scorer, without idf and rescaling, for a local encoder.

    `longest` is how many tokens of a text the encoder reads; `cut` counts the pairs of the last call with a longer one.
    """

    def __init__(self, folder: str | Path, layer: int, cache: str | Path | None = None) -> None:
        if "t5" in str(folder):
            raise files.InputError(
                f"{files.shown(folder)}: bert_score takes any path with 't5' for a T5; rename a folder"
            )
        try:
            with bleurt.quiet():
                super().__init__(model_type=str(folder), num_layers=layer, use_fast_tokenizer=True)
        except AssertionError as error:
            raise files.InputError(f"bertscore_layer = {layer}: {error}") from None
        config = AutoConfig.from_pretrained(folder)
        positions = config.max_position_embeddings - (2 if "roberta" in config.model_type else 0)  # They start at 2.
        # A private attribute: bert_score cuts texts at its tokenizer's limit, fails where the tokenizer states none, as
        # hfl/chinese-roberta-wwm-ext's, and offers no other way to set one.
        self.tokenizer = self._tokenizer
        self.longest = self.tokenizer.model_max_length = min(self.tokenizer.model_max_length, positions)
        self.cut = 0
        key = score_cache.key(folder, metric="bertscore", layer=layer, tokens=self.longest)
        self.cache = score_cache.ScoreCache(self.stream, key, cache)

    def score(
        self, cands: Sequence[str], refs: Sequence[str], verbose: bool = False, batch_size: int = 64
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return precision, recall and F1 of each candidate; jury calls this."""
        rows = self.cache(list(zip(refs, cands, strict=True)))
        self.cut = sum(int(row[3]) for row in rows)
        return tuple(torch.tensor(rows, dtype=torch.float64)[:, :3].T)

    def stream(self, pairs: list[score_cache.Pair]) -> Iterator[tuple[int, list[float]]]:
        """Yield the index of each pair and [precision, recall, F1, 1 if it was cut], reference by reference.

        bert_score encodes a reference once for all candidates of one call. Its batches are in the order of a set, which
        changes from process to process, and padding counts as a similarity of 0. Batches of one have neither effect.
        """
        order = sorted(range(len(pairs)), key=lambda i: pairs[i][0])
        for reference, group in groupby(order, key=lambda i: pairs[i][0]):
            indices = list(group)
            candidates = [pairs[i][1] for i in indices]
            found = super().score(candidates, [reference] * len(candidates), batch_size=1)
            for i, candidate, *numbers in zip(indices, candidates, *found, strict=True):
                cut = self.is_cut(reference) or self.is_cut(candidate)
                yield i, [*map(float, numbers), float(cut)]

    def is_cut(self, text: str) -> bool:
        """Return whether a text has more tokens than the encoder reads."""
        return len(self.tokenizer.encode(text.strip(), verbose=False)) > self.longest


class BertScore(EmptyIsZero, BertscoreForLanguageGeneration):
    """BERTScore's F1 by bert_score and a local encoder, no idf, not rescaled."""

    item_scores = "f1"

    def __init__(self, folder: str | Path, layer: int, cache: str | Path | None = None) -> None:
        options = {"model_type": str(folder), "num_layers": layer, "lang": None, "use_fast_tokenizer": True}
        super().__init__(resulting_name="bertscore", compute_kwargs=options, keep_in_memory=True)
        # jury makes a scorer of its own unless it already has one of the same settings under this name.
        self.scorer = self.cached_bertscorer = BertScorer(folder, layer, cache)


class Bleurt(EmptyIsZero, Offline, BleurtForLanguageGeneration):
    """BLEURT by a local checkpoint."""

    item_scores = "scores"

    def __init__(self, folder: str | Path, cache: str | Path | None = None) -> None:
        super().__init__(resulting_name="bleurt", keep_in_memory=True)
        self.scorer = bleurt.Scorer(folder, cache=cache)
