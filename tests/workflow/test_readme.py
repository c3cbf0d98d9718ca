"""The README and the pages in docs/ show the released run's numbers. What they link: tests/test_docs.py."""

import pandas as pd

from cbtllm_utils import files
from cbtllm_utils.workflow import release

README = files.path("README.md").read_text(encoding="utf-8")


def test_their_results_are_those_of_the_released_run():
    assert len(release.BLOCK.findall(README)) >= 2
    for page in (files.path("README.md"), *files.path("docs").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        assert release.refreshed(text, page.name) == text, f"{page.name}: run `make release`"


def test_the_findings_come_first_after_the_two_notices():
    before, after = README.split("<!-- from figures/demo/findings.md -->")
    assert before.count("\n> **") == 2 and before.count("\n## ") == 1, "the notices, and the heading of the findings"
    header = next(line for line in after.splitlines() if line.startswith("| "))
    assert sorted(header.strip("| ").split(" | ")) == ["claim or question", "evidence", "rests on", "verdict", "where"]


def test_its_words_on_the_demo_are_the_runs_numbers():
    sizes = pd.read_csv(files.path("figures/demo/demo_backbones.csv"))["parameters"]
    assert f"{len(sizes)} *tiny* models".replace("4", "four") in README
    assert f"(about {sizes.median() / 1e6:.1f} million parameters" in README
    assert f"{len(files.read_json('data/sample/psyqa_sample.json'))} *invented* forum posts" in README
