"""Generation: in batches as alone, seeded by prompt, stopped at the end of text, resumed; equal to the fixture."""

import os
from importlib import metadata

import pytest
import torch
import transformers
from tiny import Bytes, llama

from cbtllm_utils import files, generate, response_cache
from cbtllm_utils.generate import answering, sampling
from cbtllm_utils.generate.settings import AnswerSettings
from cbtllm_utils.models import devices

PROMPTS = ["你好", "我睡不着，怎么办？", "a", "Human: 怎么办\nAssistant: ", "考试没过"]
FIXTURE = files.ROOT / "tests/generate/replies.json"


@pytest.fixture(scope="module")
def model():
    return llama(initializer_range=0.4, pad_token_id=None)


GREEDY = {"temperature": 0, "top_p": 1.0, "top_k": 0, "seed": 1, "max_new_tokens": 12}
SAMPLED = {"temperature": 0.95, "top_p": 0.7, "top_k": 50, "seed": 1, "max_new_tokens": 12}


def by_hand(model, prompt, steps):
    """Greedy decoding without cache, padding or library: the most probable next token, again and again."""
    ids = Bytes().encode(prompt)
    for _ in range(steps):
        ids.append(model(torch.tensor([ids])).logits[0, -1].argmax().item())
    return ids[len(Bytes().encode(prompt)) :]


def test_replies_changed_only_with_the_version(model):
    found = {"version": generate.VERSION}
    for name, options in {"greedy": GREEDY, "sampled": SAMPLED}.items():
        found[name] = answering.new_tokens(model, Bytes(), PROMPTS, **options)
    message = "replies changed: raise generate.VERSION, then write what was found to tests/generate/replies.json"
    assert found == files.read_json(FIXTURE), message


def test_greedy_in_batches_equals_one_by_one_by_hand(model):
    together = answering.generate(model, Bytes(), PROMPTS, batch_size=3, **GREEDY)
    assert together == [answering.decode(Bytes(), by_hand(model, prompt, 12)) for prompt in PROMPTS]


def test_a_sampled_reply_depends_on_seed_and_prompt_alone(model):
    together = answering.generate(model, Bytes(), PROMPTS, batch_size=5, **SAMPLED)
    shuffled = answering.generate(model, Bytes(), PROMPTS[::-1], batch_size=2, **SAMPLED)[::-1]
    alone = [answering.generate(model, Bytes(), [prompt], batch_size=1, **SAMPLED)[0] for prompt in PROMPTS]
    assert together == shuffled == alone
    assert together != answering.generate(model, Bytes(), PROMPTS, batch_size=5, **SAMPLED | {"seed": 2})
    assert together != answering.generate(model, Bytes(), PROMPTS, batch_size=5, **GREEDY)


def test_sampling_from_the_top_token_is_greedy(model):
    greedy = answering.generate(model, Bytes(), PROMPTS, batch_size=2, **GREEDY)
    assert answering.generate(model, Bytes(), PROMPTS, batch_size=2, **SAMPLED | {"top_k": 1}) == greedy


def test_draws_follow_the_probabilities():
    chances = torch.tensor([0.5, 0.0, 0.3, 0.2])
    scores = chances.log().expand(4000, 4)
    numbers = [sampling.random_numbers(f"prompt {i}", 1, seed=7)[0] for i in range(4000)]
    drawn = sampling.choose(scores, numbers, temperature=1.0, top_p=1.0, top_k=0)
    shares = torch.bincount(drawn, minlength=4) / 4000
    assert shares[1] == 0  # what top-p and top-k took away never comes back
    assert torch.allclose(shares, chances, atol=0.03)  # 4 standard errors: 4 · √(.5 · .5 / 4000) = 0.032


@pytest.mark.parametrize("temperature", [0.95, 0.3, 2.0])
@pytest.mark.parametrize("top_k", [0, 1, 5, 50, 900])
@pytest.mark.parametrize("top_p", [0.01, 0.7, 1.0])
def test_drawn_are_the_tokens_that_transformers_leaves(temperature, top_k, top_p):
    """With u from 0 to 1 in 400 steps, each token comes as often as transformers' own steps make it likely."""
    logits = torch.randn(1, 60, generator=torch.Generator().manual_seed(7)) * 3
    steps = sampling.warpers(temperature, top_p, top_k)
    expected = transformers.LogitsProcessorList(steps)(None, logits.clone()).softmax(-1)[0]
    numbers = ((torch.arange(400).double() + 0.5) / 400).tolist()
    shares = (
        torch.bincount(sampling.choose(logits.expand(400, -1), numbers, temperature, top_p, top_k), minlength=60) / 400
    )
    assert torch.allclose(shares, expected, atol=1 / 400 + 1e-6) and (shares[expected == 0] == 0).all()


def test_a_reply_stops_at_the_end_of_text(model):
    tokens = by_hand(model, PROMPTS[0], 12)
    end = next(token for token in tokens[1:] if token != tokens[0])

    class Early(Bytes):
        eos_token_id = end

    [reply] = answering.generate(model, Early(), PROMPTS[:1], batch_size=1, **GREEDY)
    assert (reply["finish_reason"], reply["tokens"]) == ("stop", tokens.index(end))
    several = answering.generate(model, Early(), PROMPTS, batch_size=5, **GREEDY)
    assert several[0] == reply  # others in the batch go on


@pytest.mark.parametrize(
    "tokens, expected",
    [
        ([100, 101, 1, 0, 0], {"reply": "ab", "finish_reason": "stop", "tokens": 2}),
        ([100, 101, 102], {"reply": "abc", "finish_reason": "length", "tokens": 3}),
        ([1], {"reply": "", "finish_reason": "stop", "tokens": 0}),
        ([35, 100, 13, 1], {"reply": "a", "finish_reason": "stop", "tokens": 3}),  # a space and a line break around
    ],
)
def test_what_becomes_of_tokens(tokens, expected):
    assert answering.decode(Bytes(), tokens) == expected


def test_what_a_checkpoint_says_about_decoding_is_left_out(model):
    """Qwen2.5's generation_config.json holds a repetition penalty; a minimum length would keep a reply from ending."""
    plain = answering.generate(model, Bytes(), PROMPTS, **GREEDY)
    model.generation_config = transformers.GenerationConfig(
        repetition_penalty=5.0, min_new_tokens=12, bad_words_ids=[[9]]
    )
    assert answering.generate(model, Bytes(), PROMPTS, **GREEDY) == plain


def counting(monkeypatch):
    """Return a list that grows by the number of prompts of each batch that is generated."""
    sizes, inner = [], answering.new_tokens

    def counted(model, tokenizer, prompts, **options):
        sizes.append(len(prompts))
        return inner(model, tokenizer, prompts, **options)

    monkeypatch.setattr(answering, "new_tokens", counted)
    return sizes


def test_a_batch_that_does_not_fit_says_what_to_lower(model, monkeypatch):
    def full(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model, "generate", full)
    with pytest.raises(files.InputError, match=r"2 prompts of up to 29 tokens .* lower batch_size or max_new_tokens"):
        answering.generate(model, Bytes(), PROMPTS, batch_size=2, **GREEDY)


def test_an_interrupted_run_goes_on_with_the_batches_that_lack_a_reply(model, monkeypatch, tmp_path):
    rows, path = [{"questionID": i} for i in range(5)], tmp_path / "cache"
    options = SAMPLED | {"batch_size": 2}
    whole = answering.answer(model, Bytes(), rows, PROMPTS, "tiny", tmp_path / "other", **options)
    answering.answer(model, Bytes(), rows, PROMPTS, "tiny", path, **options)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:3]))  # a kill after the first batch and a half
    sizes = counting(monkeypatch)
    assert answering.answer(model, Bytes(), rows, PROMPTS, "tiny", path, **options) == whole
    assert sizes == [2, 1], "the half-written batch is made again as a whole, so that its company is the same"
    assert len(path.read_text().splitlines()) == len(response_cache.read(path)) == 5, "no reply is written twice"
    assert [row["questionID"] for row in whole] == [0, 1, 2, 3, 4]
    assert whole[0].keys() == {"system", "questionID", "reply", "finish_reason", "tokens"}


@pytest.mark.parametrize(
    "change", ["weights", "precision", "tokenizer", "max_new_tokens", "batch_size", "company", "library", "VERSION"]
)
def test_what_a_cached_reply_is_known_by(model, monkeypatch, tmp_path, change):
    options = {"path": tmp_path / "cache", "batch_size": 2} | GREEDY
    rows, tokenizer = [{"questionID": 1}], Bytes()
    answering.answer(model, tokenizer, rows, ["你好"], "tiny", **options)
    sizes = counting(monkeypatch)
    answering.answer(model, tokenizer, rows, ["你好"], "other name", **options)
    assert sizes == [], "nothing changed"
    if change == "weights":
        model = llama(seed=1, initializer_range=0.4)
    elif change == "precision":
        model = llama(initializer_range=0.4, pad_token_id=None).bfloat16()
    elif change == "tokenizer":
        tokenizer.get_vocab = lambda: {"other": 0}
    elif change == "VERSION":
        monkeypatch.setattr(answering, "VERSION", 1000)
    elif change == "library":
        monkeypatch.setattr(answering.metadata, "version", lambda name: "0")
    elif change == "company":  # in 16 bits a reply depends on it: a run from nothing would make another one
        answering.answer(model, tokenizer, rows * 2, ["你好", "a"], "tiny", **options)
        assert sizes == [2]
        return
    else:
        options[change] = 5
    answering.answer(model, tokenizer, rows, ["你好"], "tiny", **options)
    assert sizes == [1]


def test_what_made_the_replies_is_recorded(model):
    """Engine with its version, device, precision and batch size: what Table 4 must say beside its numbers."""
    made = answering.record(model.bfloat16(), 8, GREEDY)
    model.float()
    torch_here = metadata.version("torch")  # PyPI's build calls itself 2.13.0+cu130, and its package 2.13.0
    assert made["engine"].startswith(f"transformers {transformers.__version__}, torch {torch_here}, peft ")
    assert {k: made[k] for k in ("device", "precision", "batch_size", "decoding")} == {
        "device": "cpu",
        "precision": "bf16",
        "batch_size": 8,
        "decoding": GREEDY,
    }


def test_the_next_tokens_and_what_decoding_makes_of_them(model):
    table = answering.next_tokens(model, Bytes(), PROMPTS[0], temperature=1, top_p=1.0, top_k=2)
    logits = model(torch.tensor([Bytes().encode(PROMPTS[0])])).logits[0, -1]
    assert table["probability"].tolist() == pytest.approx(logits.softmax(-1).topk(50).values.tolist())
    first, second = table["probability"][:2]
    assert table["after top-k and top-p"][:3].tolist() == pytest.approx(
        [first / (first + second), second / (first + second), 0]
    )


@pytest.mark.parametrize("options", [GREEDY, SAMPLED])
def test_attention_with_a_window(options):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.MistralConfig(
        vocab_size=259, sliding_window=8, num_key_value_heads=1, initializer_range=0.4, **sizes
    )
    window = transformers.MistralForCausalLM(config).eval()
    together = answering.generate(window, Bytes(), PROMPTS, batch_size=3, **options)
    assert together == [answering.generate(window, Bytes(), [p], batch_size=1, **options)[0] for p in PROMPTS]
    if options is GREEDY:
        assert together == [answering.decode(Bytes(), by_hand(window, prompt, 12)) for prompt in PROMPTS]


def test_the_number_of_prompts_at_a_time_is_stated():
    """Version 0.1 took null and found a number by itself: the same run on another machine gave other replies."""
    with pytest.raises(files.InputError, match=r"batch_size = null: should be a valid integer"):
        AnswerSettings(batch_size=None)


def test_more_than_one_thread_is_part_of_what_a_reply_is_known_by(model):
    """As another batch size, another number of threads adds up in another order."""
    before = torch.get_num_threads()
    keys = []
    try:
        for number in (1, 2):
            devices.use_threads(number)
            assert answering.record(model, 8, GREEDY).get("threads", 1) == torch.get_num_threads() == number
            keys.append(answering.cache_keys(model, Bytes(), PROMPTS, batch_size=2, **GREEDY))
        devices.use_threads(0)
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()  # macOS
        assert torch.get_num_threads() == usable
    finally:
        torch.set_num_threads(before)
    assert not set(keys[0]) & set(keys[1])
