"""The page for whoever has people rate names forms, folders and notes as they are."""

import re

from cbtllm_utils import files
from cbtllm_utils.human import exports, forms, ratings, returned
from cbtllm_utils.human.settings import HumanEvaluationSettings
from cbtllm_utils.workflow import graph

PAGE = files.path("docs/raters.md").read_text(encoding="utf-8")


def test_the_notes_that_it_explains_are_those_that_files_get():
    said = "".join(files.path(module.__file__).read_text(encoding="utf-8") for module in (exports, ratings, returned))
    notes = re.findall(r"^\| `([^`]+)`", PAGE, re.M)
    assert len(notes) == 7 and [note for note in notes if note not in said] == []


def test_the_folders_that_it_names_are_read_and_written():
    chosen = HumanEvaluationSettings(run="x", conditions="x")
    assert {chosen.filled, chosen.filled_readings} <= {name.rstrip("/") for name in re.findall(r"`(data/\w+/)`", PAGE)}
    [step] = [step for step in graph.STEPS if step.notebook == "07_human_evaluation"]
    assert {"ratings/forms", "ratings/key.csv", "readings/forms"} <= set(step.writes)
    assert all(name in PAGE for name in ("ratings/forms", "ratings/key.csv", "readings/forms"))


def test_the_keys_that_it_names_are_those_of_label_studio():
    rows = re.findall(r"^\| (\w(?: \w)*) \| .*(?:scor|harm)", PAGE, re.M)
    assert rows == [" ".join(keys.upper()) for keys in (*forms.SCORE_KEYS, forms.HARMFUL_KEY)]
