import pytest
import torch

from cbtllm_utils import files, hashing
from cbtllm_utils.demo import backbones as demo_backbones
from cbtllm_utils.demo import formats, training
from cbtllm_utils.demo.settings import DemoSettings
from cbtllm_utils.models import backbones, tokenizers

POSTS = "data/sample/psyqa_sample.json"
JOBS = (demo_backbones.make_llama, demo_backbones.make_qwen, demo_backbones.make_baichuan)


def chosen(**changes) -> DemoSettings:
    values = {"hidden": 32, "inner": 48, "vocabulary": 1800, "wider_vocabulary": 3200, "rank": 4, "seed": 1}
    return DemoSettings(**values | {"base_steps": 3, "llama_steps": [3, 3, 3], "batch": 2, "length": 48} | changes)


SIZE = chosen().size


@pytest.fixture(scope="module")
def known() -> demo_backbones.Corpus:
    return demo_backbones.corpus(POSTS, heldout=20, seed=0)


@pytest.fixture(scope="module")
def made(tmp_path_factory, known):
    """Make all models at the smallest scale and return their folder."""
    place = tmp_path_factory.mktemp("made")
    for job in JOBS:
        job(place, known, chosen())
    return place


def test_the_corpus_holds_posts_and_forum_answers_but_no_cbt_reply(known, sample_questions):
    assert len(known.training) == 340 and len(known.heldout) == 20
    assert not set(known.training) & set(known.heldout)
    posts = {q["question"] + "\n" + q["description"]: q["answers"][0]["answer_text"] for q in sample_questions}
    assert all(posts[post] == answer for post, answer in known.training + known.heldout)
    replies = ["".join(t for _, t in row["sections"]) for row in files.read_jsonl("data/sample/recorded_replies.jsonl")]
    everything = "\n".join(known.texts() + known.texts("heldout"))
    assert not any(reply[20:60] in everything for reply in replies)


@pytest.mark.parametrize("seen", [0, 36])
def test_test_posts_among_the_texts_are_counted(known, seen):
    """Where a corpus holds every post, it holds a tenth of 360 test posts; where it holds none, none."""
    every = known.training + known.heldout
    corpus = demo_backbones.Corpus(every if seen else [], every)
    assert demo_backbones.tests_among(corpus, chosen()).startswith(f"{seen} of the 36 test posts")


def test_a_corpus_needs_more_posts_than_it_keeps():
    with pytest.raises(files.InputError, match="360 answered posts; more than heldout = 360"):
        demo_backbones.corpus(POSTS, heldout=360, seed=0)


@pytest.mark.parametrize("key", demo_backbones.BACKBONES)
def test_every_backbone_of_the_study_loads_from_the_original_files(made, key):
    model, tokenizer = demo_backbones.load(made, key)
    assert model.get_input_embeddings().num_embeddings >= len(tokenizer) >= (3200 if "chinese" in key else 1800)
    assert torch.isfinite(model(torch.tensor([tokenizer.encode("我最近睡不着")])).logits).all()
    assert model.config.max_position_embeddings >= 2048


NAMES = {  # some tensor names of the published files, by folder: (file, name, shape)
    "llama-7b": ("model", "model.layers.1.self_attn.q_proj.weight", (32, 32)),
    "chinese-llama-lora-7b": ("adapter_model", "base_model.model.model.layers.0.mlp.up_proj.lora_B.weight", (48, 4)),
    "chinese-alpaca-lora-7b": (
        "adapter_model",
        "base_model.model.model.layers.1.self_attn.o_proj.lora_A.weight",
        (4, 32),
    ),
    "qwen-7b": ("model", "transformer.h.0.attn.c_attn.bias", (96,)),
    "baichuan-7b": ("model", "model.layers.0.self_attn.W_pack.weight", (96, 32)),
}


@pytest.mark.parametrize("folder", NAMES)
def test_the_files_are_laid_out_as_the_published_ones(made, folder):
    stem, name, shape = NAMES[folder]
    tensors = backbones.tensors(made / folder, stem.partition("_")[0])
    assert tuple(tensors[name].shape) == shape
    if stem == "adapter_model":
        assert {"base_model.model.model.embed_tokens.weight", "base_model.model.lm_head.weight"} < set(tensors)
    if folder == "llama-7b":
        assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}


def test_chinese_llama_adds_pieces_of_score_0_and_alpaca_a_padding_token(made):
    place = made
    base, chinese, alpaca = (tokenizers.load_tokenizer(place / f) for f in list(NAMES)[:3])
    assert len(base) == 1800 < len(chinese) == len(alpaca) - 1 == alpaca.pad_token_id
    for i in range(len(chinese)):
        assert (
            (chinese.sp_model.get_score(i) == 0)
            if i >= 1800
            else chinese.sp_model.id_to_piece(i) == base.sp_model.id_to_piece(i)
        )


def test_a_new_piece_begins_as_the_mean_of_what_spelled_it(made, known):
    known_tokenizer, wider = (tokenizers.load_tokenizer(made / f) for f in list(NAMES)[:2])
    model = backbones.load_model(made / "llama-7b", dtype=torch.float32)
    before = model.get_input_embeddings().weight.detach().clone()
    demo_backbones.widen(model, known_tokenizer, wider)
    after = model.get_input_embeddings().weight
    assert torch.equal(after[:1800], before) and len(after) == len(wider) and model.lm_head.weight is after
    spelled = known_tokenizer.encode(wider.decode([1900]), add_special_tokens=False)
    torch.testing.assert_close(after[1900], before[spelled].sum(0) / len(spelled))


def test_the_same_seed_gives_the_same_bytes(made, known, tmp_path):
    for job in JOBS:
        job(tmp_path, known, chosen())
    for folder in NAMES:
        assert hashing.sha256(tmp_path / folder) == hashing.sha256(made / folder), folder


def test_another_seed_gives_another_model(made, known, tmp_path):
    demo_backbones.make_qwen(tmp_path, known, chosen(seed=2))
    names = [file.name for file in sorted((tmp_path / "qwen-7b").iterdir())]
    same = [hashing.sha256(tmp_path / "qwen-7b" / n) == hashing.sha256(made / "qwen-7b" / n) for n in names]
    assert dict(zip(names, same, strict=True)) == {
        "config.json": True,
        "model.safetensors": False,
        "qwen.tiktoken": True,
    }


def test_training_lowers_the_loss_on_held_out_text(known, tmp_path):
    tokenizer_file = formats.pieces(known.texts(), 3200, 0.9995, prefix_space=False)
    (tmp_path / "tokenizer.model").write_bytes(tokenizer_file)
    tokenizer = tokenizers.load_tokenizer(tmp_path)
    model, _ = formats.fresh("baichuan", SIZE, len(tokenizer), 0)
    held = demo_backbones.documents(known.texts("heldout")[:5], tokenizer)
    before = training.loss(model, held)
    documents = demo_backbones.documents(known.texts(), tokenizer)
    training.train(model, documents, steps=40, batch=4, length=64, learning_rate=1e-2, seed=0)
    assert before == pytest.approx(torch.tensor(3200.0).log().item(), abs=0.1)  # an untrained model guesses evenly
    assert training.loss(model, held) < before - 1


def test_windows_show_every_document_once_before_any_again():
    documents = [[i] * 3 for i in range(10)]
    seen = torch.cat([w.flatten() for w in training.windows(documents, steps=5, batch=1, length=5, seed=0)])
    assert sorted(seen.tolist()) == sorted(i for d in documents for i in d)


def test_a_build_that_fails_leaves_nothing_behind(known, tmp_path, capfd):
    with pytest.raises(files.InputError, match="a vocabulary of 300 pieces cannot be learned"):
        demo_backbones.build(tmp_path / "backbones", known, chosen(vocabulary=300, processes=1))
    assert list(tmp_path.iterdir()) == []


def test_a_vocabulary_smaller_than_the_characters_says_why(known):
    with pytest.raises(files.InputError, match="smaller than required_chars"):
        formats.pieces(known.texts(), 300, 0.9995, prefix_space=True)


def test_the_first_layer_is_listed_by_name_and_shape(made):
    listed = list(formats.first_layer(made / "qwen-7b"))
    assert listed[:2] == ["attn.c_attn.bias 96", "attn.c_attn.weight 96×32"] and len(listed) == 8
    assert next(iter(formats.first_layer(made / "chinese-llama-lora-7b"))) == "mlp.down_proj.lora_A.weight 4×48"


@pytest.mark.parametrize("key", demo_backbones.BACKBONES)
def test_measures_are_what_the_files_hold(made, known, key):
    model, tokenizer = demo_backbones.load(made, key)
    texts = known.texts("heldout")[:3]
    measured = demo_backbones.measures(model, tokenizer, texts)
    held = sum(t.numel() for t in model.state_dict().values())
    assert measured["parameters"] == held and measured["vocabulary"] == len(tokenizer)
    tokens = sum(len(tokenizer.encode(text)) + 1 for text in texts)
    assert measured["tokens per character"] == pytest.approx(tokens / sum(map(len, texts)))
    assert measured["loss per character"] == pytest.approx(measured["loss per token"] * tokens / sum(map(len, texts)))
    assert 5 < measured["loss per token"] < 9  # guessing evenly: ln 3200 = 8.07


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"hidden": 130, "heads": 4}, "hidden = 130 must be an even multiple of heads = 4"),
        ({"llama_steps": [1, 2]}, "llama_steps = .*at least 3 items"),
        ({"layer": 3}, "did you mean layers"),
    ],
)
def test_settings_that_cannot_be(values, said):
    with pytest.raises(files.InputError, match=said):
        DemoSettings(**values)


def test_each_model_continues_the_post_and_each_folder_has_its_size(made, known):
    loaded = {name: demo_backbones.load(made, name) for name in ("qwen-7b", "baichuan-7b")}
    table = demo_backbones.continuations(loaded, "怎么早睡", 0)
    assert table["by"].tolist() == ["the post", "Qwen-7B", "Baichuan-7B"] and table["text"][0] == "怎么早睡"
    sizes = demo_backbones.sizes(made).set_index("folder")["MB"]
    assert sizes.index.tolist() == sorted(folder.name for folder in made.iterdir())
    weights = sum(tensor.numel() for tensor in loaded["baichuan-7b"][0].state_dict().values())
    assert sizes["baichuan-7b"] > weights * 4 / 1e6, "fp32 weights, and the tokenizer"
