"""Heat maps of what a layer did at each step, over the input on the same axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lstm_numba.plots.style import COLOURS, plain, titled

Array = npt.NDArray[Any]

#: Colours of values from 0 to 1, and of those that may be negative, with white at 0.
GATE_COLOURS, SIGNED_COLOURS = "viridis", "RdBu_r"
#: Inches of a figure's width, of one heat map's height and of the input's.
_WIDTH, _HEIGHT, _BENEATH = 10.0, 1.15, 1.0
#: Most steps whose names are written, and most characters of a name.
_NAMED, _LONG = 90, 14
#: Most features that are drawn as curves.
_CURVES = 3


class Beneath(Protocol):
    """What stands beneath; see `lstm_numba.traces.inspection.Strip`."""

    @property
    def kind(self) -> str:
        """ "tokens", "picture" or "series", or another where nothing stands beneath."""

    @property
    def values(self) -> Array:
        """(T, F)"""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the features."""


def palette(name: str) -> bytes:
    """256 colours from a colour map's low end to its high one, three bytes each."""
    rgb = np.round(255 * colormaps[name](np.arange(256))[:, :3])
    return rgb.astype(np.uint8).tobytes()


def extent(values: Array, gate: bool) -> tuple[float, float]:
    """Between what a heat map's colours lie: 0 and 1, or as far below zero as above."""
    if gate:
        return 0.0, 1.0
    most = float(np.abs(values).max(initial=0.0))
    return -(most or 1.0), most or 1.0


def heat_maps(
    values: Mapping[str, Array],
    roles: Mapping[str, str],
    order: Array,
    ordered: bool,
    steps: Sequence[str],
    unit: str,
    beneath: Beneath,
    title: str,
    size: tuple[float, float] = (_WIDTH, _HEIGHT),
) -> Figure:
    """Gates, candidates and states by unit and step.

    Parameters
    ----------
    values : dict of ndarray (T, H)
        By name; one whose units are fewer is drawn in their own order.
    roles : dict of str
        What each of them is: "gate", which is within 0 and 1, "candidate", "state" or "value".
    order : ndarray (H,), int
        Units from the top.
    ordered : bool
        Whether that is the order of their memories.
    steps : sequence of str
        Names of the T steps.
    unit : str
        What a step is.
    beneath : Beneath
    title : str
    size : tuple of float
        Inches: the figure's width, and a heat map's height.
    """
    panels = panels_beneath(beneath)
    heights = [size[1]] * len(values) + [_BENEATH] * panels
    named = beneath.kind == "tokens"
    tall = sum(heights) + (1.7 if named else 1.2)
    figure = Figure(figsize=(size[0], tall), layout="constrained")
    axes = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for place, (name, array) in zip(axes, values.items(), strict=False):
        gate = roles[name] == "gate"
        rows = array.T[order] if array.shape[1] == len(order) else array.T
        low, high = extent(array, gate)
        image = place.imshow(
            rows,
            aspect="auto",
            interpolation="none",
            cmap=GATE_COLOURS if gate else SIGNED_COLOURS,
            vmin=low,
            vmax=high,
        )
        place.set_yticks([0, len(rows) - 1] if len(rows) > 1 else [0])
        place.set_yticklabels(["1", str(len(rows))][: len(place.get_yticks())])
        place.set_ylabel(plain(f"{roles[name]} {name}" if size[1] >= 1 else name))
        bar = figure.colorbar(image, ax=place, aspect=8, pad=0.01)
        middle = (low + high) / 2
        bar.set_ticks([low, middle, high], labels=[f"{value:.2g}" for value in (low, middle, high)])
        bar.solids.set_rasterized(True)  # as curves they are most of the file
        bar.ax.tick_params(labelsize=8)
    draw_beneath(list(axes[len(values) :]), beneath)
    label_steps(axes[-1], steps, unit, named)
    for place in axes[:-1]:
        place.tick_params(bottom=False)
    ranked = "; units from the top: 1 remembers longest" if ordered else "; units from the top"
    titled(figure, "", title + ranked, 11)
    return figure


def panels_beneath(beneath: Beneath) -> int:
    """Axes that the input takes."""
    if beneath.kind not in ("picture", "series"):
        return 0
    return beneath.values.shape[1] if beneath.kind == "series" and beneath.values.shape[1] <= _CURVES else 1


def draw_beneath(axes: Sequence[Any], beneath: Beneath) -> None:
    """Draw an input into its axes: an image step by step, or the curves of a series."""
    if not axes:
        return
    rows = beneath.values
    if beneath.kind == "series" and rows.shape[1] <= _CURVES:
        for place, name, column in zip(axes, beneath.names, rows.T, strict=True):
            place.plot(column, color=COLOURS[0], linewidth=1.2, marker="." if len(column) <= 60 else "")
            place.set_ylabel(plain(_short(name)))
            place.yaxis.set_major_locator(MaxNLocator(3))
        return
    (place,) = axes
    label, colours = "pixels", "gray"
    if beneath.kind == "series":
        spread = rows.std(axis=0)
        rows = (rows - rows.mean(axis=0)) / np.where(spread > 0, spread, 1)
        label, colours = "features\n(standardised)", "PuOr_r"
    place.imshow(rows.T, aspect="auto", interpolation="none", cmap=colours)
    place.set_yticks([])
    place.set_ylabel(f"input\n{label}")


def label_steps(place: Any, steps: Sequence[str], unit: str, named: bool) -> None:
    """Write the steps' names under an axis, or their numbers."""
    if not named or len(steps) > _NAMED:
        place.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1))
        place.xaxis.set_major_formatter(lambda value, _: f"{round(value) + 1}")
        place.set_xlabel(unit)
        place.set_xlim(-0.5, len(steps) - 0.5)
        return
    names = [plain(_short(step)) for step in steps]
    upright = max(map(len, names)) <= 1
    place.set_xticks(
        range(len(steps)), names, rotation=0 if upright else 90, fontsize=9 if len(steps) <= 50 else 7
    )
    place.set_xlabel(unit)
    place.set_xlim(-0.5, len(steps) - 0.5)


def _short(text: str) -> str:
    return text if len(text) <= _LONG else text[: _LONG - 1] + "…"
