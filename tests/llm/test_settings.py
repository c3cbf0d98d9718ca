"""Values that no provider could be asked with are refused before the first request."""

import pytest

from cbtllm_utils.files import InputError
from cbtllm_utils.llm.settings import ProviderSettings
from cbtllm_utils.workflow import profiles


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"concurrency": 0}, "concurrency = 0: should be greater than or equal to 1"),
        ({"requests_per_minute": 0}, "requests_per_minute = 0: should be greater than 0"),
        ({"budget": -1.0}, "budget = -1.0: should be greater than or equal to 0"),
        ({"prices": {"m": {"input": -1, "output": 2}}}, "prices.m.input = -1: should be greater than or equal to 0"),
        ({"prices": {"m": {"input": 1}}}, 'prices.m.output = {"input": 1}: Field required'),
        ({"prices": {"m": {"input": 1, "output": 2, "x": 3}}}, "prices.m.x = 3: Extra inputs are not permitted"),
    ],
)
def test_refused(values, said):
    with pytest.raises(InputError) as error:
        ProviderSettings(**values)
    assert str(error.value) == said


def test_price():
    usual, batch = {"input": 1.0, "output": 2.0}, {"input": 0.5, "output": 1.0, "date": "2024-07-18"}
    settings = ProviderSettings(prices={"m": usual, "m, batch": batch})
    assert settings.price("m") == usual
    assert settings.price("m", batch=True) == batch
    assert settings.price("other") is None


def test_every_notebook_that_asks_a_server_takes_how_many_at_a_time_and_how_long_it_waits():
    asking = {name: own.model_fields for name, own in profiles.CLASSES.items() if "endpoint" in own.model_fields}
    assert {name[:2] for name in asking} == {"01", "02", "03", "05", "07"}
    assert all({"timeout", "concurrency", "max_retries"} <= fields.keys() for fields in asking.values())
