"""What a profile downloads by itself: from a hub on this machine, in processes as `make reproduce` starts them."""

import hub
import pytest
from huggingface_hub import constants

from cbtllm_utils import USERS_OFFLINE, files
from cbtllm_utils.workflow import downloads, graph, profiles, provenance

NAME = f"nobody/model@{hub.COMMIT}"
FILES = {
    "config.json": b"{}",
    "tokenizer.json": b"[]",
    "model.safetensors": b"weights" * 100,
    "pytorch_model.bin": b"the same once more" * 100,
    "tf_model.h5": b"and once more" * 100,
    "onnx/model.onnx": b"and again",
    "onnx/config.json": b"{}",
}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Return an empty cache of the hub, here and in every process that is started from here."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_XET_CACHE", str(tmp_path / "xet"))
    return tmp_path / "hub"


def needs(**values):
    return profiles.Requirements(downloads={NAME: 1.5}, **values)


def test_what_is_downloaded_is_said_before_and_not_again(cache, monkeypatch):
    with hub.serving(FILES) as here:
        monkeypatch.setenv("HF_ENDPOINT", here.url)
        said = list(downloads.announced(needs(takes="an hour")))
        assert "1.5 GB" in said[0] and "nobody/model (1.5 GB)" in said[0] and said[1] == "Takes an hour"
        downloads.fetch(needs())
        assert set(here.requested) == {"config.json", "tokenizer.json", "model.safetensors"}  # one format of four
        downloads.fetch(needs())
        assert len(here.requested) == 3
    assert downloads.missing(needs()) == {} and list(downloads.announced(needs())) == []
    folder = files.local_or_hub(NAME, "runs")  # the other formats are not missed
    assert (files.path(folder) / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_the_commit_is_in_the_provenance_whatever_revision_was_asked_for(cache, monkeypatch):
    with hub.serving(FILES) as here:
        monkeypatch.setenv("HF_ENDPOINT", here.url)
        downloads.fetch(profiles.Requirements(downloads={"nobody/model": 1.5}))  # main
    assert files.hub_commit("nobody/model") == files.hub_commit(NAME) == hub.COMMIT
    parameters = {"model": "nobody/model", "endpoint": "openai", "settings": {"bleurt_model": None}}
    assert provenance.inputs(parameters) == graph.hub_commits(parameters) == {"nobody/model": hub.COMMIT}


def test_a_download_that_broke_off_goes_on(cache, monkeypatch):
    with hub.serving(FILES) as here:
        monkeypatch.setenv("HF_ENDPOINT", here.url)
        here.broken.add("model.safetensors")
        with pytest.raises(files.InputError, match=rf"{NAME}: cannot be downloaded .* run again") as error:
            downloads.fetch(needs())
        assert "\n" not in str(error.value)
        assert not downloads.there(NAME) and list(downloads.missing(needs())) == [NAME]
        here.broken.clear()
        downloads.fetch(needs())
    assert downloads.there(NAME)


def test_a_part_of_the_weights_is_not_the_whole(tmp_path):
    place = tmp_path / "model"
    place.mkdir()
    (place / "config.json").write_text("{}")
    assert not downloads.there(str(place))
    (place / "model.safetensors.index.json").write_text('{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}')
    (place / "1.safetensors").write_text("")
    assert not downloads.there(str(place))
    (place / "2.safetensors").write_text("")
    assert downloads.there(str(place))


@pytest.mark.parametrize("there, revision", [(False, "main"), (True, "f" * 40)])
def test_without_a_hub_or_a_revision_one_line_says_what_to_do(cache, monkeypatch, there, revision):
    with hub.serving(FILES) as here:
        monkeypatch.setenv("HF_ENDPOINT", here.url if there else "http://127.0.0.1:9")
        wanted = profiles.Requirements(downloads={f"nobody/model@{revision}": 1.0})
        with pytest.raises(
            files.InputError, match=r"check the network .*HTTPS_PROXY.*HF_ENDPOINT.* run again"
        ) as error:
            downloads.fetch(wanted)
    assert "\n" not in str(error.value)


def test_a_model_without_weights_is_named(cache, monkeypatch):
    with hub.serving({"config.json": b"{}", "tf_model.h5": b"weights"}) as here:
        monkeypatch.setenv("HF_ENDPOINT", here.url)
        with pytest.raises(files.InputError, match=f"{NAME}: the hub has no weights"):
            downloads.fetch(needs())


def test_what_a_model_is_fetched_by_is_said_with_its_revision(cache):
    with pytest.raises(files.InputError, match="`hf download nobody/model --revision 0123456"):
        files.local_or_hub(NAME, "runs")
    assert files.hub_commit(NAME) is None


@pytest.mark.parametrize("kind", ["model.safetensors", "pytorch_model.bin"])
def test_the_index_of_the_format_that_is_there_decides(tmp_path, kind):
    """A repository in two formats has two indices; only the shards of one were fetched."""
    stem, _, ending = kind.rpartition(".")
    for name in ("model.safetensors", "pytorch_model.bin"):
        other = name.rpartition(".")
        shards = {"w": f"{other[0]}-00001-of-00001.{other[2]}"}
        files.write_json(tmp_path / f"{name}.index.json", {"weight_map": shards})
    assert not downloads.there(str(tmp_path))
    (tmp_path / f"{stem}-00001-of-00001.{ending}").write_bytes(b"w")
    assert downloads.there(str(tmp_path))


def test_a_user_who_keeps_the_hub_offline_is_not_overruled(cache, monkeypatch):
    with hub.serving(FILES) as here:
        monkeypatch.setenv("HF_ENDPOINT", here.url)
        monkeypatch.setenv(USERS_OFFLINE, "1")
        with pytest.raises(files.InputError, match=r"HF_HUB_OFFLINE is set, and nobody/model.* unset it"):
            downloads.fetch(needs())
        assert not here.requested
