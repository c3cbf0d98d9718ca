"""The data set in every form in which others read it."""

import datasets
import pytest
from huggingface_hub import DatasetCard

from cbtllm_utils import files, hashing, notices
from cbtllm_utils.cbt_qa import exports
from cbtllm_utils.text import second_reader


def item(number, **own):
    base = {
        "questionID": number,
        "question": f"问{number}😀",
        "description": "我昨天晚上一个人坐在操场上看星星\u2028想家",
        "reply": f"答{number}",
        "topic": None,
        "risk": number == 1,
        "flagged_by": "second reader" if number == 1 else None,
        "advice": False,
        "split": "test" if number == 3 else "train",
        "model": "m",
        "prompt": "p",
        "near_duplicate_of": None,
    }
    return base | own


ITEMS = [item(1), item(2, near_duplicate_of=1, topic="家庭"), item(3)]


def test_train_and_test_are_the_same_rows(tmp_path):
    exports.write_rows(ITEMS, tmp_path)
    assert files.read_jsonl(tmp_path / "cbt_qa.jsonl") == ITEMS
    assert (
        files.read_jsonl(tmp_path / "train.jsonl") == ITEMS[:2]
        and files.read_jsonl(tmp_path / "test.jsonl") == ITEMS[2:]
    )


def written(items, folder):
    """Write everything, with files beside it that are no part of the data set."""
    exports.write_all(items, folder, "none", "nothing", "reader", "people", "made for a test")
    files.write_jsonl(folder / "responses.jsonl", [{"id": 1, "train": "no example"}])
    files.write_text(folder / "dropped.csv", "questionID,kind\n9,refusal\n")
    return folder


@pytest.mark.parametrize(
    "items",
    [
        ITEMS,
        [item("q1"), item("q2", near_duplicate_of="q1"), item("q3", split="test")],
        [i | {"near_duplicate_of": None, "topic": None, "flagged_by": None} for i in ITEMS],
        [item(1), item(2), item(3, near_duplicate_of=1, topic="家庭")],
    ],
    ids=["as they are", "IDs as texts", "fields without a value", "values in the test set alone"],
)
def test_datasets_loads_the_folder_by_its_card(tmp_path, items):
    """IDs, missing values and line separators (U+2028) come back as they were; other files are left alone."""
    folder, cache = written(items, tmp_path / "cbt_qa"), str(tmp_path / "cbt_qa" / "cache")
    for _ in range(2):  # once more with a cache beside the files
        loaded = datasets.load_dataset(str(folder), cache_dir=cache)
        assert {split: [dict(row) for row in rows] for split, rows in loaded.items()} == {
            "train": items[:2],
            "test": items[2:],
        }
    types = {name: feature.dtype for name, feature in loaded["test"].features.items()}
    number = "string" if isinstance(items[0]["questionID"], str) else "int64"
    assert types.pop("near_duplicate_of") == types.pop("questionID") == number
    assert (types.pop("risk"), types.pop("advice"), set(types.values())) == ("bool", "bool", {"string"})
    for place in ([str(folder), "release"], [str(folder / "release")]):
        rows = [row for split in datasets.load_dataset(*place, cache_dir=cache).values() for row in split]
        assert [row["questionID"] for row in rows] == [i["questionID"] for i in items]


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_split_without_examples_is_not_named(tmp_path, split):
    folder = written([item(n, split=split) for n in range(3)], tmp_path / "cbt_qa")
    for place in ([str(folder)], [str(folder), "release"], [str(folder / "release")]):
        loaded = datasets.load_dataset(*place, cache_dir=str(tmp_path / "cache"))
        assert {name: rows.num_rows for name, rows in loaded.items()} == {split: 3}
    assert f"; split {split}\n" in (folder / "release" / "README.md").read_text("utf-8")


def test_cards_without_any_example_say_so(tmp_path):
    folder = written([], tmp_path / "cbt_qa")
    for place in (folder, folder / "release"):
        text = (place / "README.md").read_text("utf-8")
        assert "no split: there is no example to load" in text and not DatasetCard(text).data.to_dict().get("configs")


def test_a_field_that_is_empty_for_long_keeps_its_type(tmp_path):
    """A reader that guesses from the first block (10 MB) would take it for empty altogether."""
    items = [item(n, reply="答" * 3000) for n in range(1400)] + [item(1400, near_duplicate_of=7, topic="家庭")]
    items += [item(1401, split="test")]
    folder = written(items, tmp_path / "cbt_qa")
    (last,) = datasets.load_dataset(str(folder), split="train[-1:]", cache_dir=str(tmp_path / "cache"))
    assert (last["near_duplicate_of"], last["topic"]) == (7, "家庭")


def test_the_released_form_holds_no_post(tmp_path):
    quoting = item(2, reply="你说“晚上一个人坐在操场上看星星”，我懂。")
    table = exports.release([item(1), quoting, item(3)], tmp_path / "release")
    text = "".join(file.read_text(encoding="utf-8") for file in sorted((tmp_path / "release").iterdir()))
    rows = files.read_jsonl(tmp_path / "release" / "train.jsonl") + files.read_jsonl(
        tmp_path / "release" / "test.jsonl"
    )
    assert all(not {"question", "description", "topic"} & row.keys() for row in rows) and "问1" not in text
    assert rows[0]["post"] == hashing.text("问1😀\n我昨天晚上一个人坐在操场上看星星\u2028想家")
    assert [row["flagged_by"] for row in rows] == ["second reader", None, None], "by whom is no part of a post"
    assert rows[0]["reply"] == "答1" and table["quotes"].tolist() == [False, True, False]


@pytest.mark.parametrize("place", [".", "release"])
def test_the_metadata_of_the_cards_is_the_hubs(tmp_path, place):
    """Words by huggingface_hub's own documentation of DatasetCardData, and by the lists that `datasets` brings."""
    data = DatasetCard.load(written(ITEMS, tmp_path) / place / "README.md").data
    lists = files.path(datasets.__file__).parent / "utils" / "resources"
    creators = files.read_json(lists / "creators.json")
    assert set(data.language_creators) <= set(creators["language"])
    assert set(data.annotations_creators) <= set(creators["annotations"])
    assert data.size_categories in files.read_json(lists / "size_categories.json")
    assert data.multilinguality in files.read_json(lists / "multilingualities.json")
    assert set(data.language) <= files.read_json(lists / "languages.json").keys()
    assert (data.license, data.license_name) == ("other", "psyqa-agreement")
    assert (tmp_path / place / data.license_link).is_file()


@pytest.mark.parametrize(
    ("number", "word"), [(999, "n<1K"), (1000, "1K<n<10K"), (22327, "10K<n<100K"), (100_000, "100K<n<1M")]
)
def test_sizes_in_the_hubs_words(number, word):
    assert exports.size(number) == word


@pytest.mark.parametrize("length, expected", [(11, False), (12, True), (16, True)])
def test_a_quotation_is_twelve_characters_in_a_row(length, expected):
    post = item(1)["description"]
    assert exports.quotes("。" + post[:length] + "。", post) is expected


def test_the_card_shows_the_notices_and_the_counts(tmp_path):
    released = exports.release(ITEMS, tmp_path / "release")
    said = "2 cut off", "nothing", "second reader: m; 2 read, 1 unread", "0 of 1 read by a person", "demo {scale}"
    text = exports.card(ITEMS, released, *said, tmp_path / "README.md").read_text("utf-8")
    assert all(notices.notice(kind) in text for kind in ("en", "zh", "psyqa"))
    assert (
        "3 examples (2 train, 1 test)" in text
        and "By the reading sheets: 0 of 1 read by a person." in text
        and "Left out: 2 cut off. Cleaned off replies: nothing." in text
        and "demo {scale}" in text
        and "1 post is flagged for risk (by second reader 1; second reader: m; 2 read, 1 unread). " in text
        and "In 0 of the replies to flagged posts the referral screen finds advice" in text
    )


def test_the_card_says_in_one_sentence_that_no_post_is_flagged(tmp_path):
    quiet = [item(2), item(3)]
    said = "none", "nothing", second_reader.note(None, "m", {}, {}), "no reply to a flagged post", "ci scale"
    text = exports.card(quiet, exports.release(quiet, tmp_path / "r"), *said, tmp_path / "README.md").read_text()
    assert "No post is flagged for risk (no second reader was asked: the screen alone). A post that" in text
    assert "0 posts" not in text and "nobody" not in text and "In 0 of" not in text
