"""One style, colors that color-blind readers can tell from each other, and files without a date."""

import itertools
import re
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cbtllm_utils.plots import charts, diagrams, figures, svg

# Machado, Oliveira and Fernandes 2009, severity 1.0, for linear RGB.
COLOR_BLINDNESS = {
    "none": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


FRAME = pd.DataFrame({"row": ["灾难化", "x"], "paper": [1.0, 2.0], "here": [2.0, 1.0]})
SVG = "{http://www.w3.org/2000/svg}"


def linear(color):
    """Return linear RGB of #RRGGBB (IEC 61966-2-1)."""
    values = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """Return CIE L*a*b* of linear RGB, white point D65."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ np.clip(rgb, 0, 1)
    x, y, z = (np.cbrt(t) if t > 0.008856 else 7.787 * t + 16 / 116 for t in xyz / [0.9505, 1.0, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def difference(one, other, blindness):
    """Return the color difference CIE 1976 as a color-blind reader sees it; 2.3 is just noticeable."""
    matrix = np.array(COLOR_BLINDNESS[blindness])
    return float(np.linalg.norm(lab(matrix @ linear(one)) - lab(matrix @ linear(other))))


def test_the_difference_of_two_colors_by_hand():
    assert difference("#FFFFFF", "#000000", "none") == pytest.approx(100, abs=0.1)
    assert difference("#FF0000", "#00FF00", "none") == pytest.approx(170.6, abs=0.5)  # Lab (53,80,67) and (88,-86,83)


@pytest.mark.parametrize("blindness", COLOR_BLINDNESS)
@pytest.mark.parametrize(
    "colors",
    [
        [figures.HERE, figures.GRAY],
        [figures.HERE, figures.FAINT.upper()],
        [figures.HERE, figures.ACCENT],
    ],
    ids=["bars", "marks", "mean"],
)
def test_color_blind_readers_can_tell_the_colors_from_each_other(colors, blindness):
    for one, other in itertools.combinations(colors, 2):
        assert difference(one, other, blindness) > 10, (one, other)


def test_a_saved_figure_can_be_shown_and_names_no_date(tmp_path):
    shown = figures.save(charts.beside(FRAME, "条件 $ & conditions"), tmp_path, "chart")
    png, pdf, svg = ((tmp_path / "figures" / f"chart.{suffix}").read_bytes() for suffix in ("png", "pdf", "svg"))
    assert shown.data == png and pdf.startswith(b"%PDF")
    assert not any(word in png + pdf + svg for word in (b"Date", b"Software", b"Creator", b"Producer"))
    with Image.open(tmp_path / "figures/chart.png") as picture:
        assert picture.width == round(figures.WIDTH * 150)


def test_a_users_matplotlibrc_changes_no_figure(tmp_path):
    plain = figures.save(charts.beside(FRAME, "条件"), tmp_path, "chart").data
    vector = (tmp_path / "figures/chart.svg").read_bytes()
    theirs = {"text.usetex": True, "savefig.bbox": "tight", "savefig.transparent": True, "savefig.dpi": 33}
    theirs |= {"font.size": 20, "axes.facecolor": "red", "path.sketch": (1, 100, 2), "text.language": "zh"}
    with matplotlib.rc_context(theirs):
        assert figures.save(charts.beside(FRAME, "条件"), tmp_path, "chart").data == plain
    assert (tmp_path / "figures/chart.svg").read_bytes() == vector


def root(tmp_path, figure, name="chart"):
    figures.save(figure, tmp_path, name)
    return ElementTree.parse(tmp_path / f"figures/{name}.svg").getroot()


def test_the_words_of_an_svg_are_text_and_its_title_says_what_it_shows(tmp_path):
    found = root(tmp_path, charts.heatmap(FRAME.set_index("row"), "条件 $ & <conditions>", title="Two rows"))
    words = {text.text for text in found.iter(f"{SVG}text")}
    assert words >= {"灾难化", "here", "条件 $ & <conditions>"}
    assert found.find(f"{SVG}title").text == "Two rows: 灾难化, x by paper, here" and found.get("role") == "img"


def test_an_svg_takes_ink_and_ground_from_its_page_and_keeps_the_ink_of_colored_cells(tmp_path):
    found = root(tmp_path, charts.heatmap(FRAME.set_index("row"), "conditions"))
    inks = {t.text: t.get("style").partition("fill: ")[2].partition(";")[0] for t in found.iter(f"{SVG}text")}
    assert inks["灾难化"] == "currentColor" and inks["conditions"].startswith("var(--faint")
    assert {inks["1"], inks["2"]} == {"#000000", "#ffffff"}
    assert not any("fill: #ffffff" in path.get("style", "") for path in found.iter(f"{SVG}path"))


def test_a_panel_and_its_text_can_be_read_in_the_dark(tmp_path):
    """WCAG 2.1 asks for a contrast of 4.5; an old browser takes the first of two declarations."""
    found = root(tmp_path, diagrams.data_quality("?", "…", "forum", [("challenge", "text")], "conditions"))
    styles = [element.get("style", "") for element in found.iter()]
    assert any("fill: #efe3f6; fill: light-dark(#efe3f6, " in style for style in styles)
    for bar, wash in (*figures.COMPONENT_COLORS.values(), figures.NEUTRAL):
        in_the_dark = [figures.IN_THE_DARK[color] for color in (bar.lower(), wash.lower(), svg.ON_WASH)]
        for label, ground, text in ((bar, wash, svg.ON_WASH), in_the_dark):
            for ink in (label, text):
                low, high = sorted(figures.luminance(color) + 0.05 for color in (ink, ground))
                assert high / low >= 4.5


def test_svgs_share_a_page_without_sharing_an_id_and_refer_only_to_their_own(tmp_path):
    one, other = (root(tmp_path, charts.beside(FRAME, ""), name) for name in ("one", "other"))
    ids = [{element.get("id") for element in svg.iter() if element.get("id")} for svg in (one, other)]
    assert ids[0] and not ids[0] & ids[1] and all(name.startswith("one-") for name in ids[0])
    text = ElementTree.tostring(one, encoding="unicode")
    assert set(re.findall(r"(?:url\(|href=\")#([\w-]+)", text)) == ids[0]


def test_an_svg_is_as_wide_as_its_page_and_says_when_its_text_becomes_too_small(tmp_path):
    found = root(tmp_path, charts.beside(FRAME, ""))
    assert "width" not in found.attrib and "<style" not in (tmp_path / "figures/chart.svg").read_text()
    assert float(found.get("viewBox").split()[2]) == pytest.approx(figures.WIDTH * 72)
    assert int(found.get("data-min-width")) == round(figures.WIDTH * 72) <= 390 - 2 * 16  # a phone with its margins


@pytest.mark.parametrize(
    ("color", "contrast"),
    [
        ("#0000ff", 8.59),
        ("#ff0000", 5.25),
        ("#00ff00", 15.3),
        ("#777777", 4.69),
    ],  # by webaim.org/resources/contrastchecker
)
def test_text_on_a_color_has_the_better_contrast(color, contrast):
    light, ink = figures.luminance(color), figures.luminance(figures.text_on(color))
    assert (max(light, ink) + 0.05) / (min(light, ink) + 0.05) == pytest.approx(contrast, abs=0.01)
