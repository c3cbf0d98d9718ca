"""Notebook 07 refuses impossible settings, and its settings are the demo's."""

import pytest

from cbtllm_utils.files import InputError
from cbtllm_utils.human.forms import rubric
from cbtllm_utils.human.ratings import KINDS
from cbtllm_utils.human.settings import HumanEvaluationSettings


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"items": 0}, "items = 0: should be greater than or equal to 1"),
        ({"repeats": -1}, "repeats = -1: should be greater than or equal to 0"),
        ({"raters": 1.5}, "raters = 1.5: should be a valid integer"),
        ({"language": "fr"}, "language = \"fr\": should be 'zh' or 'en'"),
        ({"kind": "robot"}, "kind = \"robot\": should be 'language model' or 'person'"),
        ({"power": 1}, "power = 1: should be less than 1"),
        ({"systems": []}, "systems = []: "),
        ({"rater": 3}, "unknown parameter 'rater'; did you mean raters?"),
    ],
)
def test_refused(values, reason):
    with pytest.raises(InputError) as error:
        HumanEvaluationSettings(**values)
    assert str(error.value).startswith(reason) and "\n" not in str(error.value)


def test_the_choices_are_those_of_the_forms_and_the_readers():
    for language in rubric():
        assert HumanEvaluationSettings(language=language).language == language
    for kind in KINDS:
        assert HumanEvaluationSettings(kind=kind).kind == kind
