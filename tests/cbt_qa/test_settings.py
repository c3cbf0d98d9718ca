"""Settings of notebooks 01 to 03 refuse values with which nothing could be asked or split."""

import pytest

from cbtllm_utils.cbt_qa.settings import DatasetSettings, PromptSettings
from cbtllm_utils.files import InputError
from cbtllm_utils.text.settings import DistortionSettings


@pytest.mark.parametrize(
    ("settings", "values", "said"),
    [
        (PromptSettings, {"measured": 0}, "measured = 0: should be greater than or equal to 1"),
        (PromptSettings, {"price": {}}, "unknown parameter 'price'; did you mean prices?"),
        (PromptSettings, {"endpoint": None}, "endpoint = null: should be a valid string"),
        (DatasetSettings, {"test_share": 1.5}, "test_share = 1.5: should be less than or equal to 1"),
        (DatasetSettings, {"near": float("nan")}, "near = NaN: should be a finite number"),
        (DatasetSettings, {"min_components": 6}, "min_components = 6: should be less than or equal to 5"),
        (DatasetSettings, {"min_parts": 3}, "unknown parameter 'min_parts'; did you mean "),
        (DatasetSettings, {"limit": 0}, "limit = 0: should be greater than or equal to 1"),
        (DistortionSettings, {"subset": -1}, "subset = -1: should be greater than or equal to 1"),
        (DistortionSettings, {"resamples": 1}, "resamples = 1: should be greater than or equal to 2"),
    ],
)
def test_refused(settings, values, said):
    with pytest.raises(InputError) as error:
        settings(**values)
    assert str(error.value).startswith(said)


def test_every_value_says_where_it_comes_from():
    sources = {row["name"]: row["source"] for row in DatasetSettings.documentation()}
    assert sources["test_share"] == "stated by the paper"
    assert sources["near"] == "our choice"
