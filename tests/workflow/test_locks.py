"""Who may work beside whom in a run's folder."""

import pytest

from cbtllm_utils import files
from cbtllm_utils.workflow import locks

RUNNING = "is running; wait for it or stop it"


def test_steps_by_hand_work_beside_each_other_and_never_beside_make_reproduce(tmp_path):
    run = str(tmp_path)
    with locks.one_step(run, "04_lora_training-qwen-7b"), locks.one_step(run, "04_lora_training-baichuan-7b"):
        with pytest.raises(files.InputError, match=f"another run of 04_lora_training-qwen-7b {RUNNING}"):
            locks.one_step(run, "04_lora_training-qwen-7b").__enter__()
        with pytest.raises(files.InputError, match=f"another run of this profile {RUNNING}"):
            locks.whole_run(run).__enter__()
    with locks.whole_run(run), pytest.raises(files.InputError, match=f"another run of this profile {RUNNING}"):
        locks.one_step(run, "03_distortion_analysis").__enter__()
    with locks.whole_run(run):
        pass


def test_a_step_by_hand_puts_back_what_a_kill_moved_aside_and_leaves_what_is_being_made(tmp_path):
    (tmp_path / "adapters" / "qwen").mkdir(parents=True)
    aside = tmp_path / "adapters" / ".qwen-00000000.tmp"
    aside.mkdir()
    (tmp_path / "adapters" / "qwen").rename(aside / ".replaced")
    mine = tmp_path / "adapters" / ".qwen-released"  # not a temporary folder of ours
    mine.mkdir()
    with files.atomic(tmp_path / "adapters" / "baichuan") as made:
        made.mkdir()
        with locks.one_step(str(tmp_path), "05"):
            assert made.exists()
    assert sorted(p.name for p in (tmp_path / "adapters").iterdir()) == [".qwen-released", "baichuan", "qwen"]
