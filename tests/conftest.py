"""What several test files need."""

import threading

import pytest
from provider import KEY, Server

from cbtllm_utils import files
from cbtllm_utils.llm import pacing
from cbtllm_utils.text import sections


@pytest.fixture
def sample_questions() -> list[dict]:
    """The bundled sample's records as they lie in the file."""
    return files.read_json("data/sample/psyqa_sample.json")


@pytest.fixture(scope="session")
def judged_otherwise() -> dict[int, str]:
    """Marked replies in which a model that has learned from them finds other components than one that has not."""
    rows = files.read_jsonl(sections.MARKED)
    texts = {row["questionID"]: "".join(text for _, text in row["sections"]) for row in rows}
    seen, unseen = sections.fitted(), sections.model_for
    found = {i: t for i, t in texts.items() if sections.structure(t, unseen(i)) != sections.structure(t, seen)}
    assert found, "without these, a test could not tell the two models apart"
    return found


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(pacing, "SHORTEST_WAIT", 0.01)  # before the second try, else two seconds
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()
