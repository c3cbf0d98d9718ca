import hashlib
import json
import os
import shutil

from cbtllm_utils import hashing


def test_hashes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")  # NIST's example for SHA-256
    assert hashing.sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert hashing.text("abc") == "ba7816bf8f01cfea"
    digest = hashlib.sha256(f"a {hashing.sha256(tmp_path / 'a')}".encode()).hexdigest()
    assert hashing.sha256(tmp_path) == digest


def test_a_lone_surrogate_has_a_hash():
    assert len(hashing.text(json.loads('"\\ud83d"'))) == 16


def test_large_files_are_known_by_size_and_samples(tmp_path, monkeypatch):
    monkeypatch.setattr(hashing, "LARGE", 1000)
    monkeypatch.setattr(hashing, "SAMPLE", 4)
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.bin").write_bytes(bytes(range(250)) * 8)
    before = hashing.content(folder)
    os.utime(folder / "model.bin", (1, 1))
    shutil.copytree(folder, tmp_path / "copy")
    assert hashing.content(folder) == hashing.content(tmp_path / "copy") == before
    found = {before}
    for name, content in [("config.json", b"[]"), ("model.bin", bytes(range(250)) * 9), ("model.bin", bytes(2000))]:
        (folder / name).write_bytes(content)
        found.add(hashing.content(folder))
    assert len(found) == 4
