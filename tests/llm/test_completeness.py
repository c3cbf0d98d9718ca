"""A step lists what found no answer, and fails when that is more than its profile allows."""

import re

import pandas as pd
import pytest
from provider import bad, good

from cbtllm_utils import files
from cbtllm_utils.llm import client, completeness
from cbtllm_utils.llm.errors import EndpointError
from cbtllm_utils.llm.failure import REFUSED, UNANSWERED, Failure

LOST = {n: Failure(UNANSWERED, f"RateLimitError: slow down {n}") for n in range(1, 30)}


def test_more_than_the_allowed_share_fails_with_the_first_and_the_list(tmp_path):
    with pytest.raises(EndpointError) as error:
        completeness.require(LOST, 100, 0.0, tmp_path, "02_x")
    line = str(error.value)
    assert "\n" not in line and line.startswith("29 of 100 requests have no answer (1, 2, 3, …;")
    assert "slow down 1)" in line and "allowed_missing = 0" in line and "02_x.csv" in line
    listed = pd.read_csv(files.missing(tmp_path, "02_x"))
    assert listed["id"].tolist() == list(range(1, 30)) and listed["reason"][28] == "RateLimitError: slow down 29"


def test_what_is_allowed_passes_but_stays_listed_and_what_is_refused_is_not_missing(tmp_path, capsys):
    """0.29 x 100 is 28.999… in binary: 29 of 100 are still within 0.29."""
    said = completeness.require(LOST | {99: Failure(REFUSED, "no")}, 100, 0.29, tmp_path, "02_x")
    assert said.startswith("29 of 100 requests have no answer, listed in")
    assert capsys.readouterr().err == f"{files.NOTE}{said}\n", "what the terminal shows of a notebook"
    assert len(pd.read_csv(files.missing(tmp_path, "02_x"))) == 29
    completeness.require({99: Failure(REFUSED, "no")}, 100, 0.0, tmp_path, "02_x")
    assert not files.missing(tmp_path, "02_x").exists(), "the next run found every answer"


def test_asking_that_ends_early_lists_what_was_not_answered_and_why(server, tmp_path, monkeypatch):
    """An answer, a post that is refused, then a key that is no longer valid: one line, and the list of the others."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    filtered = bad(400, "your prompt was filtered", "content_filter")
    server.script = lambda body, call: [good(body), filtered, bad(401, "Incorrect API key provided")][call - 1]
    requests = [{"id": n, "model": "m", "messages": [{"role": "user", "content": str(n)}]} for n in range(5)]
    asking = {"endpoint": f"http://127.0.0.1:{server.server_port}/v1", "cache_path": tmp_path / "responses.jsonl"}
    with (
        pytest.raises(
            EndpointError, match=r"Incorrect API key.*; 4 of 5 requests have no answer, all are in 02_x\.csv"
        ),
        completeness.listing(requests, tmp_path, "02_x", **asking),
    ):
        client.complete(requests, concurrency=1, **asking)
    listed = pd.read_csv(files.missing(tmp_path, "02_x"))
    assert listed["id"].tolist() == [1, 2, 3, 4] and len(server.asked) == 3
    assert re.match("refused by the provider: .*your prompt was filtered", listed["reason"][0])
    assert listed["reason"][1:].str.contains("Incorrect API key").all()
