"""The learning curves of a set of runs in one figure: thin ones of the members, a thick one of their mean."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lstm_numba.cli.comparison import Compared, read_run
from lstm_numba.cli.console import short_path
from lstm_numba.cli.run_folder import run_name
from lstm_numba.cli.run_plots import finish, value_label
from lstm_numba.errors import CheckpointError, UserError
from lstm_numba.plots.style import looks, plain, save, titled
from lstm_numba.training.run_sets import RunSet

#: Curves of single members in a figure at most; of more, the mean only says what theirs would.
_MOST = 200

#: Values of one member by epoch.
Curve = dict[int, float]


def write_curves(found: RunSet, out: Path) -> list[str]:
    """Draw what the members watched, and write ``comparison.png`` and ``.svg``.

    Parameters
    ----------
    found : RunSet
    out : Path
        Folder to write to; made if it is not there.

    Returns
    -------
    list of str
        The paths; none if no member has finished an epoch.
    """
    runs: dict[str, list[Compared]] = {}
    for member in found.members:
        if not (found.path(member) / "config.json").exists():  # not begun
            continue
        try:
            run = read_run(str(found.path(member)))
        except CheckpointError:
            raise
        except UserError:  # no epoch is finished
            continue
        runs.setdefault(member.cell, []).append(run)
    if not runs:
        return []
    metrics = {run.metric for several in runs.values() for run in several}
    metric = metrics.pop() if len(metrics) == 1 else None
    figure = set_curves(runs, metric, found.kind, run_name(found.folder))
    out.mkdir(parents=True, exist_ok=True)
    return [short_path(path) for path in save(figure, out / "comparison")]


def set_curves(runs: Mapping[str, Sequence[Compared]], metric: str | None, kind: str, name: str) -> Figure:
    """Loss, and a metric, of the members over the epochs: a colour, a line and a marker for each cell.

    Parameters
    ----------
    runs : dict of sequences of Compared
        Cell -> its runs.
    metric : str, optional
        Name of the metric; None draws the losses only.
    kind : str
        What the members differ in, for the title.
    name : str
        The set's, for the title.
    """
    values = ["loss"] if metric is None else ["loss", metric]
    figure = Figure(figsize=(6.4 * len(values), 4.4 + 0.25 * len(runs)), layout="constrained")
    axes = dict(zip(values, figure.subplots(1, len(values), squeeze=False)[0], strict=True))
    every = looks(len(runs))
    for look, several in zip(every, runs.values(), strict=True):
        for value, place in axes.items():
            curves = [curve_of(run.epochs, value) for run in several]
            thin = {"color": look["color"], "linestyle": look["linestyle"], "linewidth": 0.8, "alpha": 0.4}
            for curve in curves[:_MOST]:
                place.plot([*curve], [*curve.values()], **thin)
            average = mean_curve(curves)
            place.plot([*average], [*average.values()], linewidth=2.2, markersize=4, **look)
    for value, place in axes.items():
        finish(place, value_label(value, metric), legend=False)
    handles = [Line2D([], [], linewidth=2.2, markersize=4, **look) for look in every]
    names = [plain(f"{cell}: mean of {len(several)} {kind}") for cell, several in runs.items()]
    figure.legend(handles, names, loc="outside lower center", frameon=False)
    watched = (
        "valid" if any(_watched(run.epochs) == "valid" for all_ in runs.values() for run in all_) else "train"
    )
    titled(figure, name, f"{kind} on {watched} (thick: their mean, as far as all of them go)", 11)
    return figure


def _watched(epochs: Sequence[Mapping[str, Any]]) -> str:
    return "valid" if any(line["split"] == "valid" for line in epochs) else "train"


def curve_of(epochs: Sequence[Mapping[str, Any]], value: str) -> Curve:
    """A value of what a run watched, by epoch; infinite ones are NaN, which are not drawn."""
    split, scale = _watched(epochs), 100 if value == "accuracy" else 1
    return {
        line["epoch"]: math.nan if line[value] is None else scale * line[value]
        for line in epochs
        if line["split"] == split and value in line
    }


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """The mean at each epoch that all curves have."""
    first, *others = curves
    return {
        epoch: math.fsum(curve[epoch] for curve in curves) / len(curves)
        for epoch in first
        if all(epoch in curve for curve in others)
    }
