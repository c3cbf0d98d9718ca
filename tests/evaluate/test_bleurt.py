"""BLEURT compared with a second implementation: weights in the published layout, in numpy by the equations alone."""

import json
import math

import numpy as np
import pytest
import sentencepiece
import torch

from cbtllm_utils.evaluate import bleurt

HIDDEN, INNER, HEADS, LAYERS, VOCABULARY, PLACES = 8, 12, 2, 2, 40, 24
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"我能理解你现在的感受这听起来很不容易慢会好写下三件事试着"]


def made(folder, embedding=HIDDEN):
    """Write a random checkpoint in the published conversions' layout; with another `embedding` size a BLEURT-20."""
    draw = np.random.default_rng(4)
    sizes = {
        "embeddings.word_embeddings.weight": (VOCABULARY, embedding),
        "embeddings.position_embeddings.weight": (PLACES, embedding),
        "embeddings.token_type_embeddings.weight": (2, embedding),
        "embeddings.LayerNorm.weight": (embedding,),
        "embeddings.LayerNorm.bias": (embedding,),
        "pooler.dense.weight": (HIDDEN, HIDDEN),
        "pooler.dense.bias": (HIDDEN,),
    }
    if embedding != HIDDEN:
        sizes |= {
            "encoder.embedding_projection.weight": (HIDDEN, embedding),
            "encoder.embedding_projection.bias": (HIDDEN,),
        }
    for layer in range(LAYERS):
        shapes = {f"attention.self.{part}": (HIDDEN, HIDDEN) for part in ("query", "key", "value")}
        shapes |= {"attention.output.dense": (HIDDEN, HIDDEN), "intermediate.dense": (INNER, HIDDEN)}
        shapes |= {
            "output.dense": (HIDDEN, INNER),
            "attention.output.LayerNorm": (HIDDEN,),
            "output.LayerNorm": (HIDDEN,),
        }
        for name, shape in shapes.items():
            sizes |= {f"encoder.layer.{layer}.{name}.weight": shape, f"encoder.layer.{layer}.{name}.bias": shape[:1]}
    state = {f"bleurt.{name}": draw.normal(0, 0.7, shape) for name, shape in sizes.items()}
    state |= {"classifier.weight": draw.normal(0, 0.7, (1, HIDDEN)), "classifier.bias": draw.normal(0, 1, 1)}
    config = {"model_type": "bleurt", "vocab_size": VOCABULARY, "hidden_size": HIDDEN, "num_hidden_layers": LAYERS}
    config |= {"num_attention_heads": HEADS, "intermediate_size": INNER, "max_position_embeddings": PLACES}
    config |= {"hidden_act": "gelu", "type_vocab_size": 2, "layer_norm_eps": 1e-12}
    config |= {} if embedding == HIDDEN else {"embedding_size": embedding}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "vocab.txt").write_text("\n".join(PIECES), encoding="utf-8")
    torch.save({name: torch.tensor(value).float() for name, value in state.items()}, folder / "pytorch_model.bin")
    return state


def by_hand(state, ids, kinds):
    """Return one pair's score without padding: Devlin et al. (2019), and a linear layer on the pooled first vector."""

    def linear(x, name):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def normed(x, name):
        centered = x - x.mean(-1, keepdims=True)
        scaled = centered / np.sqrt((centered**2).mean(-1, keepdims=True) + 1e-12)
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

    tables = [state[f"bleurt.embeddings.{kind}_embeddings.weight"] for kind in ("word", "token_type", "position")]
    x = normed(tables[0][ids] + tables[1][kinds] + tables[2][: len(ids)], "bleurt.embeddings.LayerNorm")
    if "bleurt.encoder.embedding_projection.weight" in state:
        x = linear(x, "bleurt.encoder.embedding_projection")
    for layer in range(LAYERS):
        own = f"bleurt.encoder.layer.{layer}"
        parts = [linear(x, f"{own}.attention.self.{part}") for part in ("query", "key", "value")]
        q, k, v = (part.reshape(len(ids), HEADS, -1).swapaxes(0, 1) for part in parts)
        weights = np.exp(q @ k.swapaxes(1, 2) / math.sqrt(HIDDEN / HEADS))
        seen = (weights / weights.sum(-1, keepdims=True) @ v).swapaxes(0, 1).reshape(len(ids), HIDDEN)
        x = normed(x + linear(seen, f"{own}.attention.output.dense"), f"{own}.attention.output.LayerNorm")
        inner = linear(x, f"{own}.intermediate.dense")
        inner = inner * 0.5 * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
        x = normed(x + linear(inner, f"{own}.output.dense"), f"{own}.output.LayerNorm")
    return linear(np.tanh(linear(x[0], "bleurt.pooler.dense")), "classifier")[0]


def test_scores_are_those_of_the_equations(tmp_path):
    state, numbers = made(tmp_path), {piece: i for i, piece in enumerate(PIECES)}
    pairs = [("我能理解你", "你好"), ("慢", "慢"), ("试着写下三件事", "写下三件事会好"), ("不", "感受不容易的")]
    found = bleurt.Scorer(tmp_path, batch_size=3).score(
        references=[r for r, _ in pairs], candidates=[c for _, c in pairs]
    )
    for (reference, candidate), score in zip(pairs, found, strict=True):
        marked = ["[CLS]", *reference, "[SEP]", *candidate, "[SEP]"]
        ids = [numbers.get(piece, 1) for piece in marked]
        kinds = [0] * (len(reference) + 2) + [1] * (len(candidate) + 1)
        assert score == pytest.approx(by_hand(state, ids, kinds), abs=1e-5)
    assert np.ptp(found) > 0.01  # a thousand times what is allowed above


def test_a_checkpoint_like_bleurt_20_has_embeddings_of_its_own_size(tmp_path):
    state = made(tmp_path, embedding=6)
    model = bleurt.load(tmp_path).eval()
    first, second = [7, 8, 9], [10, 11, 12, 13]
    batch = bleurt.padded([(first, second), ([5], [6])], 2, 3, 0)
    with torch.inference_mode():
        found = model(**batch).logits[:, 0].tolist()
    assert found[0] == pytest.approx(by_hand(state, [2, *first, 3, *second, 3], [0] * 5 + [1] * 5), abs=1e-5)
    assert found[1] == pytest.approx(by_hand(state, [2, 5, 3, 6, 3], [0] * 3 + [1] * 2), abs=1e-5)


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("data/bleurt-base-128", 128),
        ("hub/models--lucadiliello--bleurt-large-512/snapshots/0a1b", 512),
        ("models--lucadiliello--BLEURT-20/snapshots/0a1b", 512),
        ("bleurt-zh-tiny", 512),
        ("experiments/bleurt-exp-64/BLEURT-20", 512),
        ("models--nobody--bleurt-exp-64/BLEURT-20", 512),
        ("bleurt-base-512/bleurt-tiny-128/", 128),
    ],
)
def test_the_name_of_a_checkpoint_says_how_many_tokens_it_takes(name, tokens):
    """google-research/bleurt's checkpoints: the number is the longest sequence; BLEURT-20's is 512, 20 its year."""
    assert bleurt.longest(name) == tokens


def test_a_checkpoints_own_configuration_comes_before_its_name(tmp_path):
    """Google's bleurt_config.json names the longest sequence (BLEURT's checkpoint.py: max_seq_length)."""
    folder = tmp_path / "bleurt-exp-64"
    folder.mkdir()
    (folder / "bleurt_config.json").write_text('{"name": "bleurt-exp-64", "max_seq_length": 20}', encoding="utf-8")
    made(folder)
    scorer = bleurt.Scorer(folder)
    scorer.score(references=["我" * 9, "我" * 9], candidates=["能" * 8, "能" * 9])  # with three marks 20 and 21 tokens
    assert (scorer.longest, scorer.cut) == (20, 1)


def test_bleurt_20_reads_its_own_pieces(tmp_path):
    """spm.model with its marks in it, as Pu et al. published it."""
    texts = ["我能理解你现在的感受", "这听起来很不容易", "慢慢会好的", "试着写下三件事"] * 20
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_prefix=str(tmp_path / "spm"), vocab_size=VOCABULARY, pad_id=0, unk_id=1,
        bos_id=-1, eos_id=-1, pad_piece="[PAD]", unk_piece="[UNK]", user_defined_symbols=["[CLS]", "[SEP]", "[MASK]"],
        hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    state = made(tmp_path, embedding=6)
    (tmp_path / "vocab.txt").unlink()
    (tmp_path / "spm.vocab").unlink()
    pair = ("我能理解你", "慢慢会好的")
    [found] = bleurt.Scorer(tmp_path).score(references=pair[:1], candidates=pair[1:])
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "spm.model"))
    first, second = ([pieces.piece_to_id(piece) for piece in pieces.encode(text, out_type=str)] for text in pair)
    ids = [pieces.piece_to_id("[CLS]"), *first, pieces.piece_to_id("[SEP]"), *second, pieces.piece_to_id("[SEP]")]
    assert len(set(ids)) > 6
    kinds = [0] * (len(first) + 2) + [1] * (len(second) + 1)
    assert found == pytest.approx(by_hand(state, ids, kinds), abs=1e-5)
