"""Pictures of the experiment ``gradient-flow``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lstm_numba.plots.style import COLOURS, MARKERS

#: Least norm that is drawn.
_LEAST = 1e-15
_TIMES = {"start": "at the start", "trained": "after training"}


def figures(document: Mapping[str, Any]) -> dict[str, Figure]:
    """Norms against distance, and rates beside theory, from the outcome's document."""
    return {"norms": norms(document), "rates": rates(document)}


def norms(document: Mapping[str, Any]) -> Figure:
    """Norm of the gradient of the state that a cell carries, on a logarithmic axis: plain RNNs above."""
    networks = document["series"]["networks"]
    looks = _looks(networks)
    families = [[name for name in networks if networks[name]["gated"] == gated] for gated in (False, True)]
    families = [names for names in families if names]
    figure = Figure(figsize=(9.0, 1.2 + 3.1 * len(families)), layout="constrained")
    panels = figure.subplots(len(families), 2, sharex=True, sharey=True, squeeze=False)
    for names, row in zip(families, panels, strict=True):
        for axes, time in zip(row, _TIMES, strict=True):
            for name in names:
                _curve(axes, networks[name], time, looks[name])
            axes.set_yscale("log")
            axes.grid(visible=True, alpha=0.3)
        handles = [Line2D([], [], label=name, **looks[name]) for name in names]
        title = "gated cells" if networks[names[0]]["gated"] else "plain RNNs"
        place = {"loc": "center left", "bbox_to_anchor": (1.02, 0.5)}
        row[1].legend(handles=handles, title=title, frameon=False, **place)
    for axes, title in zip(panels[0], _TIMES.values(), strict=True):
        axes.set_title(title)
    for axes in panels[-1]:
        axes.set_xlim(0, max(max(network["distances"]) for network in networks.values()))
        axes.set_xlabel("distance from the loss (steps)")
    figure.supylabel("norm of the gradient of the memory state (1: of the last output)", fontsize=10)
    return figure


def _curve(axes: Any, network: Mapping[str, Any], time: str, look: Mapping[str, Any]) -> None:
    """Norms of a network, a marker every eight steps."""
    x, y = np.array(network["distances"]), np.array(network[time][network["memory"]], float)
    shown = (y > _LEAST) & np.isfinite(y)
    marked = np.flatnonzero(x[shown] % 8 == 0).tolist()
    axes.plot(x[shown], y[shown], markevery=marked, linewidth=1.5, markersize=5, **look)


def _looks(networks: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Colour, marker and line of each network: plain RNNs dashed, gated cells in full lines."""
    found, counts = {}, {True: 0, False: 0}
    for name, network in networks.items():
        n = counts[network["gated"]]
        counts[network["gated"]] += 1
        hollow = n >= len(COLOURS)
        found[name] = {
            "color": COLOURS[n % len(COLOURS)],
            "marker": MARKERS[n % len(MARKERS)],
            "linestyle": ("-" if not hollow else "-.") if network["gated"] else "--",
            "markerfacecolor": "white" if hollow else COLOURS[n % len(COLOURS)],
        }
    return found


def rates(document: Mapping[str, Any]) -> Figure:
    """Measured rate of decay against both predictions, with the line on which they are equal."""
    networks = document["series"]["networks"]
    figure = Figure(figsize=(9.0, 5.6), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    top = 0.0
    titles = {
        "theory": "plain: largest singular value of R, times mean slope\ngated: geometric mean of the gate",
        "refined": "plain: spectral radius of R with mean slopes\ngated: product of the gates, unit by unit",
    }
    for axes, (which, title) in zip(panels, titles.items(), strict=True):
        for row in document["rows"]:
            gated = networks[row["cell"]]["gated"]
            for prefix, filled in (("", False), ("trained ", True)):
                x, y, each = (row[prefix + key] for key in (which, "rate", "rates of seeds"))
                each = [value for value in each if value is not None]
                if x is not None and y is not None:
                    look = _point(gated, filled)
                    axes.vlines(x, min(each), max(each), color=look["color"], linewidth=1.0, alpha=0.6)
                    axes.plot(x, y, **look)
                    top = max(top, x, *each)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("predicted factor a step")
        axes.set_aspect("equal")
        axes.grid(visible=True, alpha=0.3)
    for axes in panels:
        axes.plot((0, 1.05 * top), (0, 1.05 * top), color="black", linewidth=1.0, zorder=0)
    panels[0].set_xlim(0, 1.05 * top)
    panels[0].set_ylim(0, 1.05 * top)
    panels[0].set_ylabel("measured factor a step")
    handles = [
        Line2D([], [], label=f"{kind}, {title}", **_point(gated, filled))
        for kind, gated in (("plain RNN", False), ("gated cell", True))
        for filled, title in enumerate(_TIMES.values())
    ]
    handles.append(Line2D([], [], color="black", linewidth=1.0, label="equal"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _point(gated: bool, filled: bool | int) -> dict[str, Any]:
    colour = COLOURS[0] if gated else COLOURS[1]
    face = colour if filled else "white"
    return {
        "color": colour, "marker": "o" if gated else "s", "markerfacecolor": face, "linestyle": "none",
        "markersize": 7,
    }  # fmt: skip
