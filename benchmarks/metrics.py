"""The five metrics at the paper's size: ours beside the libraries, and jury with a whole-text tokenizer."""

import contextlib
import functools
import itertools
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.table import Row

SYSTEMS, ITEMS = 4, 2233  # Table 4's rows; 10 % of 22,327
NEURAL = (8, 24)  # systems x items for the models: their times grow with both, their ratio does not
PROGRAM = """
import json, resource, sys, time
from benchmarks import metrics
start = time.process_time()
scores = metrics.{name}(*metrics.replies({systems}, {items}))
print(json.dumps([time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, scores]))
"""


def replies(systems: int, items: int) -> tuple[list[list[str]], list[str]]:
    """Each system's replies, and the references: about 520 characters, put together from the recorded replies."""
    from cbtllm_utils import files

    draw, rows = random.Random(1), files.read_jsonl("data/sample/recorded_replies.jsonl")
    parts = [text for row in rows for _, text in row["sections"]]

    def one() -> str:
        return "".join(draw.choices(parts, k=7))[: draw.randrange(420, 620)]

    return [[one() for _ in range(items)] for _ in range(systems)], [one() for _ in range(items)]


def ours(predictions: list[list[str]], references: list[str]) -> list[list[float]]:
    """BLEU, METEOR and chrF of each system."""
    from cbtllm_utils.evaluate import metrics

    found = metrics.load()
    lexical = metrics.Scorers(found.metrics[:3], {name: found.says[name] for name in ("bleu", "meteor", "chrf")})
    return [metrics.evaluate(lexical, system, references).scores["score"].tolist() for system in predictions]


def theirs(predictions: list[list[str]], references: list[str]) -> list[list[float]]:
    """The same by jury's classes as a user would mend them: sacrebleu's tokenizer on each whole text, anew in each
    metric, BLEU and chrF by sacrebleu (jury would fetch a script for the one and nests the other wrongly)."""
    import sacrebleu
    from jury import Jury
    from nltk.translate.meteor_score import single_meteor_score
    from sacrebleu.tokenizers.tokenizer_zh import TokenizerZh

    from cbtllm_utils.evaluate import jury_zh

    class Whole:
        def tokenize(self, text: str) -> list[str]:
            return TokenizerZh()(text.lower()).split()

    class Bleu(jury_zh.Bleu):
        def _compute_bleu_score(self, predictions: list, references: list, **options: object) -> dict:
            pairs = [" ".join(p) for p in predictions], [[" ".join(r) for (r,) in references]]
            found = sacrebleu.corpus_bleu(*pairs, tokenize="none", force=True, smooth_method="none")
            return {"score": found.score / 100}

    class Meteor(jury_zh.Meteor):
        def _compute_single_pred_single_ref(self, predictions: list, references: list, **options: object) -> dict:
            pairs = zip(references, predictions, strict=True)
            return {"score": float(np.mean([single_meteor_score(*two, wordnet=jury_zh.NoLexicon()) for two in pairs]))}

    class Chrf(jury_zh.Chrf):
        def _compute_single_pred_single_ref(self, predictions: list, references: list, **options: object) -> dict:
            return {"score": sacrebleu.corpus_chrf(list(predictions), [list(references)]).score / 100}

    own = [Bleu("characters"), Meteor("characters"), Chrf()]
    own[0].tokenizer = own[1].tokenizer = Whole()
    found = [Jury(metrics=own)(predictions=[[t] for t in p], references=[[t] for t in references]) for p in predictions]
    return [[scores[name]["score"] for name in ("bleu", "meteor", "chrf")] for scores in found]


def apart(name: str, systems: int = SYSTEMS, items: int = ITEMS) -> tuple[float, float, list]:
    """Processor seconds, peak memory in MiB and scores of one way, in a process of its own."""
    program = PROGRAM.format(name=name, systems=systems, items=items)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def timed(work: Callable) -> tuple[float, object]:
    """Processor seconds on one thread, and what came out."""
    start = time.process_time()
    found = work()
    return time.process_time() - start, found


@functools.cache
def models(folder: Path) -> tuple[Path, Path]:
    """An encoder and a BLEURT of 4 layers with weights by chance: what is timed does not depend on their sense."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertModel, BertTokenizer

    from cbtllm_utils import files
    from cbtllm_utils.evaluate import bleurt

    torch.manual_seed(1)
    predictions, references = replies(*NEURAL)
    known = sorted(
        {character for text in itertools.chain(references, *predictions) for character in text if character.strip()}
    )
    entries = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *known]
    size = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024}
    config = BertConfig(vocab_size=len(entries), **size)
    for name, model in (("encoder", BertModel(config)), ("bleurt", BertForSequenceClassification(config))):
        (folder / name).mkdir()
        (folder / name / "vocab.txt").write_text("\n".join(entries), encoding="utf-8")
        BertTokenizer(vocab=str(folder / name / "vocab.txt"), model_max_length=512).save_pretrained(folder / name)
        with bleurt.quiet():
            model.save_pretrained(folder / name)
    head = BertForSequenceClassification(BertConfig(**config.to_diff_dict() | {"num_labels": 1}))
    state = {name.replace("bert.", "bleurt.", 1): value for name, value in head.state_dict().items()}
    (folder / "bleurt" / "model.safetensors").unlink()
    torch.save(state, folder / "bleurt" / "pytorch_model.bin")
    files.write_json(folder / "bleurt" / "config.json", config.to_diff_dict() | {"model_type": "bleurt"})
    return folder / "encoder", folder / "bleurt"


def neural(folder: Path) -> Iterator[Row]:
    """BERTScore and BLEURT of 8 systems; the libraries are called as their own pages show."""
    import bert_score
    import torch

    from cbtllm_utils.evaluate import bertscore, bleurt

    torch.set_num_threads(1)
    encoder, checkpoint = models(folder)
    predictions, references = replies(*NEURAL)
    every, there = list(itertools.chain(*predictions)), references * NEURAL[0]
    size = f"{NEURAL[0]} systems x {NEURAL[1]} pairs"
    scorer = bertscore.Scorer(model_type=str(encoder), num_layers=4, batch_size=16, use_fast_tokenizer=True)
    scorer._tokenizer.model_max_length = 512
    took, found = timed(lambda: scorer.score(every, there)[2])
    options = {"model_type": str(encoder), "num_layers": 4, "batch_size": 16, "use_fast_tokenizer": True}
    plain, expected = timed(lambda: torch.cat([bert_score.score(p, references, **options)[2] for p in predictions]))
    far = (found - expected).abs().max().item()
    met = plain >= 1.5 * took and far < 1e-5
    yield Row(
        f"BERTScore, {size} (apart by {far:.0e})", took, "bert_score.score, a system a call", plain, "≥ 1.5 x", met
    )
    yield from by_bleurt(bleurt.Scorer(checkpoint, batch_size=16), every, there, f"BLEURT, {size}")
    draw = random.Random(2)
    short = [text[: draw.randrange(20, 260)] for text in every]
    mixed = [text[: draw.randrange(20, 240)] for text in there]
    yield from by_bleurt(bleurt.Scorer(checkpoint, batch_size=16), short, mixed, "… of 20 to 260 characters, none cut")


def by_bleurt(scorer: object, candidates: list[str], references: list[str], name: str) -> Iterator[Row]:
    """Sorted batches beside batches as the texts come, each padded to its longest."""
    import torch

    from cbtllm_utils.evaluate import bleurt

    def plain() -> list[float]:
        scores = []
        for start in range(0, len(candidates), 16):
            two = zip(references[start : start + 16], candidates[start : start + 16], strict=True)
            encoded = [bleurt.pair(scorer.encode(r), scorer.encode(c), scorer.longest)[:2] for r, c in two]
            with torch.inference_mode():
                scores += scorer.model(**bleurt.padded(encoded, *scorer.marks)).logits[:, 0].tolist()
        return scores

    took, found = timed(lambda: scorer.score(references=references, candidates=candidates))
    theirs_took, expected = timed(plain)
    far = np.abs(np.array(found) - np.array(expected)).max()
    met = theirs_took >= 1.5 * took and far < 1e-5
    yield Row(f"{name} (apart by {far:.0e})", took, "batches as they come", theirs_took, "≥ 1.5 x", met)


def resampling() -> Row:
    """Intervals of all metrics for 8 systems from 10,000 resamples, beside a loop that computes each statistic anew."""
    import pandas as pd

    from cbtllm_utils import statistics
    from cbtllm_utils.evaluate import metrics

    draw = np.random.default_rng(1)
    counts = {"bleu": draw.integers(1, 500, (ITEMS, 10)), "chrf": draw.integers(1, 500, (ITEMS, 18))}
    items = pd.DataFrame(draw.random((ITEMS, 5)), columns=list(metrics.COLUMNS))
    result = metrics.Result(pd.DataFrame(), items, counts)
    took, _ = timed(lambda: [metrics.draws(result, 10_000, 42) for _ in range(8)])

    def one_by_one() -> None:
        for name in items:
            values, statistic = counts.get(name, items[name]), metrics.CORPUS.get(name, np.mean)
            statistics.bootstrap(values, statistic=statistic, resamples=250, seed=42)

    part, _ = timed(one_by_one)
    name = f"10,000 resamples of {ITEMS:,} items, 5 metrics, 8 systems"
    return Row(name, took, "gathering each draw's items (from 250, one system)", part * 40 * 8, "< 10 s", took < 10)


def rows() -> Iterator[Row]:
    """The metrics that count, those that need a model, and the resampling."""
    mine, others = apart("ours"), apart("theirs")
    far = np.abs(np.array(mine[2]) - np.array(others[2])).max()
    name = f"BLEU, METEOR, chrF: {SYSTEMS} systems x {ITEMS:,} pairs (apart by {far:.0e})"
    met = others[0] >= 3 * mine[0] and far < 1e-9
    yield Row(name, mine[0], "jury, a whole-text tokenizer a metric", others[0], "≥ 3 x", met)
    yield Row("… peak memory, MiB", mine[1], "the same", others[1], "< 1,024", mine[1] < 1024)
    yield resampling()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(None):
        yield from neural(Path(folder))
