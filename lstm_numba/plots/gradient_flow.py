"""Pictures of the experiment ``gradient-flow``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MultipleLocator

from lstm_numba.plots.style import COLOURS, MARKERS, titled

#: Least norm that is drawn.
_LEAST = 1e-15
_TIMES = {"start": "at the start", "trained": "after training"}


def figures(document: Mapping[str, Any]) -> dict[str, Figure]:
    """Norms against distance, and rates beside theory, from the outcome's document."""
    networks = document["series"]["networks"]
    found = {"norms-plain": norms(document, gated=False)}
    if any(network["gated"] for network in networks.values()):
        found["norms-gated"] = norms(document, gated=True)
    return {**found, "rates": rates(document)}


def norms(document: Mapping[str, Any], *, gated: bool) -> Figure:
    """Norm of the gradient of the state that a cell carries, of all plain RNNs or all gated cells."""
    networks = document["series"]["networks"]
    looks = {name: look for name, look in _looks(networks).items() if networks[name]["gated"] == gated}
    figure = Figure(figsize=(9.0, 4.6), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, (time, title) in zip(panels, _TIMES.items(), strict=True):
        for name, look in looks.items():
            _curve(axes, networks[name], time, look)
        axes.set_yscale("log")
        axes.grid(visible=True, axis="y", alpha=0.3)
        axes.set_title(title)
        axes.set_xlabel("distance from the loss (steps)")
    panels[0].set_xlim(0, max(networks[name]["distances"][-1] for name in looks))
    panels[0].set_ylim(*_limits(networks))
    panels[0].set_ylabel(f"gradient of {'c, or h of a GRU' if gated else 'h'}\n(norm; 1: of the last h)")
    handles = [Line2D([], [], label=name, **look) for name, look in looks.items()]
    title = "gated cells" if gated else "plain RNNs"
    figure.legend(handles=handles, title=title, loc="outside right center", frameon=False)
    titled(figure, document["experiment"], "how gradients vanish or explode on their way back")
    return figure


def _limits(networks: Mapping[str, Any]) -> tuple[float, float]:
    """The same range of norms for all pictures."""
    shown = [
        value
        for network in networks.values()
        for time in _TIMES
        for value in network[time][network["memory"]]
        if value is not None and value > _LEAST
    ]
    return min([1e-3, *shown]) / 3, max([1.0, *shown]) * 3


def _curve(axes: Any, network: Mapping[str, Any], time: str, look: Mapping[str, Any]) -> None:
    """Norms of a network with some markers; between the ends every third is enough for the eye."""
    x, y = np.array(network["distances"]), np.array(network[time][network["memory"]], float)
    shown = (y > _LEAST) & np.isfinite(y)
    shown &= (x % 3 == 0) | (x % 16 == 8) | (x < 3) | (x > x[-1] - 3)
    marked = np.flatnonzero(x[shown] % 16 == 8).tolist()
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
    figure = Figure(figsize=(9.0, 6.1), layout="constrained")
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
        axes.xaxis.set_major_locator(MultipleLocator(0.5))
        axes.yaxis.set_major_locator(MultipleLocator(0.5))
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
    titled(figure, document["experiment"], "measured decay of gradients and predictions of it")
    return figure


def _point(gated: bool, filled: bool | int) -> dict[str, Any]:
    colour = COLOURS[0] if gated else COLOURS[1]
    face = colour if filled else "white"
    return {
        "color": colour, "marker": "o" if gated else "s", "markerfacecolor": face, "linestyle": "none",
        "markersize": 7,
    }  # fmt: skip
