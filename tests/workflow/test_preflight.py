import importlib.util
import shlex
import sys
import types

import pretended_vllm
import pytest
import torch

from cbtllm_utils import files
from cbtllm_utils.generate import vllm_process
from cbtllm_utils.models import devices
from cbtllm_utils.workflow import preflight, profiles


def test_the_demo_needs_nothing():
    preflight.check("demo")


@pytest.mark.parametrize("profile", ["paper", "modern"])
def test_everything_missing_is_said_at_once(profile, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("LAUNCH", raising=False)
    monkeypatch.setattr(vllm_process.shutil, "which", lambda *given, **options: None)  # whoever has it here
    with pytest.raises(files.InputError) as error:
        preflight.check(profile)
    for part in ("data/psyqa", "OPENAI_API_KEY", "hf download", "GPU with", "engine = vllm: there is no program"):
        assert part in str(error.value)


def test_files_of_another_project_are_said_at_once_with_their_whole_paths(tmp_path, monkeypatch):
    """The reader's first reason for what is there; what is missing, whichever parameter names it."""
    (tmp_path / "dialogues.json").write_text('[{"dialog": ["你好"]}]')
    (tmp_path / "prompt.md").write_text("你是一位咨询师。")
    (tmp_path / "labels.csv").write_text("id,label\n1,sad\n")
    (tmp_path / "mine.yaml").write_text(f"""
common: {{questions: {tmp_path}/dialogues.json}}
01_prompt_design: {{prompt: {tmp_path}/prompt.md, compare: [{tmp_path}/other.md], endpoint: "replay:{tmp_path}/r.jsonl"}}
02_dataset_generation: {{topics: {tmp_path}/topics.csv}}
03_distortion_analysis: {{annotations: {tmp_path}/labels.csv}}
07_human_evaluation: {{ratings: {tmp_path}/ratings.csv}}
backbones: {{qwen-7b: {{model: backbones/qwen-7b}}}}
""")
    monkeypatch.setattr(profiles, "PARAMS", tmp_path)
    with pytest.raises(files.InputError) as error:
        preflight.check("mine")
    first, *lines = str(error.value).split("\n")
    assert first.endswith("; 7 missing or of another kind:")
    for name, reason in {
        "dialogues.json": "not posts of PsyQA, none of 1 records can be used (record 0: no field question; its fields: dialog)",
        "prompt.md": "no paragraph lists the components",
        "labels.csv": "no column annotator, labels, questionID; its columns: id, label",
        **dict.fromkeys(("other.md", "r.jsonl", "topics.csv", "ratings.csv"), "no such file"),
    }.items():
        assert [line for line in lines if line.startswith(f"  - {tmp_path}/{name}: {reason}")], (name, lines)


def test_a_key_that_cannot_be_sent_is_said_before_a_night_of_work(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123\n456789")
    with pytest.raises(files.InputError, match="OPENAI_API_KEY: character 8 is a line break"):
        preflight.check("paper")


def test_who_is_asked_to_read_counts_as_any_endpoint(tmp_path, monkeypatch):
    """A key is needed and a recording looked for where the second reader alone asks."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(profiles, "PARAMS", tmp_path)
    reader = {
        "openai": "OPENAI_API_KEY: the key for openai",
        f"replay:{tmp_path}/r.jsonl": f"{tmp_path}/r.jsonl: no such",
    }
    for endpoint, said in reader.items():
        (tmp_path / "mine.yaml").write_text(f"""
02_dataset_generation: {{reader_endpoint: "{endpoint}", reader_model: m}}
backbones: {{qwen-7b: {{model: backbones/qwen-7b}}}}
""")
        with pytest.raises(files.InputError, match="1 missing or of another kind") as error:
            preflight.check("mine")
        assert f"  - {said}" in str(error.value)


def test_a_launcher_brings_its_own_gpu(monkeypatch):
    monkeypatch.setenv("LAUNCH", "srun --gres=gpu:1")
    assert list(preflight.machine(profiles.Requirements(gpu_memory_gb=32))) == []


def test_a_smaller_gpu_is_a_warning(monkeypatch, capsys):
    """How much a training needs is estimated, so that it stops nothing."""
    monkeypatch.delenv("LAUNCH", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    small = types.SimpleNamespace(total_memory=24 * 10**9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: small)
    assert list(preflight.machine(profiles.Requirements(gpu_memory_gb=32))) == []
    assert capsys.readouterr().err.startswith("warning: GPU with 32 GB: this one has 24 GB; ")


def test_little_main_memory_is_a_warning(capsys):
    assert list(preflight.machine(profiles.Requirements(memory_gb=1e6))) == []
    assert capsys.readouterr().err.startswith("warning: 1e+06 GB of main memory: this machine has ")
    assert list(preflight.machine(profiles.Requirements(memory_gb=0.001))) == []
    assert capsys.readouterr().err == ""


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
    lines = list(preflight.models(given, profiles.Requirements()))
    assert len(lines) == 2 and "nobody/delta" in lines[0] and "nobody/bleurt" in lines[1]


def test_what_the_profile_downloads_by_itself_is_not_missing():
    given = [{"model": "nobody/model", "deltas": [], "tuned_model": "nobody/tuned"}]
    needs = profiles.Requirements(downloads={"nobody/model": 1.5})
    (line,) = preflight.models(given, needs)
    assert line.startswith("model 'nobody/tuned'") and "`hf download nobody/tuned` fetches it" in line


def test_a_gpu_that_torch_has_no_kernels_for_is_said_before_any_work(monkeypatch):
    wrong = devices.no_kernels("Tesla V100", (7, 0), ["sm_75", "sm_80"], "2.13.0")
    monkeypatch.setattr(devices, "gpu_problem", lambda: wrong)
    monkeypatch.setenv("LAUNCH", "srun")
    assert list(preflight.build()) == []  # that machine has another GPU
    monkeypatch.delenv("LAUNCH")
    assert list(preflight.build()) == [wrong] and "\n" not in wrong and "make setup TORCH=cu126" in wrong


def test_a_vllm_that_would_fail_after_days_of_training_is_said_before(monkeypatch):
    """It does not start, there are fewer GPUs than it is to use, or its kernels need a later one."""
    program = shlex.join([sys.executable, pretended_vllm.__file__])
    asked = {"engine": "vllm", "vllm": program}
    monkeypatch.delenv("LAUNCH", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert list(preflight.engines([asked, {"engine": "transformers", "vllm": "no-such-vllm"}])) == []
    (line,) = preflight.engines([asked | {"vllm": f"{program} --broken"}])
    assert "does not start: RuntimeError: operator torchvision::nms" in line
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *number: "Tesla V100")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *number: (7, 0))
    few, old = preflight.engines([asked | {"tensor_parallel": 4}])
    assert few == "tensor_parallel = 4: torch sees 2 GPUs here"
    assert old.startswith("engine = vllm: Tesla V100 has compute capability 7.0") and "engine: transformers" in old
    monkeypatch.setenv("LAUNCH", "srun")
    assert list(preflight.engines([asked | {"tensor_parallel": 4}])) == []  # that machine has other GPUs
