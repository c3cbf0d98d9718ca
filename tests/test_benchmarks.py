"""The page of benchmarks is made of the measurements beside it; the estimate's sums are added up again."""

import re

import pytest

from benchmarks import page
from cbtllm_utils import files


def test_the_page_is_what_the_measurements_make():
    assert files.read_text("benchmarks/README.md") == page.text()


def test_the_hours_of_the_small_profile_follow_from_their_arithmetic():
    """Each row's text, such as 36 × 183 / 75.2 + 3 × 700 × 0.51 in seconds, is computed once more."""
    *rows, total, on_all_cores = files.read_json(page.SMALL)["computed"]
    assert len(rows) == 5
    for what, arithmetic, hours in rows:
        plain = arithmetic.replace(",", "").replace("×", "*")
        assert re.fullmatch(r"[\d. +*/]+", plain), what
        assert float(hours) == pytest.approx(eval(plain) / 3600, abs=0.006), what
    together = sum(float(hours) for *_, hours in rows)
    assert float(total[2]) == pytest.approx(together, abs=0.1)
    cores = int(on_all_cores[0].split()[1])
    assert float(on_all_cores[2]) == pytest.approx(together / cores, abs=0.1)
