import pytest

from cbtllm_utils.generate import kinds


@pytest.mark.parametrize(
    "name, first",
    [
        ("qwen3-0.6b-seed43", "qwen3-0.6b"),
        ("qwen3-0.6b", "qwen3-0.6b"),
        ("qwen3-0.6b-seed43-untuned", "qwen3-0.6b-untuned"),
        ("qwen3-0.6b-seed7-prompted", "qwen3-0.6b-prompted"),
        ("reseed43", "reseed43"),
        ("model-seed", "model-seed"),
        ("-seed43", "-seed43"),
    ],
)
def test_a_replicate_is_known_by_its_seed(name, first):
    assert kinds.replicate_of(name) == first


def test_people_rate_tuned_backbones_and_of_a_single_one_every_system():
    assert kinds.to_rate(["a", "b", "b-seed43"], {"a", "a-untuned", "b"}) == ["a", "b"]
    assert kinds.to_rate(["a", "a-seed43"], {"a", "a-prompted", "a-seed43"}) == ["a-prompted", "a"]
    assert kinds.to_rate(["a"], {"a-untuned"}) == ["a-untuned"] and kinds.to_rate(["a"], set()) == ["a"]


@pytest.mark.parametrize(
    "name, title, label",
    [
        ("baichuan-7b", "Baichuan-7B, tuned", "baichuan-7b"),
        ("llama-chinese-7b-untuned", "LLama-Chinese-7B, untuned", "llama-chinese-7b untuned"),  # the paper's spelling
        ("qwen3-0.6b-seed43-prompted", "Qwen3-0.6B, seed 43, prompted", "qwen3-0.6b-seed43 prompted"),
        ("qwen2.5-7b-instruct", "Qwen2.5-7B-instruct, tuned", "qwen2.5-7b-instruct"),
    ],
)
def test_a_system_has_a_title_to_read_and_a_label_in_files(name, title, label):
    assert kinds.label(name) == label
    assert kinds.title(name) == kinds.title(label) == title


def test_a_baseline_is_called_what_it_is():
    assert kinds.title("nearest training reply") == "nearest training reply"
