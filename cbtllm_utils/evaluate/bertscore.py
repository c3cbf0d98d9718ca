"""BERTScore by bert_score's own encoder, each text encoded once however many systems it is compared with."""

from collections.abc import Iterator, Sequence
from itertools import groupby

import bert_score
import torch
from bert_score.utils import get_bert_embedding

from cbtllm_utils.evaluate.score_cache import Kept, Pair

BLOCK = 16  # references at a time; with 8 systems 144 texts of 512 places in BERT-base: 144 x 512 x 768 x 4 = 226 MB


class Scorer(bert_score.BERTScorer):
    """bert_score's scorer with no idf and no rescaling; `score(cands, refs)` as jury calls it, and what it `cut`.

    The library sorts texts by their number of spaces, which for Chinese is no order at all, pads each text to the
    longest of its batch and each comparison to the longest of its own. Here batches are sorted by tokens, and two texts
    meet without padding: a score does not depend on its company, but for rounding in the encoder.
    """

    kept: Kept | None = None  # set by whoever wants scores kept

    def score(
        self, cands: Sequence[str], refs: Sequence[str], verbose: bool = False, batch_size: int = 64
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Precision, recall and F1 of each candidate; `cut` then counts pairs with a text longer than the encoder."""
        pairs = list(zip(refs, cands, strict=True))
        numbers = self.kept(pairs) if self.kept else [row for _, row in sorted(self.stream(pairs))]
        self.cut = sum(int(row[3]) for row in numbers)
        return tuple(torch.tensor(numbers, dtype=torch.float64)[:, :3].T)

    def stream(self, pairs: list[Pair]) -> Iterator[tuple[int, list[float]]]:
        """(place, [precision, recall, F1, was cut]) of the pairs, some references with all their candidates at once."""
        tokens = {text: self.length(text) for text in dict.fromkeys(text for pair in pairs for text in pair)}
        order = sorted(range(len(pairs)), key=lambda i: (tokens[pairs[i][0]], pairs[i][0]))
        places = [list(some) for _, some in groupby(order, key=lambda i: pairs[i][0])]
        for start in range(0, len(places), BLOCK):
            block = [i for some in places[start : start + BLOCK] for i in some]
            texts = dict.fromkeys(text for i in block for text in pairs[i])
            encoded = self.encoded(sorted(texts, key=tokens.get))
            for i in block:
                long = max(tokens[text] for text in pairs[i]) > self._tokenizer.model_max_length
                yield i, [*compared(encoded[pairs[i][1]], encoded[pairs[i][0]]), float(long)]

    def length(self, text: str) -> int:
        """How many tokens a text has, uncut, with its two marks."""
        return len(self._tokenizer.encode(text.strip(), verbose=False))

    def encoded(self, texts: list[str]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Each text's token vectors, of length 1, and weights that sum to 1; the marks at both ends weigh nothing."""
        weightless = dict.fromkeys((self._tokenizer.sep_token_id, self._tokenizer.cls_token_id), 0.0)
        weigh, found = Weights(weightless), {}
        for start in range(0, len(texts), self.batch_size):
            batch = texts[start : start + self.batch_size]
            vectors, mask, weights = get_bert_embedding(batch, self._model, self._tokenizer, weigh, device=self.device)
            vectors = torch.nn.functional.normalize(vectors, dim=-1)
            for text, own, row, weight in zip(batch, mask.sum(1).tolist(), vectors, weights.to(vectors), strict=True):
                found[text] = (row[:own].clone(), weight[:own] / weight[:own].sum())
        return found


class Weights(dict):
    """Weight of a token: 1, where nothing else is said."""

    def __missing__(self, token: int) -> float:
        return 1.0


def compared(
    candidate: tuple[torch.Tensor, torch.Tensor], reference: tuple[torch.Tensor, torch.Tensor]
) -> tuple[float, float, float]:
    """Precision, recall and F1 of two encoded texts: each token by the other's most similar one (Zhang et al. 2020)."""
    alike = candidate[0] @ reference[0].T
    both = torch.stack([alike.amax(1) @ candidate[1], alike.amax(0) @ reference[1]])
    precision, recall = both.nan_to_num().tolist()  # a text without a token has no weights: 0, as in bert_score
    return precision, recall, 2 * precision * recall / (precision + recall) if precision + recall else 0.0
