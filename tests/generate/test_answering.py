"""Generation: in batches as alone, seeded by item, stopped at the end of text, resumed."""

import subprocess
import sys
import types

import pytest
import torch
import transformers
from tiny import Bytes, llama

from cbtllm_utils import files, response_cache
from cbtllm_utils.generate import answering, batching, growing_cache, sampling

PROMPTS = ["你好", "我睡不着，怎么办？", "a", "Human: 怎么办\nAssistant: ", "考试没过"]


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


def test_greedy_in_batches_equals_one_by_one_by_hand(model):
    together = answering.generate(model, Bytes(), PROMPTS, batch_size=5, **GREEDY)
    assert together == [answering.finished(Bytes(), by_hand(model, prompt, 12)) for prompt in PROMPTS]


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
    numbers = [sampling.numbers(f"prompt {i}", 1, seed=7)[0] for i in range(4000)]
    drawn = sampling.chosen(scores, numbers, temperature=1.0, top_p=1.0, top_k=0)
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
        torch.bincount(sampling.chosen(logits.expand(400, -1), numbers, temperature, top_p, top_k), minlength=60) / 400
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
    assert answering.finished(Bytes(), tokens) == expected


class Small:
    """A model whose device holds so many rows at a time; `sizes` are those of the prompts' batches."""

    def __init__(self, model, rows):
        self.model, self.rows, self.device, self.dtype, self.sizes = model, rows, model.device, model.dtype, []
        self.config = model.config

    def __call__(self, ids, **options):
        self.sizes += [len(ids)] if "logits_to_keep" in options else []
        if len(ids) > self.rows:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.model(ids, **options)


def test_out_of_memory_halves_the_batch_and_goes_on(model):
    small = Small(model, 2)
    replies = answering.generate(small, Bytes(), PROMPTS, batch_size=8, **GREEDY)
    assert replies == answering.generate(model, Bytes(), PROMPTS, batch_size=8, **GREEDY)
    assert small.sizes == [5, 2, 2, 1]


def test_rows_that_end_make_room_for_the_next_and_then_go(model):
    """Each reply's length is its own; greedy, so that a by-hand loop says what must come out."""
    wanted = [3, 40, 7, 1, 20]
    asked = [batching.Asked(Bytes().encode(p), [0.0] * n) for p, n in zip(PROMPTS, wanted, strict=True)]
    small = Small(model, 2)
    found = dict(batching.written(small, asked, 2, ends=[-1], pad=0, temperature=0, top_p=1, top_k=0))
    assert [found[i] for i in range(5)] == [by_hand(model, p, n) for p, n in zip(PROMPTS, wanted, strict=True)]
    assert small.sizes == [2, 1, 1, 1], "two prompts begin, and each that ends hands its row on"


def test_the_processor_out_of_memory_halves_too(model):
    class Full(Small):
        def __call__(self, ids, **options):
            if len(ids) > self.rows:  # asks for a petabyte, so that torch itself says that there is none
                torch.empty(2**50, dtype=torch.uint8)
            return super().__call__(ids, **options)

    full = Full(model, 2)
    assert answering.generate(full, Bytes(), PROMPTS, batch_size=4, **GREEDY) == answering.generate(
        model, Bytes(), PROMPTS, batch_size=4, **GREEDY
    )
    assert full.sizes[0] == 2


def test_a_prompt_that_never_fits_is_named(model):
    with pytest.raises(files.InputError, match=r"one prompt of 22 characters does not fit .* lower max_new_tokens"):
        answering.generate(Small(model, 0), Bytes(), ["x" * 22], batch_size=4, **GREEDY)


def test_answers_go_on_where_they_broke_off(model, tmp_path):
    rows, path = [{"questionID": i} for i in range(5)], tmp_path / "journal"
    first = answering.answer(model, Bytes(), rows[:3], PROMPTS[:3], "tiny", path, "k", batch_size=2, **GREEDY)
    small = Small(model, 5)
    whole = answering.answer(small, Bytes(), rows, PROMPTS, "tiny", path, "k", batch_size=5, **GREEDY)
    assert small.sizes == [2] and whole[:3] == first  # three were there
    assert [row["questionID"] for row in whole] == [0, 1, 2, 3, 4]
    assert whole[0].keys() == {"system", "questionID", "reply", "finish_reason", "tokens"}
    assert len(response_cache.read(path)) == 5


@pytest.mark.parametrize("change", [{"key": "other adapter"}, {"system": "other"}, {"max_new_tokens": 5}])
def test_answers_under_other_conditions_are_not_taken(model, tmp_path, change):
    values = {"system": "tiny", "path": tmp_path / "journal", "key": "k", "batch_size": 2} | GREEDY
    for options in (values, values | change):
        small = Small(model, 5)
        answering.answer(small, Bytes(), [{"questionID": 1}], ["你好"], **options)
        assert small.sizes == [1]


def test_the_next_tokens_and_what_decoding_makes_of_them(model):
    table = answering.next_tokens(model, Bytes(), PROMPTS[0], temperature=1, top_p=1.0, top_k=2)
    logits = model(torch.tensor([Bytes().encode(PROMPTS[0])])).logits[0, -1]
    assert table["probability"].tolist() == pytest.approx(logits.softmax(-1).topk(50).values.tolist())
    first, second = table["probability"][:2]
    assert table["after top-k and top-p"][:3].tolist() == pytest.approx(
        [first / (first + second), second / (first + second), 0]
    )


@pytest.mark.parametrize(("new", "block"), [(1, 128), (2, 128), (140, 128), (40, 4)])
def test_replies_are_those_of_transformers_own_generation(model, monkeypatch, new, block):
    """140 tokens pass one block of the cache; with blocks of 4 it grows and is cut often. Five prompts, two rows."""
    monkeypatch.setattr(growing_cache, "BLOCK", block)
    ids = [Bytes().encode(prompt) for prompt in PROMPTS]
    config = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False, "pad_token_id": 0}
    expected = [model.generate(torch.tensor([own]), **config)[0, len(own) :].tolist() for own in ids]
    asked = [batching.Asked(own, [0.0] * new) for own in ids]
    found = dict(batching.written(model, asked, 2, ends=[-1], pad=0, temperature=0, top_p=1, top_k=0))
    assert [found[i] for i in range(5)] == expected


@pytest.mark.parametrize("options", [GREEDY, SAMPLED])
def test_attention_with_a_window_is_left_to_transformers(options):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.MistralConfig(
        vocab_size=259, sliding_window=8, num_key_value_heads=1, initializer_range=0.4, **sizes
    )
    window = transformers.MistralForCausalLM(config).eval()
    assert not growing_cache.plain(config)
    together = answering.generate(window, Bytes(), PROMPTS, batch_size=3, **options)
    assert together == [answering.generate(window, Bytes(), [p], batch_size=1, **options)[0] for p in PROMPTS]
    if options is GREEDY:
        assert together == [answering.finished(Bytes(), by_hand(window, prompt, 12)) for prompt in PROMPTS]


def test_a_batch_is_as_large_as_memory_allows(model, monkeypatch):
    """Keys and values of 2 layers x 32 numbers x 4 bytes: 512 bytes a token, 182,272 a row of 100 + 2 x 128."""
    free = types.SimpleNamespace(available=1_000_000)
    monkeypatch.setattr("psutil.virtual_memory", lambda: free)
    assert answering.fitting(model, 100) == 3  # 600,000 / 182,272
    assert answering.fitting(model, 100, most=2) == 2 and answering.fitting(model, 10**9) == 1


PROGRAM = """
import resource, sys
import torch
from tiny import Bytes, llama
from cbtllm_utils.generate import answering
torch.set_num_threads(1)
model = llama(num_attention_heads=32, num_key_value_heads=32, head_dim=128)  # little to compute, much to keep
prompts = ["x" * 90 + str(i) for i in range(48)]
choice = {"max_new_tokens": 3, "temperature": 0}
few = answering.generate(model, Bytes(), prompts, batch_size=4, **choice)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 400 * 2**20,) * 2)
print(answering.generate(model, Bytes(), prompts, batch_size=48, **choice) == few)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of a process's memory is Linux's")
def test_a_process_that_gets_no_more_memory_goes_on_with_smaller_batches():
    """48 rows of 93 + 128 tokens x 2 layers x 2 x 32 x 128 x 4 bytes take 695 MB; the process gets 400 MiB more."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, cwd=files.ROOT / "tests/support", timeout=300
    )
    assert run.stdout == "True\n", run.stderr[-2000:]
    assert "out of memory: on with batches of 24" in run.stderr
