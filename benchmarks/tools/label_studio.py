"""A real Label Studio: forms imported, annotated by two people, by API and at its page, exported, read back."""

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pandas as pd

from benchmarks.tools.harness import Figure, Place, served, until
from benchmarks.tools.notebooks import browser
from cbtllm_utils import notices
from cbtllm_utils.human import agreement, forms, ratings, reading_sheets
from cbtllm_utils.human.blinding import SCALES

TITLE = "Label Studio: rating forms and reading sheets, annotated and exported"
ENVIRONMENTS = {"label-studio": ["label-studio==1.23.0"]}
PACKAGES = ["label-studio", "label-studio-sdk"]
FORMATS = {"JSON": "json", "JSON_MIN": "json", "CSV": "csv", "TSV": "csv"}  # and how Label Studio calls such a file
PASSWORD = "of-nobody-1"  # of accounts that live as long as the check
QUIET = {  # no reports to its makers, no look for a newer version
    "COLLECT_ANALYTICS": "false",
    "LATEST_VERSION_CHECK": "false",
    "SENTRY_DSN": "",
    "FRONTEND_SENTRY_DSN": "",
}
TYPED = "张伟"  # at the page, by the first person
SEEN = "return document.body.innerText"
# The choices of the scales, which Label Studio names after what they say; its own switches are radio buttons as well.
CHOSEN = "return [...document.querySelectorAll('input[type=radio]')].filter(one => /^[012] /.test(one.name))"
CHOSEN += ".map(one => one.checked)"


class Account:
    """Somebody's login, by the pages that a browser uses."""

    def __init__(self, address: str, email: str, page: str = "login") -> None:
        self.address, self.email = address, email
        self.session = httpx2.Client(follow_redirects=True, timeout=120, headers={"Referer": address})
        form = self.session.get(f"{address}/user/{page}/").text
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', form)[1]
        given = {"csrfmiddlewaretoken": token, "email": email, "password": PASSWORD}
        self.session.post(f"{address}/user/{page}/", data=given).raise_for_status()

    def ask(self, method: str, path: str, **content: object) -> httpx2.Response:
        """Return the answer of the API to a request of this person."""
        head = {"X-CSRFToken": self.session.cookies["csrftoken"]}
        answer = self.session.request(method, f"{self.address}/api/{path}", headers=head, **content)
        answer.raise_for_status()
        return answer

    def project(self, title: str, config: Path, tasks: Path) -> tuple[int, list[dict]]:
        """Import a form into a project of its own; return its number and the tasks in the order of the form."""
        given = {"title": title, "label_config": config.read_text("utf-8"), "maximum_annotations": 2}
        number = self.ask("POST", "projects/", json=given).json()["id"]
        self.ask("POST", f"projects/{number}/import", json=json.loads(tasks.read_text("utf-8")))
        found = self.ask("GET", f"tasks?project={number}&page_size=1000&fields=all").json()["tasks"]
        return number, sorted(found, key=lambda task: task["id"])

    def annotate(self, task: dict, **said: object) -> None:
        """Submit an annotation of a task: a number is a choice, a text is typed."""
        result = [
            {"from_name": name, "to_name": "answer", "type": "choices", "value": {"choices": [str(value)]}}
            if isinstance(value, int)
            else {"from_name": name, "to_name": "answer", "type": "textarea", "value": {"text": [value]}}
            for name, value in said.items()
        ]
        self.ask("POST", f"tasks/{task['id']}/annotations/", json={"result": result})

    def export(self, project: int, folder: Path) -> dict[str, Path]:
        """Download a project in each format, into a folder for each."""
        found = {}
        for kind, ending in FORMATS.items():
            content = self.ask("GET", f"projects/{project}/export?exportType={kind}").content
            found[kind] = folder / kind.lower()
            found[kind].mkdir(parents=True)
            (found[kind] / f"project-{project}-at-2026-03-01-10-00-5f2c9a1b.{ending}").write_bytes(content)
        return found


def server(place: Place) -> contextlib.AbstractContextManager[str]:
    """Return what yields the address of a Label Studio with an empty data folder and one account."""
    data = place.work / "data"
    data.mkdir()
    command = [place.environments["label-studio"] / "label-studio", "start", "--no-browser", "--data-dir", data]
    command += ["--internal-host", "127.0.0.1", "--port", "{port}", "--log-level", "ERROR"]
    command += ["--username", "one@example.org", "--password", PASSWORD]
    own = os.environ | QUIET | {"HOME": str(data), "LABEL_STUDIO_BASE_DATA_DIR": str(data)}
    return served(command, "/health", place.work / "server.log", cwd=data, env=own)  # it makes its database first


def check(place: Place) -> list[Figure]:
    """Annotate a rating form and a reading sheet as two people, export both, and read what was exported."""
    with server(place) as address:
        one, two = Account(address, "one@example.org"), Account(address, "two@example.org", "signup")
        with browser(place) as driver:
            log_in(driver, one)
            return [*rating_form(place, one, two, driver), *reading_sheet(place, one, two, driver)]


def rating_form(place: Place, one: Account, two: Account, driver: object) -> list[Figure]:
    """Return what came back of a rating form: the first entry by one person at the page, all others by the API."""
    folder = place.run / "ratings" / "forms"
    project, tasks = one.project("Form R1", folder / "label_studio.xml", folder / "R1.label_studio.json")
    drawn = np.random.default_rng(21).integers(0, 3, (2, len(tasks), len(SCALES))).tolist()
    (first, *others), of_two = ([dict(zip(SCALES, row, strict=True)) for row in rows] for rows in drawn)
    seen = at_the_page(driver, one, project, tasks[0], first)
    for task, scores in zip(tasks[1:], others, strict=True):
        one.annotate(task, **scores)
    two.annotate(tasks[-1], **{scale: (score + 1) % 3 for scale, score in of_two[-1].items()})  # and then again
    for task, scores in zip(tasks, of_two, strict=True):
        two.annotate(task, **scores)
    two.ask("POST", f"tasks/{tasks[0]['id']}/drafts", json={"result": [], "draft": True})
    wanted = {
        (rater, task["data"]["entry"]): tuple(scores.values())
        for rater, rows in ((f"R1 {TYPED}", [first, *others]), ("R1 user", of_two))
        for task, scores in zip(tasks, rows, strict=True)
    }
    key = key_of(place.run)
    figures = seen
    for kind, exported in one.export(project, place.work / "ratings").items():
        figures += read_back(kind, ratings.read(exported, key), wanted, key)
    return figures


def at_the_page(driver: object, one: Account, project: int, task: dict, scores: dict[str, int]) -> list[Figure]:
    """Give the scores of one entry, and a name, by the keyboard at Label Studio's page; return what was seen there."""
    from selenium.webdriver import ActionChains, Keys

    open_task(driver, one, project, task)
    text = driver.execute_script(SEEN)
    told = all(notices.notice(language) in text for language in ("zh", "en"))
    heading = forms.rubric()["zh"]["heading"]["notice"]
    ActionChains(driver).send_keys(*(keys[score] for keys, score in keys_of(scores))).perform()
    time.sleep(1)
    pressed = driver.execute_script(CHOSEN)
    expected = [score == value for score in scores.values() for value in range(3)]
    driver.find_element("name", "name").send_keys(TYPED, Keys.ENTER)
    ActionChains(driver).key_down(Keys.CONTROL).send_keys(Keys.ENTER).key_up(Keys.CONTROL).perform()
    saved = until(lambda: one.ask("GET", f"tasks/{task['id']}").json()["annotations"], "an annotation")
    return [
        Figure("the page shows the notice in both languages at once", "yes" if told else "no", "yes", told),
        Figure("headings over the notices", str(text.count(heading)), "1", text.count(heading) == 1),
        Figure("keys pressed at the page choose these scores", said(pressed), said(expected), pressed == expected),
        Figure("annotations submitted at the page by Ctrl + Enter", str(len(saved)), "1", len(saved) == 1),
    ]


def keys_of(scores: dict[str, int]) -> Iterator[tuple[str, int]]:
    """Yield the keys of each scale with its score."""
    return zip(forms.SCORE_KEYS, scores.values(), strict=True)


def said(chosen: list[bool]) -> str:
    """Return which of three choices each scale has, such as "2 0 1"."""
    rows = [chosen[i : i + 3] for i in range(0, len(chosen), 3)]
    return " ".join(str(row.index(True)) if True in row else "–" for row in rows)


def log_in(driver: object, one: Account) -> None:
    """Log a browser in."""
    driver.get(f"{one.address}/user/login/")
    driver.find_element("name", "email").send_keys(one.email)
    driver.find_element("name", "password").send_keys(PASSWORD)
    driver.find_element("css selector", "button[type=submit]").click()
    until(lambda: "/user/login" not in driver.current_url, "the login")


def open_task(driver: object, one: Account, project: int, task: dict) -> None:
    """Open a task as an annotator does."""
    driver.get(f"{one.address}/projects/{project}/data?task={task['id']}")
    until(lambda: driver.execute_script(CHOSEN), "the choices of a scale")
    time.sleep(1)  # the page binds its keys after it shows them


def key_of(run: Path) -> pd.DataFrame:
    """Return the key of a run's forms."""
    return pd.read_csv(run / "ratings" / "key.csv", dtype={"form": str, "entry": str, "check": str})


def read_back(kind: str, read: ratings.Read, wanted: dict[tuple, tuple], key: pd.DataFrame) -> list[Figure]:
    """Compare what the package reads in one export with the scores that were given, and Table 5 with their means."""
    rated = read.ratings.assign(rater=read.ratings["rater"].str.replace(r"user \d+$", "user", regex=True))
    found = {(row.rater, row.entry): tuple(getattr(row, scale) for scale in SCALES) for row in rated.itertuples()}
    same = sum(found.get(entry) == scores for entry, scores in wanted.items())
    raters = sorted({rater for rater, _ in found}), sorted({rater for rater, _ in wanted})
    again = int(read.problems["reason"].str.startswith("annotated again").sum())
    table = agreement.table5(agreement.means(read.ratings))
    here = table[table["rated by"].str.startswith("here")].set_index("system")[list(agreement.PAPER.values())]
    means = expected_means(wanted, key)
    apart = float((here.loc[means.index] - means).abs().to_numpy().max()) if len(here) == len(means) else np.nan
    counts = f"{same} of {len(wanted)}", f"{len(wanted)} of {len(wanted)}"
    return [
        Figure(f"{kind}: ratings read as they were given", *counts, found == wanted),
        Figure(f"{kind}: raters", ", ".join(raters[0]), ", ".join(raters[1]), raters[0] == raters[1]),
        Figure(f"{kind}: annotations done again, listed", f"{again} of {len(read.problems)} problems", "1", again == 1),
        Figure(
            f"{kind}: Table 5 and the means of what was given, largest difference", f"{apart:.1e}", "0", apart < 1e-9
        ),
    ]


def expected_means(wanted: dict[tuple, tuple], key: pd.DataFrame) -> pd.DataFrame:
    """Return the mean score of each system, computed from what was given, without repeats, as Table 5 names them."""
    rows = [(entry, *scores) for (_, entry), scores in wanted.items()]
    given = pd.DataFrame(rows, columns=["entry", *agreement.PAPER.values()])
    of_form = key[key["rater"].eq("R1") & key["entry"].isin(given["entry"]) & ~key["repeat"]]
    systems = of_form.set_index("entry")["system"].map(agreement.title)
    joined = given.join(systems, on="entry", how="inner")
    return joined.groupby("system")[list(agreement.PAPER.values())].mean()


def reading_sheet(place: Place, one: Account, two: Account, driver: object) -> list[Figure]:
    """Return what came back of a reading sheet: the first reply judged by a key at the page, the others by the API."""
    from selenium.webdriver import ActionChains, Keys

    folder = place.run / "readings" / "forms"
    project, tasks = one.project("Sheet reader1", folder / "label_studio.xml", folder / "reader1.label_studio.json")
    drawn = np.random.default_rng(22).integers(0, 3, (2, len(tasks))).tolist()
    open_task(driver, one, project, tasks[0])
    text = driver.execute_script(SEEN)
    risk = all(texts["ui"]["risk"] in text for texts in reading_sheets.rubric().values())
    ActionChains(driver).send_keys(str(drawn[0][0])).perform()
    time.sleep(1)
    ActionChains(driver).key_down(Keys.CONTROL).send_keys(Keys.ENTER).key_up(Keys.CONTROL).perform()
    until(lambda: one.ask("GET", f"tasks/{tasks[0]['id']}").json()["annotations"], "an annotation")
    for task, verdict in zip(tasks[1:], drawn[0][1:], strict=True):
        one.annotate(task, verdict=verdict)
    for task, verdict in zip(tasks, drawn[1], strict=True):
        two.annotate(task, verdict=verdict)
    wanted = sorted(
        (task["data"]["check"], reading_sheets.VERDICTS[verdict])
        for row in drawn
        for task, verdict in zip(tasks, row, strict=True)
    )
    checks = {task["data"]["check"] for task in tasks}
    figures = [
        Figure("a flagged post is shown with its notice in both languages", "yes" if risk else "no", "yes", risk)
    ]
    for kind, exported in one.export(project, place.work / "readings").items():
        judged = reading_sheets.read(exported, checks).judgments
        found = sorted(judged[["check", "verdict"]].itertuples(index=False, name=None))
        same = f"{len(found)} judgments by {judged['reader'].nunique()} readers"
        right = found == wanted and judged["reader"].nunique() == 2
        figures.append(Figure(f"{kind}: reading sheet", same, f"{len(wanted)} judgments by 2 readers", right))
    return figures
