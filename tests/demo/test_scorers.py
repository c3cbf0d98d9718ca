"""The tiny scorers have the published files, the same each time, and prefer a copy to a shuffled text."""

import random

import numpy as np
import pytest
import sacrebleu
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, BertForMaskedLM

from cbtllm_utils import files, hashing
from cbtllm_utils.demo import scorers as demo_scorers
from cbtllm_utils.evaluate import bleurt, metrics

SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
OPTIONS = {"steps": 20, "seed": 3, "batch": 4}
MORE = {"steps": 80, "seed": 3, "batch": 8, "learning_rate": 2e-2}


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Return forty posts of the sample."""
    return [f"{q['question']}\n{q['description']}" for q in files.read_json("data/sample/psyqa_sample.json")[:40]]


@pytest.fixture(scope="module")
def made(texts, tmp_path_factory) -> tuple:
    """Make an encoder and a BLEURT of a few thousand weights."""
    folder = tmp_path_factory.mktemp("scorers")
    encoder = demo_scorers.encoder(texts, folder / "encoder", length=32, size=SIZE, **OPTIONS)
    return encoder, demo_scorers.bleurt(encoder, texts, folder / "bleurt", **MORE)


def test_the_same_bytes_each_time(texts, made, tmp_path):
    torch.manual_seed(11)  # whatever was drawn before
    state = torch.get_rng_state()
    encoder = demo_scorers.encoder(texts, tmp_path / "encoder", length=32, size=SIZE, **OPTIONS)
    again = demo_scorers.bleurt(encoder, texts, tmp_path / "bleurt", **MORE)
    assert (hashing.sha256(encoder), hashing.sha256(again)) == (hashing.sha256(made[0]), hashing.sha256(made[1]))
    assert torch.equal(torch.get_rng_state(), state)
    other = demo_scorers.encoder(texts, tmp_path / "other", length=32, size=SIZE, **OPTIONS | {"seed": 4})
    assert hashing.sha256(other / "model.safetensors") != hashing.sha256(encoder / "model.safetensors")


def test_the_files_are_those_of_the_published_models(made):
    names = [{file.name for file in folder.iterdir()} for folder in made]
    assert all({"config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json"} <= found for found in names)
    config = files.read_json(made[1] / "config.json")
    assert config["model_type"] == "bleurt" and config["max_position_embeddings"] == 512
    state = load_file(made[1] / "model.safetensors")
    assert {name.partition(".")[0] for name in state} == {"bleurt", "classifier"}
    assert state["classifier.weight"].shape == (1, SIZE["hidden_size"])
    assert str(made[0].parent) not in "".join((f / "config.json").read_text() for f in made)


def test_the_encoder_has_learned_which_characters_are_frequent(texts, made):
    """Its guess behind a mask beats chance (log of the vocabulary, about 6.8 nats) after twenty steps."""
    tokenizer = AutoTokenizer.from_pretrained(made[0])
    with bleurt.quiet():
        model = BertForMaskedLM.from_pretrained(made[0]).eval()
    ids = tokenizer(texts[0], return_tensors="pt")["input_ids"]
    asked = torch.zeros_like(ids, dtype=torch.bool)
    asked[0, 5:-5:6] = True
    with torch.inference_mode():
        logits = model(ids.masked_fill(asked, tokenizer.mask_token_id)).logits
    assert torch.nn.functional.cross_entropy(logits[asked], ids[asked]) < 0.95 * np.log(len(tokenizer))


def test_a_copy_is_liked_better_than_a_shuffled_text_and_that_better_than_another(texts, made):
    draw = random.Random(5)
    shuffled = ["".join(draw.sample(text, len(text))) for text in texts]
    scorers = metrics.load(bertscore_model=made[0], bertscore_layer=2)
    means = [
        metrics.evaluate(scorers, candidates, texts).items["bertscore"].mean()
        for candidates in (texts, shuffled, [*texts[1:], texts[0]])
    ]
    assert means[0] == pytest.approx(1, abs=1e-5) and means[0] > means[1] > means[2]


def test_bleurt_learns_to_grade(texts, made):
    """Its scores of pairs that it never saw go with their grades."""
    pairs = demo_scorers.pairs(texts, 200, 99, demo_scorers.refiller(made[0]))
    references, candidates, grades = map(list, zip(*pairs, strict=True))
    scores = bleurt.Scorer(made[1]).score(references=references, candidates=candidates)
    assert np.corrcoef(scores, grades)[0, 1] > 0.15


def test_the_vocabulary_has_each_character_seen_twice_in_order_of_frequency():
    found = demo_scorers.vocabulary(["你好你好你", "心 心Ab", "独"])
    assert found[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert found.index("你") < found.index("好") < found.index("心") and "独" not in found and " " not in found
    assert {"a", "##a", "9", "##9", "!"} <= set(found) and "A" not in found and len(set(found)) == len(found)


@pytest.mark.parametrize("kind", demo_scorers.KINDS)
def test_no_damage_leaves_the_text_and_full_damage_does_not(kind):
    text, other = "我很难过，睡不着。谁能帮帮我？\n谢谢大家！", "他昨天走了，没有回来。"
    assert demo_scorers.damaged(text, kind, 0.0, other, random.Random(1)).replace("\n", "") == text.replace("\n", "")
    harmed = demo_scorers.damaged(text, kind, 1.0, other, random.Random(1))
    expected = {"dropped": lambda: harmed == "我很难过，", "swapped": lambda: not set("睡谁谢") & set(harmed)}
    same_letters = {"shuffled", "scrambled"}
    if kind in same_letters:
        assert sorted(harmed.replace("\n", "")) == sorted(text.replace("\n", "")) and harmed != text
    else:
        assert expected.get(kind, lambda: harmed == text)()


def test_a_grade_is_the_mean_of_bleu_chrf_and_what_was_left():
    bleu = sacrebleu.sentence_bleu("我 很 好 。", ["我 很 不 好 。"], tokenize="none").score / 100
    chrf = sacrebleu.sentence_chrf("我很好。", ["我很不好。"]).score / 100
    assert demo_scorers.grade("我很不好。", "我很好。", 0.25) == pytest.approx((bleu + chrf + 0.75) / 3)
    assert demo_scorers.grade("我很好，谢谢你。", "我很好，谢谢你。", 0.0) == pytest.approx(1)


def test_what_two_texts_share_is_seen_alone_and_before_the_same_next():
    """[CLS] a b c [SEP] b c a [SEP]: all are shared, but only b stands before the same next one (c)."""
    ids, types = torch.tensor([[2, 10, 11, 12, 3, 11, 12, 10, 3]]), torch.tensor([[0, 0, 0, 0, 0, 1, 1, 1, 1]])
    real, found = demo_scorers.shared(ids, types, 5)
    assert real[0].tolist() == [False, True, True, True, False, True, True, True, False]
    assert found[0, :, 0].tolist() == [0, 1, 1, 1, 0, 1, 1, 1, 0]
    assert found[0, :, 1].tolist() == [0, 0, 1, 0, 0, 1, 0, 0, 0]
