"""The plots of ``lstm-numba plot``; drawn without pyplot, so that no global state is changed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from lstm_numba.data.file_io import one_line
from lstm_numba.plots.style import colours, plain

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Line = dict[str, Any]

#: Classes up to which a confusion matrix shows counts, and names.
_COUNTED, _NAMED = 30, 60

#: Colours for splits, distinguishable with colour blindness (Okabe and Ito 2008).
_COLOURS = {"train": "#0072b2", "valid": "#e69f00", "test": "#d55e00"}
#: Labels of the vertical axes; nats are the loss of classes and tokens.
_METRICS = {"accuracy": "accuracy (%)", "perplexity": "perplexity", "mae": "MAE"}
_LABELS = {"loss": "loss (nats)", **_METRICS}


def _curve(
    axes: Any, lines: Sequence[Line], split: str, value: str, scale: float = 1.0, **style: Any
) -> None:
    """Draw one value of one split over the epochs; in the colour of the split unless `style` has another."""
    chosen = [line for line in lines if line["split"] == split and value in line]
    if chosen:
        x = [line["epoch"] for line in chosen]
        y = [math.nan if line[value] is None else scale * line[value] for line in chosen]  # None: too large
        look = {"color": _COLOURS[split], "label": split, **style}
        axes.plot(x, y, marker="o", markersize=3.5, **look)


def _finish(axes: Any, ylabel: str, legend: bool = True) -> None:
    axes.set_xlabel("epoch")
    axes.set_ylabel(ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(visible=True, alpha=0.3)
    if legend and len(axes.lines) > 1:
        axes.legend(frameon=False)


def learning_curves(lines: Sequence[Line]) -> Figure:
    """Loss, metric and learning rate over the epochs.

    Parameters
    ----------
    lines : sequence of dict
        Metrics of the run.
    """
    epochs = [line for line in lines if line["kind"] == "epoch"]
    metric = next((name for name in _METRICS if any(name in line for line in epochs)), "loss")
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for split in _COLOURS:
        _curve(left, epochs, split, "loss")
        _curve(middle, epochs, split, metric, 100 if metric == "accuracy" else 1)
    _curve(right, epochs, "train", "lr")
    _finish(left, "loss" if metric == "mae" else _LABELS["loss"])
    _finish(middle, _LABELS[metric])
    _finish(right, "learning rate")
    return figure


def compared_curves(runs: Mapping[str, Sequence[Line]], metric: str | None) -> Figure:
    """Loss, and a metric, of several runs over the epochs: a colour for each run.

    Solid is what the run watched, valid or, where there is no valid, train; dashed is train beside valid.

    Parameters
    ----------
    runs : dict of sequences of dict
        Label -> lines of metrics of the run's epochs.
    metric : str, optional
        Name of the metric; None draws the losses only.
    """
    values = ["loss"] if metric is None else ["loss", metric]
    figure = Figure(figsize=(6.4 * len(values), 4.4 + 0.25 * len(runs)), layout="constrained")
    axes = dict(zip(values, figure.subplots(1, len(values), squeeze=False)[0], strict=True))
    for colour, epochs in zip(colours(len(runs)), runs.values(), strict=True):
        valid = any(line["split"] == "valid" for line in epochs)
        for value, place in axes.items():
            for split in ("train", "valid"):
                style = "--" if valid and split == "train" else "-"
                look = {"color": colour, "linestyle": style}
                _curve(place, epochs, split, value, 100 if value == "accuracy" else 1, **look)
    for value, place in axes.items():
        label = "loss" if value == "loss" and metric == "mae" else _LABELS.get(value, value)
        _finish(place, label, legend=False)
        if value == "perplexity":
            place.set_yscale("log")
    handles = [Line2D([], [], color=colour) for colour in colours(len(runs))]
    names = [plain(label) for label in runs]
    figure.legend(handles, names, loc="outside lower center", frameon=False)
    if any(line["split"] == "valid" for epochs in runs.values() for line in epochs):
        figure.suptitle("solid: valid, or train where there is no valid; dashed: train", fontsize=9)
    return figure


def perplexity(epochs: Sequence[Line], floor: float | None = None) -> Figure:
    """Perplexity over the epochs on a logarithmic scale, with the lowest reachable where it is known."""
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    for split in _COLOURS:
        _curve(axes, epochs, split, "perplexity")
    if floor is not None:
        axes.axhline(
            floor, color="black", linewidth=1, linestyle="--", label=f"lowest reachable, {floor:.2f}"
        )
    axes.set_yscale("log")
    _finish(axes, _LABELS["perplexity"])
    return figure


def confusion_matrix(matrix: npt.NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """The confusion matrix.

    Parameters
    ----------
    matrix : ndarray of int, shape (C, C)
        Counts, true class by predicted class.
    classes : sequence of str
        Their names.
    """
    count = len(classes)
    side = min(max(count - 12, 0) * 0.3, 12.0)  # more inches for more classes
    figure = Figure(figsize=(6.2 + side, 5.6 + side), layout="constrained")
    axes = figure.subplots()
    share = matrix / matrix.sum(axis=1, keepdims=True).clip(min=1)
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.85)
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
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    correct, total = int(matrix.trace()), int(matrix.sum())
    axes.set_title(f"test: {correct} of {total} correct ({100 * correct / max(total, 1):.2f} %)", fontsize=11)
    return figure
