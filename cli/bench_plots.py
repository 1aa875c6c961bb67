"""The plots of ``lstm-numba bench --plot``: bars by shape, curves of a sweep."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from lstm_numba.benchmarks.cases import ON_CUDA

Row = Mapping[str, Any]

#: Colours for implementations, distinguishable with colour blindness (Okabe and Ito 2008).
_COLOURS = {
    "cpu-serial": "#56b4e9",
    "cpu-parallel": "#0072b2",
    "cuda": "#009e73",
    "cuda-transfers": "#000000",
    "pytorch": "#d55e00",
    "onnxruntime": "#e69f00",
    "pytorch-cuda": "#cc79a7",
}
_AXES = {"threads": "threads", "hidden": "hidden units", "batch": "sequences in a batch"}


def draw(document: Mapping[str, Any], axis: str | None) -> dict[str, Figure]:
    """Draw a comparison, one figure per task.

    Parameters
    ----------
    document : dict
        See `lstm_numba.benchmarks.results`.
    axis : {"threads", "hidden", "batch"} or None
        Axis of the sweep; None: bars by shape.

    Returns
    -------
    dict of Figure
        By file name without ending.
    """
    figures = {}
    for task in dict.fromkeys(row["task"] for row in document["rows"]):
        rows = [row for row in document["rows"] if row["task"] == task]
        if axis is None:
            figures[f"shapes-{task}"] = _panels(document, rows, task, _bars, "", "GFLOP/s")
        else:

            def curves(axes: Any, chosen: Sequence[Row]) -> None:
                _curves(axes, chosen, axis)

            figures[f"{axis}-{task}"] = _panels(document, rows, task, curves, _AXES[axis], "GFLOP/s")
    return figures


def _panels(
    document: Mapping[str, Any],
    rows: Sequence[Row],
    task: str,
    fill: Callable[[Any, Sequence[Row]], None],
    xlabel: str,
    ylabel: str,
) -> Figure:
    """One panel per cell, one above the other, with a common title."""
    cells = list(dict.fromkeys(row["cell"] for row in rows))
    figure = Figure(figsize=(9, 0.8 + 3 * len(cells)), layout="constrained")
    panels = figure.subplots(len(cells), 1, squeeze=False)[:, 0]
    for cell, axes in zip(cells, panels, strict=True):
        fill(axes, [row for row in rows if row["cell"] == cell])
        axes.set_title(cell, loc="left", fontsize=10)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        axes.grid(visible=True, axis="y", alpha=0.3)
        axes.set_axisbelow(True)
        axes.legend(frameon=False, fontsize=8, ncols=5, loc="lower right", bbox_to_anchor=(1, 1))
    machine = document["machine"]
    threads = sorted({row["threads"] for row in rows})
    count = str(threads[0]) if len(threads) == 1 else f"{threads[0]} to {threads[-1]}"
    figure.suptitle(
        f"{task}, {rows[0]['dtype']}: higher is faster\n"
        f"{machine['cpu']}, {machine['vector_unit']}, threads: {count}"
        + (f"\n{machine['cuda']['device']}" if machine.get("cuda") else ""),
        fontsize=11,
    )
    return figure


def _points(rows: Sequence[Row], name: str) -> tuple[list[int], list[float], list[list[float]]]:
    """Rows in which an implementation was timed: indices, GFLOP/s, and the error bars to the quartiles."""
    indices, speeds, below, above = [], [], [], []
    for index, row in enumerate(rows):
        entry = row["contestants"].get(name)
        if entry:
            giga = row["flops"] / 1e9
            speed = giga / entry["median"]
            indices.append(index)
            speeds.append(speed)
            below.append(speed - giga / entry["quartiles"][1])
            above.append(giga / entry["quartiles"][0] - speed)
    return indices, speeds, [below, above]


def _implementations(rows: Sequence[Row]) -> list[str]:
    return [name for name in _COLOURS if any(name in row["contestants"] for row in rows)]


def _bars(axes: Any, rows: Sequence[Row]) -> None:
    names = _implementations(rows)
    width = 0.8 / max(len(names), 1)
    for number, name in enumerate(names):
        indices, speeds, errors = _points(rows, name)
        left = [index + (number - (len(names) - 1) / 2) * width for index in indices]
        axes.bar(left, speeds, width, yerr=errors, color=_COLOURS[name], label=name, error_kw={"lw": 0.8})
    axes.set_yscale("log")  # small and large shapes differ by orders of magnitude
    labels = []
    for row in rows:
        shape = row["shape"]
        size = "x".join(str(shape[axis]) for axis in ("batch", "steps", "inputs", "hidden"))
        labels.append(size if "x" in shape["name"] else f"{shape['name']}\n{size}")
    axes.set_xticks(range(len(rows)), labels, fontsize=8)


def _curves(axes: Any, rows: Sequence[Row], axis: str) -> None:
    values = [row["threads"] if axis == "threads" else row["shape"][axis] for row in rows]
    for name in _implementations(rows):
        indices, speeds, errors = _points(rows, name)
        axes.errorbar(
            [values[index] for index in indices],
            speeds,
            yerr=errors,
            marker="o",
            markersize=4,
            capsize=2,
            color=_COLOURS[name],
            label=name,
        )
    if axis != "threads":
        axes.set_xscale("log", base=2)
    axes.set_xticks(values, [str(value) for value in values])
    if any(name in ON_CUDA for name in _implementations(rows)):
        axes.set_yscale("log")  # the devices differ by orders of magnitude
    else:
        axes.set_ylim(bottom=0)
    axes.minorticks_off()
