"""The forms hold every text as text, and a person can fill them: by keyboard, in pieces, on a phone."""

import json
import re
import shutil
import time
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path

import openpyxl
import pytest

from cbtllm_utils import files, hashing, notices
from cbtllm_utils.human import agreement, blinding, forms, ratings

NASTY = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)><!-- &amp; {SCRIPT} {DATA} \u2028 👩‍👩‍👧 =1+1"
SYSTEMS = ["alpaca-chinese-7b", "baichuan-7b"]


def sheets(
    items: int = 2, raters: int = 1, repeats: int = 0, length: int = 3, nasty: str = "", systems: list = SYSTEMS
) -> tuple[list, object]:
    posts = [{"questionID": n, "question": f"问题{n}{nasty}", "description": f"=描述{n}{nasty}"} for n in range(items)]
    answers = [
        {"system": s, "questionID": n, "reply": f"{'回复' * length}{n}{i}{nasty}"}
        for n in range(items)
        for i, s in enumerate(systems)
    ]
    return blinding.sheets(blinding.sample(posts, answers, systems, items, 42), raters, repeats, 42)


@pytest.fixture
def folder(tmp_path) -> Path:
    made, key = sheets(items=3, nasty=NASTY)
    forms.write(made, tmp_path / "forms")
    key.to_csv(tmp_path / "key.csv", index=False)
    return tmp_path / "forms"


def test_nothing_in_a_form_names_a_system(tmp_path):
    made, _ = sheets(items=6, raters=2, repeats=3)
    written = forms.write(made, tmp_path / "forms", "en")
    assert [p.name for p in written] == [
        *("R1.html", "R1.label_studio.json", "R1.xlsx", "R2.html", "R2.label_studio.json", "R2.xlsx"),
        "label_studio.xml",
    ]
    for path in written:
        if path.suffix == ".xlsx":
            shutil.unpack_archive(path, tmp_path / path.stem, "zip")
    unpacked = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert len(unpacked) > 20
    for path in unpacked:
        content = path.read_bytes().decode("utf-8", "replace").lower()
        assert not re.search('alpaca|baichuan|reference|questionid|repeat"', content), path.name


def test_a_second_writing_leaves_nothing_of_the_first(tmp_path):
    forms.write(sheets(raters=3)[0], tmp_path / "forms")
    assert len(forms.write(sheets(raters=1)[0], tmp_path / "forms")) == 4


def test_an_unknown_language_names_those_there_are(tmp_path):
    with pytest.raises(files.InputError, match="'fr': the forms speak zh, en"):
        forms.write(sheets()[0], tmp_path / "forms", "fr")
    assert not (tmp_path / "forms").exists()


def test_both_languages_say_the_same_things():
    def shape(value: object) -> object:
        if isinstance(value, dict):
            return {name: shape(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [shape(inner) for inner in value]
        return re.findall(r"\{\d\}", value)

    words = forms.rubric()
    assert shape(words["zh"]) == shape(words["en"])
    assert tuple(words["zh"]["scales"]) == blinding.SCALES
    assert all(len(scale["anchors"]) == 3 for w in words.values() for scale in w["scales"].values())


def test_a_page_ends_no_script_early_and_asks_for_nothing_from_outside(folder):
    page = (folder / "R1.html").read_text(encoding="utf-8")
    assert page.count("</script>") == 2 and "<img" not in page and "{DATA}" not in page.split('id="data"')[0]
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy and "http" not in policy
    assert not re.search(r'(?:src|href)="', page)
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])
    assert all(NASTY in entry["answer"] for entry in data["entries"])


def test_colours_have_contrast():
    """WCAG 2.1: 4.5 : 1 for text, 3 : 1 for the borders of what can be pressed; in light and dark."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(a: str, b: str) -> float:
        high, low = sorted((luminance(a), luminance(b)), reverse=True)
        return (high + 0.05) / (low + 0.05)

    css = (forms.HERE / "rating_form.html").read_text(encoding="utf-8")
    themes = [dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\}", css)]
    assert len(themes) == 2
    for c in themes:
        for text, ground in (
            *(("ink", "page"), ("ink", "card"), ("ink", "tint"), ("ink", "warntint"), ("soft", "card")),
            *(("soft", "warntint"), ("card", "accent")),
        ):
            assert contrast(c[text], c[ground]) >= 4.5, (text, ground)
        assert contrast(c["line"], c["card"]) >= 3 and contrast(c["accent"], c["card"]) >= 3


def test_a_workbook_holds_text_and_allows_three_scores(folder):
    table = openpyxl.load_workbook(folder / "R1.xlsx")["entries"]
    texts = [table.cell(row, column) for row in range(4, 10) for column in (4, 5, 6)]
    assert all(cell.data_type == "s" and cell.quotePrefix for cell in texts)
    assert all(cell.value.startswith("=描述") for cell in texts if cell.column == 5)
    rules = {str(rule.sqref): rule.formula1 for rule in table.data_validations.dataValidation}
    assert rules == {"G4:I9": '"0,1,2"', "J4:J9": '"0,1"'}
    assert table.protection.sheet and table["F4"].protection.locked and not table["G4"].protection.locked


def test_a_post_that_may_speak_of_suicide_is_marked_in_every_sort_of_form(tmp_path):
    posts = [{"questionID": n, "question": q, "description": ""} for n, q in enumerate(("我想死", "睡不着"))]
    answers = [{"system": "a", "questionID": n, "reply": "回复"} for n in range(2)]
    made, _ = blinding.sheets(blinding.sample(posts, answers, ["a"], 2, 1), 1, 0, 1)
    forms.write(made, tmp_path / "forms", "en")
    table = openpyxl.load_workbook(tmp_path / "forms" / "R1.xlsx")["entries"]
    tasks = json.loads((tmp_path / "forms" / "R1.label_studio.json").read_text(encoding="utf-8"))
    risky = "This post may speak of suicide"
    marked = {table[f"D{row}"].value: str(table[f"C{row}"].value or "") for row in (4, 5)}
    assert marked["我想死"].startswith(risky) and not marked["睡不着"]
    assert {t["data"]["question"]: t["data"]["notice"][: len(risky)] for t in tasks} == {"我想死": risky, "睡不着": "–"}
    guide = [row[0] for row in openpyxl.load_workbook(tmp_path / "forms" / "R1.xlsx")["guide"].values]
    assert notices.notice("en") in guide and forms.rubric()["en"]["source"] in guide


def test_a_workbook_holds_no_time_of_writing_so_the_same_sheets_make_the_same_bytes(tmp_path):
    made, _ = sheets()
    forms.write(made, tmp_path / "a")
    forms.write(made, tmp_path / "b")
    assert hashing.sha256(tmp_path / "a") == hashing.sha256(tmp_path / "b")
    with zipfile.ZipFile(tmp_path / "a" / "R1.xlsx") as parts:
        assert {part.date_time[0] for part in parts.infolist()} == {1980}
        years = re.findall(r"\d{4}(?=-\d\d-\d\dT)", parts.read("docProps/core.xml").decode())
    assert years == ["1980", "1980"]  # created, modified


def test_a_text_too_long_for_a_cell_is_not_cut():
    made, _ = sheets(items=1, length=20_000)
    with pytest.raises(files.InputError, match="does not fit a cell"):
        forms.workbook(made[0], forms.rubric()["zh"], "zh")


@pytest.mark.parametrize("language", ["zh", "en"])
def test_label_studio_gets_tasks_and_a_configuration_that_fit_together(language):
    made, _ = sheets(nasty=NASTY)
    root = ElementTree.fromstring(forms.label_studio_config(forms.rubric()[language], language))
    tasks = forms.label_studio_tasks(made[0], forms.rubric()[language])
    used = {tag.get("value")[1:] for tag in root.iter("Text")}
    assert used == {"notice", "question", "description", "answer"} <= set(tasks[0]["data"])
    told = [tag.get("value") for tag in root.find("Collapse").iter("Header")]
    assert told[0] == notices.notice(language) and len(told) == 7
    choices = {tag.get("name"): [c.get("alias") for c in tag] for tag in root.iter("Choices")}
    assert choices == {scale: ["0", "1", "2"] for scale in blinding.SCALES} | {"harmful": ["1"]}
    assert NASTY in tasks[0]["data"]["answer"]


# In a browser.


class Person:
    """Somebody at a browser with a profile that lasts: opens a form, looks, presses keys."""

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
            if new := set(self.downloads.glob("*.jsonl")) - known:
                return new.pop()
            time.sleep(0.05)
        raise AssertionError("nothing was saved")


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")


@pytest.fixture
def person(tmp_path):
    """A function that seats a person at a browser with a profile of a name; all leave at the end."""
    pytest.importorskip("selenium", reason="selenium is not installed: pip install -r requirements.lock")
    if not (CHROMIUM and DRIVER):
        pytest.skip("no Chromium here: apt-get install chromium chromium-driver")
    seated = []

    def seat(name: str = "a") -> Person:
        seated.append(Person(tmp_path / name))
        return seated[-1]

    yield seat
    for one in seated:
        one.driver.quit()


def test_a_whole_form_by_keyboard_in_two_sittings(person, tmp_path):
    from selenium.webdriver import Keys

    made, key = sheets(items=4, repeats=2)
    page = forms.write(made, tmp_path / "forms")[0]
    first = person()
    first.open(page)
    assert "12356" in first.see("notice") and "R1" in first.see("who")
    first.driver.find_element("id", "begin").send_keys(Keys.ENTER)
    for _ in range(5):
        first.press("2", "1", "0", Keys.ENTER)
    assert first.see("place").startswith("第 6 条，共 10 条") and first.see("count") == "已评 5 / 10"
    first.press("2", Keys.ENTER)  # one of three: the form stays and says what is missing
    assert first.see("place").startswith("第 6 条") and "CBT 结构 · 有益性" in first.see("status")
    first.driver.quit()

    second = person()  # the same profile another day
    second.open(page)
    assert second.see("count") == "已评 5 / 10" and second.see("begin") == "继续评分"
    second.driver.find_element("id", "begin").send_keys(Keys.ENTER)
    assert second.see("place").startswith("第 6 条")
    second.press("1", "1", "h", "c", "=2 h c 0 <b>好</b>", Keys.ESCAPE, Keys.ENTER)
    for _ in range(4):
        second.press("2", "2", "2", Keys.ENTER)
    assert second.see("verdict") == "全部评完，谢谢您！"
    saved = second.save("hand")
    assert saved.name == "rating-R1-10-of-10.jsonl"
    found, problems = ratings.collect(saved, key)
    assert problems.empty and len(found) == 10 and found["rater"].eq("R1").all() and found["kind"].eq("person").all()
    scores = found[["relevance", "structure", "helpfulness"]].values.tolist()
    assert scores == [[2, 1, 0]] * 5 + [[2, 1, 1]] + [[2, 2, 2]] * 4
    assert found["harmful"].tolist() == [False] * 5 + [True] + [False] * 4
    assert found["comment"][5] == "=2 h c 0 <b>好</b>"
    table = agreement.table5(agreement.means(found))
    assert table["rated by"].tolist()[2:] == ["here: 1 person"] * 2 and table["ratings"].tolist()[2:] == [4, 4]
    again = agreement.consistency(found).set_index("scale")
    assert again.loc["relevance", "repeats"] == 2

    third = person("b")  # another computer, with the saved file
    third.open(page)
    assert third.see("count") == "已评 0 / 10"
    third.driver.find_element("id", "import").send_keys(str(saved))
    time.sleep(0.3)
    assert third.see("count") == "已评 10 / 10" and "读入了 10 条" in third.see("status")
    assert third.save().read_text(encoding="utf-8") == saved.read_text(encoding="utf-8")


def test_a_foreign_file_changes_nothing(person, tmp_path):
    made, _ = sheets()
    other = tmp_path / "other.jsonl"
    one = person()
    one.open(forms.write(made, tmp_path / "forms")[0])
    for content in ("", "not json", '{"form": "other"}\n', f'{{"form": "{made[0].form}"}}\n{{"entry": "AAAA"}}\n'):
        other.write_text(content)
        one.run("document.getElementById('status').textContent = ''")
        one.driver.find_element("id", "import").send_keys(str(other))
        time.sleep(0.3)
        assert one.see("status").startswith("没有读入") and one.see("count") == "已评 0 / 4", content


def test_markup_is_shown_and_never_run_and_nothing_is_fetched(person, folder):
    one = person()
    one.open(folder / "R1.html")
    one.click("begin")
    for element in ("question", "description", "answer"):
        assert NASTY in one.run(f"return document.getElementById('{element}').textContent")
    assert one.run("return [document.images.length, document.scripts.length]") == [0, 2]
    assert one.driver.title.startswith("心理问答") and one.driver.get_log("browser") == []
    assert one.run("return performance.getEntriesByType('resource').length") == 0


def test_everything_to_press_has_a_name_and_a_finger_can_hit_it(person, folder):
    one = person()
    one.open(folder / "R1.html")
    one.click("begin")
    one.phone(360)
    assert one.run("return document.documentElement.scrollWidth <= 360")
    pressed = "[...document.querySelectorAll('button, select, textarea, input')].filter((e) => e.offsetParent)"
    named = "(e) => e.labels && e.labels.length ? e.labels[0].textContent : e.textContent"
    assert one.run(f"return {pressed}.map({named}).filter((text) => !text.trim()).length") == 0
    height = (
        "(e) => (e.labels && e.labels.length && e.type !== 'textarea' ? e.labels[0] : e).getBoundingClientRect().height"
    )
    assert one.run(f"return Math.min(...{pressed}.map({height}))") >= 44
    assert one.run("return document.querySelectorAll('fieldset > legend').length") == 3
    assert one.run("return document.activeElement.id") == "place"  # a screen reader hears where it is


@pytest.mark.parametrize("language", ["zh", "en"])
def test_on_a_phone_no_page_is_wider_than_the_screen_and_all_that_can_be_reached_has_a_name(person, tmp_path, language):
    """The names are Chromium's own, as it gives them to a screen reader."""
    made, _ = sheets(items=6)
    one = person()
    one.open(forms.write(made, tmp_path / "forms", language)[0])
    one.phone(400)
    for look in ("show('start')", "open(0)", "end()"):
        one.run(look)
        assert one.run("return document.documentElement.scrollWidth") <= 400, look
        nodes = one.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        roles = {node["role"]["value"]: [] for node in nodes if not node["ignored"]}
        for node in nodes:
            if not node["ignored"]:
                roles[node["role"]["value"]].append(node.get("name", {}).get("value", "").strip())
        reached = ("button", "radio", "checkbox", "textbox", "combobox", "heading", "group", "progressbar")
        assert all(name for role in reached for name in roles.get(role, [])), (look, roles)
        if look == "open(0)":
            assert len(roles["radio"]) == 9 and len(set(roles["radio"])) == 9, "0, 1 and 2 with what they mean"
    one.run("open(0)")
    assert one.run("return document.getElementById('scale-relevance').getBoundingClientRect().width") > 330


def test_two_raters_on_one_computer_do_not_share_their_scores(person, tmp_path):
    made, _ = sheets(raters=2)
    pages = forms.write(made, tmp_path / "forms")
    one = person()
    one.open(next(p for p in pages if p.name == "R1.html"))
    one.click("begin")
    one.press("2", "1", "0")
    one.open(next(p for p in pages if p.name == "R2.html"))
    assert one.see("count") == "已评 0 / 4"
    one.open(next(p for p in pages if p.name == "R1.html"))
    assert one.see("count") == "已评 1 / 4"


def test_a_browser_that_can_keep_nothing_says_so(person, folder):
    one = person()
    one.open(folder / "R1.html")
    one.run("Storage.prototype.setItem = () => { throw new Error('full'); }")
    one.click("begin")
    one.press("2")
    assert one.see("status") == "浏览器不能保存进度：离开前请务必“保存文件”"


def test_the_other_language_and_no_shortcuts(person, folder):
    one = person()
    one.open(folder / "R1.html")
    one.click("language")
    assert one.see("begin") == "I have read this: begin" and one.run("return document.documentElement.lang") == "en"
    assert "findahelpline.com" in one.see("notice")
    one.click("shortcuts")
    one.click("begin")
    one.press("2", "2", "2")
    assert one.see("place").startswith("Entry 1 of 6") and one.see("count") == "0 / 6 rated"


def test_a_form_of_the_papers_size_opens_at_once(person, tmp_path):
    four = [*SYSTEMS, "llama-chinese-7b", "qwen-7b"]
    made, _ = sheets(items=100, repeats=20, length=262, systems=four)  # 524 characters a reply; Table 1: 522.8
    assert len(made[0].entries) == 420
    page = forms.write(made, tmp_path / "forms")[0]
    assert page.stat().st_size < 2_000_000
    one = person()
    one.open(page)
    one.open(page)
    assert one.run("return performance.getEntriesByType('navigation')[0].loadEventEnd") < 1000  # milliseconds
