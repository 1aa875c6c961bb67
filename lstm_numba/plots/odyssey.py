"""Picture of the experiment `odyssey`: what each cell reaches on each data set."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator, ScalarFormatter

from lstm_numba.plots.style import COLOURS, titled

_TITLES = {"digits": "digits, row by row", "grammar": "sentences", "reber": "embedded Reber strings"}
#: What a mark stands for -> colour and marker.
_KINDS = {"cell": (COLOURS[0], "o"), "LSTM without a part": (COLOURS[1], "s")}
#: Lines: the whole LSTM, and the least that is possible.
_LSTM = {"color": COLOURS[0], "linewidth": 1.0, "alpha": 0.6}
_FLOOR = {"color": COLOURS[6], "linewidth": 1.2, "linestyle": ":"}

#: Ticks of a logarithmic axis.
_TICKS = (15, 20, 30, 50, 100, 200)


def figures(document: Mapping[str, Any]) -> dict[str, Figure]:
    """One panel a data set: a mark for each cell's mean, a bar for its interval, lines to compare with."""
    names, cells = list(document["series"]["measures"]), document["settings"]["cells"]
    taken = [cell in document["series"]["ablations"] for cell in cells]
    colours = [list(_KINDS.values())[one][0] for one in taken]
    figure = Figure(figsize=(2.0 + 2.5 * len(names), 1.9 + 0.24 * len(cells)), layout="constrained")
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for panel, name in zip(panels, names, strict=True):
        rows = {row["cell"]: row for row in document["rows"] if row["data"] == name}
        _panel(panel, [rows[cell] for cell in cells], taken, document["series"]["floors"][name])
        panel.set_xlabel(document["series"]["measures"][name])
        panel.set_title(_TITLES[name], fontsize=11)
    panels[0].set_yticks(range(len(cells)), [cell.replace("-", " ") for cell in cells])
    for panel in panels[1:]:
        panel.yaxis.set_visible(False)
    for label, colour in zip(panels[0].get_yticklabels(), colours, strict=True):
        label.set_color(colour)
    panels[0].invert_yaxis()
    handles = [
        Line2D([], [], color=colour, marker=marker, markersize=5, label=text)
        for (text, (colour, marker)), there in zip(_KINDS.items(), (True, any(taken)), strict=True)
        if there
    ]
    handles.append(Line2D([], [], **_LSTM, label="LSTM"))
    if any(document["series"]["floors"].values()):
        handles.append(Line2D([], [], **_FLOOR, label="least possible"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    titled(figure, document["experiment"], "mean of each cell on test data, and its 95 % interval")
    return {"odyssey": figure}


def _panel(panel: Any, rows: list[dict[str, Any]], taken: list[bool], floor: float | None) -> None:
    """Marks and bars of one data set, cell by cell downwards; a bar beyond what was measured is cut off."""
    panel.axvline(next(row["test"] for row in rows if row["cell"] == "lstm"), **_LSTM, zorder=1)
    if floor is not None:
        panel.axvline(floor, **_FLOOR, zorder=1)
    for kind, (colour, marker) in enumerate(_KINDS.values()):
        places = [place for place, one in enumerate(taken) if one == bool(kind)]
        own = [rows[place] for place in places]
        _bars(panel, places, [(row["low"], row["high"]) for row in own], color=colour, linewidth=1.6)
        panel.plot([row["test"] for row in own], places, marker, color=colour, markersize=5)
    tests = [test for row in rows for test in row["tests"]] + ([] if floor is None else [floor])
    least, most = min(tests), max(tests)
    if floor is not None:  # a perplexity, whose ratios mean something
        panel.set_xscale("log")
        panel.set_xticks([tick for tick in _TICKS if least < tick < most], minor=False)
        panel.xaxis.set_major_formatter(ScalarFormatter())
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_xlim(least * (least / most) ** 0.06, most * (most / least) ** 0.06)
    else:
        panel.set_xlim(least - 0.06 * (most - least), most + 0.06 * (most - least))
    whole = {"transform": panel.get_yaxis_transform(), "color": "0.9", "linewidth": 0.8, "zorder": 0}
    second = range(1, len(rows), 2)
    _bars(panel, second, [(0.0, 1.0)] * len(second), **whole)
    panel.tick_params(axis="y", length=0)


def _bars(panel: Any, places: Sequence[int], ends: Sequence[tuple[float, float]], **style: Any) -> None:
    """Horizontal lines as one path, which makes a small file."""
    x = [number for low, high in ends for number in (low, high, math.nan)]
    panel.plot(x, [place for place in places for _ in range(3)], solid_capstyle="butt", **style)
