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
    """Norm of the gradient of the state that a cell carries, on a logarithmic axis."""
    networks = document["series"]["networks"]
    figure = Figure(figsize=(10.5, 5.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (time, title) in zip(panels, _TIMES.items(), strict=True):
        for name, look in _looks(networks).items():
            network = networks[name]
            x, y = np.array(network["distances"]), np.array(network[time][network["memory"]], float)
            shown = y > _LEAST
            every = max(1, 8 // max(1, int(x[1] - x[0])))
            axes.plot(x[shown], y[shown], markevery=every, linewidth=1.5, markersize=5, **look)
        axes.set_yscale("log")
        axes.set_xlim(0, max(max(network["distances"]) for network in networks.values()))
        axes.set_xlabel("distance from the loss (steps)")
        axes.set_title(title)
        axes.grid(visible=True, alpha=0.3)
    panels[0].set_ylabel("norm of the gradient of the memory state\n(1: of the last output)")
    handles = [Line2D([], [], label=name, **look) for name, look in _looks(networks).items()]
    figure.legend(handles=handles, loc="outside right center", frameon=False)
    return figure


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
    figure = Figure(figsize=(9.0, 5.0), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    titles = {
        "theory": "plain: largest singular value of R × mean slope\ngated: geometric mean of the gate",
        "refined": "plain: spectral radius of R with mean slopes\ngated: product of the gates, unit by unit",
    }
    for axes, (which, title) in zip(panels, titles.items(), strict=True):
        for row in document["rows"]:
            gated = networks[row["cell"]]["gated"]
            for prefix, filled in (("", False), ("trained ", True)):
                if row[prefix + which] is not None:
                    axes.plot(row[prefix + which], row[f"{prefix}rate"], **_point(gated, filled))
        ends = (0.0, 1.05 * max(axes.get_xlim()[1], axes.get_ylim()[1]))
        axes.plot(ends, ends, color="black", linewidth=1.0, zorder=0)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("predicted factor a step")
        axes.set_aspect("equal")
        axes.grid(visible=True, alpha=0.3)
    panels[0].set_xlim(0, None)
    panels[0].set_ylim(0, None)
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
