"""What several test files need."""

import pytest

from cbtllm_utils import files


@pytest.fixture
def sample_questions() -> list[dict]:
    """The bundled sample's records as they lie in the file."""
    return files.read_json("data/sample/psyqa_sample.json")
