"""Pictures of a sweep: what is drawn are the numbers of the report."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib.colors import to_hex

from lstm_numba.plots.style import COLOURS, rendered
from lstm_numba.plots.sweep import figures

BEST = COLOURS[1]


def row(number: int, lr: float, cell: str, curve: list[float], state: str = "complete") -> dict[str, Any]:
    return {
        "trial": number,
        "state": state,
        "params": {"lr": lr, "cell": cell},
        "value": min(curve) if state == "complete" else None,
        "best": min(curve, default=None),
        "curve": [[epoch, loss] for epoch, loss in enumerate(curve, 1)],
    }


def document(**more: Any) -> dict[str, Any]:
    rows = [
        row(3, 0.02, "gru", [1.0, 0.5]),
        row(0, 0.01, "lstm", [2.0, 1.5]),
        row(4, 0.1, "lstm", [1.7, 1.6]),
        row(1, 0.001, "gru", [2.2], "pruned"),
        row(2, 0.1, "lstm", [], "diverged"),
    ]
    settings = [
        {"name": "lr", "range": {"low": 1e-3, "high": 0.1, "log": True}, "importance": 0.75},
        {"name": "cell", "range": {"choices": ["lstm", "gru"]}, "importance": 0.25},
    ]
    return {
        "study": "first", "dataset": "digits", "metric": "loss", "direction": "minimize", "watched": "valid",
        "counts": {"complete": 3, "pruned": 1, "diverged": 1}, "best": rows[0], "trials": rows,
        "settings": settings, **more,
    }  # fmt: skip


def points(axis: Any) -> dict[str, list[tuple[float, float]]]:
    """Marked points of a panel by their markers."""
    return {
        line.get_marker(): list(zip(map(float, line.get_xdata()), map(float, line.get_ydata()), strict=True))
        for line in axis.lines
        if line.get_linestyle() == "None"
    }


def test_bars_are_the_importances_and_start_at_zero() -> None:
    figure = figures(document())["what-mattered"]
    bars = figure.subfigs[0].axes[0]
    assert [bar.get_width() for bar in bars.patches] == [75.0, 25.0]
    assert [bar.get_x() for bar in bars.patches] == [0.0, 0.0]
    assert bars.get_xlim()[0] == 0.0
    assert [label.get_text() for label in bars.get_yticklabels()] == ["lr", "cell"]
    assert bars.get_ylim()[0] > bars.get_ylim()[1]  # the first one on top
    assert "3 complete trials" in bars.get_xlabel()


def test_without_importances_there_are_no_bars() -> None:
    settings = [{**setting, "importance": None} for setting in document()["settings"]]
    (only,) = figures(document(settings=settings))["what-mattered"].subfigs
    assert [axis.get_xlabel() for axis in only.axes] == ["lr", "cell"]


def test_each_panel_shows_each_trial_that_has_a_value() -> None:
    lr, cell = figures(document())["what-mattered"].subfigs[1].axes
    assert points(lr) == {
        "*": [(0.02, 0.5)],
        "o": [(0.01, 1.5), (0.1, 1.6)],
        "x": [(0.001, 2.2)],
    }
    assert lr.get_xscale() == "log"
    assert lr.get_ylim() == cell.get_ylim()
    found = points(cell)
    assert [round(x) for x, _ in (*found["o"], *found["x"], *found["*"])] == [0, 0, 1, 1]
    assert all(abs(x - round(x)) < 0.3 for marks in found.values() for x, _ in marks)
    assert [label.get_text() for label in cell.get_xticklabels()] == ["lstm", "gru"]


def test_history_has_the_best_so_far_and_every_curve() -> None:
    left, right = figures(document())["history"].axes
    (steps,) = [line for line in left.lines if line.get_label() == "best so far"]
    np.testing.assert_array_equal(steps.get_xdata(), [0, 3, 4, 4])
    np.testing.assert_array_equal(steps.get_ydata(), [1.5, 0.5, 0.5, 0.5])
    curves = {tuple(line.get_ydata()): to_hex(line.get_color()) for line in right.lines}
    assert set(curves) == {(1.0, 0.5), (2.0, 1.5), (1.7, 1.6), (2.2,)}
    assert [values for values, colour in curves.items() if colour == BEST] == [(1.0, 0.5)]
    assert left.get_ylabel() == "lowest loss (nats) on valid"


def test_more_may_be_better() -> None:
    rows = [row(0, 0.01, "lstm", [0.2, 0.1]), row(1, 0.01, "lstm", [0.5, 0.4])]
    for one, value in zip(rows, (0.2, 0.5), strict=True):
        one["value"] = one["best"] = value
    left, _ = figures(
        document(metric="accuracy", direction="maximize", trials=rows, best=rows[1], watched="train")
    )["history"].axes
    (steps,) = [line for line in left.lines if line.get_label() == "best so far"]
    np.testing.assert_array_equal(steps.get_ydata(), [0.2, 0.5, 0.5])
    assert left.get_ylabel() == "highest accuracy on train"


def test_one_huge_loss_makes_the_axis_logarithmic() -> None:
    rows = [*document()["trials"], row(5, 0.1, "gru", [40.0, 50.0])]
    left, right = figures(document(trials=rows))["history"].axes
    assert left.get_yscale() == right.get_yscale() == "log"
    assert figures(document())["history"].axes[0].get_yscale() == "linear"


def test_odd_sweeps_are_drawn() -> None:
    none = document(trials=[row(0, 0.01, "lstm", [2.0], "running")], best=None, counts={"running": 1})
    huge = [document(trials=[row(0, 0.01, "lstm", [value])]) for value in (math.inf, 1e300)]
    many = document(settings=[{**document()["settings"][0], "name": f"${n}_"} for n in range(4)])
    for found in (none, *huge, many):
        for figure in figures(found).values():
            assert rendered(figure, "svg").startswith(b"<?xml")
