"""Rating: a form of 100 questions x 4 systems in Chromium, and agreement with intervals beside the libraries' loops."""

import shutil
import statistics as middle
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.table import Row
from cbtllm_utils import files, reliability
from cbtllm_utils.human import blinding, forms

SYSTEMS, ITEMS, RATERS, RESAMPLES = ("a", "b", "c", "d"), 100, 5, 100


def sheet() -> blinding.Sheet:
    """420 entries, 20 of them repeats, of the bundled posts and replies."""
    posts = files.read_json("data/sample/psyqa_sample.json")
    recorded = files.read_jsonl("data/sample/recorded_replies.jsonl")
    replies = {row["questionID"]: "".join(text for _, text in row["sections"]) for row in recorded}
    answers = [{"system": s, "questionID": n, "reply": f"{text}{s}"} for n, text in replies.items() for s in SYSTEMS]
    return blinding.sheets(blinding.sample(posts, answers, list(SYSTEMS), ITEMS, 42), 1, 20, 42)[0][0]


def opened(driver: object, page: Path) -> float:
    """Seconds until a page from disk has loaded, the median of five."""
    times = []
    for _ in range(6):
        driver.get(page.as_uri())
        times.append(driver.execute_script("return performance.getEntriesByType('navigation')[0].loadEventEnd") / 1000)
    return middle.median(times[1:])


def form() -> Iterator[Row]:
    """Weight and time to open, beside a bare table of the same entries without anything to press."""
    made = sheet()
    with tempfile.TemporaryDirectory() as folder:
        pages = Path(folder) / "R1.html", Path(folder) / "table.html"
        pages[0].write_text(forms.html(made, forms.rubric(), "zh"), encoding="utf-8")
        pd.DataFrame(made.entries)[["question", "description", "answer"]].to_html(pages[1])
        ours, theirs = (page.stat().st_size / 1e6 for page in pages)
        yield Row(f"form of {len(made.entries)} entries, MB", ours, "pandas' to_html", theirs, "< 2 MB", ours < 2)
        if shutil.which("chromium") and shutil.which("chromedriver"):
            from selenium import webdriver

            options = webdriver.ChromeOptions()
            for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", f"user-data-dir={folder}/profile"):
                options.add_argument(f"--{argument}")
            with webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver"))) as driver:
                ours, theirs = (opened(driver, page) for page in pages)
            yield Row("… opened in Chromium", ours, "pandas' to_html", theirs, "< 1 s", ours < 1)


def timed(work: Callable) -> tuple[object, float]:
    """What the work returns, and its seconds."""
    start = time.monotonic()
    return work(), time.monotonic() - start


def agreement() -> Iterator[Row]:
    """Both coefficients with intervals, of five raters and 400 replies; values must be equal."""
    import krippendorff
    from sklearn.metrics import cohen_kappa_score

    random = np.random.default_rng(42)
    truth = random.integers(0, 3, ITEMS * len(SYSTEMS))
    given = np.clip(truth + random.integers(-1, 2, (RATERS, len(truth))), 0, 2).astype(float)
    draws = [random.integers(0, len(truth), len(truth)) for _ in range(RESAMPLES)]

    def kappa(scores: np.ndarray) -> float:
        return float(np.mean([cohen_kappa_score(a, b, weights="quadratic") for a, b in combinations(scores, 2)]))

    def alpha(scores: np.ndarray) -> float:
        return krippendorff.alpha(scores, level_of_measurement="ordinal")

    pairs = (("weighted kappa", reliability.weighted_kappa, "scikit-learn", kappa),)
    pairs += (("Krippendorff's alpha", reliability.krippendorff_alpha, "krippendorff", alpha),)
    for name, ours, against, theirs in pairs:
        found, seconds = timed(lambda ours=ours: ours(given, resamples=RESAMPLES))
        _, slow = timed(lambda theirs=theirs: [theirs(given[:, draw]) for draw in draws])
        assert abs(found.value - theirs(given)) < 1e-9, (name, found)
        yield Row(f"{name}, {RATERS} x {len(truth)}, {RESAMPLES} resamples", seconds, against, slow)


def rows() -> Iterator[Row]:
    """The form, then the numbers."""
    yield from form()
    yield from agreement()
