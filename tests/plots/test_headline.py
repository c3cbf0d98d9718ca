"""The answer of a notebook appears at its top, though its last cell makes it."""

import io

import nbformat
import pandas as pd
from nbclient import NotebookClient

CELLS = (
    "import pandas as pd\nfrom cbtllm_utils.plots import headline, tables\nfound = headline.place()",
    "print('how')",
    "table = tables.show(pd.DataFrame({'posts': [2]}), 'two posts')\n"
    "headline.fill(found, ['Two posts < three.', 'No more.'], table, 'made up')",
)


def test_the_last_cell_fills_the_first():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    NotebookClient(notebook, timeout=120).execute()
    first, second, last = (cell.outputs for cell in notebook.cells)
    shown = first[0]["data"]["text/html"]
    assert "<p>Two posts &lt; three. No more.</p>" in shown and "Run the notebook" not in shown
    assert pd.read_html(io.StringIO(shown))[0].to_dict("list") == {"posts": [2]} and shown.endswith(
        "<p><em>made up</em></p>"
    )
    assert second[0]["text"] == "how\n" and not last


def test_a_notebook_that_did_not_end_says_so():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELLS[0])])
    NotebookClient(notebook, timeout=120).execute()
    assert "the last cell fills this in" in notebook.cells[0].outputs[0]["data"]["text/html"]
