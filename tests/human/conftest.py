"""A browser for the pages that people fill in."""

import browser
import pytest


@pytest.fixture
def person(tmp_path):
    """Return a function that opens a browser with a named profile; all are closed at the end."""
    pytest.importorskip("selenium", reason="selenium is not installed: pip install -r requirements.lock")
    if not (browser.CHROMIUM and browser.DRIVER):
        pytest.skip("no Chromium here: apt-get install chromium chromium-driver")
    opened = []

    def open_browser(name: str = "a") -> browser.Person:
        opened.append(browser.Person(tmp_path / name))
        return opened[-1]

    yield open_browser
    for one in opened:
        one.driver.quit()
