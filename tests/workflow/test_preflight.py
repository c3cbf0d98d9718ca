import importlib.util

import pytest

from cbtllm_utils import files
from cbtllm_utils.models import quantization
from cbtllm_utils.workflow import preflight


def test_the_demo_needs_nothing():
    preflight.check("demo")


@pytest.mark.parametrize("profile", ["paper", "modern"])
def test_everything_missing_is_said_at_once(profile, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("LAUNCH", raising=False)
    with pytest.raises(files.InputError) as error:
        preflight.check(profile)
    for part in ("data/psyqa", "OPENAI_API_KEY", "hf download", "GPU with"):
        assert part in str(error.value)


def test_a_launcher_brings_its_own_gpu(monkeypatch):
    monkeypatch.setenv("LAUNCH", "srun --gres=gpu:1")
    assert list(preflight.machine({"requires": {"gpu_memory_gb": 32}})) == []


def test_a_full_disk_is_said_before_any_work():
    (line,) = [line for line in preflight.inputs({"requires": {"disk_gb": 10**9}}) if line.startswith("disk")]
    assert "1000000000 GB free space for runs" in line


def test_what_4_bits_need_is_said_before_any_work(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    one = {"backbones": {"a": {"model": "x", "quantization": "nf4"}, "b": {"model": "x"}}}
    for content in (one, {"04_lora_training": {"quantization": "nf4"}}):
        (line,) = preflight.libraries(content)
        assert "needs bitsandbytes" in line
        with pytest.raises(files.InputError, match="needs bitsandbytes"):  # the word of the training itself
            quantization.check("nf4")
    assert list(preflight.libraries({})) == []


def test_jurys_english_models_are_looked_for_too():
    lines = [*preflight.models({"06_automatic_evaluation": {"english_bleurt": "nobody/no-such-model"}})]
    assert any("nobody/no-such-model" in line for line in lines) and not any("None" in line for line in lines)
