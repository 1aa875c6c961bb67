"""Picture of the experiment `odyssey`: what each cell reaches on each data set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from lstm_numba.plots.style import COLOURS

_TITLES = {"digits": "digits by rows", "grammar": "sentences", "reber": "embedded Reber strings"}


def figures(document: Mapping[str, Any]) -> dict[str, Figure]:
    """One panel a data set: a mark for each cell's mean, a bar for its interval, a line for the LSTM."""
    names, rows = list(document["series"]["measures"]), document["rows"]
    cells, ablations = document["settings"]["cells"], document["series"]["ablations"]
    figure = Figure(figsize=(2.0 + 2.5 * len(names), 1.3 + 0.24 * len(cells)), layout="constrained")
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for panel, name in zip(panels, names, strict=True):
        own = {row["cell"]: row for row in rows if row["data"] == name}
        panel.axvline(own["lstm"]["test"], color="0.6", linewidth=1, zorder=0)
        for place, cell in enumerate(cells):
            row, taken = own[cell], cell in ablations
            colour = COLOURS[1] if taken else COLOURS[0]
            panel.plot([row["low"], row["high"]], [place, place], color=colour, linewidth=1.5)
            panel.plot([row["test"]], [place], "s" if taken else "o", color=colour, markersize=4.5)
        panel.set_xlabel(document["series"]["measures"][name])
        panel.set_title(_TITLES[name], fontsize=10)
        panel.grid(axis="y", color="0.92", linewidth=0.8)
        panel.set_axisbelow(True)
    panels[0].set_yticks(range(len(cells)), [cell.replace("-", " ") for cell in cells])
    for label, cell in zip(panels[0].get_yticklabels(), cells, strict=True):
        label.set_color(COLOURS[1] if cell in ablations else COLOURS[0])
    panels[0].invert_yaxis()
    return {"odyssey": figure}
