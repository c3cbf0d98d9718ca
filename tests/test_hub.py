"""Which names are ids on the hub, and what a card's metadata says of the base model."""

import pytest
from huggingface_hub import ModelCard

from cbtllm_utils import files, hub


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Qwen/Qwen-7B", True),
        ("Qwen/Qwen-7B@3e8fd79", True),
        ("gpt2", False),  # an id of the hub's first years, and what `files.public` leaves of a folder
        ("backbones/qwen-7b", False),
        ("data/weights/llama-7b", False),
        ("data/sample", False),  # a folder of the repository
        ("/home/somebody/llama", False),
        ("~/models/llama", False),
        ("../llama", False),
        ("a b/c", False),
    ],
)
def test_ids_on_the_hub(name, expected):
    assert hub.is_id(name) is expected
    assert hub.ids([name]) == ([name.partition("@")[0]] if expected else [])


def test_a_folder_below_the_repository_is_no_id(monkeypatch, tmp_path):
    monkeypatch.setattr(files, "ROOT", tmp_path)
    assert hub.is_id("weights/llama")
    (tmp_path / "weights" / "llama").mkdir(parents=True)
    assert not hub.is_id("weights/llama")


def test_the_metadata_names_no_base_that_is_not_on_the_hub():
    data = ModelCard(hub.model_header("peft", ["a/b", "backbones/x"], "adapter", "n")).data
    assert (data.base_model, data.base_model_relation) == ("a/b", "adapter")


@pytest.mark.parametrize("bases", [["backbones/x"], ["backbones/x", "a/delta"]])
@pytest.mark.parametrize("relation", ["adapter", "merge"])
def test_what_was_made_from_a_local_model_is_not_called_one_of_its_delta(bases, relation):
    data = ModelCard(hub.model_header("peft", bases, relation, "n")).data
    assert data.base_model is None and "base_model_relation" not in data
