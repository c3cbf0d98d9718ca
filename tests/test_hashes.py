import hashlib
import json

from cbtllm_utils import hashes


def test_hashes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")  # NIST's example for SHA-256
    assert hashes.sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert hashes.text("abc") == "ba7816bf8f01cfea"
    digest = hashlib.sha256(f"a {hashes.sha256(tmp_path / 'a')}".encode()).hexdigest()
    assert hashes.sha256(tmp_path) == digest


def test_a_lone_surrogate_has_a_hash():
    assert len(hashes.text(json.loads('"\\ud83d"'))) == 16


def test_weights_are_told_by_size_and_time(tmp_path, monkeypatch):
    monkeypatch.setattr(hashes, "LARGE", 10)
    (tmp_path / "config.json").write_text("{}")
    weights = tmp_path / "model.bin"
    weights.write_bytes(b"0" * 20)
    before = hashes.content(tmp_path)
    assert before == hashes.content(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    after = hashes.content(tmp_path)
    weights.write_bytes(b"1" * 21)
    assert len({before, after, hashes.content(tmp_path)}) == 3
