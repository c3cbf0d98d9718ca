"""BERTScore by bert_score, with cached scores and a count of what was cut."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import bert_score
import torch
from transformers import AutoConfig

from cbtllm_utils import files
from cbtllm_utils.evaluate import bleurt, score_cache


class Scorer(bert_score.BERTScorer):
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
