"""One style, colors that color-blind readers can tell from each other, and files without a date."""

import itertools

import matplotlib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cbtllm_utils.plots import charts, figures

# Machado, Oliveira and Fernandes 2009, severity 1.0, for linear RGB.
COLOR_BLINDNESS = {
    "none": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


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
    [figures.PALETTE[:6], [figures.HERE, figures.GRAY], [figures.HERE, figures.PAPER], [figures.HERE, figures.ACCENT]],
    ids=["lines", "bars", "marks", "mean"],
)
def test_color_blind_readers_can_tell_the_colors_from_each_other(colors, blindness):
    for one, other in itertools.combinations(colors, 2):
        assert difference(one, other, blindness) > 10, (one, other)


def test_a_saved_figure_can_be_shown_and_names_no_date(tmp_path):
    frame = pd.DataFrame({"row": ["灾难化", "x"], "paper": [1.0, 2.0], "here": [2.0, 1.0]})
    shown = figures.save(charts.beside(frame, "条件 $ & conditions"), tmp_path, "chart")
    png, pdf = ((tmp_path / "figures" / f"chart.{suffix}").read_bytes() for suffix in ("png", "pdf"))
    assert shown.data == png and pdf.startswith(b"%PDF")
    assert not any(word in png + pdf for word in (b"Date", b"Software", b"Creator", b"Producer"))
    with Image.open(tmp_path / "figures/chart.png") as picture:
        assert picture.width == round(figures.WIDTH * 200)


def test_a_users_matplotlibrc_changes_no_figure(tmp_path):
    frame = pd.DataFrame({"row": ["灾难化", "x"], "paper": [1.0, 2.0], "here": [2.0, 1.0]})
    plain = figures.save(charts.beside(frame, "条件"), tmp_path, "chart").data
    theirs = {"text.usetex": True, "savefig.bbox": "tight", "savefig.transparent": True, "savefig.dpi": 33}
    theirs |= {"font.size": 20, "axes.facecolor": "red", "path.sketch": (1, 100, 2), "text.language": "zh"}
    with matplotlib.rc_context(theirs):
        assert figures.save(charts.beside(frame, "条件"), tmp_path, "chart").data == plain
