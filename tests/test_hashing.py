import hashlib
import json

from cbtllm_utils import hashing


def test_hashes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")  # NIST's example for SHA-256
    assert hashing.sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert hashing.text("abc") == "ba7816bf8f01cfea"
    digest = hashlib.sha256(f"a {hashing.sha256(tmp_path / 'a')}".encode()).hexdigest()
    assert hashing.sha256(tmp_path) == digest


def test_a_lone_surrogate_has_a_hash():
    assert len(hashing.text(json.loads('"\\ud83d"'))) == 16


def test_weights_are_told_by_size_and_time(tmp_path, monkeypatch):
    monkeypatch.setattr(hashing, "LARGE", 10)
    (tmp_path / "config.json").write_text("{}")
    weights = tmp_path / "model.bin"
    weights.write_bytes(b"0" * 20)
    before = hashing.content(tmp_path)
    assert before == hashing.content(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    after = hashing.content(tmp_path)
    weights.write_bytes(b"1" * 21)
    assert len({before, after, hashing.content(tmp_path)}) == 3
