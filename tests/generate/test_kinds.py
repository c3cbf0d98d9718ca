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
