"""The plots of ``lstm-numba plot``; drawn without pyplot, so that no global state is changed."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lstm_numba.data.file_io import atomic_write, one_line

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Line = dict[str, Any]

#: Classes up to which a confusion matrix shows counts, and names.
_COUNTED, _NAMED = 30, 60

#: Colours for splits, distinguishable with colour blindness (Okabe and Ito 2008).
_COLOURS = {"train": "#0072b2", "valid": "#e69f00", "test": "#d55e00"}


def _curve(axes: Any, lines: Sequence[Line], split: str, value: str, scale: float = 1.0) -> None:
    """Draw one value of one split over the epochs."""
    chosen = [line for line in lines if line["split"] == split and value in line]
    if chosen:
        x = [line["epoch"] for line in chosen]
        y = [math.nan if line[value] is None else scale * line[value] for line in chosen]  # None: too large
        axes.plot(x, y, marker="o", markersize=3.5, color=_COLOURS[split], label=split)


def _finish(axes: Any, ylabel: str) -> None:
    axes.set_xlabel("epoch")
    axes.set_ylabel(ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(visible=True, alpha=0.3)
    if len(axes.lines) > 1:
        axes.legend(frameon=False)


def learning_curves(lines: Sequence[Line]) -> Figure:
    """Loss, metric and learning rate over the epochs.

    Parameters
    ----------
    lines : sequence of dict
        Metrics of the run.
    """
    epochs = [line for line in lines if line["kind"] == "epoch"]
    accuracy = "accuracy" in epochs[0]
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for split in _COLOURS:
        _curve(left, epochs, split, "loss")
        _curve(middle, epochs, split, "accuracy" if accuracy else "perplexity", 100 if accuracy else 1)
    _curve(right, epochs, "train", "lr")
    _finish(left, "loss (nats)")
    _finish(middle, "accuracy (%)" if accuracy else "perplexity")
    _finish(right, "learning rate")
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
    _finish(axes, "perplexity")
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
        # A dollar sign would begin a formula.
        names = [one_line(name, 24).replace("$", r"\$") for name in classes]
        long = max(map(len, names)) > 3
        axes.set_xticks(range(count), names, rotation=90 if long else 0)
        axes.set_yticks(range(count), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    correct, total = int(matrix.trace()), int(matrix.sum())
    axes.set_title(f"test: {correct} of {total} correct ({100 * correct / max(total, 1):.2f} %)", fontsize=11)
    return figure


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write a figure as PNG and as SVG and return the two paths."""
    paths = [stem.with_name(stem.name + suffix) for suffix in (".png", ".svg")]
    for path in paths:
        buffer = io.BytesIO()
        # Without a date, the same run gives the same file.
        metadata = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(buffer, format=path.suffix[1:], dpi=150, metadata=metadata)
        atomic_write(path, buffer.getvalue())
    return paths
