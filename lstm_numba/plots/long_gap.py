"""Pictures of the experiment "long-gap": the share of runs that bridged a gap, and after which updates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from lstm_numba.plots.style import COLOURS, LINES, MARKERS, plain, titled

#: Cells whose curves are drawn, as far as they were tried.
_CURVES = ("rnn", "lstm", "gru")
_ALL = "all"
_MAP = colormaps["viridis"]
#: What was not tried.
_HATCH = {"facecolor": "white", "edgecolor": "0.7", "hatch": "////", "linewidth": 0.0}


def figures(document: Mapping[str, Any]) -> dict[str, Figure]:
    """Draw the outcome of `lstm_numba.experiments.long_gap.run`.

    Parameters
    ----------
    document : mapping
        From ``Outcome.document``.

    Returns
    -------
    dict of str to Figure
        ``long-gap``: the share of runs that bridged each gap, of all cells and tasks; ``long-gap-curves``:
        the same of a few cells with intervals; ``long-gap-updates``: after how many updates.
    """
    return {
        "long-gap": _maps(document),
        "long-gap-curves": _curves(document),
        "long-gap-updates": _updates(document),
    }


def _rows(document: Mapping[str, Any], task: str) -> list[Mapping[str, Any]]:
    return [row for row in document["rows"] if row["task"] == task]


def _panels(document: Mapping[str, Any]) -> list[str]:
    """The tasks, and all of them together where there are several."""
    tasks = list(document["settings"]["tasks"])
    return [*tasks, _ALL] if len(tasks) > 1 else tasks


def _title(task: str) -> str:
    return "all tasks" if task == _ALL else task


def _grid(document: Mapping[str, Any], height: float, label: str, title: str) -> tuple[Figure, list[Axes]]:
    """A row of panels that share the vertical axis, one for each task."""
    tasks = _panels(document)
    figure = Figure(figsize=(1.6 + 1.75 * len(tasks), 0.4 + height), layout="constrained")
    axes = list(np.atleast_1d(figure.subplots(1, len(tasks), sharey=True)))
    for axis, task in zip(axes, tasks, strict=True):
        axis.set_title(_title(task))
    axes[len(axes) // 2].set_xlabel(label)
    titled(figure, document["experiment"], title)
    return figure, axes


def _name_rows(axis: Axes, cells: Sequence[str]) -> None:
    """The cells' names along the vertical axis, the first one on top."""
    axis.set_ylim(len(cells) - 0.5, -0.5)
    axis.set_yticks(range(len(cells)), [plain(cell) for cell in cells])
    axis.tick_params(axis="y", which="both", left=False)


def _maps(document: Mapping[str, Any]) -> Figure:
    settings = document["settings"]
    cells, gaps = settings["cells"], settings["gaps"]
    figure, axes = _grid(document, 1.6 + 0.27 * len(cells), "gap in steps", "runs that bridged a gap")
    image = None
    for axis, task in zip(axes, _panels(document), strict=True):
        rows = _rows(document, task)
        shares = np.array([row["by gap"]["share"] for row in rows])
        image = axis.imshow(shares, _MAP, vmin=0.0, vmax=1.0, aspect="auto", interpolation="none")
        runs = settings["seeds"] * (len(settings["tasks"]) if task == _ALL else 1)
        _mark(axis, rows, runs)
        axis.set_xticks(range(len(gaps)), [f"{gap:,}" for gap in gaps], rotation=90)
        axis.tick_params(axis="x", bottom=False)
        _name_rows(axis, cells)
    assert image is not None
    figure.colorbar(image, ax=axes, label="share that bridged it", ticks=[0.0, 0.5, 1.0], pad=0.01, aspect=30)
    seeds, tasks = settings["seeds"], len(settings["tasks"])
    of = f"{seeds} runs (all tasks: of {seeds * tasks})" if tasks > 1 else f"{seeds} runs"
    figure.legend(
        handles=[Patch(**_HATCH, label="not tried: none bridged the gap before")],
        title=f"numbers: how many of {of}; without: all or none",
        loc="outside lower center",
        ncols=1,
        frameon=False,
        fontsize="small",
        title_fontsize="small",
    )
    return figure


def _mark(axis: Axes, rows: Sequence[Mapping[str, Any]], runs: int) -> None:
    """How many runs bridged a gap, where it is not all or none of them; hatching where none tried."""
    untried = []
    for n, row in enumerate(rows):
        shares = row["by gap"]
        tried = np.count_nonzero(shares["tried"])  # who tries a gap has bridged all before
        for k, share in enumerate(shares["share"][:tried]):
            if 0.0 < share < 1.0:  # of the others the colour says it, and numbers make a large file
                colour = "white" if share < 0.6 else "black"
                axis.text(k, n, str(round(share * runs)), ha="center", va="center", color=colour, fontsize=8)
        if tried < len(shares["share"]):
            left, right, top, bottom = tried - 0.5, len(shares["share"]) - 0.5, n - 0.5, n + 0.5
            corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
            untried.append(Path(corners, closed=True))
    if untried:
        axis.add_patch(PathPatch(Path.make_compound_path(*untried), **_HATCH))


def _curves(document: Mapping[str, Any]) -> Figure:
    settings = document["settings"]
    gaps = np.array(settings["gaps"], np.float64)
    names = [cell for cell in _CURVES if cell in settings["cells"]] or settings["cells"][: len(COLOURS)]
    figure, axes = _grid(document, 2.9, "gap in steps", "runs that bridged a gap")
    for axis, task in zip(axes, _panels(document), strict=True):
        rows = {row["cell"]: row["by gap"] for row in _rows(document, task)}
        for n, cell in enumerate(names):
            share, low, high = (rows[cell][key] for key in ("share", "low", "high"))
            beside = gaps * 1.12 ** (n - (len(names) - 1) / 2)
            axis.vlines(beside, low, high, color=COLOURS[n], linewidth=1.0)
            style = {"marker": MARKERS[n], "linestyle": LINES[n % len(LINES)], "label": plain(cell)}
            axis.plot(beside, share, color=COLOURS[n], markersize=4, **style)
        axis.set_xscale("log")
        axis.set_xticks(gaps, [f"{gap:,.0f}" for gap in gaps], rotation=90)
        axis.minorticks_off()
        axis.set_ylim(-0.04, 1.04)
    axes[0].set_ylabel("share of runs\nthat bridged it, 95 %")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=7, frameon=False)
    return figure


def _updates(document: Mapping[str, Any]) -> Figure:
    settings = document["settings"]
    cells, gaps = settings["cells"], settings["gaps"]
    figure, axes = _grid(
        document, 1.5 + 0.27 * len(cells), "updates until the gap was bridged (median)", "how long it took"
    )
    styles = [
        {"marker": MARKERS[k % len(MARKERS)], "color": _MAP(0.9 * k / len(gaps)), "linestyle": "none"}
        for k in range(len(gaps))
    ]
    lanes = 0.7 * (np.arange(len(gaps)) / len(gaps) - 0.5)  # within a cell's row
    for axis, task in zip(axes, _panels(document), strict=True):
        found = np.array([row["by gap"]["updates"] for row in _rows(document, task)], np.float64)
        for k, style in enumerate(styles):
            axis.plot(np.maximum(found[:, k], 1.0), np.arange(len(cells)) + lanes[k], markersize=3.5, **style)
        axis.set_xscale("log")
        axis.set_xlim(*_limits(document))
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axis.tick_params(axis="x", which="minor", bottom=False)
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.grid(axis="x", color="0.9", linewidth=0.5)
        axis.set_yticks(np.arange(len(cells) - 1) + 0.5, minor=True)
        axis.grid(axis="y", which="minor", color="0.8", linewidth=0.5)
        axis.set_axisbelow(True)
        _name_rows(axis, cells)
    handles = [
        axes[0].plot([], [], label=f"{gap:,}", **style)[0] for gap, style in zip(gaps, styles, strict=True)
    ]
    figure.legend(
        handles=handles, title="gap in steps", loc="outside lower center", ncols=len(gaps), frameon=False
    )
    return figure


def _limits(document: Mapping[str, Any]) -> tuple[float, float]:
    """Limits of the updates, the same in all panels."""
    found = [at for row in document["rows"] for at in row["by gap"]["updates"] if at is not None]
    return 0.7 * max(min(found, default=1.0), 1.0), 1.4 * max(max(found, default=10.0), 10.0)
