import base64
import io
import json
import random
import re
import unicodedata

import chat_models
import jinja2
import pytest
import sentencepiece
import tiktoken
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, LlamaTokenizer, PreTrainedTokenizerFast

from cbtllm_utils import files
from cbtllm_utils.demo import formats
from cbtllm_utils.finetune import examples
from cbtllm_utils.models import chat_templates, prompt_forms, tokenizer_json, tokenizers

# Qwen-7B's own pattern (tokenization_qwen.py, PAT_STR)
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
MIXED = """𝒳 emoji 😀👩‍👩‍👧‍👦 and kaomoji (╥﹏╥)
  leading  spaces\tand tabs\t
I'm 23岁, he'LL, 12345.678 元…… “引号” —— ～
\r\nWindows\r\nlines\u2028separator \u3000全角
ﬁ ligature, é composed, ÄÖÜ, русский, العربية, 한국어, ไทย
</s> [PAD] <s> <unk>""".split("\n")


CLASSES = [  # Chinese, full width, Latin, digits and spaces, emoji, what joins and tints them, control, marks, other
    "我睡不着怎么办妈妈一直说考试没过的了是在有和𠮷𝒳",
    "，。！？“”——……（）【】～％１２ａｂ\u3000",
    "abcXYZ I'm don't he'LL é ñ ß ﬁ",
    "0123456789 \t  \n\r\n.,:;-+=/\\",
    ["😀", "👩\u200d👩\u200d👧", "👍🏽", "🇨🇳", "❤\ufe0f", "(╥﹏╥)", "1\ufe0f\u20e3"],
    [chr(code) for code in (*range(32), 127, 0x85, 0xA0, 0x200B, 0x2028, 0x202E, 0x2060, 0xFEFF, 0xE000, 0x10FFFF)],
    ["e\u0301", "\u0644\u0627", "ก็", "한글", "пр", "</s>", "<unk>", "[PAD]"],
]


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """Return more than 2,000 lines: the sample's posts and answers, special cases, and mixtures of all classes."""
    records = files.read_json("data/sample/psyqa_sample.json")
    texts = [r["question"] + "\n" + r["description"] for r in records]
    texts += [a["answer_text"] for r in records for a in r["answers"]]
    rng = random.Random(0)
    texts += MIXED + ["".join(rng.sample(texts[i], min(40, len(texts[i])))) for i in range(40)]
    for number in range(1500):
        chosen = rng.sample(CLASSES, 1 + number % len(CLASSES))
        texts.append("".join(rng.choice(rng.choice(chosen)) for _ in range(rng.randint(1, 60))))
    assert len(set(texts)) > 2000
    return texts


@pytest.fixture(scope="module")
def ranks(lines) -> dict[bytes, int]:
    """Return a tiktoken vocabulary: 256 bytes and merges of a byte-level BPE, ranked in the order of learning."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1500, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(lines[:200], trainer)
    byte_of = {t: b for b, t in tokenizers.bytes_to_unicode().items()}
    tokens = sorted(backend.get_vocab().items(), key=lambda item: item[1])
    return {bytes(byte_of[c] for c in token): rank for token, rank in tokens}


def write_qwen(folder, ranks):
    text = b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items())
    (folder / "qwen.tiktoken").write_bytes(text)
    return folder


def test_qwen_splits_as_tiktoken_does(tmp_path, lines, ranks):
    reference = tiktoken.Encoding("test", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})
    tokenizer = tokenizers.load_tokenizer(write_qwen(tmp_path, ranks))
    for line in lines:
        ids, composed = tokenizer.encode(line), unicodedata.normalize("NFC", line)  # as tokenization_qwen.py does
        assert ids == reference.encode(composed), line
        assert tokenizer.decode(ids) == composed


def test_qwens_special_tokens_follow_the_ranks(tmp_path, ranks):
    tokenizer = tokenizers.load_tokenizer(write_qwen(tmp_path, ranks))
    assert len(tokenizer) == len(ranks) + 208  # the published file: 151,643 ranks, length 151,851
    assert tokenizer.bos_token_id is None
    assert tokenizer.eos_token_id == tokenizer.pad_token_id == len(ranks)
    assert tokenizer.convert_tokens_to_ids("<|im_start|>") == len(ranks) + 1
    assert tokenizer.convert_tokens_to_ids("<|extra_204|>") == len(ranks) + 207
    ids = [*tokenizer.encode("好"), tokenizer.eos_token_id]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "好"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text + b"version\n", r"qwen\.tiktoken, line \d+: expected"),
        (lambda text: b"\n".join(text.splitlines()[1:]), "gaps"),
        (lambda text: b"\n".join(text.splitlines()[:200]), "single bytes are missing"),
    ],
)
def test_a_damaged_qwen_file_is_named(tmp_path, ranks, damage, said):
    file = write_qwen(tmp_path, ranks) / "qwen.tiktoken"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(files.InputError, match=said):
        tokenizers.load_tokenizer(tmp_path)


@pytest.fixture(scope="module")
def piece_models(lines) -> dict[str, bytes]:
    """Return sentencepiece models: LLaMA's prefixes a space; Baichuan's does not; one has added pieces of score 0."""
    from sentencepiece import sentencepiece_model_pb2

    def train(**settings):
        made = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines[:200]),
            model_writer=made,
            model_type="bpe",
            vocab_size=1800,
            character_coverage=0.98,
            byte_fallback=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            minloglevel=2,
            num_threads=1,
            **settings,
        )
        return made.getvalue()

    llama, baichuan = train(), train(add_dummy_prefix=False)
    defined = train(add_dummy_prefix=False, user_defined_symbols=["<reserved_1>", "▁▁", "睡不着", "不着"])
    larger = sentencepiece_model_pb2.ModelProto()
    larger.ParseFromString(llama)
    held = {piece.piece for piece in larger.pieces}
    words = sorted({line[i : i + n] for line in lines[:200] for i in range(0, 30, 5) for n in (1, 2, 3)} - held)
    for word in words[:400]:
        larger.pieces.add(piece=word, score=0.0)
    return {"llama": llama, "baichuan": baichuan, "user-defined": defined, "chinese": larger.SerializeToString()}


@pytest.fixture(scope="module")
def chinese_llama(lines) -> bytes:
    """Return a model made as Chinese-LLaMA's was: English and characters, then Chinese words of score 0."""

    def train(texts, size, **settings):
        made = io.BytesIO()
        settings |= {"byte_fallback": True, "normalization_rule_name": "identity", "remove_extra_whitespaces": False}
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=made,
            model_type="bpe",
            vocab_size=size,
            minloglevel=2,
            **settings,
        )
        return made.getvalue()

    posts = [part for line in lines[:360] for part in line.split("\n") if part]
    characters = "".join(sorted({c for part in posts for c in part if "一" <= c <= "鿿"}))
    english = [
        line for file in ("LICENSE", "CHANGELOG.md") for line in files.path(file).read_text().splitlines() if line
    ]
    base = train([re.sub("[^ -~]", "", line) for line in english], 1500 + len(characters), required_chars=characters)
    return formats.added_pieces(base, train(posts, 9000, character_coverage=0.9995))


def write_pieces(folder, model, settings=None, added=None):
    (folder / "tokenizer.model").write_bytes(model)
    for name, content in (("tokenizer_config.json", settings), ("added_tokens.json", added)):
        if content is not None:
            (folder / name).write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("kind", ["llama", "baichuan", "chinese"])
def test_pieces_are_sentencepieces_own(tmp_path, lines, piece_models, kind):
    reference = sentencepiece.SentencePieceProcessor(model_proto=piece_models[kind])
    settings = {"add_bos_token": False} if kind == "baichuan" else None
    tokenizer = tokenizers.load_tokenizer(write_pieces(tmp_path, piece_models[kind], settings))
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)
    assert len(tokenizer) == reference.get_piece_size()
    first = [] if kind == "baichuan" else [1]
    for line in lines:
        plain = tokenizer.encode(line, add_special_tokens=False)
        assert plain == reference.encode(line)
        assert tokenizer.encode(line) == first + plain
        assert tokenizer.decode(torch.tensor([*first, *plain, 2])) == line  # no text spells <s> or </s>


@pytest.mark.parametrize("kind", ["llama", "baichuan", "user-defined", "chinese-llama", "chinese-alpaca"])
def test_other_programs_read_a_tokenizer_json_as_sentencepiece_reads_its_model(
    tmp_path, lines, piece_models, chinese_llama, kind
):
    model = chinese_llama if kind.startswith("chinese") else piece_models[kind]
    size = sentencepiece.SentencePieceProcessor(model_proto=model).get_piece_size()
    (tmp_path / "original").mkdir()
    (tmp_path / "saved").mkdir()
    settings = {"add_bos_token": kind not in ("baichuan", "user-defined")}
    original = write_pieces(
        tmp_path / "original", model, settings, {"[PAD]": size} if kind == "chinese-alpaca" else None
    )
    own = tokenizers.load_tokenizer(original)
    tokenizers.save(own, original, tmp_path / "saved")
    (tmp_path / "saved" / "config.json").write_text('{"model_type": "llama"}')  # transformers mends some classes by it
    again, theirs = tokenizers.load_tokenizer(tmp_path / "saved"), AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert type(again) is tokenizers.SentencePieceTokenizer and tokenizers.identity(again) == tokenizers.identity(own)
    for line in [*lines, "", " ", "  ", "\n"]:
        ids = own.encode(line)
        assert theirs.encode(line) == ids, line
        assert theirs.decode(ids, skip_special_tokens=True) == own.decode(ids, skip_special_tokens=True) == line
    for name in ("bos", "eos", "unk", "pad"):
        assert getattr(theirs, f"{name}_token_id") == getattr(own, f"{name}_token_id")
    counts = tokenizer_json.agreement(tmp_path / "saved", lines)
    assert counts["equal_pieces"] == counts["pieces"] > (4000 if kind.startswith("chinese") else 300)
    assert counts["equal_texts"] == counts["texts"] == len(lines)


def test_where_all_pieces_come_out_all_texts_do():
    """Vocabularies of three letters, in which almost every text has ties; -0.0 is what a trainer writes first."""
    from sentencepiece import sentencepiece_model_pb2

    rng, checked = random.Random(0), 0
    for _ in range(200):
        proto = sentencepiece_model_pb2.ModelProto()
        for piece, kind in {"<unk>": 2, "<s>": 3, "</s>": 3}.items():
            proto.pieces.add(piece=piece, type=kind)
        for letter in "abc":
            proto.pieces.add(piece=letter, score=-100)
        for piece in sorted({"".join(rng.choices("abc", k=rng.randint(2, 4))) for _ in range(rng.randint(2, 7))}):
            proto.pieces.add(piece=piece, score=0.0)
        proto.pieces.add(piece="aaaaa", score=-0.0)
        proto.trainer_spec.model_type = 2
        proto.normalizer_spec.add_dummy_prefix = proto.normalizer_spec.remove_extra_whitespaces = False
        model = proto.SerializeToString()
        made = tokenizer_json.build(model, bos=False)
        reference = sentencepiece.SentencePieceProcessor(model_proto=model)
        pieces = [piece.piece for piece in proto.pieces if len(piece.piece) > 1 and "<" not in piece.piece]
        if any(reference.encode(piece) != made.encode(piece).ids for piece in pieces):
            continue  # ties that no order of merges can say: `agreement` counts these pieces
        checked += 1
        for _ in range(50):
            text = "".join(rng.choices("abc", k=rng.randint(1, 15)))
            assert made.encode(text).ids == reference.encode(text), (text, pieces)
    assert checked > 150


@pytest.mark.parametrize(
    "settings", [{"model_type": "unigram"}, {"normalization_rule_name": "nmt_nfkc"}, {"remove_extra_whitespaces": True}]
)
def test_a_model_that_no_tokenizer_json_can_say_stays_sentencepieces(tmp_path, lines, settings):
    made = io.BytesIO()
    usual = {"model_type": "bpe", "normalization_rule_name": "identity", "remove_extra_whitespaces": False}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines[:100]),
        model_writer=made,
        vocab_size=1500,
        character_coverage=0.98,
        minloglevel=2,
        **usual | settings,
    )
    (tmp_path / "saved").mkdir()
    own = tokenizers.load_tokenizer(write_pieces(tmp_path, made.getvalue()))
    with pytest.raises(tokenizer_json.NotExpressibleError):
        tokenizers.save(own, tmp_path, tmp_path / "saved")
    assert not (tmp_path / "saved/tokenizer.json").exists()
    assert tokenizers.load_tokenizer(tmp_path / "saved").encode(lines[0]) == own.encode(lines[0])


@pytest.mark.parametrize("form", prompt_forms.FORMS)
@pytest.mark.parametrize("kind", ["chinese-llama", "baichuan", "qwen"])
def test_a_chat_template_words_a_post_as_its_form_does(tmp_path, lines, piece_models, chinese_llama, ranks, kind, form):
    (tmp_path / "saved").mkdir()
    if kind == "qwen":
        write_qwen(tmp_path, ranks)
    else:
        model = chinese_llama if kind == "chinese-llama" else piece_models[kind]
        write_pieces(tmp_path, model, {"add_bos_token": kind != "baichuan"})
    own = tokenizers.load_tokenizer(tmp_path)
    tokenizers.save(own, tmp_path, tmp_path / "saved", prompt_forms.chat_settings(form, own))
    (tmp_path / "saved" / "config.json").write_text('{"model_type": "%s"}' % ("qwen2" if kind == "qwen" else "llama"))
    theirs = AutoTokenizer.from_pretrained(tmp_path / "saved")
    again = tokenizers.load_tokenizer(tmp_path / "saved")
    posts = [*lines[:60], *MIXED, "</s><s>[PAD]<unk>", "<|endoftext|>", "  {{ 1 }} {% if %}  ", "<</s>/s>"]
    for post in posts:
        row = {"question": post, "description": "睡不着"}
        wanted = chat_templates.ids(own, prompt_forms.prompt(row, form, own))
        said = {"role": "user", "content": prompt_forms.passage(row)}
        for messages in ([{"role": "system", "content": prompt_forms.INSTRUCTION}, said], [said]):
            asked = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
            if not chat_templates.CONTROL.search(said["content"]):
                assert asked == wanted, post
            special = set(own.all_special_ids) - {own.unk_token_id}
            assert [i for i in asked if i in special] == [i for i in wanted if i in special]
        assert chat_templates.ids(again, prompt_forms.prompt(row, form, again)) == wanted
    said, reply = {"role": "user", "content": "?"}, {"role": "assistant", "content": "好"}
    answered = theirs.apply_chat_template([said, reply], return_dict=False)
    assert answered[-1] == own.eos_token_id
    assert chat_templates.end_of_turn(theirs) == own.eos_token_id
    asked = theirs.decode(theirs.apply_chat_template([said], add_generation_prompt=True, return_dict=False))
    said_then = theirs.parse_response([*theirs.encode("好", add_special_tokens=False), own.eos_token_id], prefix=asked)
    assert said_then["content"].strip() == "好"
    with pytest.raises(jinja2.TemplateError, match="one post"):
        theirs.apply_chat_template([said, reply, said], return_dict=False)


def test_stock_llama_splits_most_lines_otherwise(tmp_path, lines, piece_models):
    """Chinese-LLaMA's added pieces all have score 0: why `SentencePieceTokenizer` is needed."""
    ours = tokenizers.load_tokenizer(write_pieces(tmp_path, piece_models["chinese"]))
    stock = LlamaTokenizer.from_pretrained(tmp_path)
    posts = lines[:360]
    assert sum(stock.encode(post) != ours.encode(post) for post in posts) > len(posts) / 2


def test_chinese_alpaca_adds_a_padding_token(tmp_path, piece_models):
    size = 1800 + 400
    tokenizer = tokenizers.load_tokenizer(write_pieces(tmp_path, piece_models["chinese"], added={"[PAD]": size}))
    assert tokenizer.pad_token_id == size and len(tokenizer) == size + 1
    assert tokenizer.decode([*tokenizer.encode("你好"), 2, size, size]) == "你好"
    assert tokenizer.decode([*tokenizer.encode("你好"), size + 30]) == "你好"  # an embedding without a piece


@pytest.mark.parametrize("added", [{"[PAD]": 7}, {"<extra>": 2200}, {"[PAD]": 2300}])
def test_added_tokens_that_do_not_fit_are_refused(tmp_path, piece_models, added):
    with pytest.raises(files.InputError, match=r"added_tokens\.json"):
        tokenizers.load_tokenizer(write_pieces(tmp_path, piece_models["chinese"], added=added))


def test_added_tokens_that_repeat_the_models_are_harmless(tmp_path, piece_models):
    added = {"<unk>": 0, "<s>": 1, "</s>": 2}
    assert len(tokenizers.load_tokenizer(write_pieces(tmp_path, piece_models["llama"], added=added))) == 1800


def test_two_tokenizers_of_one_size_have_two_identities(tmp_path, ranks, piece_models):
    swapped = list(ranks)
    swapped[-2:] = swapped[:-3:-1]
    made = {
        "qwen": lambda folder: write_qwen(folder, ranks),
        "qwen, its last two tokens swapped": lambda folder: write_qwen(
            folder, {token: i for i, token in enumerate(swapped)}
        ),
        "llama": lambda folder: write_pieces(folder, piece_models["llama"]),
        "llama without bos": lambda folder: write_pieces(folder, piece_models["llama"], {"add_bos_token": False}),
        "llama without a prefixed space": lambda folder: write_pieces(folder, piece_models["baichuan"]),
    }
    found = {}
    for number, (name, make) in enumerate(made.items()):
        (tmp_path / str(number)).mkdir()
        one, again = (tokenizers.load_tokenizer(make(tmp_path / str(number))) for _ in range(2))
        again.encode("我睡不着", **({"truncation": True, "max_length": 2} if name.startswith("qwen") else {}))
        found[name] = tokenizers.identity(one)
        assert tokenizers.identity(again) == found[name]
    assert len(set(found.values())) == len(made), found


def test_a_pointer_in_place_of_a_model_is_named(tmp_path):
    with pytest.raises(files.InputError, match=r"tokenizer\.model: not sentencepiece's"):
        tokenizers.load_tokenizer(write_pieces(tmp_path, b"version https://git-lfs.github.com/spec/v1\n"))


def test_a_current_tokenizer_comes_from_its_own_files(tmp_path, lines):
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=["</s>"], show_progress=False)
    backend.train_from_iterator(lines[:200], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")
    fast.save_pretrained(tmp_path)
    tokenizer = tokenizers.load_tokenizer(tmp_path)
    assert tokenizer.encode(lines[0]) == fast.encode(lines[0])
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == 0  # none of its own: eos


def test_a_folder_without_a_tokenizer(tmp_path):
    with pytest.raises(files.InputError, match="no tokenizer"):
        tokenizers.load_tokenizer(tmp_path)
    with pytest.raises(files.InputError, match="no such folder"):
        tokenizers.load_tokenizer(tmp_path / "nowhere")


def qwen3_with_thoughts(folder):
    """Qwen3's tokenizer has tokens for thoughts and tool calls that its file does not call special."""
    made = chat_models.tokenizer("qwen3")
    names = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"]
    made.add_tokens([AddedToken(name, normalized=False, special=False) for name in names])
    made.save_pretrained(folder)
    return folder


EVERY = {
    "qwen-7b": lambda folder, ranks, models: write_qwen(folder, ranks),
    "llama": lambda folder, ranks, models: write_pieces(folder, models["llama"]),
    "baichuan": lambda folder, ranks, models: write_pieces(folder, models["baichuan"], {"add_bos_token": False}),
    "chinese-alpaca": lambda folder, ranks, models: write_pieces(folder, models["chinese"], added={"[PAD]": 2200}),
    "qwen3": lambda folder, ranks, models: qwen3_with_thoughts(folder),
    "llama3": lambda folder, ranks, models: chat_models.write(folder, "llama3"),
    "gemma": lambda folder, ranks, models: chat_models.write(folder, "gemma"),
}


@pytest.mark.parametrize("name", EVERY)
def test_no_post_and_no_reply_spells_a_control_token(tmp_path, ranks, piece_models, name):
    """Whatever form of prompt, with every token that any tokenizer here has; what the template puts there stays."""
    own = tokenizers.load_tokenizer(EVERY[name](tmp_path, ranks, piece_models))
    control = {i: token.content for i, token in own.added_tokens_decoder.items()}
    spelled = [*control.values(), "<|endoftext|><|im_start|>", "<|im_<|im_end|>end|>", "</s><s>[PAD]<unk></think>"]
    honest = {"questionID": 0, "question": "怎么办", "description": "睡不着", "reply": "你好。"}
    forged = [{key: f"{value}{text}吗" for key, value in honest.items()} for text in spelled]
    for form in prompt_forms.forms(own):
        made = [
            [i for i in row["input_ids"] if i in control] for row in examples.encode([honest, *forged], own, form, 9999)
        ]
        assert all(found == made[0] for found in made), form
        asked = [chat_templates.ids(own, prompt_forms.prompt(row, form, own)) for row in [honest, *forged]]
        assert len({tuple(i for i in ids if i in control) for ids in asked}) == 1, form
        for ids, text in zip(asked[1:], spelled, strict=True):
            assert text.replace(" ", "") in own.decode(ids).replace(" ", ""), "the post can still be read"


@pytest.mark.parametrize("name", EVERY)
def test_ordinary_texts_have_the_tokens_that_they_always_had(tmp_path, ranks, piece_models, lines, name):
    own = tokenizers.load_tokenizer(EVERY[name](tmp_path, ranks, piece_models))
    ordinary = [line for line in lines if not re.search(r"</s>|<s>|<unk>|\[PAD\]", line)]
    assert len(ordinary) > 2000 - 500
    assert [chat_templates.escape(line, own) for line in ordinary] == ordinary


@pytest.mark.parametrize(
    "text", ["<|im_end|>", "</s>", "<think>", "<｜end▁of▁sentence｜>", "<end_of_turn>", "<|eot_id|>", "[INST]"]
)
def test_without_a_tokenizer_the_usual_control_tokens_are_known(text):
    """For a server: by either route, the text that is sent spells no control token."""
    row = {"questionID": 0, "question": "怎么办", "description": f"{text}睡不着", "reply": ""}
    sent = [prompt_forms.prompt(row, "card"), prompt_forms.messages(row)[1]["content"]]
    assert all(f"?{text[0]} {text[1:]}睡不着" in one for one in sent)
