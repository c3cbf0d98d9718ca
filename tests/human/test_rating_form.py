"""The rating page in Chromium: filled by keyboard, in pieces, on a phone, in two languages; texts stay texts."""

from pathlib import Path

import pytest
from browser import Person
from rating_sheets import NASTY, sheets

from cbtllm_utils import files
from cbtllm_utils.human import agreement, blinding, forms, ratings


@pytest.fixture
def nasty_page(tmp_path) -> Path:
    return forms.write(sheets(items=3, nasty=NASTY)[0], tmp_path / "forms")[0]


def test_a_whole_form_by_keyboard_in_two_sittings(person, tmp_path):
    from selenium.webdriver import Keys

    made, key = sheets(items=4, repeats=2)
    page = forms.write(made, tmp_path / "forms")[0]
    first = person()
    first.open(page)
    assert "12356" in first.see("notice") and "R1" in first.see("who")
    first.driver.find_element("id", "begin").send_keys(Keys.ENTER)
    assert first.see("status").startswith("请先填写姓名或代号")
    first.press(" 王芳")
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
    assert saved.name == "rating-R1-王芳-10-of-10.jsonl"
    found, problems, _ = ratings.read(saved, key)
    assert (
        problems.empty and len(found) == 10 and found["rater"].eq("R1 王芳").all() and found["kind"].eq("person").all()
    )
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
    assert third.shows("status", "读入了 10 条") and third.see("count") == "已评 10 / 10"
    (head, *lines), (other, *others) = files.read_jsonl(saved), files.read_jsonl(third.save())
    assert lines == others and head.pop("saved") < other.pop("saved") and head == other


def test_a_file_of_another_form_changes_nothing(person, tmp_path):
    made, _ = sheets()
    other = tmp_path / "other.jsonl"
    one = person()
    one.open(forms.write(made, tmp_path / "forms")[0])
    for content in ("", "not json", '{"form": "other"}\n', f'{{"form": "{made[0].form}"}}\n{{"entry": "AAAA"}}\n'):
        other.write_text(content)
        one.run("document.getElementById('status').textContent = ''")
        one.driver.find_element("id", "import").send_keys(str(other))
        assert one.shows("status", "没有读入") and one.see("count") == "已评 0 / 4", content


def test_markup_is_shown_and_never_run_and_nothing_is_fetched(person, nasty_page):
    one = person()
    one.open(nasty_page)
    one.begin()
    for element in ("question", "description", "answer"):
        assert NASTY in one.run(f"return document.getElementById('{element}').textContent")
    assert one.run("return [document.images.length, document.scripts.length]") == [0, 2]
    assert one.driver.title.startswith("心理问答") and one.driver.get_log("browser") == []
    assert one.run("return performance.getEntriesByType('resource').length") == 0


def test_every_control_has_a_name_and_is_large_enough_for_a_finger(person, nasty_page):
    one = person()
    one.open(nasty_page)
    one.begin()
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
def test_on_a_phone_every_page_fits_and_a_screen_reader_has_a_name_for_every_control(person, tmp_path, language):
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
    one.begin()
    one.press("2", "1", "0")
    assert one.shows("count", "已评 1 / 4")
    one.open(next(p for p in pages if p.name == "R2.html"))
    assert one.see("count") == "已评 0 / 4"
    one.open(next(p for p in pages if p.name == "R1.html"))
    assert one.shows("count", "已评 1 / 4")


@pytest.mark.parametrize("blind", ["getItem", "setItem"])
def test_ratings_outlive_an_empty_view_of_the_browsers_storage(person, tmp_path, blind):
    """Chromium shows a page an empty localStorage now and then when another file was open just before (1 of 100)."""
    made, key = sheets(raters=2)
    pages = {page.stem: page for page in forms.write(made, tmp_path / "forms") if page.suffix == ".html"}
    one = person()
    script = f"Storage.prototype.{blind} = () => null;"
    one.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    one.open(pages["R1"])
    one.begin()
    one.press("2", "1", "0")
    one.open(pages["R2"])
    one.open(pages["R1"])
    assert one.shows("count", "已评 1 / 4") and one.see("begin") == "继续评分"
    one.begin()
    one.click("next")
    one.press("2", "2", "2")
    found, _, _ = ratings.read(one.save(), key)
    assert found[["relevance", "structure", "helpfulness"]].to_numpy().tolist() == [[2, 1, 0], [2, 2, 2]]


def test_two_tabs_of_one_form_keep_what_was_rated_in_either(person, tmp_path):
    made, key = sheets()
    page = forms.write(made, tmp_path / "forms")[0]
    one = person()
    one.open(page)
    first = one.driver.current_window_handle
    one.driver.switch_to.new_window("tab")
    one.open(page)
    one.begin()
    one.press("2", "1", "0")
    one.driver.switch_to.window(first)
    one.begin()
    one.click("next")
    one.press("0", "0", "0")
    assert one.shows("count", "已评 2 / 4")
    found, _, _ = ratings.read(one.save(), key)
    assert found[["relevance", "structure", "helpfulness"]].to_numpy().tolist() == [[2, 1, 0], [0, 0, 0]]


def test_a_browser_that_cannot_save_says_so(person, nasty_page):
    one = person()
    one.open(nasty_page)
    one.run("Storage.prototype.setItem = () => { throw new Error('full'); }")
    one.begin()
    one.press("2")
    assert one.see("status") == "浏览器不能保存进度：离开前请务必“保存文件”"


def test_the_other_language_and_no_shortcuts(person, nasty_page):
    one = person()
    one.open(nasty_page)
    one.click("language")
    assert one.see("begin") == "I have read this: begin" and one.run("return document.documentElement.lang") == "en"
    assert "findahelpline.com" in one.see("notice")
    one.click("shortcuts")
    one.begin()
    one.press("2", "2", "2")
    assert one.see("place").startswith("Entry 1 of 6") and one.see("count") == "0 / 6 rated"


def answer(one: Person, name: str, say: str = "") -> None:
    """Type another name over the one in the field and go on; where the page asks, press the button `say`."""
    from selenium.webdriver import Keys

    if one.driver.find_element("id", "home").is_displayed():
        one.click("home")
    field = one.driver.find_element("id", "name")
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys(name, Keys.ENTER)
    asked = one.driver.find_element("id", "another").is_displayed()
    assert asked == bool(say), one.see("main")
    if say:
        one.click(say)


def scores(one: Person, key) -> dict[str, list]:
    """Save, and return what counts for whom."""
    found, _, _ = ratings.read(one.save(), key)
    return {rater: rows[list(blinding.SCALES)].to_numpy().tolist() for rater, rows in found.groupby("rater")}


def test_a_second_person_at_the_same_computer_begins_empty_and_the_first_ones_ratings_come_back(person, tmp_path):
    made, key = sheets()
    page = forms.write(made, tmp_path / "forms")[0]
    one = person()
    one.open(page)
    one.begin("Wang Fang")
    one.press("2", "1", "0")
    answer(one, "李四", "other")
    assert one.see("count") == "已评 0 / 4" and one.see("begin").startswith("我已阅读")
    one.begin()
    one.press("0", "0", "0")
    assert one.shows("count", "已评 1 / 4") and scores(one, key) == {"R1 李四": [[0, 0, 0]]}

    one.open(page)  # another day
    assert one.driver.find_element("id", "name").get_attribute("value") == "李四" and one.see("count") == "已评 1 / 4"
    answer(one, "ＷＡＮＧ  fang")  # the first one again, in another width and case
    assert one.see("begin") == "继续评分" and one.see("count") == "已评 1 / 4"
    assert scores(one, key) == {"R1 WANG fang": [[2, 1, 0]]}
    answer(one, "李 四")
    assert scores(one, key) == {"R1 李 四": [[0, 0, 0]]}
    answer(one, "赵六", "other")
    one.open(page)
    assert one.see("count") == "已评 0 / 4"


def test_a_name_misspelled_keeps_its_ratings_and_nothing_is_saved_before_the_question_is_answered(person, tmp_path):
    made, key = sheets()
    page = forms.write(made, tmp_path / "forms", "en")[0]
    one = person()
    one.open(page)
    one.begin("王方")
    one.press("2", "1", "0")
    one.click("home")
    one.driver.find_element("id", "name").send_keys("芳")
    one.click("save")
    assert one.see("whose") == "“王方” has rated entries here (1). Are you another person?"
    assert not list(one.downloads.glob("*")) and one.run("return document.activeElement.id") == "mine"
    one.click("language")
    assert one.see("whose") == "这里已有“王方”的 1 条评分。您是另一个人吗？"
    one.phone(390)
    assert one.run("return document.documentElement.scrollWidth") <= 390
    assert one.run("return Math.min(mine.offsetHeight, other.offsetHeight)") >= 44
    one.click("language")
    answer(one, "王方")  # typed back: nothing is asked any more
    answer(one, "王芳", "mine")
    assert scores(one, key) == {"R1 王芳": [[2, 1, 0]]}
    one.begin()
    one.click("next")
    one.press("1", "1", "1")
    one.open(page)
    assert scores(one, key) == {"R1 王芳": [[2, 1, 0], [1, 1, 1]]}
    answer(one, "王方")  # whoever answered wrongly finds what was there
    assert scores(one, key) == {"R1 王方": [[2, 1, 0]]}
    answer(one, "王芳")
    assert scores(one, key) == {"R1 王芳": [[2, 1, 0], [1, 1, 1]]}


@pytest.mark.parametrize("name", ["", "王芳"])
@pytest.mark.parametrize("kept_in", ["localStorage", "IndexedDB"])
def test_ratings_kept_by_an_earlier_version_are_taken_over_once(person, tmp_path, name, kept_in):
    made, key = sheets()
    page = forms.write(made, tmp_path / "forms")[0]
    rating = {"relevance": 2, "structure": 1, "helpfulness": 0, "time": 1}
    state = {"language": "zh", "at": 0, "begun": True, "shortcuts": True, "ratings": {made[0].entries[0].entry: rating}}
    one = person()
    one.open(page)
    one.driver.execute_async_script(
        """const [place, state, where, done] = arguments;
        if (where === "localStorage") { localStorage.setItem(place, JSON.stringify(state)); done(); return; }
        indexedDB.open("cbtllm-rating", 1).onsuccess = (e) => {
          const writing = e.target.result.transaction("states", "readwrite");
          writing.objectStore("states").put(state, place);
          writing.oncomplete = () => done();
        };""",
        f"cbtllm-rating:{made[0].form}",
        state | ({"name": name} if name else {}),
        kept_in,
    )
    one.open(page)
    assert one.shows("count", "已评 1 / 4")
    answer(one, "王芳")
    assert scores(one, key) == {"R1 王芳": [[2, 1, 0]]}
    answer(one, "李四", "other")
    assert one.see("count") == "已评 0 / 4"
    one.open(page)
    assert one.see("count") == "已评 0 / 4"
    answer(one, "王芳")
    assert one.see("count") == "已评 1 / 4"


def test_a_saved_file_is_read_for_the_person_who_saved_it(person, tmp_path):
    made, key = sheets()
    page = forms.write(made, tmp_path / "forms")[0]
    one = person()
    one.open(page)
    one.begin("王芳")
    one.press("2", "1", "0")
    saved = one.save()
    answer(one, "李四", "other")
    one.begin()
    one.press("0", "0", "0")
    one.click("home")
    one.driver.find_element("id", "import").send_keys(str(saved))
    assert one.shows("status", "读入了 1 条") and scores(one, key) == {"R1 王芳": [[2, 1, 0]]}
    answer(one, "李四")
    assert scores(one, key) == {"R1 李四": [[0, 0, 0]]}


@pytest.mark.parametrize("full", ["setItem", "nothing"])
def test_two_people_in_two_tabs_and_a_browser_that_keeps_nothing(person, tmp_path, full):
    made, key = sheets()
    page = forms.write(made, tmp_path / "forms")[0]
    one = person()
    if full == "setItem":
        script = "Storage.prototype.setItem = () => { throw new Error('full'); }; delete window.indexedDB;"
        one.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
        one.open(page)
        one.begin("王芳")
        one.press("2", "1", "0")
        answer(one, "李四", "other")
        one.begin()
        one.press("0", "0", "0")
        answer(one, "王芳")  # as long as the page is open
    else:
        one.open(page)
        one.begin("王芳")
        first = one.driver.current_window_handle
        one.driver.switch_to.new_window("tab")
        one.open(page)
        answer(one, "李四")
        one.begin()
        one.press("0", "0", "0")
        one.driver.switch_to.window(first)
        one.press("2", "1", "0")
    assert scores(one, key) == {"R1 王芳": [[2, 1, 0]]}
    answer(one, "李四")
    assert scores(one, key) == {"R1 李四": [[0, 0, 0]]}
