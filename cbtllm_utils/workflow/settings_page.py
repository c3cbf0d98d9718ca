"""The page docs/settings.md: every setting of every notebook, made from the settings classes."""

import pandas as pd

from cbtllm_utils import files
from cbtllm_utils.plots import tables
from cbtllm_utils.settings import as_json
from cbtllm_utils.workflow import profiles

PAGE = "docs/settings.md"
HEAD = """# All settings

Generated from the settings classes by `make release`: do not edit. A notebook reads its settings from its `parameters`
cell and from the mapping `settings` there. A [profile](profiles.md) changes them in its file in [params/](../params).
For one run of one notebook, name them on the command line:

```sh
python -m cbtllm_utils.workflow.run 04_lora_training --profile demo --list
python -m cbtllm_utils.workflow.run 04_lora_training --profile demo backbone=qwen-7b epochs=1
```

The first command prints the same list with the values of a profile. An unknown name, a wrong type or an impossible
value is an error on one line before anything runs. The origin of a default is one of three: the paper states it, the
tool that the paper names has it, or we chose it. Where a notebook's own value differs from the default, both are given:
the notebooks' own values are those of the demo.
"""


def rows(notebook: str) -> pd.DataFrame:
    """Return a row for each setting of a notebook: name, type, default, the notebook's own value, origin, meaning."""
    own = profiles.defaults(notebook)
    found = pd.DataFrame(profiles.CLASSES[notebook].documentation())
    return found.assign(own=[as_json(own[name]) for name in found["name"]])


def section(notebook: str) -> str:
    """Return the heading and the table of a notebook's settings in Markdown."""
    found = rows(notebook)
    changed = found["own"] != found["default"]
    table = pd.DataFrame(
        {
            "setting": "`" + found["name"] + "`",
            "type": found["type"],
            "default": "`" + found["default"] + "`",
            "in the notebook": ("`" + found["own"] + "`").where(changed, ""),
            "origin of the default": found["source"],
            "meaning": found["description"],
        }
    )
    return f"## [{notebook}](../notebooks/{notebook}.ipynb)\n\n{tables.markdown(table)}\n"


def text() -> str:
    """Return the whole page."""
    return "\n".join([HEAD, *map(section, profiles.CLASSES)])


def write() -> None:
    """Write the page."""
    files.write_text(PAGE, text())
