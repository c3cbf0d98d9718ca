"""Figures of the report: each drawn once, in the page's colors, and nothing in them runs or loads."""

import pytest

from cbtllm_utils import files
from cbtllm_utils.workflow import report_figures, report_tables

HEAD = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 9 5"'
DRAWN = (
    f'{HEAD} data-width="693" data-min-width="410"><path style="fill: currentColor" d="M0 0"/><text>灾难化</text></svg>'
)
PICTURE = '<p>{0}</p><img src="data:image/png;base64,AA==" alt="of {0}" data-figure="{0}">'


def test_a_figure_takes_the_place_of_its_picture_and_a_second_one_refers_to_it(tmp_path):
    files.write_text(tmp_path / "counts.svg", DRAWN)
    bodies, drawn = report_figures.place([PICTURE.format("counts"), PICTURE.format("counts")], tmp_path)
    assert "base64" not in "".join(bodies)
    assert '<figure class="picture" id="figure-counts">' in bodies[0] and "灾难化" in bodies[0]
    assert 'style="min-width: 410px; max-width: 693px"' in bodies[0] and "fill: currentColor" in bodies[0]
    assert '<use href="#svg-counts"/>' in bodies[1] and "灾难化" not in bodies[1]
    assert drawn["counts"].thumbnail() == '<svg viewBox="0 0 9 5" aria-hidden="true"><use href="#svg-counts"/></svg>'


def test_the_title_of_an_svg_is_its_description(tmp_path):
    drawing, shown = report_figures.inline(f"{HEAD}><title>a &lt; b</title><path/></svg>".encode(), "x", "alt")
    assert drawing.alt == "a &lt; b" and shown.count('aria-label="a &lt; b"') == 2 and "<title" not in shown


def test_a_description_may_hold_quotes_of_any_kind(tmp_path):
    """BeautifulSoup writes an attribute that holds a double quote in single quotes."""
    picture = report_tables.tidy(PICTURE.format("counts").replace("of counts", "of &quot;counts&quot; it&#x27;s &lt;b"))
    files.write_text(tmp_path / "counts.svg", DRAWN)
    for folder in (tmp_path, tmp_path / "without"):
        [body], drawn = report_figures.place([picture], folder)
        assert 'id="figure-counts"' in body and "<b" not in body
        assert drawn["counts"].alt == "of &quot;counts&quot; it&#x27;s &lt;b"


@pytest.mark.parametrize("name", ["other", ""])
def test_a_picture_without_an_svg_stays_and_its_bytes_come_once(tmp_path, name):
    bodies, drawn = report_figures.place([PICTURE.format(name) * 2], tmp_path)
    assert bodies[0].count("AA==") == 1 and "is shown above" in bodies[0]
    assert next(iter(drawn.values())).thumbnail() == ""


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        '<path onload="alert(1)"/>',
        '<use xlink:href="https://example.org/x.svg#a"/>',
        '<use href="javascript:alert(1)"/>',
        '<image xlink:href="data:image/svg+xml;base64,AA=="/>',
        '<path style="fill: url(https://example.org/a)"/>',
        "<foreignObject><body xmlns='http://www.w3.org/1999/xhtml'>alert(1)</body></foreignObject>",
        "<style>@import 'https://example.org/alert'</style>",
        '<a href="https://example.org"><text>x</text></a>',
        '<animate attributeName="href" values="javascript:alert(1)"/>',
    ],
)
def test_what_runs_or_loads_is_left_out(hostile):
    shown = report_figures.inline(f"{HEAD}><g>{hostile}<path d='M1 1'/></g></svg>".encode(), "x", "alt")[1]
    assert 'd="M1 1"' in shown
    assert not any(word in shown for word in ("alert", "example.org", "svg+xml", "script"))
