"""jury's five metrics, mended for Chinese and for work without a network: thin subclasses, one for each.

As shipped, jury 2.3.1 splits at spaces (a Chinese text is one word), fetches a script, a lexicon and weights from the
web, scores the first prediction only in chrF, drops empty items from the caller's lists and breaks on empty texts.
Each result gains `scores`, one number an item, or `counts`, whose sums make the score.
"""

import functools
import sys
from itertools import groupby
from pathlib import Path

import numpy as np
from jury.metrics.bertscore.bertscore_for_language_generation import BertscoreForLanguageGeneration
from jury.metrics.bleu.bleu_for_language_generation import BleuForLanguageGeneration
from jury.metrics.bleurt.bleurt_for_language_generation import BleurtForLanguageGeneration
from jury.metrics.chrf.chrf_for_language_generation import CHRFForLanguageGeneration
from jury.metrics.meteor.meteor_for_language_generation import MeteorForLanguageGeneration
from nltk.stem.porter import PorterStemmer
from sacrebleu.tokenizers.tokenizer_re import TokenizerRegexp
from sacrebleu.tokenizers.tokenizer_zh import TokenizerZh

from cbtllm_utils import files
from cbtllm_utils.evaluate import bertscore, bleurt, ngrams

LATIN, IS_CHINESE = TokenizerRegexp(), TokenizerZh._is_chinese_char


@functools.lru_cache(maxsize=2**13)
def characters(text: str) -> tuple[str, ...]:
    """sacrebleu's `zh` tokens of the lower-cased text: each Chinese character, and words between them by its 13a rules.

    The same tokens ten times as fast, because those rules run over the stretches without Chinese only.
    """
    text, found, place = text.lower().strip(), [], 0
    for chinese, stretch in groupby(text, IS_CHINESE):
        run = "".join(stretch)
        end = place + len(run)
        around = (" " if place else "") + run + (" " if end < len(text) else "")  # the spaces that sacrebleu sets
        found += run if chinese else LATIN(around).split()
        place = end
    return tuple(sys.intern(token) for token in found if not token.isspace())  # else 80 bytes for each of a million 的


@functools.lru_cache(maxsize=2**13)
def words(text: str) -> tuple[str, ...]:
    """jieba's words of the lower-cased text, without spaces."""
    import jieba

    jieba.setLogLevel("ERROR")
    return tuple(sys.intern(word) for word in jieba.lcut(text.lower()) if not word.isspace())


TOKENIZERS = {"characters": characters, "words": words}


class Tokenizer:
    """One of `TOKENIZERS` as jury wants it."""

    def __init__(self, name: str) -> None:
        self.tokenize = TOKENIZERS[name]


class OnePair:
    """One prediction and one reference an item, and nothing fetched: what all of ours have in common.

    jury's own way guesses the nesting from the data, and breaks when the first prediction has no token.
    """

    def evaluate(self, predictions: list, references: list, reduce_fn: object = None, **options: object) -> dict:
        predictions, references = self._preprocess(predictions, references)
        firsts = [p[0] for p in predictions], [r[0] for r in references]
        return self._compute_single_pred_single_ref(*firsts, reduce_fn=reduce_fn, **options)

    def _download_and_prepare(self, dl_manager: object) -> None:
        self.external_module_path = None


class Bleu(OnePair, BleuForLanguageGeneration):
    """BLEU of orders 1 to 4 over the whole corpus, unsmoothed; `counts` by item."""

    def __init__(self, tokenize: str) -> None:
        super().__init__(resulting_name="bleu", keep_in_memory=True)
        self.tokenizer = Tokenizer(tokenize)

    def _compute_bleu_score(
        self, predictions: list, references: list, max_order: int = 4, smooth: bool = False
    ) -> dict:
        counts = np.array([ngrams.bleu_counts(p, r) for p, (r,) in zip(predictions, references, strict=True)])
        return {"score": float(ngrams.bleu(counts)), "counts": counts}


class NoLexicon:
    """WordNet without entries: the English one has no Chinese words, and METEOR would ask the network for it."""

    @staticmethod
    def synsets(word: str) -> list:
        return []


class Stems:
    """nltk's default stemmer, asked once a word: a corpus has few characters, and each costs it some microseconds."""

    def __init__(self) -> None:
        self.stem = functools.cache(PorterStemmer().stem)


class Meteor(OnePair, MeteorForLanguageGeneration):
    """METEOR by nltk (exact matches and English stems), the mean over items; `scores` by item."""

    def __init__(self, tokenize: str) -> None:
        super().__init__(resulting_name="meteor", keep_in_memory=True)
        self.tokenizer = Tokenizer(tokenize)

    def _compute_single_pred_single_ref(self, predictions: list, references: list, reduce_fn: object = None) -> dict:
        from nltk.translate.meteor_score import single_meteor_score

        pairs, given = zip(references, predictions, strict=True), {"stemmer": Stems(), "wordnet": NoLexicon()}
        scores = [float(single_meteor_score(r, p, **given)) if r and p else 0.0 for r, p in pairs]
        return {"score": float(np.mean(scores)), "scores": scores}


class Chrf(OnePair, CHRFForLanguageGeneration):
    """chrF over the whole corpus, each prediction against its own reference, as sacrebleu has it; `counts` by item."""

    def __init__(self) -> None:
        super().__init__(resulting_name="chrf", keep_in_memory=True)

    def _download_and_prepare(self, dl_manager: object) -> None:
        CHRFForLanguageGeneration._download_and_prepare(self, dl_manager)

    def _compute_single_pred_single_ref(self, predictions: list, references: list, reduce_fn: object = None) -> dict:
        counts = np.array([ngrams.chrf_counts(p, r) for p, r in zip(predictions, references, strict=True)])
        return {"score": float(ngrams.chrf(counts)), "counts": counts}


class AsShipped(CHRFForLanguageGeneration):
    """jury 2.3.1's own chrF: of the first prediction, against the best of all references.

    sacrebleu counts all of them before it compares, 0.3 MB each; the best of some, and of these, is the same.
    """

    def __init__(self) -> None:
        super().__init__(resulting_name="chrf_jury_compat", keep_in_memory=True)

    def _compute_chrf_score(self, predictions: list, references: list, **options: object) -> tuple:
        some = [references[start : start + 64] for start in range(0, len(references), 64)]
        return max(CHRFForLanguageGeneration._compute_chrf_score(self, predictions, few, **options) for few in some)


class Filled:
    """Items with an empty side get 0 and never reach the model, which would answer something; `cut` are counted."""

    def _compute_single_pred_single_ref(self, predictions: list, references: list, **options: object) -> dict:
        kept = [i for i, (p, r) in enumerate(zip(predictions, references, strict=True)) if p.strip() and r.strip()]
        said, there = [predictions[i] for i in kept], [references[i] for i in kept]
        scores = np.zeros(len(predictions))
        if kept:
            scores[kept] = super()._compute_single_pred_single_ref(said, there, **options)[self.by_item]
        return {"score": float(scores.mean()), "scores": scores.tolist(), "cut": self.scorer.cut if kept else 0}


class BertScore(Filled, OnePair, BertscoreForLanguageGeneration):
    """BERTScore's F1 from a layer of bert_score's encoder, no idf, not rescaled; `scores` by item, items `cut`."""

    by_item = "f1"

    def __init__(self, folder: str | Path, layer: int, batch_size: int = 32) -> None:
        if "t5" in str(folder):
            raise files.InputError(
                f"{files.shown(folder)}: bert_score takes any path with 't5' for a T5; rename a folder"
            )
        kind = {"model_type": str(folder), "num_layers": layer, "use_fast_tokenizer": True}
        self.options = kind | {"batch_size": batch_size, "lang": None}
        super().__init__(resulting_name="bertscore", compute_kwargs=dict(self.options), keep_in_memory=True)

    def _download_and_prepare(self, dl_manager: object) -> None:
        BertscoreForLanguageGeneration._download_and_prepare(self, dl_manager)
        try:
            with bleurt.quiet():
                self.scorer = self.cached_bertscorer = bertscore.Scorer(**self.options)
        except AssertionError as error:
            raise files.InputError(f"bertscore_layer = {self.options['num_layers']}: {error}") from None
        config, tokenizer = self.scorer._model.config, self.scorer._tokenizer
        places = config.max_position_embeddings - (2 if "roberta" in config.model_type else 0)  # it counts from 2
        tokenizer.model_max_length = min(tokenizer.model_max_length, places)


class Bleurt(Filled, OnePair, BleurtForLanguageGeneration):
    """BLEURT from a local checkpoint, the mean over items; `scores` by item, items `cut`."""

    by_item = "scores"

    def __init__(self, folder: str | Path, batch_size: int = 16) -> None:
        self.folder, self.batch_size = folder, batch_size
        super().__init__(resulting_name="bleurt", keep_in_memory=True)

    def _download_and_prepare(self, dl_manager: object) -> None:
        self.scorer = bleurt.Scorer(self.folder, self.batch_size)
