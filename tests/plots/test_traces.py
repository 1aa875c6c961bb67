"""Pictures of traces: every mark is a number of the inspection, and a name is no formula."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from inspections import HOSTILE, KINDS, make_inspection

from lstm_numba.plots.style import dark, rendered, titled
from lstm_numba.plots.trace_statistics import memories, probabilities, saturation, surprise
from lstm_numba.plots.traces import extent, heat_maps, palette
from lstm_numba.traces.inspection import Strip
from lstm_numba.traces.pictures import pictures


@pytest.mark.parametrize("kind", KINDS)
def test_every_picture_is_drawn_in_both_schemes(kind: str) -> None:
    it = make_inspection(kind)
    for name, draw in pictures(it).items():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            light = rendered(draw(), "png")
            with dark():
                assert rendered(draw(), "png") != light, name
        assert rendered(draw(), "png") == light, name


def test_heat_maps_hold_the_values_in_the_order_of_memory() -> None:
    it = make_inspection("tokens")
    view = it.views[0]
    figure = pictures(it)["values-l0"]()
    panels = [axes for axes in figure.axes if axes.images and axes.get_label() != "<colorbar>"]
    assert [axes.get_ylabel() for axes in panels] == ["gate i", "gate f", "gate o", "candidate g", "state h"]
    for axes, (name, values) in zip(panels, view.values.items(), strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), values[:, view.order].T)
        assert axes.images[0].get_clim() == extent(values, name in "ifo")
    assert extent(np.array([-2.0, 1.0]), False) == (-2.0, 2.0)
    assert extent(np.array([0.3]), True) == (0.0, 1.0)


def test_input_stands_beneath_on_the_same_axis() -> None:
    it = make_inspection("classes")
    figure = pictures(it)["values-l0"]()
    above, below = figure.axes[0], figure.axes[len(it.views[0].values)]
    assert above.get_xlim() == below.get_xlim() == (-0.5, 7.5)
    np.testing.assert_array_equal(below.images[0].get_array(), it.strip.values.T)


def test_fewer_units_of_a_projection_keep_their_order() -> None:
    rng = np.random.default_rng(0)
    values = {"f": rng.uniform(size=(4, 3)), "h": rng.uniform(-1, 1, (4, 2))}
    roles, order = {"f": "gate", "h": "state"}, np.array([2, 0, 1])
    nothing = Strip("nothing", np.zeros((4, 0)))
    figure = heat_maps(values, roles, order, True, ["a"] * 4, "step", nothing, "")
    np.testing.assert_array_equal(figure.axes[1].images[0].get_array(), values["h"].T)


def test_dots_are_the_shares() -> None:
    it = make_inspection("tokens")
    figure = saturation({v.title: {g: (*s,) for g, s in v.shares.items()} for v in it.views})
    for axes, gate in zip(figure.axes, "ifo", strict=True):
        dots = axes.lines[1:]
        assert len({line.get_marker() for line in dots}) == len(it.views)  # not by colour alone
        for line, view in zip(dots, it.views, strict=True):
            np.testing.assert_array_equal(line.get_xdata(), view.shares[gate].left)
            np.testing.assert_array_equal(line.get_ydata(), view.shares[gate].right)


@pytest.mark.parametrize(("gates", "layers"), [(1, 1), (1, 3), (3, 1), (3, 2), (6, 2)])
def test_nothing_of_the_picture_of_shares_is_cut_off(gates: int, layers: int) -> None:
    shares = np.linspace(0, 0.5, 9)
    figure = saturation({f"l{k}": dict.fromkeys("ifoabc"[:gates], (shares, shares)) for k in range(layers)})
    titled(figure, "run", "saturated gates")
    figure.draw_without_rendering()
    box, (title,) = figure.bbox, figure.texts
    above = title.get_window_extent()
    assert box.y0 <= above.y0 < above.y1 <= box.y1
    for axes in figure.axes:
        assert axes.title.get_window_extent().y1 <= above.y0
        below = axes.xaxis.label.get_window_extent().y0
        assert below >= max([box.y0, *(legend.get_window_extent().y1 for legend in figure.legends)])


def test_memories_are_ranked_and_endless_ones_told() -> None:
    figure = memories({"layer 1": np.array([2.0, np.inf, 50.0, 0.0])}, "f")
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), [np.nan, 50.0, 2.0, np.nan])
    assert "1 without end" in figure.axes[0].get_title()
    assert figure.axes[0].get_yscale() == "log"
    assert memories({"layer 1": np.array([2.0, 3.0])}, "f").axes[0].get_yscale() == "linear"


def test_bars_are_bits() -> None:
    figure = surprise(HOSTILE[:3], np.array([np.nan, 2.0, 5.0]))
    assert [bar.get_height() for bar in figure.axes[0].patches] == [0.0, 2.0, 5.0]
    assert figure.axes[0].lines[0].get_ydata()[0] == 3.5


def test_labels_of_curves_do_not_overlap() -> None:
    values = np.full((5, 6), 1 / 6)
    figure = probabilities(values, list("abcdef"), "row", Strip("picture", np.zeros((5, 2))))
    places = sorted(text.xy[1] for text in figure.axes[0].texts)
    assert np.diff(places).min() > 0.05
    assert places[-1] <= 1.0
    assert [text.get_text() for text in figure.axes[0].texts] == list("abcdef")


def test_palettes() -> None:
    gate, signed = palette("viridis"), palette("RdBu_r")
    assert len(gate) == len(signed) == 768
    assert gate[:3] == bytes((68, 1, 84))
    assert min(signed[3 * 127 : 3 * 129]) > 240  # white in the middle


def test_a_dollar_sign_begins_no_formula() -> None:
    it = make_inspection("tokens")
    for name in ("surprise", "values-l0"):
        figure = pictures(it)[name]()
        named = [axes for axes in figure.axes if axes.get_xlabel() == "token"][-1]
        assert r"\$x_1\$" in [label.get_text() for label in named.get_xticklabels()], name
