"""Topics are labeled in English, with the Chinese of the data beside it."""

from cbtllm_utils import files
from cbtllm_utils.data import topics


def test_every_topic_of_the_sample_has_an_english_name():
    found = set(files.read_csv("data/sample/topics.csv", dtype=str)["topic"])
    assert found == topics.ENGLISH.keys()
    assert len(set(topics.ENGLISH.values())) == len(found), "two topics must not look like one"


def test_a_label_has_both_languages():
    assert topics.label("家庭") == "family 家庭"
    assert topics.label("sleep") == "sleep" and topics.label(None) == "no topic"
