"""The plots of ``lstm-numba plot``; drawn without pyplot, so that no global state is changed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from lstm_numba.data.file_io import one_line
from lstm_numba.plots.style import colours, marks, plain, plain_log, titled

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Line = dict[str, Any]

#: Classes up to which a confusion matrix shows counts, and names.
_COUNTED, _NAMED = 30, 60

#: Colours for splits, distinguishable with colour blindness (Okabe and Ito 2008); lines and markers for grey.
_LOOKS = {
    "train": {"color": "#0072b2", "linestyle": "--", "marker": "o"},
    "valid": {"color": "#e69f00", "linestyle": "-", "marker": "s"},
    "test": {"color": "#d55e00", "linestyle": ":", "marker": "^"},
}
#: Labels of the vertical axes; nats are the loss of classes and tokens.
_METRICS = {"accuracy": "accuracy (%)", "perplexity": "perplexity", "mae": "MAE (in the target's unit)"}


def value_label(value: str, metric: str | None) -> str:
    """Label of an axis with the values of a loss or a metric; `metric` is what stands beside the loss."""
    if value == "loss":
        return "loss" if metric == "mae" else "loss (nats)"
    return _METRICS.get(value, value)


def _curve(
    axes: Any, lines: Sequence[Line], split: str, value: str, scale: float = 1.0, **style: Any
) -> None:
    """Draw one value of one split over the epochs; in the look of the split unless `style` has another."""
    chosen = [line for line in lines if line["split"] == split and value in line]
    if chosen:
        x = [line["epoch"] for line in chosen]
        y = [math.nan if line[value] is None else scale * line[value] for line in chosen]  # None: too large
        axes.plot(x, y, markersize=3.5, **{"label": split, **_LOOKS[split], **style})


def finish(axes: Any, label: str, legend: bool = True) -> None:
    """Labels, ticks and grid of an axis of values over the epochs.

    Parameters
    ----------
    axes : Axes
    label : str
        Of the vertical axis; one of a perplexity is logarithmic.
    legend : bool
        Whether several curves are named within the axis, where they leave room.
    """
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if label == _METRICS["perplexity"]:
        plain_log(axes)
    else:
        axes.yaxis.set_major_formatter(ScalarFormatter(useOffset=False))
    axes.grid(visible=True, alpha=0.3)
    if legend and len(axes.lines) > 1:
        axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=3, fontsize=9)


def learning_curves(lines: Sequence[Line], name: str) -> Figure:
    """Loss, metric and learning rate over the epochs.

    Parameters
    ----------
    lines : sequence of dict
        Metrics of the run.
    name : str
        The run's, for the title.
    """
    epochs = [line for line in lines if line["kind"] == "epoch"]
    metric = next((metric for metric in _METRICS if any(metric in line for line in epochs)), None)
    values = ["loss"] if metric is None else ["loss", metric]
    figure = Figure(figsize=(4.0 * (len(values) + 1), 3.8), layout="constrained")
    panels = figure.subplots(1, len(values) + 1)
    for axes, value in zip(panels, values, strict=False):
        for split in _LOOKS:
            _curve(axes, epochs, split, value, 100 if value == "accuracy" else 1)
        finish(axes, value_label(value, metric))
    _curve(panels[-1], epochs, "train", "lr")
    finish(panels[-1], "learning rate")
    panels[-1].set_ylim(bottom=0)
    titled(figure, name, "learning curves")
    return figure


def compared_curves(runs: Mapping[str, Sequence[Line]], metric: str | None, name: str) -> Figure:
    """Loss, and a metric, of several runs over the epochs: a colour and a marker for each run.

    Solid is what the run watched, valid or, where there is no valid, train; dashed is train beside valid.

    Parameters
    ----------
    runs : dict of sequences of dict
        Label -> lines of metrics of the run's epochs.
    metric : str, optional
        Name of the metric; None draws the losses only.
    name : str
        The data's, for the title.
    """
    values = ["loss"] if metric is None else ["loss", metric]
    figure = Figure(figsize=(6.4 * len(values), 4.4 + 0.25 * len(runs)), layout="constrained")
    axes = dict(zip(values, figure.subplots(1, len(values), squeeze=False)[0], strict=True))
    looks = [{"color": colour, **marks(n, colour)} for n, colour in enumerate(colours(len(runs)))]
    for look, epochs in zip(looks, runs.values(), strict=True):
        valid = any(line["split"] == "valid" for line in epochs)
        for value, place in axes.items():
            for split in ("train", "valid"):
                style = "--" if valid and split == "train" else "-"
                _curve(
                    place, epochs, split, value, 100 if value == "accuracy" else 1, linestyle=style, **look
                )
    for value, place in axes.items():
        finish(place, value_label(value, metric), legend=False)
    handles = [Line2D([], [], markersize=4, **look) for look in looks]
    names = [plain(label) for label in runs]
    figure.legend(handles, names, loc="outside lower center", frameon=False)
    title = f"{len(runs)} runs"
    if any(line["split"] == "valid" for epochs in runs.values() for line in epochs):
        title += " (solid: valid, or train where there is no valid; dashed: train)"
    titled(figure, name, title, 11)
    return figure


def perplexity(epochs: Sequence[Line], name: str, floor: float | None = None) -> Figure:
    """Perplexity over the epochs on a logarithmic scale, with the lowest reachable where it is known.

    Parameters
    ----------
    epochs : sequence of dict
        Lines of the run's metrics.
    name : str
        The run's, for the title.
    floor : float, optional
    """
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axes = figure.subplots()
    for split in _LOOKS:
        _curve(axes, epochs, split, "perplexity")
    if floor is not None:
        label = f"lower bound (source entropy), {floor:.2f}"
        axes.axhline(floor, color="black", linewidth=1, linestyle="-.", label=label)
    finish(axes, value_label("perplexity", "perplexity"))
    titled(figure, name, "perplexity")
    return figure


def confusion_matrix(matrix: npt.NDArray[np.int64], classes: Sequence[str], name: str) -> Figure:
    """The confusion matrix.

    Parameters
    ----------
    matrix : ndarray of int, shape (C, C)
        Counts, true class by predicted class.
    classes : sequence of str
        Their names.
    name : str
        The run's, for the title.
    """
    count = len(classes)
    side = min(max(count - 12, 0) * 0.3, 12.0)  # more inches for more classes
    figure = Figure(figsize=(6.2 + side, 5.6 + side), layout="constrained")
    axes = figure.subplots()
    share = matrix / matrix.sum(axis=1, keepdims=True).clip(min=1)
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="fraction of the true class", shrink=0.85)
    for true in range(count if count <= _COUNTED else 0):
        for predicted in range(count):
            if matrix[true, predicted]:
                colour = "white" if share[true, predicted] > 0.5 else "black"
                axes.text(
                    predicted,
                    true,
                    str(matrix[true, predicted]),
                    ha="center",
                    va="center",
                    color=colour,
                    fontsize=8,
                )
    if count <= _NAMED:  # otherwise the numbers of some classes
        names = [plain(one_line(name, 24)) for name in classes]
        long = max(map(len, names)) > 3
        axes.set_xticks(range(count), names, rotation=90 if long else 0)
        axes.set_yticks(range(count), names)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    correct, total = int(matrix.trace()), int(matrix.sum())
    shown = f"{correct:,} of {total:,} test items correct ({100 * correct / max(total, 1):.2f} %)"
    titled(figure, name, shown, 11)
    return figure
