"""The five metrics agree with the libraries that define them, item by item, and take every text."""

import random
import shutil

import numpy as np
import pandas as pd
import pytest
import random_scorers
import sacrebleu
import torch
from transformers import BertTokenizer

from cbtllm_utils import files, hashing
from cbtllm_utils.evaluate import bleurt, metrics, ngrams
from cbtllm_utils.evaluate.settings import EvaluationSettings

REFERENCES = (
    "我能理解你现在的感受，这听起来很不容易。",
    "你提到“全完了”，这像是灾难化思维：把一次考试的失误看成了整个人生。",
    "试着写下三件今天做到的事，每件 10 分钟，下周再看看 GPA 3.5 是否真的那么重要。",
    "相信你会慢慢走出来的，加油！",
)
PREDICTIONS = (
    "我很理解你的感受，这真的不容易。",
    "这像是灾难化思维，把一次失误看成了整个人生。",
    "试着写下今天做到的3件事，每件10分钟。",
    "慢慢来，你会走出来的。",
)
ODD = (  # texts that broke one metric or another
    *(
        "",
        " ",
        "\u3000\n",
        "你",
        "a",
        "。",
        "😭",
        "👩‍👩‍👧",
        "（╥﹏╥）",
        "Hello, world.",
        "3.5,2-1",
        "ＡＢＣ，１２３",
        "“你”—好…",
    ),
    *("\u2028你\u2028", "ﬁ", "é", "한국어", "a你b好c", "你 好", "1.你", "你.1", "-1你-", "\t"),
)


def spaced(text: str) -> str:
    """Return the text tokenized by sacrebleu itself."""
    return sacrebleu.tokenizers.tokenizer_zh.TokenizerZh()(text.lower())


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict:
    """Make an encoder and a BLEURT that read 16 tokens."""
    return random_scorers.write(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def plain():
    """Load the metrics without a model."""
    return metrics.load()


@pytest.fixture(scope="module")
def loaded(folders):
    """Load all metrics."""
    return metrics.load(bertscore_model=folders["encoder"], bertscore_layer=2, bleurt_model=folders["bleurt"])


def value(result: metrics.Result, metric: str) -> float:
    return result.scores.set_index("metric").loc[metric, "score"]


def test_bleu_is_sacrebleus_on_the_same_tokens(plain):
    found = metrics.evaluate(plain, PREDICTIONS, REFERENCES)
    pairs = [list(map(spaced, PREDICTIONS)), [list(map(spaced, REFERENCES))]]
    expected = sacrebleu.corpus_bleu(*pairs, tokenize="none", force=True, smooth_method="none").score
    assert expected > 10 and value(found, "bleu") == pytest.approx(expected / 100, abs=1e-12)


def test_bleu_of_one_item_by_hand(plain):
    """我很好 against 我很不好: hits 3, 1, 0 of 3, 2, 1 and none of 0; plus one from order 2 on: 3/3, 2/3, 1/2, 1/1."""
    found = metrics.evaluate(plain, ["我很好"], ["我很不好"])
    assert found.items["bleu"][0] == pytest.approx((1 * 2 / 3 * 1 / 2 * 1) ** 0.25 * np.exp(1 - 4 / 3))
    assert value(found, "bleu") == 0


def test_meteor_is_nltks_on_the_same_tokens(plain):
    from nltk.translate.meteor_score import single_meteor_score

    class Nothing:
        synsets = staticmethod(lambda word: [])

    pairs = zip(REFERENCES, PREDICTIONS, strict=True)
    expected = [single_meteor_score(spaced(r).split(), spaced(p).split(), wordnet=Nothing()) for r, p in pairs]
    found = metrics.evaluate(plain, PREDICTIONS, REFERENCES)
    assert found.items["meteor"].tolist() == pytest.approx(expected)
    assert value(found, "meteor") == pytest.approx(np.mean(expected)) and 0.2 < np.mean(expected) < 0.9


def test_chrf_is_sacrebleus_for_corpus_and_items(plain):
    found = metrics.evaluate(plain, PREDICTIONS, REFERENCES)
    corpus = sacrebleu.corpus_chrf(list(PREDICTIONS), [list(REFERENCES)]).score / 100
    each = [sacrebleu.sentence_chrf(p, [r]).score / 100 for p, r in zip(PREDICTIONS, REFERENCES, strict=True)]
    assert value(found, "chrf") == pytest.approx(corpus, abs=1e-12)
    assert float(ngrams.chrf(found.counts["chrf"].sum(axis=0))) == pytest.approx(corpus, abs=1e-12)
    assert found.items["chrf"].tolist() == pytest.approx(each, abs=1e-12)


def test_a_reference_too_short_for_an_order_counts_in_none_of_it():
    said, there = ["今天天气很好啊", "我很难过今天"], ["好", "我很难过呢"]
    counts = np.array([ngrams.chrf_counts(*pair) for pair in zip(said, there, strict=True)])
    assert float(ngrams.chrf(counts.sum(axis=0))) == pytest.approx(
        sacrebleu.corpus_chrf(said, [there]).score / 100, abs=1e-12
    )


def test_jurys_chrf_is_the_best_of_all_references_however_many(plain):
    there = [f"第{i}天{REFERENCES[i % 4][i % 7 :]}" for i in range(150)]
    found = metrics.evaluate(plain, [there[140], *PREDICTIONS[:1] * 149], there)
    assert value(found, "chrf_jury_compat") == pytest.approx(1) and value(found, "chrf") < 0.9
    found = metrics.evaluate(plain, list(PREDICTIONS[:1]) * 150, there)
    best = sacrebleu.sentence_chrf(PREDICTIONS[0], there).score / 100
    assert value(found, "chrf_jury_compat") == pytest.approx(best, abs=1e-12)


def test_chrf_does_not_depend_on_the_order_and_jurys_does(plain):
    rows = [(0, 1, 2, 3), (1, 0, 2, 3), (3, 2, 1, 0)]
    found = [metrics.evaluate(plain, [PREDICTIONS[i] for i in r], [REFERENCES[i] for i in r]) for r in rows]
    assert np.ptp([value(f, "chrf") for f in found]) < 1e-12
    best = [sacrebleu.sentence_chrf(PREDICTIONS[r[0]], list(REFERENCES)).score / 100 for r in rows]
    assert [value(f, "chrf_jury_compat") for f in found] == pytest.approx(best)
    assert len({round(b, 6) for b in best}) == 3


def test_bertscore_is_bert_scores_own(folders, loaded):
    import bert_score

    with bleurt.quiet():
        _, _, expected = bert_score.score(
            *(list(PREDICTIONS), list(REFERENCES)), model_type=str(folders["encoder"]), num_layers=2, device="cpu"
        )
    found = metrics.evaluate(loaded, PREDICTIONS, REFERENCES)
    assert found.items["bertscore"].tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    assert value(found, "bertscore") == pytest.approx(expected.mean().item(), abs=1e-6)
    assert expected.std() > 0.001


def test_bleurt_is_the_model_on_reference_and_prediction(folders, loaded):
    tokenizer = BertTokenizer.from_pretrained(folders["bleurt"])
    said, there = "我能", "你现在"
    with torch.inference_mode():
        ids = [2, *tokenizer.convert_tokens_to_ids(list(there)), 3, *tokenizer.convert_tokens_to_ids(list(said)), 3]
        expected = folders["head"](torch.tensor([ids]), token_type_ids=torch.tensor([[0] * 5 + [1] * 3])).logits.item()
    found = metrics.evaluate(loaded, [said, there * 3, "受"], [there, said * 9, "感受"])
    assert found.items["bleurt"][0] == pytest.approx(expected, abs=1e-5)
    assert found.items["bleurt"].nunique() == 3


@pytest.mark.parametrize("reference", [0, 3, 7, 8, 20])
@pytest.mark.parametrize("candidate", [0, 4, 6, 7, 20])
def test_a_long_pair_is_cut_token_by_token_at_the_longer_text(reference, candidate):
    """BLEURT's own way: pop from the longer text, from the candidate when they are equal, until 16 - 3 are left."""
    sizes = [reference, candidate]
    while sum(sizes) > 13:
        sizes[0 if sizes[0] > sizes[1] else 1] -= 1
    first, second, cut = bleurt.truncate(list(range(reference)), list(range(candidate)), 16)
    assert (first, second) == tuple(list(range(size)) for size in sizes)
    assert cut == (reference + candidate > 13)


def test_what_is_cut_is_counted(loaded):
    """14 characters fit the encoder with two marks; 13 of both texts fit BLEURT with three."""
    found = metrics.evaluate(loaded, ["我" * 14, "我" * 15, "我"], ["我", "我", "我" * 12])
    signatures = found.scores.set_index("metric")["signature"]
    assert signatures["bertscore"].endswith("|cut:1") and signatures["bleurt"].endswith("|cut:2")


@pytest.mark.parametrize("odd", ODD)
def test_every_text_gets_a_finite_score_and_an_empty_one_0(loaded, odd):
    predictions, references = [odd, "我能理解", "你好"], ["你现在的感受", odd, "你好"]
    before = list(predictions), list(references)
    found = metrics.evaluate(loaded, predictions, references)
    assert (predictions, references) == before
    assert found.items.shape == (3, 5) and np.isfinite(found.items.to_numpy()).all()
    assert np.isfinite(found.scores["score"]).all()
    if not odd.strip():
        assert (found.items.iloc[:2].to_numpy() == 0).all()
    assert found.scores["signature"].str.contains(f"empty:{0 if odd.strip() else 2}").all()


def test_no_item_at_all_with_text(loaded):
    found = metrics.evaluate(loaded, ["", " "], ["你", ""])
    assert (found.items.to_numpy() == 0).all() and (found.scores["score"] == 0).all()


def test_the_same_text_gets_all_there_is(loaded):
    found = metrics.evaluate(loaded, REFERENCES, REFERENCES).items
    assert found[["bleu", "chrf"]].to_numpy() == pytest.approx(1) and found["meteor"].min() > 0.99
    assert found["bertscore"].to_numpy() == pytest.approx(1, abs=1e-6)


def test_words_are_jiebas():
    found = metrics.evaluate(metrics.load(tokenize="words"), ["我喜欢认知疗法"], ["我 喜欢 认知疗法"])
    assert found.items["meteor"][0] > 0.9 and "tok:jieba" in found.scores["signature"][0]
    assert found.counts["bleu"][0][8] < len("我喜欢认知疗法")


def test_intervals_hold_the_score_and_shrink_with_more_items(plain):
    results = [metrics.evaluate(plain, PREDICTIONS * times, REFERENCES * times) for times in (1, 9)]
    few, many = (metrics.intervals(r, metrics.draws(r, 500, 1)).set_index("metric") for r in results)
    for metric in ("bleu", "meteor", "chrf"):
        assert few.loc[metric, "low"] < few.loc[metric, "score"] < few.loc[metric, "high"]
        assert np.ptp(many.loc[metric, ["low", "high"]].astype(float)) < np.ptp(
            few.loc[metric, ["low", "high"]].astype(float)
        )
    assert few.loc["chrf_jury_compat", ["low", "high"]].isna().all()
    assert list(few.columns) == ["score", "low", "high", "signature"]


def test_resampled_bleu_is_bleu_of_the_resampled_items(plain):
    counts = metrics.evaluate(plain, PREDICTIONS, REFERENCES).counts
    rows = np.array([[0, 0, 1, 3], [2, 2, 2, 2]])
    for metric in ("bleu", "chrf"):
        found = metrics.CORPUS[metric](counts[metric][rows].sum(axis=1))
        for row, score in zip(rows, found, strict=True):
            again = metrics.evaluate(plain, [PREDICTIONS[i] for i in row], [REFERENCES[i] for i in row])
            assert score == pytest.approx(value(again, metric))


def test_score_and_items_are_tables_that_parquet_keeps(tmp_path, folders):
    scores = metrics.score(PREDICTIONS, REFERENCES, bertscore_model=folders["encoder"], bertscore_layer=1)
    assert scores["metric"].tolist() == ["bleu", "meteor", "chrf", "chrf_jury_compat", "bertscore"]
    found = metrics.evaluate(metrics.load(), PREDICTIONS, REFERENCES).items
    found.to_parquet(tmp_path / "items.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "items.parquet"), found)
    assert found.dtypes.eq("float64").all() and found.shape == (4, 3)


def test_signatures_name_model_and_layer_and_no_folder(folders, loaded):
    found = metrics.evaluate(loaded, PREDICTIONS, REFERENCES).scores.set_index("metric")["signature"]
    assert f"model:encoder#{hashing.sha256(folders['encoder'] / 'model.safetensors')[:8]}|layer:2" in found["bertscore"]
    assert "|tokens:16|" in found["bertscore"] and "|tokens:16|" in found["bleurt"], "what is longer is cut"
    assert f"model:bleurt#{hashing.sha256(folders['bleurt'] / 'pytorch_model.bin')[:8]}" in found["bleurt"]
    assert not found.str.contains(str(folders["encoder"].parent)).any()


def test_a_hub_snapshot_is_named_by_its_id(tmp_path):
    place = tmp_path / "models--google-bert--bert-base-chinese" / "snapshots" / "0123abc"
    place.mkdir(parents=True)
    (place / "model.safetensors").write_bytes(b"weights")
    assert metrics.model_name(place).startswith("google-bert/bert-base-chinese#")
    assert metrics.recommended_layer(place) == 8  # bert_score's own table


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda f: metrics.score(["你"], ["你", "我"]), r"1 predictions and 2 references"),
        (lambda f: metrics.score([], []), r"0 predictions"),
        (lambda f: metrics.load(bertscore_model=f["encoder"]), r"recommends none for 'encoder'"),
        (
            lambda f: metrics.load(bertscore_model=f["encoder"], bertscore_layer=4),
            r"bertscore_layer = 4.*between 0 and 3",
        ),
        (lambda f: metrics.load(bertscore_model=f["encoder"].parent / "flat5", bertscore_layer=1), r"'t5'"),
        (lambda f: metrics.load(bleurt_model=f["encoder"]), r"encoder: not a BLEURT checkpoint \(\d+ weights missing"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(folders, given, message):
    with pytest.raises(files.InputError, match=message) as caught:
        given(folders)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def wordnet():
    """Princeton's WordNet, where nltk finds it; the package itself never asks for it."""
    from nltk.corpus import wordnet

    try:
        wordnet.ensure_loaded()
    except LookupError:
        pytest.skip("no WordNet on this machine; python -m nltk.downloader wordnet")
    return wordnet


def test_the_english_wordnet_would_change_nothing_but_english(plain, wordnet):
    from nltk.translate.meteor_score import single_meteor_score

    def both(said, there):
        ours = metrics.evaluate(plain, [said], [there]).items["meteor"][0]
        return ours, single_meteor_score(spaced(there).split(), spaced(said).split(), wordnet=wordnet)

    for pair in zip(PREDICTIONS, REFERENCES, strict=True):
        assert both(*pair)[0] == pytest.approx(both(*pair)[1], abs=1e-12)
    ours, lexical = both("my car", "my auto")
    assert ours < lexical, "car and auto are synonyms, which only WordNet knows"


@pytest.mark.parametrize(
    ("prediction", "reference", "bleu", "meteor", "chrf"),
    [
        ("", "你好", 0, 0, 0),
        ("你好", "", 0, 0, 0),
        ("你", "你", 1, 0.5, 1),  # one match in one chunk: 1 - 0.5 · (1/1)³
        ("你", "我", 0, 0, 0),
        ("天地玄黄", "宇宙洪荒", 0, 0, 0),
        ("天地玄黄", "天地玄黄", 1, 1 - 0.5 / 4**3, 1),
        ("😭😭", "😭😭", 1, None, 1),  # sacrebleu's rules keep emoji together: one token
        ("ＡＢ", "AB", 0, 0, 0),  # full-width letters are other letters
        ("GPA", "gpa", 1, 0.5, 0),  # BLEU and METEOR in lower case, chrF as written
        ("你 好", "你好", 1, 1 - 0.5 / 2**3, 1),  # spaces count for none of the three
    ],
)
def test_edge_cases_by_hand(plain, prediction, reference, bleu, meteor, chrf):
    found = metrics.evaluate(plain, [prediction], [reference]).items.iloc[0]
    assert found["bleu"] == pytest.approx(bleu, abs=1e-12) and found["chrf"] == pytest.approx(chrf, abs=1e-12)
    assert meteor is None or found["meteor"] == pytest.approx(meteor, abs=1e-12)


def test_twenty_thousand_characters_are_scored_and_counted_as_cut(loaded):
    long = "我能理解你的感受。" * 2222
    found = metrics.evaluate(loaded, [long, "我能"], [REFERENCES[0], long])
    assert len(long) == 19_998 and np.isfinite(found.items.to_numpy()).all()
    signatures = found.scores.set_index("metric")["signature"]
    assert signatures["bertscore"].endswith("|cut:2") and signatures["bleurt"].endswith("|cut:2")
    expected = sacrebleu.corpus_chrf([long, "我能"], [[REFERENCES[0], long]]).score / 100
    assert value(found, "chrf") == pytest.approx(expected, abs=1e-12)


def test_counts_are_the_libraries_on_random_texts():
    """Hits by collections.Counter's &, chrF by sacrebleu, over texts with every kind of character."""
    from collections import Counter

    draw, parts = random.Random(5), "你好，a b1😭\u3000\u2028é\ud83d"
    for _ in range(300):
        said, there = ("".join(draw.choices(parts, k=draw.randrange(12))) for _ in range(2))
        counts = ngrams.bleu_counts(said, there)
        for n in range(1, 5):
            two = [Counter(text[i : i + n] for i in range(len(text) - n + 1)) for text in (said, there)]
            assert (counts[n - 1], counts[n + 3]) == ((two[0] & two[1]).total(), two[0].total())
        expected = sacrebleu.sentence_chrf(said, [there]).score / 100
        assert float(ngrams.chrf(ngrams.chrf_counts(said, there))) == pytest.approx(expected, abs=1e-12)


def test_a_reference_is_encoded_once_for_all_systems(folders, monkeypatch):
    import bert_score

    seen, real = [], bert_score.scorer.bert_cos_score_idf

    def counted(model, refs, hyps, *rest, **more):
        seen.extend({*refs, *hyps})
        return real(model, refs, hyps, *rest, **more)

    monkeypatch.setattr(bert_score.scorer, "bert_cos_score_idf", counted)
    scorers = metrics.load(bertscore_model=folders["encoder"], bertscore_layer=2)
    scorers.prepare([*PREDICTIONS, *PREDICTIONS[::-1]], REFERENCES * 2)
    assert sorted(text for text in seen if text in REFERENCES) == sorted(REFERENCES)
    before = len(seen)
    metrics.evaluate(scorers, PREDICTIONS, REFERENCES)
    assert len(seen) == before, "what was prepared is not computed again"


def test_a_tokenizer_that_states_no_limit_is_cut_where_the_encoder_ends(folders, tmp_path):
    """Some published encoders state no model_max_length, without which bert_score itself fails."""
    shutil.copytree(folders["encoder"], tmp_path / "encoder")
    config = files.read_json(tmp_path / "encoder/tokenizer_config.json")
    del config["model_max_length"]
    files.write_json(tmp_path / "encoder/tokenizer_config.json", config)
    long = "我能理解你现在的感受这听起来很不容易"
    first, second = (
        metrics.evaluate(metrics.load(bertscore_model=folder, bertscore_layer=2), [long, "我能"], [REFERENCES[0], long])
        for folder in (folders["encoder"], tmp_path / "encoder")
    )
    pd.testing.assert_frame_equal(first.items, second.items)
    assert second.scores["signature"].iloc[-1].endswith("|tokens:16|items:2|empty:0|cut:2")


def test_jury_scores_with_our_scorers(loaded):
    """jury makes a scorer of its own if it finds none under the names that it looks for."""
    bleurt_metric, bertscore_metric = loaded.metrics[4:]
    before = bleurt_metric.scorer, bertscore_metric.scorer
    metrics.evaluate(loaded, PREDICTIONS, REFERENCES)
    assert (bleurt_metric.scorer, bertscore_metric.cached_bertscorer) == before
    assert [scorer.cut for scorer in before] == [4, 3]


def test_cached_scores_are_the_same_scores(folders, tmp_path):
    options = {"bertscore_model": folders["encoder"], "bertscore_layer": 2, "bleurt_model": folders["bleurt"]}
    first, again, fresh = (
        metrics.evaluate(metrics.load(**options, cache=cache), PREDICTIONS, REFERENCES)
        for cache in (tmp_path / "scores.jsonl", tmp_path / "scores.jsonl", None)
    )
    pd.testing.assert_frame_equal(first.scores, again.scores)
    pd.testing.assert_frame_equal(first.scores, fresh.scores)


def test_jurys_defects_by_what_they_are():
    """One word per text: BLEU 0. The first reply is scored alone, so chrF as it comes follows the order of items."""
    texts = ["先深呼吸，再想想最坏会怎样。", "睡前放下手机，写下三件好事。", "把想到的都写在一张纸上吧。"]
    table = metrics.jury_defects([texts[0], "好的。", "好的。"], texts, "characters").set_index("score")
    assert table.loc["BLEU", "jury as it comes"] == 0 < table.loc["BLEU", "corrected"]
    chrf = table.drop("BLEU")
    assert chrf["corrected"].nunique() == 1
    assert chrf.loc["chrF, items in order", "jury as it comes"] == pytest.approx(1)
    assert chrf.loc["chrF, items in reverse order", "jury as it comes"] < 0.5


def test_without_names_there_are_no_scores_by_english_models(tmp_path):
    chosen = EvaluationSettings(run=str(tmp_path))
    assert metrics.english_defaults(chosen, {"a": ["好"]}, ["好"]).empty
