"""Answering in batches, and transformers' `generate` for one prompt at a time, as most examples on the web do it."""

import time
from collections.abc import Callable, Iterator

import torch
import transformers

from benchmarks.table import Row
from cbtllm_utils import files
from cbtllm_utils.finetune import adapters
from cbtllm_utils.generate import answering
from cbtllm_utils.models import chat_templates, prompt_forms

RUN, BACKBONE, REPEATS = "runs/demo", "baichuan-7b", 3
DECODING = {"temperature": 0.95, "top_p": 0.7, "top_k": 50}
SHAPE = {  # of Qwen2.5-0.5B, without its large vocabulary: 358 million weights
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
}


def one_by_one(model: torch.nn.Module, tokenizer: object, prompts: list[str], max_new_tokens: int) -> int:
    """Answer each prompt alone; return the number of new tokens."""
    model.generation_config = transformers.GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=True,
        eos_token_id=chat_templates.stops(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        **DECODING,
    )
    tokens = 0
    for prompt in prompts:
        ids = torch.tensor([chat_templates.ids(tokenizer, prompt)])
        tokens += model.generate(ids, attention_mask=torch.ones_like(ids)).shape[1] - ids.shape[1]
    return tokens


def in_batches(model: torch.nn.Module, tokenizer: object, prompts: list[str], max_new_tokens: int, size: int) -> int:
    """Answer the prompts as notebook 05 does; return the number of new tokens."""
    options = DECODING | {"max_new_tokens": max_new_tokens, "batch_size": size}
    return sum(reply["tokens"] for reply in answering.generate(model, tokenizer, prompts, **options))


def cost(work: Callable[[], int]) -> float:
    """Return CPU seconds per 1,000 new tokens; other processes disturb them less than seconds of the clock."""
    start = time.process_time()
    tokens = work()
    return 1000 * (time.process_time() - start) / tokens


def compare(
    name: str,
    model: torch.nn.Module,
    tokenizer: object,
    prompts: list[str],
    max_new_tokens: int,
    sizes: tuple[int, ...],
) -> Iterator[Row]:
    """Yield a row for each batch size; all ways in turn, the best of several times each."""
    ways = {size: (lambda size=size: in_batches(model, tokenizer, prompts, max_new_tokens, size)) for size in sizes}
    ways["single"] = lambda: one_by_one(model, tokenizer, prompts, max_new_tokens)
    in_batches(model, tokenizer, prompts[:2], 2, 2)  # what is slow the first time
    costs = [{way: cost(work) for way, work in ways.items()} for _ in range(REPEATS)]
    best = {way: min(each[way] for each in costs) for way in ways}
    for size in sizes:
        label = f"{len(prompts)} replies of {name}, {size} at a time: CPU seconds per 1,000 tokens"
        yield Row(label, best[size], "one by one", best["single"], "≥ 3 x", best["single"] >= 3 * best[size])


def rows() -> Iterator[Row]:
    """Yield the rows: a demo model, of 1 million weights, and one of a real shape with random weights."""
    torch.set_num_threads(1)
    base, tokenizer = adapters.load(f"backbones/{BACKBONE}", [], RUN, "fp32")
    test = files.read_jsonl(f"{RUN}/cbt_qa/test.jsonl")
    prompts = [prompt_forms.prompt(row, "card") for row in test]
    tuned = adapters.attach(base, f"{RUN}/adapters/{BACKBONE}")
    yield from compare(f"the demo's {BACKBONE}", tuned, tokenizer, prompts, 700, (8, 36))
    config = transformers.Qwen2Config(vocab_size=len(tokenizer), **SHAPE)
    large = transformers.Qwen2ForCausalLM(config).eval()
    # A tenth of the real lengths, so that reading a prompt takes the same share of the time as with whole replies.
    short = [row["question"] for row in test[:8]]
    yield from compare("a model of Qwen2.5-0.5B's shape", large, tokenizer, short, 40, (8,))
