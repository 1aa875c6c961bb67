"""Files of pictures: small ones that show the same."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

pytest.importorskip("matplotlib")

from matplotlib.figure import Figure

from lstm_numba.plots.style import rendered


def drawn() -> Figure:
    figure = Figure(figsize=(3, 2))
    axis = figure.subplots()
    axis.plot([0.0, 1 / 3, 1.0], [0.1, 2 / 3, 0.25], "o-", label="-- curve")
    axis.set_title("a - b -- 0.123456")
    axis.legend()
    return figure


@pytest.mark.smoke
def test_an_svg_is_small_and_well_formed() -> None:
    figure = drawn()
    found = rendered(figure, "svg")
    assert rendered(figure, "svg") == found
    tree = ElementTree.fromstring(found)
    uses = [item for item in tree.iter() if item.tag.endswith("}use")]
    defined = {f"#{item.get('id')}" for item in tree.iter() if item.get("id")}
    assert len(uses) > 30  # letters, ticks, markers
    assert {item.get("{http://www.w3.org/1999/xlink}href") for item in uses} <= defined
    assert b"<!--" not in found
    assert not re.search(rb"\n ", found)


@pytest.mark.smoke
def test_a_curve_is_where_it_was() -> None:
    """A hundredth of a point is below what can be seen: positions are those of the axes' transform."""
    figure = drawn()
    found = rendered(figure, "svg").decode()
    axis = figure.axes[0]
    points = axis.transData.transform(axis.lines[0].get_xydata()) * 72 / figure.dpi
    height = 72 * figure.get_size_inches()[1]
    for x, y in points:
        near = [
            (float(a), float(b))
            for a, b in re.findall(r'x="([\d.]+)" y="([\d.]+)"', found)
            if abs(float(a) - x) < 0.006 and abs(float(b) - (height - y)) < 0.006
        ]
        assert near, (x, height - y)
