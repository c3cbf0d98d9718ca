"""The script that checks a GPU, on a CPU: what can be measured there is, and what cannot is said."""

import pytest
import torch

from benchmarks import gpu
from cbtllm_utils import files


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)  # so small a model is slower on several threads


def test_on_a_cpu_it_measures_what_can_be_measured_there(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpu.main(["--device", "cpu", "--out", str(tmp_path / "gpu.json")]) == 0
    rows = {row["case"]: row for row in files.read_json(tmp_path / "gpu.json")["rows"]}
    assert list(rows) == ["fp16", "bf16", "bf16, nf4 weights", "fp32", "too many prompts at a time"]
    for name in ("bf16", "fp32"):
        first, last = map(float, rows[name]["loss"].split(" → "))
        assert abs(first - 7.6) < 0.3, "ln of 2,000 words, which a model that knows nothing finds equally likely"
        assert last < first
        assert rows[name]["trained, tokens/s"] > 0 and rows[name]["answered, tokens/s"] > 0
    assert (
        "needs an NVIDIA GPU" in rows["fp16"]["note"] and "not measured" in rows["too many prompts at a time"]["note"]
    )
    table = capsys.readouterr().out
    assert all(f"| {name} |" in table for name in rows) and "nan" not in table


@pytest.mark.skipif(torch.cuda.is_available(), reason="about a machine without a GPU")
def test_without_a_gpu_one_line_says_so(capsys):
    assert gpu.main([]) == 1
    assert (
        capsys.readouterr().err == "error: no NVIDIA GPU is visible to torch; --device cpu checks this script alone\n"
    )
