"""The plots of ``lstm-numba bench --plot``: bars by shape, curves of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from lstm_numba.benchmarks.cases import ON_CUDA
from lstm_numba.plots.style import LINES, MARKERS, plain, plain_log, titled

Row = Mapping[str, Any]

#: Backends as a legend names them.
_NAMES = {
    "cpu-serial": "lstm_numba, 1 thread",
    "cpu-parallel": "lstm_numba",
    "cuda": "lstm_numba, CUDA",
    "cuda-transfers": "lstm_numba, CUDA with copies",
    "pytorch": "PyTorch",
    "onnxruntime": "ONNX Runtime",
    "pytorch-cuda": "PyTorch, CUDA",
}
#: Colours for backends, distinguishable with colour blindness (Okabe and Ito 2008).
_COLOURS = {
    "cpu-serial": "#56b4e9",
    "cpu-parallel": "#0072b2",
    "cuda": "#009e73",
    "cuda-transfers": "#000000",
    "pytorch": "#d55e00",
    "onnxruntime": "#e69f00",
    "pytorch-cuda": "#cc79a7",
}
#: What tells bars apart in grey, in the order of the colours.
_HATCHES = dict(zip(_COLOURS, ("", "", "////", "....", "\\\\\\\\", "xxxx", "----"), strict=True))
#: Panels of bars beside each other at most.
_COLUMNS = 4
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
            figures[f"shapes-{task}"] = _bar_panels(document, rows)
        else:
            figures[f"{axis}-{task}"] = _curve_panels(document, rows, axis)
    return figures


def _by_cell(rows: Sequence[Row]) -> dict[str, list[Row]]:
    cells = dict.fromkeys(row["cell"] for row in rows)
    return {cell: [row for row in rows if row["cell"] == cell] for cell in cells}


def _bar_panels(document: Mapping[str, Any], rows: Sequence[Row]) -> Figure:
    """A panel for each cell and shape, with its own axis from zero: shapes differ by orders of magnitude."""
    cells = _by_cell(rows)
    columns = min(_COLUMNS, max(map(len, cells.values())))
    lines = [-(-len(own) // columns) for own in cells.values()]
    size = (max(1.4 + 2.4 * columns, 6.4), 1.5 + 2.5 * sum(lines))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(sum(lines), columns, squeeze=False)
    first = 0
    for (cell, own), count in zip(cells.items(), lines, strict=True):
        places = grid[first : first + count].ravel()
        for place, axes in enumerate(places):
            if place < len(own):
                _bars(axes, own[place])
                axes.set_title(f"{cell}\n{_shape(own[place])}", fontsize=9)
                if place % columns == 0:
                    axes.set_ylabel("GFLOP/s")
            else:
                axes.set_visible(False)
        first += count
    _finish(figure, document, rows)
    return figure


def _curve_panels(document: Mapping[str, Any], rows: Sequence[Row], axis: str) -> Figure:
    """One panel per cell, one above the other."""
    cells = _by_cell(rows)
    figure = Figure(figsize=(9, 1.4 + 3 * len(cells)), layout="constrained")
    panels = figure.subplots(len(cells), 1, squeeze=False)[:, 0]
    for (cell, own), axes in zip(cells.items(), panels, strict=True):
        _curves(axes, own, axis)
        axes.set_title(cell, loc="left", fontsize=10)
        axes.set_xlabel(_AXES[axis])
        axes.set_ylabel("GFLOP/s")
    _finish(figure, document, rows)
    return figure


def _finish(figure: Figure, document: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """Grid, legend and title."""
    known: dict[str, Any] = {}
    for axes in figure.axes:
        axes.grid(visible=True, axis="y", alpha=0.3)
        axes.set_axisbelow(True)
        handles, labels = axes.get_legend_handles_labels()
        known.update(zip(labels, handles, strict=True))
    labels = [name for name in _NAMES.values() if name in known]
    handles = [known[label] for label in labels]
    figure.legend(handles, labels, frameon=False, fontsize=9, ncols=4, loc="outside lower center")
    machine = document["machine"]
    threads = sorted({row["threads"] for row in rows})
    count = str(threads[0]) if len(threads) == 1 else f"{threads[0]} to {threads[-1]}"
    what = f"{rows[0]['task']}, {rows[0]['dtype']}, GFLOP/s (higher is faster)"
    where = f"{machine['cpu']}, {machine['vector_unit']}, threads: {count}"
    titled(figure, "bench", what, 11, where, *([machine["cuda"]["device"]] if machine.get("cuda") else []))


def _points(rows: Sequence[Row], name: str) -> tuple[list[int], list[float], list[list[float]]]:
    """Rows in which a backend was timed: indices, GFLOP/s, and the error bars to the quartiles."""
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


def _backends(rows: Sequence[Row]) -> list[str]:
    return [name for name in _COLOURS if any(name in row["contestants"] for row in rows)]


def _bars(axes: Any, row: Row) -> None:
    """A bar for each backend, from zero, with its value above it."""
    tops = [1e-9]
    for place, name in enumerate(_backends([row])):
        _, speeds, errors = _points([row], name)
        look = {"color": _COLOURS[name], "hatch": _HATCHES[name], "edgecolor": "white", "linewidth": 0.0}
        drawn = axes.bar([place], speeds, 0.85, yerr=errors, label=_NAMES[name], error_kw={"lw": 0.8}, **look)
        axes.bar_label(drawn, [_value(speed) for speed in speeds], padding=2, fontsize=8)
        tops.append(speeds[0] + errors[1][0])
    axes.set_xticks([])
    axes.set_ylim(0, 1.15 * max(tops))  # room for the values


def _value(speed: float) -> str:
    """A value at a bar, in three digits or more."""
    return f"{speed:,.0f}" if speed >= 100 else f"{speed:.3g}"


def _shape(row: Row) -> str:
    """A shape as a panel is called: its name, and its sizes."""
    shape = row["shape"]
    size = "x".join(str(shape[axis]) for axis in ("batch", "steps", "inputs", "hidden"))
    return size if "x" in shape["name"] else plain(f"{shape['name']}: {size}")


def _curves(axes: Any, rows: Sequence[Row], axis: str) -> None:
    values = [row["threads"] if axis == "threads" else row["shape"][axis] for row in rows]
    backends = _backends(rows)
    for name in backends:
        indices, speeds, errors = _points(rows, name)
        number = [*_COLOURS].index(name)
        axes.errorbar(
            [values[index] for index in indices],
            speeds,
            yerr=errors,
            marker=MARKERS[number],
            linestyle=LINES[number % len(LINES)],
            markersize=5,
            capsize=2,
            color=_COLOURS[name],
            label=_NAMES[name],
        )
    if axis != "threads":
        axes.set_xscale("log", base=2)
    axes.set_xticks(values, [f"{value:,}" for value in values])
    axes.minorticks_off()
    if any(name in ON_CUDA for name in backends):
        plain_log(axes)  # the devices differ by orders of magnitude
    else:
        axes.set_ylim(bottom=0)
