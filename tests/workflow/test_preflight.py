import importlib.util

import pytest

from cbtllm_utils import files
from cbtllm_utils.models import devices
from cbtllm_utils.workflow import preflight, profiles


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
    assert list(preflight.machine(profiles.Requirements(gpu_memory_gb=32))) == []


def test_a_full_disk_is_said_before_any_work():
    (line,) = preflight.disk(profiles.Requirements(disk_gb=1e9))
    assert "needs 1e+09 GB free space for runs" in line


def test_what_4_bits_need_is_said_before_any_work(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    (line,) = preflight.libraries([{"quantization": None}, {"quantization": "nf4"}, {"quantization": "nf4"}])
    assert "needs bitsandbytes" in line
    with pytest.raises(files.InputError, match="needs bitsandbytes"):  # what the training itself says
        devices.check_quantization("nf4")
    assert list(preflight.libraries([{}])) == []


def test_every_kind_of_model_is_looked_for():
    given = [{"english_bleurt": "nobody/bleurt", "bleurt_model": None}, {"model": "gpt-4o"}]
    given += [{"model": "backbones/x", "deltas": ["nobody/delta"]}]
    lines = list(preflight.models(given))
    assert len(lines) == 2 and "nobody/delta" in lines[0] and "nobody/bleurt" in lines[1]
