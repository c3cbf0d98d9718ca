"""The lines that `mutations.py` breaks are there, once each: a list that has fallen behind the code tests nothing."""

import mutations
import pytest

from cbtllm_utils import changes


@pytest.mark.parametrize(("module", "old", "new", "tests"), mutations.MUTATIONS)
def test_a_line_that_is_to_be_broken_is_there_once(module, old, new, tests):
    assert (changes.PACKAGE / f"{module}.py").read_text(encoding="utf-8").count(old) == 1 and new != old
    assert (mutations.ROOT / "tests" / f"test_{tests.split()[0]}").exists()
