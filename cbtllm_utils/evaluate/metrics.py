"""The five metrics of §4.4, through jury, each score with a signature that says what made it.

jury, torch and transformers load with the first `load`, not with this module.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from cbtllm_utils import __version__, files, hashing, statistics
from cbtllm_utils.evaluate import ngrams
from cbtllm_utils.evaluate.score_cache import Kept

COLUMNS = {
    "bleu": "BLEU",
    "meteor": "METEOR",
    "chrf": "CHRF",
    "bleurt": "BLEURT",
    "bertscore": "BERTSCORE",
}  # Table 4's
CORPUS = {"bleu": ngrams.bleu, "chrf": ngrams.chrf}  # scores of sums over all items; the other metrics are means
SINGLE = {"bleu": functools.partial(ngrams.bleu, axis=1, smooth=True), "chrf": functools.partial(ngrams.chrf, axis=1)}
COMPAT = "chrf_jury_compat"  # jury 2.3.1's chrF as shipped: beside `chrf`, never in its place


@dataclass(frozen=True)
class Scorers:
    """Everything that `evaluate` needs in memory, and what a signature says of each metric."""

    metrics: list
    says: dict[str, str]

    def neural(self) -> dict[str, object]:
        """The models by metric."""
        return {own.resulting_name: own.scorer for own in self.metrics if hasattr(own, "scorer")}

    def prepare(self, predictions: Sequence[str], references: Sequence[str]) -> None:
        """Nothing, after the models have scored all pairs, of all systems: each reference is then encoded once."""
        pairs = [(r, p) for p, r in zip(predictions, references, strict=True) if p.strip() and r.strip()]
        for scorer in self.neural().values():
            scorer.kept(pairs)


@dataclass(frozen=True)
class Result:
    """What one system got: one row a metric; one row an item and a column a metric; counts behind BLEU and chrF."""

    scores: pd.DataFrame
    items: pd.DataFrame
    counts: dict[str, np.ndarray] = field(repr=False)


def load(
    *,
    tokenize: str = "characters",
    bertscore_model: str | Path | None = None,
    bertscore_layer: int | None = None,
    bleurt_model: str | Path | None = None,
    batch_size: int = 16,
    kept: str | Path | None = None,
    key: str = "",
) -> Scorers:
    """The metrics with their models: BLEU, METEOR and chrF always, BLEURT and BERTScore where a folder is given.

    `tokenize`, for BLEU and METEOR: "characters" (sacrebleu's `zh`) or "words" (jieba). Models are local directories.
    `bertscore_layer`: None takes what bert_score recommends for a model of that name. InputError when there is none.
    `kept`: a file in which BLEURT's and BERTScore's numbers outlive the process, by content; `key` names what they
    depend on besides texts and signature, such as the code.
    """
    from cbtllm_utils.evaluate import jury_zh

    if tokenize not in jury_zh.TOKENIZERS:
        raise files.InputError(f"tokenize = {tokenize!r}: there are {', '.join(jury_zh.TOKENIZERS)}")
    by = f"tok:sacrebleu-{version('sacrebleu')}-zh" if tokenize == "characters" else f"tok:jieba-{version('jieba')}"
    own = [jury_zh.Bleu(tokenize), jury_zh.Meteor(tokenize), jury_zh.Chrf(), jury_zh.AsShipped()]
    says = {
        "bleu": f"cbtllm_utils:{__version__}|{by}|case:lc|n:4|smooth:none",
        "meteor": f"nltk:{version('nltk')}|{by}|case:lc|wordnet:none",
    }
    kind = "case:mixed|nc:6|nw:0|beta:2|space:no"
    says |= {"chrf": f"cbtllm_utils:{__version__}|{kind}"}
    says |= {COMPAT: f"sacrebleu:{version('sacrebleu')}|{kind}|first item against all references"}
    if bleurt_model:
        own.append(jury_zh.Bleurt(bleurt_model, batch_size))
        says["bleurt"] = f"transformers:{version('transformers')}|model:{model_name(bleurt_model)}"
        says["bleurt"] += f"|tokens:{own[-1].scorer.longest}"  # of both texts with three marks; what is longer is cut
    if bertscore_model:
        layer = recommended(bertscore_model) if bertscore_layer is None else bertscore_layer
        own.append(jury_zh.BertScore(bertscore_model, layer, batch_size))
        says["bertscore"] = f"bert_score:{version('bert-score')}|model:{model_name(bertscore_model)}|layer:{layer}"
        says["bertscore"] += f"|idf:no|rescaled:no|tokens:{own[-1].scorer._tokenizer.model_max_length}"
    scorers = Scorers(own, says)
    for name, scorer in scorers.neural().items():
        scorer.kept = Kept(scorer.stream, f"{name} {says[name]} {key}", kept)
    return scorers


def evaluate(scorers: Scorers, predictions: Sequence[str], references: Sequence[str]) -> Result:
    """What the predictions get against the references, item by item of equal length; texts are left as they are.

    An item with an empty side scores 0, is never dropped, and is counted in the signature, as is one cut to a model's
    length. InputError for lists of unequal length, empty lists and anything that is no text.
    """
    from jury import Jury

    check(predictions, references)
    nested = [[text if text.strip() else ""] for text in predictions], [[text] for text in references]
    found = Jury(metrics=list(scorers.metrics))(predictions=nested[0], references=nested[1])
    empty = sum(not p.strip() or not r.strip() for p, r in zip(predictions, references, strict=True))
    rows, items, counts = [], {}, {}
    for metric, says in scorers.says.items():
        cut = f"|cut:{found[metric]['cut']}" if "cut" in found[metric] else ""
        signature = f"{metric}|jury:{version('jury')}|{says}|items:{len(predictions)}|empty:{empty}{cut}"
        rows.append({"metric": metric, "score": float(found[metric]["score"]), "signature": signature})
        if "counts" in found[metric]:
            counts[metric] = found[metric]["counts"]
            items[metric] = SINGLE[metric](counts[metric][:, None])
        elif metric != COMPAT:
            items[metric] = found[metric]["scores"]
    return Result(pd.DataFrame(rows), pd.DataFrame(items, dtype=float), counts)


def score(predictions: Sequence[str], references: Sequence[str], **options: object) -> pd.DataFrame:
    """One row a metric: metric, score (0 to 1), signature. Options are those of `load`."""
    return evaluate(load(**options), predictions, references).scores


def draws(result: Result, resamples: int, seed: int) -> pd.DataFrame:
    """resamples x metrics: each metric's score of resampled items, of one draw a row.

    BLEU and chrF are computed anew from each draw's summed counts, as they are corpus scores; the others are means.
    `chrf_jury_compat` has none: it is one item's score. Rows of equal number, seed and items hold the same draws.
    """
    parts = {name: result.counts.get(name, result.items[[name]].to_numpy()) for name in result.items}
    sums = statistics.resampled_sums(np.hstack(list(parts.values())), resamples=resamples, seed=seed)
    own = np.split(sums, np.cumsum([part.shape[1] for part in parts.values()])[:-1], axis=1)
    found = {
        name: CORPUS[name](part[:, None], axis=1) if name in CORPUS else part[:, 0] / len(result.items)
        for name, part in zip(parts, own, strict=True)
    }
    return pd.DataFrame(found)


def intervals(result: Result, drawn: pd.DataFrame) -> pd.DataFrame:
    """The result's scores with low and high between score and signature: 95 % of what `draws` of it hold."""
    bounds = {name: statistics.quantiles(drawn[name].to_numpy()) for name in drawn}
    low, high = ([bounds.get(metric, (np.nan, np.nan))[end] for metric in result.scores["metric"]] for end in (0, 1))
    return result.scores.assign(low=low, high=high)[["metric", "score", "low", "high", "signature"]]


def check(predictions: Sequence[str], references: Sequence[str]) -> None:
    """Nothing, when both are texts and as many; else InputError."""
    if len(predictions) != len(references) or not len(predictions):
        raise files.InputError(
            f"{len(predictions)} predictions and {len(references)} references; give one reference for each prediction"
        )
    for name, texts in (("prediction", predictions), ("reference", references)):
        for place, text in enumerate(texts):
            if not isinstance(text, str):
                raise files.InputError(f"{name} {place} is a {type(text).__name__}, expected text")


def model_name(folder: str | Path) -> str:
    """A model as a signature names it: its folder or hub id, and the first 8 digits of its weights' SHA-256."""
    place = Path(folder)
    weights = [place / name for name in ("model.safetensors", "pytorch_model.bin") if (place / name).is_file()]
    digest = hashing.sha256(weights[0] if weights else place)[:8]
    hub = place.parent.parent.name if place.parent.name == "snapshots" else ""
    return f"{hub.removeprefix('models--').replace('--', '/') or place.name}#{digest}"


def recommended(folder: str | Path) -> int:
    """The layer that bert_score recommends for the model of this name."""
    from bert_score.utils import model2layers

    name = model_name(folder).partition("#")[0].rpartition("/")[2]
    if name not in model2layers:
        raise files.InputError(f"bertscore_layer: bert_score recommends none for {name!r}; give a number from 1 on")
    return model2layers[name]
