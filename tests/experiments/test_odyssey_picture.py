"""The picture of the experiment on the parts of an LSTM: what is drawn where."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from lstm_numba.experiments import odyssey
from lstm_numba.experiments.ablations import ABLATIONS
from lstm_numba.experiments.odyssey_tasks import TASKS
from lstm_numba.plots.odyssey import figures
from lstm_numba.plots.style import COLOURS, rendered


def document(cells: tuple[str, ...] = odyssey.CELLS) -> dict[str, Any]:
    """An outcome of random tests."""
    rng, rows = np.random.default_rng(0), []
    for data in TASKS:
        own = [{"data": data, "cell": cell, "tests": list(rng.normal(20, 3, 3))} for cell in cells]
        rows += odyssey._compared(own)
    measures = {name: kind.measure for name, kind in TASKS.items()}
    series = {
        "measures": measures,
        "floors": {"digits": None, "grammar": 12.0, "reber": None},
        "ablations": list(ABLATIONS),
    }
    settings = {"cells": list(cells)}
    return {"experiment": "odyssey", "rows": rows, "settings": settings, "series": series}


def test_every_mean_and_interval_is_in_its_row() -> None:
    outcome = document()
    figure = figures(outcome)["odyssey"]
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == [cell.replace("-", " ") for cell in odyssey.CELLS]
    for panel, (name, measure) in zip(figure.axes, outcome["series"]["measures"].items(), strict=True):
        assert panel.get_xlabel() == measure
        rows = [row for row in outcome["rows"] if row["data"] == name]
        means, bars = {}, {}
        for line in panel.lines:
            x, y = (np.asarray(values, float) for values in line.get_data())
            if line.get_marker() != "None":
                means.update(
                    {round(b): (a, line.get_color(), line.get_marker()) for a, b in zip(x, y, strict=True)}
                )
            elif line.get_color() in COLOURS[:2] and len(x) > 2:
                bars.update({round(y[k]): (x[k], x[k + 1]) for k in range(0, len(x), 3)})
                assert np.isnan(x[2::3]).all()
        for place, row in enumerate(rows):
            taken = row["cell"] in ABLATIONS
            assert means[place] == (row["test"], COLOURS[int(taken)], "s" if taken else "o")
            assert bars[place] == (row["low"], row["high"])
            assert panel.get_xlim()[0] < min(row["tests"]) < max(row["tests"]) < panel.get_xlim()[1]
        whole = next(row["test"] for row in rows if row["cell"] == "lstm")
        upright = {line.get_xdata()[0] for line in panel.lines if line.get_xdata()[0] == line.get_xdata()[-1]}
        assert upright == ({whole, 12.0} if name == "grammar" else {whole})


def test_the_picture_of_one_panel_names_no_cells_that_are_not_there() -> None:
    outcome = document(("lstm", "gru"))
    outcome["series"]["measures"] = {"reber": "errors, %"}
    outcome["series"]["floors"] = {"reber": None}
    (legend,) = figures(outcome)["odyssey"].legends
    assert [text.get_text() for text in legend.get_texts()] == ["cell", "LSTM"]


def test_the_file_is_small_and_its_coordinates_are_those_of_matplotlib() -> None:
    figure = figures(document())["odyssey"]
    svg = rendered(figure, "svg")
    assert len(svg) < 60_000
    assert svg == rendered(figures(document())["odyssey"], "svg")
    panel = figure.axes[0]
    x, y = panel.transData.transform((document()["rows"][0]["test"], 0)) * 72 / figure.dpi
    y = figure.get_figheight() * 72 - y
    found = [
        tuple(map(float, pair)) for pair in re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)"', svg.decode())
    ]
    assert min(math.dist(pair, (x, y)) for pair in found) < 0.02
