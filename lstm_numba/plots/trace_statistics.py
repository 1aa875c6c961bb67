"""Pictures of what a trace adds up to: saturated gates, memories, answers as the steps come in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lstm_numba.plots.style import COLOURS, LINES, MARKERS, colours, plain
from lstm_numba.plots.traces import Array, Beneath, draw_beneath, label_steps, panels_beneath

#: Classes that get a colour; the others are thin grey lines.
_CLASSES = 6
#: Least distance of two labels beside an axis, as a share of its height.
_GAP = 0.058
#: More dots than these are an image within an SVG.
_DOTS = 60
_GREY = "#8a8a8a"


def saturation(shares: Mapping[str, Mapping[str, Sequence[Array]]]) -> Figure:
    """Share of steps at which each unit's gate is open, over that at which it is closed.

    As figure 3 of Karpathy, Johnson & Fei-Fei 2015.

    Parameters
    ----------
    shares : dict of dict of (ndarray (H,), ndarray (H,))
        Layer -> gate -> left- and right-saturated.
    """
    gates = list(next(iter(shares.values())))
    width = 0.7 + 2.9 * len(gates)
    # The panels are square, and as wide as they can be: the height has room for their labels and a title.
    figure = Figure(figsize=(max(width, 4.2), 4.1 + 0.3 * (len(shares) > 1)), layout="constrained")
    panels = figure.subplots(1, len(gates), sharex=True, sharey=True, squeeze=False)[0]
    looks = list(zip(colours(len(shares)), MARKERS * len(shares), strict=False))
    for place, gate in zip(panels, gates, strict=True):
        place.plot([0, 1], [1, 0], color=_GREY, linewidth=0.8)
        for (colour, marker), layer in zip(looks, shares.values(), strict=False):
            left, right = layer[gate]
            look = {"linestyle": "", "marker": marker, "markersize": 5, "color": colour, "alpha": 0.6}
            place.plot(left, right, rasterized=len(left) > _DOTS, **look)
        place.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
        place.set_title(plain(f"gate {gate}"), fontsize=11)
        place.set_xlabel("share of steps below 0.1")
        place.grid(visible=True, alpha=0.3)
    panels[0].set_ylabel("share of steps above 0.9")
    if len(shares) > 1:
        handles = [Line2D([], [], linestyle="", marker=m, color=c) for c, m in looks]
        figure.legend(
            handles,
            list(map(plain, shares)),
            loc="outside lower center",
            frameon=False,
            ncols=min(4, len(shares)),
        )
    return figure


def memories(constants: Mapping[str, Array], gate: str) -> Figure:
    """Time constants of the units of each layer, the longest first.

    Parameters
    ----------
    constants : dict of ndarray (H,)
        Layer -> steps.
    gate : str
        What decides how much is kept.
    """
    figure = Figure(figsize=(6.4, 3.8 + 0.25 * (len(constants) > 1)), layout="constrained")
    axes = figure.subplots()
    endless = 0
    for n, (colour, (layer, values)) in enumerate(
        zip(colours(len(constants)), constants.items(), strict=True)
    ):
        ranked = np.sort(values)[::-1]
        endless += int(np.isinf(ranked).sum())
        shown = np.where(np.isfinite(ranked) & (ranked > 0), ranked, np.nan)
        look = {"marker": MARKERS[n % len(MARKERS)], "linestyle": LINES[n % len(LINES)], "color": colour}
        look["markevery"] = max(1, len(shown) // 40)
        axes.plot(
            np.arange(1, len(shown) + 1), shown, markersize=3.5, linewidth=1, label=plain(layer), **look
        )
    _scale(axes, np.concatenate([np.zeros(0), *constants.values()]))
    axes.set_xlabel("unit, the one that remembers longest first")
    axes.set_ylabel("time constant (steps)")
    axes.grid(visible=True, which="both", alpha=0.3)
    title = plain(f"−1 / log(mean of {gate}), by unit")
    axes.set_title(f"{title}; {endless} without end" if endless else title, fontsize=11)
    if len(constants) > 1:
        figure.legend(loc="outside lower center", frameon=False, ncols=min(4, len(constants)))
    return figure


def _scale(axes: Any, values: Array) -> None:
    """A logarithmic scale where values differ by a factor of ten, else one that begins at zero."""
    known = values[np.isfinite(values) & (values > 0)]
    if not len(known) or known.max() < 10 * known.min():
        axes.set_ylim(0, None)
        return
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:.0e}"[0] in "25" else "")


def surprise(tokens: Sequence[str], bits: Array, unit: str = "token") -> Figure:
    """Bits of each token of a text, and their mean.

    Parameters
    ----------
    tokens : sequence of str
    bits : ndarray (T,)
        NaN of a token before which there is nothing.
    unit : str
    """
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.bar(np.arange(len(bits)), np.nan_to_num(bits), color=COLOURS[0], width=0.8)
    known = bits[~np.isnan(bits)]
    if len(known):
        mean = float(known.mean())
        axes.axhline(mean, color=COLOURS[1], linewidth=1.2, linestyle="--")
        axes.annotate(
            f"mean\n{mean:.2f}", (1.005, mean), xycoords=("axes fraction", "data"), va="center", fontsize=9
        )
    axes.set_axisbelow(True)
    axes.set_ylabel("surprise (bits)")
    axes.grid(visible=True, axis="y", alpha=0.3)
    label_steps(axes, tokens, unit, named=True)
    return figure


def probabilities(
    values: Array, classes: Sequence[str], unit: str, beneath: Beneath, title: str = ""
) -> Figure:
    """Probabilities of classes after each step, over the input.

    Parameters
    ----------
    values : ndarray (T, C)
    classes : sequence of str
    unit : str
        What a step is.
    beneath : Beneath
    title : str
    """
    axes, below, figure = _over_input(beneath)
    axes.set_title(plain(title), fontsize=11)
    best = np.argsort(-values.max(axis=0), kind="stable")[:_CLASSES]
    for k in range(len(classes)):
        if k not in best:
            axes.plot(values[:, k], color=_GREY, linewidth=0.7)
    labels = []
    for n, k in enumerate(sorted(best)):
        look = {"color": COLOURS[n % 6], "linestyle": LINES[n % len(LINES)], "marker": MARKERS[n % 6]}
        axes.plot(values[:, k], linewidth=1.6, markersize=4, markevery=max(1, len(values) // 9), **look)
        labels.append((float(values[-1, k]), str(classes[k]), COLOURS[n % 6]))
    axes.set_ylim(-0.03, 1.03)
    axes.set_ylabel("probability")
    _label_beside(axes, labels)
    _finish(axes, below, len(values), unit, beneath)
    return figure


def numbers(values: Array, names: Sequence[str], true: Array | None, unit: str, beneath: Beneath) -> Figure:
    """Predicted numbers after each step, over the input; true ones are dots.

    Parameters
    ----------
    values : ndarray (T, K)
    names : sequence of str
    true : ndarray (T, K), optional
    unit : str
    beneath : Beneath
    """
    axes, below, figure = _over_input(beneath)
    labels = []
    for k, name in enumerate(names):
        colour = COLOURS[k % 6]
        axes.plot(values[:, k], color=colour, linestyle=LINES[k % len(LINES)], linewidth=1.6)
        labels.append((float(values[-1, k]), name, colour))
        if true is not None:
            axes.plot(true[:, k], color=colour, linestyle="", marker=".", markersize=4, alpha=0.6)
    axes.set_ylabel("predicted (lines), true (dots)" if true is not None else "predicted")
    _label_beside(axes, labels)
    _finish(axes, below, len(values), unit, beneath)
    return figure


def forecast(
    window: Array, values: Array, names: Sequence[str], true: Array | None, targets: Sequence[str]
) -> Figure:
    """A window's targets and what is forecast after it.

    Parameters
    ----------
    window : ndarray (T, M)
        The M targets at the window's steps.
    values : ndarray (H, K)
        Forecasts, K / M columns for each target.
    names : sequence of str
        Of the K columns.
    true : ndarray (H, K), optional
    targets : sequence of str
    """
    figure = Figure(figsize=(10, 0.8 + 2.6 * len(targets)), layout="constrained")
    panels = figure.subplots(len(targets), 1, sharex=True, squeeze=False)[:, 0]
    steps, ahead = np.arange(len(window)), len(window) + np.arange(len(values))
    each = len(names) // len(targets)
    for m, (place, target) in enumerate(zip(panels, targets, strict=True)):
        place.axvline(len(window) - 0.5, color=_GREY, linewidth=0.8)
        place.plot(steps, window[:, m], color=COLOURS[0], linewidth=1.4, label="read")
        for n, k in enumerate(range(m * each, (m + 1) * each)):
            look = {"color": COLOURS[1 + n % 4], "marker": MARKERS[n % 6], "linestyle": LINES[n % 4]}
            place.plot(
                ahead, values[:, k], markersize=4, linewidth=1.4, label=plain(f"forecast {names[k]}"), **look
            )
        if true is not None:
            place.plot(ahead, true[:, m * each], linestyle="", marker="x", color=COLOURS[0], label="true")
        place.set_ylabel(plain(target))
        place.grid(visible=True, alpha=0.3)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", frameon=False, ncols=min(5, len(labels)))
    label_steps(panels[-1], [""] * (len(window) + len(values)), "step", named=False)
    return figure


def _over_input(beneath: Beneath) -> tuple[Any, Sequence[Any], Figure]:
    """Axes for curves, and those beneath for the input."""
    count = panels_beneath(beneath)
    figure = Figure(figsize=(9, 3.4 + 1.0 * count), layout="constrained")
    axes = figure.subplots(1 + count, 1, sharex=True, squeeze=False, height_ratios=[3.0] + [1.0] * count)[
        :, 0
    ]
    return axes[0], list(axes[1:]), figure


def _finish(axes: Any, below: Sequence[Any], steps: int, unit: str, beneath: Beneath) -> None:
    axes.grid(visible=True, alpha=0.3)
    draw_beneath(below, beneath)
    label_steps(below[-1] if below else axes, [""] * steps, unit, named=False)


def _label_beside(axes: Any, labels: Sequence[tuple[float, str, Any]]) -> None:
    """Write names at the right of an axis, at their curves' ends but never over each other."""
    low, high = axes.get_ylim()
    place, rows = -np.inf, sorted(labels, key=lambda label: label[0])
    places = []
    for value, _, _ in rows:
        place = max((value - low) / (high - low), place + _GAP)
        places.append(place)
    over = max(0.0, max(places, default=0.0) - 1.0)  # all move down together
    for (_, name, colour), where in zip(rows, places, strict=True):
        axes.annotate(
            plain(name),
            (1.01, where - over),
            xycoords="axes fraction",
            va="center",
            fontsize=9,
            color=colour,
            fontweight="bold",
        )
