"""The split into training and test set, drawn by a seed; near duplicates stay on one side."""

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd

SPLITS = ("train", "test")
THRESHOLD = 0.8  # cosine of the counts of 2- and 3-character strings, weighted by rarity


def families(texts: Sequence[str], threshold: float = THRESHOLD) -> np.ndarray:
    """Return the number of each text's family: texts that are near duplicates, directly or through others.

    Two texts are near duplicates when the TF-IDF vectors of their character 2- and 3-grams (scikit-learn) have a cosine
    of at least `threshold`; families are the connected components. Similarities are computed block by block, which
    keeps memory below 1 GB at 22,000 texts.
    """
    import sklearn
    from scipy.sparse.csgraph import connected_components
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.neighbors import NearestNeighbors

    if len(texts) < 2:
        return np.arange(len(texts))
    vectors = TfidfVectorizer(analyzer="char", ngram_range=(2, 3), dtype=np.float32).fit_transform(texts)
    with sklearn.config_context(working_memory=64):  # MiB: 750 of 22,000 rows at a time
        near = NearestNeighbors(radius=1 - threshold, metric="cosine", algorithm="brute").fit(vectors)
        graph = near.radius_neighbors_graph(vectors)
    return connected_components(graph, directed=False)[1]


def sort_key(seed: int, identifier: int | str) -> bytes:
    """Return a sort key that looks random and does not depend on the other items."""
    return hashlib.sha256(f"{seed} {identifier}".encode()).digest()


def assign(
    ids: Sequence[int | str],
    texts: Sequence[str],
    *,
    test_share: float = 0.1,
    seed: int = 42,
    threshold: float = THRESHOLD,
) -> pd.DataFrame:
    """Assign every item to the training or the test set.

    Families of near duplicates are ordered by `seed` and fill the test set while they fit into round(share * items):
    without near duplicates, 22,327 items give exactly 2,233 for test (§4.1: 10 %). An item's place in the order depends
    on the seed and its ID alone, so that adding or removing an item moves hardly any other. Where there are two
    families, both sets hold at least one item.

    Returns:
        split ("train" or "test") and near_duplicate_of (the ID of the first of its family, or None), by questionID.
    """
    family = families(texts, threshold)
    members: dict[int, list[int]] = {}
    for place, number in enumerate(family):
        members.setdefault(int(number), []).append(place)
    groups = sorted(members.values(), key=lambda group: min(sort_key(seed, ids[place]) for place in group))
    smallest = min(map(len, groups), default=0)
    wanted = min(round(test_share * len(ids)), len(ids) - smallest) if len(groups) > 1 else round(test_share * len(ids))
    test: set[int] = set()
    for group in groups:
        if len(test) + len(group) <= wanted:
            test.update(group)
    if test_share and not test and len(groups) > 1:
        test.update(min(groups, key=len))
    first = {place: group[0] for group in members.values() for place in group}
    return pd.DataFrame(
        {
            "split": [SPLITS[place in test] for place in range(len(ids))],
            "near_duplicate_of": [None if first[i] == i else ids[first[i]] for i in range(len(ids))],
        },
        index=pd.Index(list(ids), dtype=object, name="questionID"),
        dtype=object,
    )
