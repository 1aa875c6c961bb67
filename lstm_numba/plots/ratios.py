"""The picture of the README: time of every backend relative to ours, by machine and task."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lstm_numba.plots.adaptive import INK, style

#: Backend -> colour, for the colour-blind too (Okabe and Ito 2008); every bar has its name beside it.
_COLOURS = {"lstm_numba": "#0072b2", "PyTorch": "#d55e00", "ONNX Runtime": "#e69f00"}
#: Tasks that have bars, in their order from above.
_TASKS = ("LSTM inference", "LSTM training", "GRU inference", "GRU training")
#: Distance of two tasks, in bars.
_GAP = 1.0


class Ratios(Protocol):
    """What `draw` reads: a peer's time over ours, on one machine."""

    @property
    def machine(self) -> str:
        """Name of the machine."""

    @property
    def peer(self) -> str:
        """Name of the backend."""

    @property
    def ratios(self) -> Mapping[str, Sequence[float]]:
        """Task -> one ratio for each shape."""


def _mean(ratios: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def draw(columns: Sequence[Ratios]) -> Figure:
    """Draw the bars: a panel for each machine on which every peer was measured.

    Parameters
    ----------
    columns : sequence of Ratios

    Returns
    -------
    matplotlib.figure.Figure
        Bars begin at zero; ours is 1 and marked by a line; at each bar stands the geometric mean, and lowest
        to highest over the shapes.
    """
    peers = [name for name in _COLOURS if name != "lstm_numba"]
    by_machine: dict[str, dict[str, Ratios]] = {}
    for column in columns:
        by_machine.setdefault(column.machine, {})[column.peer] = column
    chosen = {name: of for name, of in by_machine.items() if all(peer in of for peer in peers)}
    with style():
        figure = Figure(figsize=(9.2, 3.9), layout="constrained")
        panels = figure.subplots(1, len(chosen), sharey=True, squeeze=False)[0]
        figure.supxlabel(
            "time, lstm_numba = 1: geometric mean (lowest to highest) over the shapes", fontsize=9
        )
        figure.suptitle("Time of a layer relative to lstm_numba: longer bars are slower", fontsize=11)
        for panel, (machine, of) in zip(panels, chosen.items(), strict=True):
            _panel(panel, machine, of)
    return figure


def _panel(axes: Axes, machine: str, of: Mapping[str, Ratios]) -> None:
    height, ticks, names, longest = 0.0, [], [], 1.0
    for task in _TASKS:
        axes.text(0.0, height - 0.75, task, fontweight="bold", va="center")
        first = height
        for name, colour in _COLOURS.items():
            found = [1.0] if name == "lstm_numba" else of[name].ratios.get(task, ())
            if not found:
                continue
            mean = _mean(found)
            longest = max(longest, mean)
            axes.barh(height, mean, height=0.86, color=colour)
            text = f"{mean:.2f}" + (f" ({min(found):.2f} to {max(found):.2f})" if len(found) > 1 else "")
            axes.annotate(
                text, (mean, height), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8
            )
            ticks.append(height)
            names.append(name)
            height += 1
        axes.vlines(1.0, first - 0.43, height - 0.57, color=INK, linewidth=0.8, linestyle="--")
        height += _GAP
    axes.set_title(machine, fontsize=10)
    axes.set_yticks(ticks, names)
    axes.set_ylim(height - _GAP - 0.4, -1.4)
    axes.set_xlim(0, 1.45 * longest)
    axes.spines[["top", "right"]].set_visible(False)
