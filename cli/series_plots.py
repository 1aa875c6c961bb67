"""The plots of runs on a user's own series: predictions beside the true numbers, and their errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from lstm_numba.data.file_io import one_line
from lstm_numba.plots.style import plain, titled
from lstm_numba.wording import plural

if TYPE_CHECKING:
    from lstm_numba.data.tables import Array
    from lstm_numba.training.series import SeriesTask

#: Steps of the test part that a plot shows at most; of longer ones, the last.
_SHOWN = 400
#: Share of the errors on validation data within the band of a model that predicts none.
_SHARE = 0.8
_TRUE, _PREDICTED = "black", "#d55e00"


class Shown(NamedTuple):
    """Predictions of the test part, H steps ahead.

    Attributes
    ----------
    names : tuple of str
        Targets.
    true, middle, low, high : ndarray (N, M)
        NaN where the true number is missing; `low` and `high` are the band.
    band : str
        What the band is.
    ahead : int
    """

    names: tuple[str, ...]
    true: Array
    middle: Array
    low: Array
    high: Array
    band: str
    ahead: int


def test_predictions(task: SeriesTask) -> Shown:
    """Predict the test part; of a forecast the last step of the horizon."""
    true, answers = task.bands("test")
    true, answers = true[:, -1], answers[:, -1]
    middle = answers[..., answers.shape[-1] // 2]
    if answers.shape[-1] > 1:
        low, high, band = answers[..., 0], answers[..., -1], "predicted quantiles, 10 to 90 %"
    else:
        part = "valid" if "valid" in task.splits else "train"
        known, guessed = task.bands(part)
        errors = known[:, -1] - guessed[:, -1, :, 0]
        edges = np.nanquantile(errors, [(1 - _SHARE) / 2, (1 + _SHARE) / 2], axis=0)
        low, high = middle + edges[0], middle + edges[1]
        band = f"{100 * _SHARE:.0f} % of the errors in {part}"
    ahead = task.description.horizon or 0
    return Shown(task.description.targets, true, middle, low, high, band, ahead)


def predictions(shown: Shown, title: str, name: str) -> Figure:
    """The true numbers, the predicted ones and the band, one panel for each target.

    Parameters
    ----------
    shown : Shown
    title : str
        What is predicted: ``forecast`` or ``predictions``.
    name : str
        The run's, for the title.
    """
    figure = Figure(figsize=(10, 1.2 + 3 * len(shown.names)), layout="constrained")
    panels = figure.subplots(len(shown.names), 1, squeeze=False)[:, 0]
    rows = np.arange(max(0, len(shown.true) - _SHOWN), len(shown.true))
    for m, (target, axes) in enumerate(zip(shown.names, panels, strict=True)):
        axes.fill_between(
            rows,
            shown.low[rows, m],
            shown.high[rows, m],
            color=_PREDICTED,
            alpha=0.2,
            linewidth=0,
            label=shown.band,
        )
        axes.plot(rows, shown.true[rows, m], color=_TRUE, linewidth=1, label="true")
        axes.plot(
            rows, shown.middle[rows, m], color=_PREDICTED, linewidth=1.2, linestyle="--", label="predicted"
        )
        axes.set_ylabel(plain(one_line(target, 40)))
        axes.grid(visible=True, alpha=0.3)
        axes.margins(x=0.01)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=9, ncols=3, loc="outside lower center")
    steps = f", {plural(shown.ahead, 'step')} ahead" if shown.ahead else ""
    most = f" (last {_SHOWN:,} items)" if len(shown.true) > _SHOWN else ""
    titled(figure, name, f"{title} of the test part{steps}{most}")
    panels[-1].set_xlabel("item of the test part")
    return figure


def _bins(errors: Array) -> Array:
    """Edges of 40 bins; around errors that are all the same, as wide as they are large."""
    low, high = (float(errors.min()), float(errors.max())) if len(errors) else (0.0, 0.0)
    if high - low < 1e-6 * max(abs(low), abs(high), 1e-300):
        around = 0.5 * max(abs(low), abs(high)) or 0.5
        low, high = low - around, high + around
    return np.linspace(low, high, 41)


def residuals(shown: Shown, name: str) -> Figure:
    """The errors over the test part, and how often each size occurs; `name` is the run's, for the title."""
    figure = Figure(figsize=(10, 1.0 + 3 * len(shown.names)), layout="constrained")
    panels = figure.subplots(len(shown.names), 2, squeeze=False, width_ratios=[3, 1], sharey="row")
    for m, (target, (left, right)) in enumerate(zip(shown.names, panels, strict=True)):
        errors = shown.true[:, m] - shown.middle[:, m]
        left.plot(errors, color=_PREDICTED, linewidth=0.8)
        left.axhline(0, color=_TRUE, linewidth=0.8)
        left.set_ylabel(plain(f"{one_line(target, 40)}: true - predicted"))
        left.margins(x=0.01)
        known = errors[~np.isnan(errors)]
        right.hist(known, bins=_bins(known), orientation="horizontal", color=_PREDICTED)
        for axes in (left, right):
            axes.grid(visible=True, alpha=0.3)
    panels[-1][0].set_xlabel("item of the test part")
    panels[-1][1].set_xlabel("number of items")
    titled(figure, name, "errors on the test part")
    return figure
