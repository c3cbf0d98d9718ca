"""Settings refuse what they cannot use on one line, however they are given."""

import math
from pathlib import Path
from typing import Any, Literal

import pytest
from IPython.core.inputtransformer2 import TransformerManager
from pydantic import create_model

from cbtllm_utils.files import InputError
from cbtllm_utils.settings import Number, Settings, ours, stated, tool_default


class Training(Settings):
    """Settings as a notebook has them."""

    epochs: Number = stated(3.0, "passes over the training set", gt=0)
    rank: int = tool_default(8, "rank of the matrices", ge=1)
    dropout: Number = tool_default(0.1, "on the input", ge=0, le=1)
    template: Literal["card", "triad"] = ours("card", "form of the prompt")
    targets: list[str] | str = ours("published", "adapted layers")
    limit: int | None = ours(None, "only the first so many")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"rnak": 8}, "unknown parameter 'rnak'; did you mean rank? there are: "),
        ({"rank": 0}, "rank = 0: should be greater than or equal to 1"),
        ({"rank": -1}, "rank = -1: "),
        ({"rank": "8"}, 'rank = "8": should be a valid integer'),
        ({"rank": 8.0}, "rank = 8.0: should be a valid integer"),
        ({"rank": True}, "rank = true: should be a valid integer"),
        ({"epochs": 0}, "epochs = 0: should be greater than 0"),
        ({"epochs": math.nan}, "epochs = NaN: should be a finite number"),
        ({"epochs": "nan"}, "should be a finite number"),
        ({"epochs": math.inf}, "should be a finite number"),
        ({"epochs": "three"}, 'epochs = "three": should be a valid number'),
        ({"epochs": False}, "epochs = false: should be a valid number"),
        ({"dropout": 1.5}, "dropout = 1.5: should be less than or equal to 1"),
        ({"template": "cart"}, "template = \"cart\": should be 'card' or 'triad'"),
        ({"targets": [1]}, "targets"),
        ({"limit": 1.5}, "limit = 1.5: should be a valid integer"),
        ({"run": ""}, 'run = "": '),
    ],
)
def test_what_cannot_be_used_is_refused_on_one_line(values, said):
    with pytest.raises(InputError) as error:
        Training(**values)
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(("given", "read"), [("5e-3", 0.005), (5e-3, 0.005), (1, 1.0), ("1E2", 100.0)])
def test_numbers_as_people_write_them(given, read):
    assert Training(epochs=given).epochs == read


def notebook(*cells, **before):
    """Return the variables of a notebook after these cells, and of what ran before its first cell."""
    variables = before | {"In": ["", *cells]}
    for cell in cells:
        exec(cell, variables)
    return variables


def test_a_notebook_gives_its_parameters_and_a_mapping():
    cells = 'run = "runs/x"\nepochs: float | None = 2\nsettings = {"rank": 4}', "other = object()"
    found = Training.from_notebook(notebook(*cells))
    assert (found.run, found.epochs, found.rank, found.dropout) == ("runs/x", 2, 4, 0.1)


@pytest.mark.parametrize("value", [("a",), Path("x"), {"a"}, math.isnan])
def test_a_variable_of_another_type_is_refused_and_not_passed_over(value):
    with pytest.raises(InputError, match="targets"):
        Training.from_notebook({"targets": value, "In": ["targets = something()"]})


def test_a_name_that_papermill_injects_may_be_any_setting_and_no_other():
    found = Training.from_notebook(notebook('epochs = 3.0\nsettings = {"rank": 4}', "# Parameters\nrank = 2\n"))
    assert found.rank == 2
    with pytest.raises(InputError, match="unknown parameter 'epoch'; did you mean epochs"):
        Training.from_notebook(notebook("epochs = 3.0", "# Parameters\nepoch = 1\n"))


def test_a_name_in_the_cell_of_parameters_may_be_a_setting_and_no_other():
    with pytest.raises(InputError, match="unknown parameter 'rnak'; did you mean rank"):
        Training.from_notebook(notebook("epochs = 3.0\nrnak = 4", "import math\nfound = 1"))


def test_a_cell_that_was_mended_and_run_again_counts_as_it_is_now():
    cells = [
        "epochs = 3.0\nrnak = 4",
        "found = 1",
        "epochs = 2.0\nrank = 4",
        "# Parameters\nrnak = 1",
        "# Parameters\n",
    ]
    found = Training.from_notebook(notebook(*cells))
    assert (found.epochs, found.rank) == (2.0, 4)


def test_a_cell_may_import_and_compute_a_parameter():
    cell = "from pathlib import Path\ntargets = [name for name in 'ab' if name]\nrun = str(Path('runs') / 'x')"
    found = Training.from_notebook(notebook(cell))
    assert (found.targets, found.run) == (["a", "b"], "runs/x")


@pytest.mark.parametrize("cells", [[], ["get_ipython().run_cell_magic('time', '', 'rank = 4')"]])
def test_parameters_count_where_no_cell_assigns_them(cells):
    """A script has no cells, and IPython hands a cell under a magic on as text."""
    assert Training.from_notebook({"rank": 4, "In": ["", *cells], "get_ipython": None}).rank == 4
    assert Training.from_notebook({"rank": 4}).rank == 4


CELL = 'run = "r"\nepochs = 2.0\nrank = 4\ndropout = 0.5\n'
INJECTED = "# Parameters\nepochs = 1.0\n"


@pytest.mark.parametrize("magic", ["%matplotlib inline\n", "%%time\n", "!true\n", ""])
def test_a_magic_in_the_cell_of_parameters_does_not_lose_the_others(magic):
    """The cells as IPython itself keeps them in `In`."""
    kept = TransformerManager().transform_cell(magic + CELL)
    variables = {"run": "r", "epochs": 1.0, "rank": 4, "dropout": 0.5, "In": ["", kept, INJECTED]}
    found = Training.from_notebook(variables)
    assert (found.run, found.epochs, found.rank, found.dropout) == ("r", 1.0, 4, 0.5)


def test_a_later_cell_that_sets_one_parameter_may_have_variables_of_its_own():
    found = Training.from_notebook(notebook(CELL, "rank = 16\nnote = 'mine'"))
    assert (found.rank, found.epochs) == (16, 2.0)


def test_a_variable_of_a_start_up_file_is_not_a_setting():
    found = Training.from_notebook(notebook("epochs = 3.0", rank=64, epochs=9.0, template="triad"))
    assert (found.epochs, found.rank, found.template) == (3.0, 8, "card")


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"epochs": 1}, "settings: epochs is a parameter of this notebook"), ([], "expected a mapping")],
)
def test_a_mapping_that_says_something_twice_or_nothing(settings, said):
    with pytest.raises(InputError, match=said):
        Training.from_notebook({"epochs": 3.0, "settings": settings, "In": ["epochs = 3.0"]})


def test_each_value_is_documented_with_where_it_comes_from():
    rows = {row["name"]: row for row in Training.documentation()}
    assert rows["epochs"] == {
        "name": "epochs",
        "type": "number > 0",
        "default": "3.0",
        "source": "stated by the paper",
        "description": "passes over the training set",
    }
    assert rows["rank"]["source"] == "default of its tool" and rows["limit"]["source"] == "our choice"


@pytest.mark.parametrize(
    ("annotation", "limits", "said"),
    [
        (int, {"ge": 1}, "whole number ≥ 1"),
        (Number, {"gt": 0, "lt": 1}, "number > 0 and < 1"),
        (int | None, {"ge": 0}, "whole number ≥ 0 or null"),
        (Literal["zh", "en"], {}, "zh / en"),
        (Literal["nf4"] | None, {}, "nf4 or null"),
        (list[str], {}, "list (text)"),
        (dict[str, Any], {}, "mapping"),
        (bool, {}, "true or false"),
    ],
)
def test_a_type_is_said_in_words(annotation, limits, said):
    made = create_model("Made", __base__=Settings, it=(annotation, ours(None, "what it is", **limits)))
    assert made.documentation()[-1]["type"] == said
