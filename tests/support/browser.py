"""Somebody at a real Chromium, who fills in a page by keyboard and mouse."""

import shutil
import time
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")


class Person:
    """Somebody at a browser, whose profile remains when it is closed: opens a form, looks, presses keys."""

    def __init__(self, home: Path) -> None:
        from selenium import webdriver

        self.downloads = home / "downloads"
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "window-size=1280,900", "disable-gpu"):
            options.add_argument(f"--{argument}")
        options.add_argument(f"--user-data-dir={home / 'profile'}")
        options.add_experimental_option("prefs", {"download.default_directory": str(self.downloads)})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))

    def open(self, page: Path) -> None:
        self.driver.get(page.as_uri())

    def press(self, *keys: str) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def see(self, element: str) -> str:
        return self.driver.find_element("id", element).text

    def shows(self, element: str, text: str) -> bool:
        """Return whether an element shows a text within ten seconds: a busy machine takes its time."""
        for _ in range(200):
            if text in self.see(element):
                return True
            time.sleep(0.05)
        return False

    def begin(self, name: str = "王芳") -> None:
        """Type a name, where the form has none yet, and begin."""
        if not self.driver.find_element("id", "name").get_attribute("value"):
            self.driver.find_element("id", "name").send_keys(name)
        self.click("begin")

    def click(self, element: str) -> None:
        self.driver.find_element("id", element).click()

    def phone(self, width: int) -> None:
        screen = {"width": width, "height": 740, "deviceScaleFactor": 2, "mobile": True}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)

    def run(self, script: str) -> object:
        return self.driver.execute_script(script)

    def save(self, element: str = "save") -> Path:
        known = set(self.downloads.glob("*.jsonl"))
        self.click(element)
        for _ in range(100):
            if new := {file for file in self.downloads.glob("*.jsonl") if file.stat().st_size} - known:
                return new.pop()  # Chromium first puts an empty file where another of that name is
            time.sleep(0.05)
        raise AssertionError("nothing was saved")
