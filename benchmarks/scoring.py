"""Scoring: the five metrics beside the libraries called as their own pages show, with the same scores."""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import bert_score
import numpy as np
import sacrebleu
import torch
from nltk.translate.meteor_score import single_meteor_score

from benchmarks.table import Row
from cbtllm_utils import files
from cbtllm_utils.demo import scorers as tiny
from cbtllm_utils.evaluate import bleurt, jury_zh, metrics

SYSTEMS = 4  # as Table 4


def replies() -> tuple[list[list[str]], list[str]]:
    """Return the systems' replies and the references: recorded replies of the sample, each system's shifted."""
    rows = files.read_jsonl("data/sample/recorded_replies.jsonl")
    texts = ["".join(text for _, text in row["sections"]) for row in rows]
    return [texts[i:] + texts[:i] for i in range(1, SYSTEMS + 1)], texts


def timed(work: Callable[[], object]) -> tuple[float, np.ndarray]:
    """Return the CPU seconds of some work, and its numbers."""
    start = time.process_time()
    numbers = np.array(work(), dtype=float)
    return time.process_time() - start, numbers


def row(name: str, ours: Callable, against: str, theirs: Callable, factor: float) -> Row:
    """Measure both; the verdict is whether theirs takes `factor` times as long and the scores are the same."""
    (took, found), (other, expected) = timed(ours), timed(theirs)
    far = np.abs(found - expected).max()
    met = bool(other >= factor * took and far < 1e-6)
    return Row(f"{name} (largest difference {far:.0e})", took, against, other, f"≥ {factor} x", met)


def lexical_libraries(predictions: list[str], references: list[str]) -> list[float]:
    """Return BLEU, METEOR and chrF by sacrebleu and nltk."""
    lower = [[text.lower() for text in texts] for texts in (predictions, references)]
    bleu = sacrebleu.corpus_bleu(lower[0], [lower[1]], tokenize="zh", smooth_method="none").score
    chrf = sacrebleu.corpus_chrf(predictions, [references]).score
    tokens = (map(jury_zh.characters, texts) for texts in (references, predictions))
    meteor = [single_meteor_score(*pair, wordnet=jury_zh.NoWordNet()) for pair in zip(*tokens, strict=True)]
    return [bleu / 100, float(np.mean(meteor)), chrf / 100]


def rows() -> Iterator[Row]:
    """Yield the metrics without a model, then BERTScore and BLEURT by the demo's models of 4 layers, on one thread."""
    torch.set_num_threads(1)
    systems, references = replies()
    scorers = metrics.load()
    del scorers.metrics[3:], scorers.signatures[metrics.COMPAT]
    yield row(
        f"BLEU, METEOR, chrF: {SYSTEMS} systems x {len(references)} pairs, with the counts for intervals",
        lambda: [metrics.evaluate(scorers, own, references).scores["score"] for own in systems],
        "sacrebleu and nltk",
        lambda: [lexical_libraries(own, references) for own in systems],
        1.2,
    )
    few = [own[:60] for own in systems]
    candidates, repeated = [text for own in few for text in own], references[:60] * SYSTEMS
    size = f"{SYSTEMS} systems x 60 pairs"
    with tempfile.TemporaryDirectory() as folder, bleurt.quiet():
        encoder = tiny.encoder(references[:60], Path(folder) / "encoder", steps=1)
        checkpoint = tiny.bleurt(encoder, references[:60], Path(folder) / "bleurt", steps=1)
        scorer, options = jury_zh.BertScorer(encoder, 4), {"num_layers": 4, "use_fast_tokenizer": True}
        yield row(
            f"BERTScore, {size}",
            lambda: scorer.score(candidates, repeated)[2],
            "bert_score.score, one call per system",
            lambda: torch.cat([bert_score.score(s, references[:60], str(encoder), **options)[2] for s in few]),
            0.8,
        )
        candidates = [text[: 20 + 7 * i % 230] for i, text in enumerate(candidates)]  # No pair is cut.
        repeated = [text[: 20 + 11 * i % 230] for i, text in enumerate(repeated)]
        batches = [slice(i, i + 16) for i in range(0, len(candidates), 16)]
        both = bleurt.Scorer(checkpoint), bleurt.Scorer(checkpoint)
        yield row(
            f"BLEURT, {size} of 20 to 250 characters",
            lambda: both[0].score(references=repeated, candidates=candidates),
            "batches of 16 as they come",
            lambda: np.hstack([both[1].score(references=repeated[b], candidates=candidates[b]) for b in batches]),
            1.2,
        )
