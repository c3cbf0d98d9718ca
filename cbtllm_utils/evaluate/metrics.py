"""The five metrics of §4.4, through jury, each score with a signature that says what made it.

jury, torch and transformers load with the first `load`, not with this module.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from cbtllm_utils import __version__, files, hashing, statistics
from cbtllm_utils.evaluate import ngrams
from cbtllm_utils.evaluate.settings import EvaluationSettings

COLUMNS = {  # of Table 4, by metric
    "bleu": "BLEU",
    "meteor": "METEOR",
    "chrf": "CHRF",
    "bleurt": "BLEURT",
    "bertscore": "BERTSCORE",
}
CORPUS = {"bleu": ngrams.bleu, "chrf": ngrams.chrf}  # scores of sums over all items; the other metrics are means
NEURAL = ("bleurt", "bertscore")  # by a model
CACHE = "scores/.neural.jsonl"  # below the run: scores of pairs of texts by the two models
COMPAT = "chrf_jury_compat"  # jury 2.3.1's chrF as shipped: beside `chrf`, never in its place


@dataclass(frozen=True)
class Scorers:
    """The metrics in memory, as jury takes them, and what a signature says of each."""

    metrics: list
    signatures: dict[str, str]

    def prepare(self, predictions: Sequence[str], references: Sequence[str]) -> None:
        """Score all pairs of all systems with the neural models, so that each reference is encoded only once."""
        pairs = [(r, p) for p, r in zip(predictions, references, strict=True) if p.strip() and r.strip()]
        for metric in self.metrics:
            if hasattr(metric, "scorer"):
                metric.scorer.cache(pairs)


@dataclass(frozen=True)
class Result:
    """What one system got: a row per metric; a row per item and a column per metric; counts behind BLEU and chrF."""

    scores: pd.DataFrame
    items: pd.DataFrame
    counts: dict[str, np.ndarray] = field(repr=False)


def load(
    *,
    tokenize: str = "characters",
    bertscore_model: str | Path | None = None,
    bertscore_layer: int | None = None,
    bleurt_model: str | Path | None = None,
    cache: str | Path | None = None,
) -> Scorers:
    """Return the metrics with their models: BLEU, METEOR and chrF always, BLEURT and BERTScore where a folder is given.

    Args:
        tokenize: For BLEU and METEOR: "characters" (sacrebleu's `zh`) or "words" (jieba).
        bertscore_model: A local folder with an encoder.
        bertscore_layer: By default the layer that bert_score recommends for a model of that name.
        bleurt_model: A local folder in the layout of BLEURT's PyTorch conversions.
        cache: A file in which the scores of both models outlive the process.

    Raises:
        InputError: When a layer or a folder cannot be used.
    """
    from cbtllm_utils.evaluate import jury_zh

    tokens = f"tok:sacrebleu-{version('sacrebleu')}-zh" if tokenize == "characters" else f"tok:jieba-{version('jieba')}"
    options = "case:mixed|nc:6|nw:0|beta:2|space:no"
    as_shipped = jury_zh.CHRFForLanguageGeneration(resulting_name=COMPAT, keep_in_memory=True)
    metrics = [jury_zh.Bleu(tokenize), jury_zh.Meteor(tokenize), jury_zh.Chrf(), as_shipped]
    signatures = {
        "bleu": f"cbtllm_utils:{__version__}|{tokens}|case:lc|n:4|smooth:none",
        "meteor": f"nltk:{version('nltk')}|{tokens}|case:lc|wordnet:none",
        "chrf": f"cbtllm_utils:{__version__}|{options}",
        COMPAT: f"sacrebleu:{version('sacrebleu')}|{options}|first item against all references",
    }
    if bleurt_model:
        metric = jury_zh.Bleurt(bleurt_model, cache)
        metrics.append(metric)
        signatures["bleurt"] = (  # tokens: of both texts with three marks; what is longer is cut
            f"transformers:{version('transformers')}|model:{model_name(bleurt_model)}|tokens:{metric.scorer.longest}"
        )
    if bertscore_model:
        layer = recommended_layer(bertscore_model) if bertscore_layer is None else bertscore_layer
        metric = jury_zh.BertScore(bertscore_model, layer, cache)
        metrics.append(metric)
        signatures["bertscore"] = (
            f"bert_score:{version('bert-score')}|model:{model_name(bertscore_model)}|layer:{layer}"
            f"|idf:no|rescaled:no|tokens:{metric.scorer.longest}"
        )
    return Scorers(metrics, signatures)


def of_run(chosen: EvaluationSettings) -> Scorers:
    """Return the metrics that the settings name; scores of the models are cached below the run."""
    bertscore, bleurt = (
        name and files.local_or_hub(name, chosen.run) for name in (chosen.bertscore_model, chosen.bleurt_model)
    )
    return load(
        tokenize=chosen.tokenize,
        bertscore_model=bertscore,
        bertscore_layer=chosen.bertscore_layer,
        bleurt_model=bleurt,
        cache=f"{chosen.run}/{CACHE}",
    )


def english_defaults(
    chosen: EvaluationSettings, systems: Mapping[str, Sequence[str]], references: Sequence[str]
) -> pd.DataFrame:
    """Return each system's BLEURT and BERTScore by jury's own, English, models; no row where the settings name none.

    Returns:
        system, metric, score, signature.
    """
    names, rows = (chosen.english_bertscore, chosen.english_bleurt), []
    if all(names):
        one, two = (files.local_or_hub(name, chosen.run) for name in names)
        scorers = load(bertscore_model=one, bleurt_model=two, cache=f"{chosen.run}/{CACHE}")
        for system, replies in systems.items():
            found = evaluate(scorers, replies, references).scores
            rows.append(found[found["metric"].isin(NEURAL)].assign(system=system).replace({"metric": COLUMNS}))
    empty = pd.DataFrame(columns=["system", "metric", "score", "signature"])
    return pd.concat(rows)[list(empty)] if rows else empty


def jury_defects(predictions: Sequence[str], references: Sequence[str], tokenize: str) -> pd.DataFrame:
    """Return scores of one system as jury computes them and as we correct them: BLEU, and chrF of reordered items.

    jury's tokenizer splits at spaces; its chrF scores the first prediction alone against all references.
    """
    from jury.tokenizer import DefaultTokenizer

    n, split = len(references), DefaultTokenizer().tokenize
    orders = {
        "chrF, items in order": range(n),
        "chrF, items in reverse order": range(n)[::-1],
        "chrF, second half of the items first": [*range(n // 2, n), *range(n // 2)],
    }
    scorers, found = load(tokenize=tokenize), {}
    for name, order in orders.items():
        result = evaluate(scorers, [predictions[i] for i in order], [references[i] for i in order])
        found[name] = result.scores.set_index("metric")["score"]
    counts = [ngrams.bleu_counts(split(p), split(r)) for p, r in zip(predictions, references, strict=True)]
    rows = [("BLEU", float(ngrams.bleu(np.sum(counts, axis=0))), result.scores.set_index("metric")["score"]["bleu"])]
    rows += [(name, scores[COMPAT], scores["chrf"]) for name, scores in found.items()]
    return pd.DataFrame(rows, columns=["score", "jury as it comes", "corrected"])


def evaluate(scorers: Scorers, predictions: Sequence[str], references: Sequence[str]) -> Result:
    """Return the scores of predictions against references, item by item; the texts are left as they are.

    An item with an empty side scores 0, is never dropped, and is counted in the signature, as is one that was cut to a
    model's length.

    Raises:
        InputError: For lists of unequal length and empty lists.
    """
    from jury import Jury

    if len(predictions) != len(references) or not len(predictions):
        raise files.InputError(
            f"{len(predictions)} predictions and {len(references)} references; give one reference for each prediction"
        )
    found = Jury(metrics=list(scorers.metrics))(
        predictions=[[text if text.strip() else ""] for text in predictions],
        references=[[text] for text in references],
    )
    empty = sum(not p.strip() or not r.strip() for p, r in zip(predictions, references, strict=True))
    rows, items, counts = [], {}, {}
    for metric, signature in scorers.signatures.items():
        cut = f"|cut:{found[metric]['cut']}" if "cut" in found[metric] else ""
        signature = f"{metric}|jury:{version('jury')}|{signature}|items:{len(predictions)}|empty:{empty}{cut}"
        rows.append({"metric": metric, "score": float(found[metric]["score"]), "signature": signature})
        if metric != COMPAT:
            items[metric] = found[metric]["scores"]
        if metric in CORPUS:
            counts[metric] = found[metric]["counts"]
    return Result(pd.DataFrame(rows), pd.DataFrame(items, dtype=float), counts)


def score(predictions: Sequence[str], references: Sequence[str], **options: object) -> pd.DataFrame:
    """Return one row per metric: metric, score (0 to 1), signature. The options are those of `load`."""
    return evaluate(load(**options), predictions, references).scores


def draws(result: Result, resamples: int, seed: int) -> pd.DataFrame:
    """Return resamples x metrics: each metric's score of resampled items; all metrics in a row have the same draw.

    BLEU and chrF are computed anew from each draw's summed counts, as they are corpus scores; the others are means.
    `chrf_jury_compat` has none: it is one item's score.
    """
    numbers = {name: result.counts.get(name, result.items[[name]].to_numpy()) for name in result.items}
    sums = statistics.resampled_sums(np.hstack(list(numbers.values())), resamples=resamples, seed=seed)
    ends = np.cumsum([own.shape[1] for own in numbers.values()])
    found = {}
    for name, own in zip(numbers, np.split(sums, ends[:-1], axis=1), strict=True):
        found[name] = CORPUS[name](own) if name in CORPUS else own[:, 0] / len(result.items)
    return pd.DataFrame(found)


def intervals(result: Result, drawn: pd.DataFrame) -> pd.DataFrame:
    """Return the scores with low and high between score and signature: the central 95 % of their `draws`."""
    bounds = {name: statistics.quantiles(drawn[name].to_numpy()) for name in drawn}
    ends = [bounds.get(metric, (np.nan, np.nan)) for metric in result.scores["metric"]]
    table = result.scores.assign(low=[low for low, _ in ends], high=[high for _, high in ends])
    return table[["metric", "score", "low", "high", "signature"]]


def model_name(folder: str | Path) -> str:
    """Return a model's name for signatures: its folder or hub id, and the first 8 digits of its weights' SHA-256."""
    place = Path(folder)
    weights = [place / name for name in ("model.safetensors", "pytorch_model.bin") if (place / name).is_file()]
    digest = hashing.sha256(weights[0] if weights else place)[:8]
    hub = place.parent.parent.name if place.parent.name == "snapshots" else ""
    return f"{hub.removeprefix('models--').replace('--', '/') or place.name}#{digest}"


def recommended_layer(folder: str | Path) -> int:
    """Return the layer that bert_score recommends for the model of this name; InputError where it has none."""
    from bert_score.utils import model2layers

    name = model_name(folder).partition("#")[0].rpartition("/")[2]
    if name not in model2layers:
        raise files.InputError(f"bertscore_layer: bert_score recommends none for {name!r}; give a number from 1 on")
    return model2layers[name]
