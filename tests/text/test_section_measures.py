"""The classifier's accuracy against scikit-learn's cross-validation on the same folds; no fold sees its own replies."""

import itertools
from collections import Counter

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.model_selection import PredefinedSplit, cross_val_predict

from cbtllm_utils import files
from cbtllm_utils.data import psyqa, splits
from cbtllm_utils.text import section_measures, sections

MARKED = files.read_jsonl(sections.MARKED)
TEXTS = {row["questionID"]: "".join(text for _, text in row["sections"]) for row in MARKED}


class Segmenter(BaseEstimator):
    """The classifier as scikit-learn cross-validates it: marked replies in, for each its segments out."""

    def fit(self, marked, y=None):
        self.model_ = sections.learn(list(marked))
        return self

    def predict(self, marked):
        found = np.empty(len(marked), dtype=object)
        found[:] = [sections.segment(TEXTS[row["questionID"]], self.model_) for row in marked]
        return found


@pytest.fixture(scope="module")
def predicted():
    """For each reply the component of each character, as marked and as predicted by a model of four other folds."""
    rows = np.array(MARKED, dtype=object)
    found = cross_val_predict(Segmenter(), rows, cv=PredefinedSplit(np.arange(len(rows)) % 5))
    pairs = zip((row["sections"] for row in MARKED), found, strict=True)
    return [[np.array([name for name, text in cut for _ in text]) for cut in both] for both in pairs]


def test_characters_are_right_as_often_as_scikit_learn_finds(predicted):
    table = section_measures.accuracy().set_index("component")["characters right, %"]
    marks, found = (np.concatenate(side) for side in zip(*predicted, strict=True))
    assert table["all five"] == pytest.approx(100 * np.mean(marks == found))
    for name in sections.NAMES:
        assert table[name] == pytest.approx(100 * np.mean(found[marks == name] == name))


def test_sentences_are_right_as_often_as_scikit_learn_finds(predicted):
    """A sentence is marked with what most of its characters are marked with."""
    right, replies = [], 0
    for (marks, found), row in zip(predicted, MARKED, strict=True):
        ends = np.cumsum([len(text) for text in sections.sentences(TEXTS[row["questionID"]])])[:-1]
        most = [Counter(part).most_common(1)[0][0] for part in np.split(marks, ends)]
        own = [a == part[0] for a, part in zip(most, np.split(found, ends), strict=True)]
        right, replies = right + own, replies + all(own)
    whole = section_measures.accuracy().set_index("component").loc["all five"]
    assert whole["sentences right, %"] == pytest.approx(100 * np.mean(right))
    assert whole["replies with every sentence right"].startswith(f"{replies} of 360 (")
    assert f"{100 * np.mean(right):.1f} % of sentences" in section_measures.in_words()


def test_a_component_is_cut_out_of_each_reply_and_looked_for():
    """The first reply without its first component, the second without its second, and so forth."""
    found = Counter()
    for row, name in zip(MARKED, itertools.cycle(sections.NAMES), strict=False):
        without = "".join(text for mark, text in row["sections"] if mark != name)
        found[name] += name in sections.structure(without, sections.model_for(row["questionID"])).present
    table = section_measures.accuracy().set_index("component")[section_measures.STILL]
    assert all(table[name].startswith(f"{found[name]} of 72 (") for name in sections.NAMES)
    assert table["all five"].startswith(f"{found.total()} of 360 (")


def test_how_many_replies_are_one_paragraph_per_component():
    """Counted by position: where a component ends, the reply's line ends."""
    number = 0
    for row in MARKED:
        marks = [name for name, text in row["sections"] for _ in text]
        changes = [i for i in range(1, len(marks)) if marks[i] != marks[i - 1]]
        number += all(TEXTS[row["questionID"]][i - 1] == "\n" for i in changes)
    assert section_measures.paragraphs().startswith(f"{number} of 360 (")


def test_no_model_knows_the_words_of_the_replies_that_it_judges():
    """Pairs of characters in three sentences of one reply and in no other reply are words of that reply's model alone.

    The vocabulary takes what three sentences have, so that the model of the whole sample holds these pairs.
    """
    sentences = {post: Counter(p for s in sections.sentences(t) for p in pairs(s)) for post, t in TEXTS.items()}
    replies = Counter(pair for counts in sentences.values() for pair in counts)
    whole, tried = sections.fitted().vectorizer.vocabulary_, 0
    for post, counts in sentences.items():
        own = {pair for pair, number in counts.items() if number >= 3 and replies[pair] == 1}
        assert own <= whole.keys()
        assert not own & sections.model_for(post).vectorizer.vocabulary_.keys()
        tried += len(own)
    assert tried > 100


def pairs(sentence):
    """The different pairs of characters of a sentence."""
    text = sentence.strip()
    return {a + b for a, b in itertools.pairwise(text)}


def test_near_duplicates_are_judged_by_one_model():
    posts = psyqa.read("data/sample/psyqa_sample.json")[0]
    families = splits.families([f"{post.question}\n{post.description}" for post in posts])
    models = {}
    for post, family in zip(posts, families, strict=True):
        models.setdefault(family, set()).add(id(sections.model_for(post.questionID)))
    assert all(len(own) == 1 for own in models.values())
    assert sum(len(fold) for fold in sections.folds()) == len(posts) == len(set().union(*sections.folds()))


def test_posts_of_no_fold_are_judged_by_the_model_of_the_whole_sample():
    assert sections.model_for("figure 4") is sections.model_for(12345) is sections.fitted()
    assert len({id(sections.model_for(row["questionID"])) for row in MARKED} | {id(sections.fitted())}) == 6
