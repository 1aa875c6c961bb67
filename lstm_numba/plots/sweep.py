"""Pictures of a sweep: how the best was found, and which settings mattered."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullFormatter, PercentFormatter

from lstm_numba.plots.style import COLOURS, plain, plain_log, plain_number, titled
from lstm_numba.wording import plural

Row = Mapping[str, Any]

_BLUE, _VERMILION, _GREEN = COLOURS[:3]
#: What stands for a complete trial, one that was given up, and the best.
_COMPLETE = {"marker": "o", "color": _BLUE, "linestyle": "none", "markersize": 5, "alpha": 0.8}
_GIVEN_UP = {"marker": "x", "color": "0.55", "linestyle": "none", "markersize": 5}
_BEST = {"marker": "*", "color": _VERMILION, "linestyle": "none", "markersize": 13}
#: Panels of settings in a row.
_COLUMNS = 3
#: Times that the worst is as large as the best, from which an axis is logarithmic.
_WIDE = 8.0
#: Metrics that are shares.
_SHARES = ("accuracy",)
_UNITS = {"loss": "loss (nats)", "accuracy": "accuracy", "mae": "MAE", "rmse": "RMSE", "mase": "MASE"}


def figures(document: Mapping[str, Any]) -> dict[str, Figure]:
    """Draw what `lstm_numba.sweeps.report.document` returns.

    Parameters
    ----------
    document : mapping

    Returns
    -------
    dict of str to Figure
        ``history``: trials in their order, and their curves; ``what-mattered``: importance of the settings,
        if it is known, and each setting's values against the metric.
    """
    return {"history": _history(document), "what-mattered": _what_mattered(document)}


def _label(document: Mapping[str, Any], best: bool = True) -> str:
    """Of an axis with the metric."""
    metric = document["metric"]
    name = _UNITS.get(metric, metric)
    if document["dataset"] == "series" and metric == "loss":
        name = "loss"
    extreme = "highest" if document["direction"] == "maximize" else "lowest"
    return f"{extreme + ' ' if best else ''}{name} on {document['watched']}"


def _scale(axis: Axes, document: Mapping[str, Any], values: Sequence[float]) -> None:
    """The vertical axis: logarithmic if the values are far apart, which one diverging trial is enough for."""
    finite = [value for value in values if math.isfinite(value)]
    if document["metric"] in _SHARES:
        axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    elif finite and min(finite) > 0 and max(finite) > _WIDE * min(finite):
        plain_log(axis)
    axis.grid(axis="y", color="0.9", linewidth=0.6)
    axis.set_axisbelow(True)


def _measured(document: Mapping[str, Any]) -> list[Row]:
    """Trials that have a value, also those that were given up after some epochs, by number."""
    rows = [row for row in document["trials"] if row["best"] is not None and math.isfinite(row["best"])]
    return sorted(rows, key=lambda row: row["trial"])


def _marks(document: Mapping[str, Any]) -> list[tuple[list[Row], dict[str, Any], str]]:
    """Groups of trials with their marks and names; the best is drawn last."""
    rows = _measured(document)
    best = None if document["best"] is None else document["best"]["trial"]
    complete = [row for row in rows if row["state"] == "complete" and row["trial"] != best]
    others = [row for row in rows if row["state"] != "complete"]
    found = [(others, _GIVEN_UP, "not complete"), (complete, _COMPLETE, "complete")]
    found.append(([row for row in rows if row["trial"] == best], _BEST, "best"))
    return [group for group in found if group[0]]


# -- how the best was found --------------------------------------------------------------------------


def _history(document: Mapping[str, Any]) -> Figure:
    figure = Figure(figsize=(10.0, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    rows = _measured(document)
    sign = -1.0 if document["direction"] == "maximize" else 1.0
    for group, style, name in _marks(document):
        left.plot([row["trial"] for row in group], [row["best"] for row in group], **style, label=name)
    complete = [row for row in rows if row["value"] is not None]
    if complete:
        so_far = sign * np.minimum.accumulate([sign * row["value"] for row in complete])
        numbers = [row["trial"] for row in complete]
        left.step(
            [*numbers, max(row["trial"] for row in rows)],
            [*so_far, so_far[-1]],
            where="post",
            color=_VERMILION,
            linewidth=1.2,
            label="best so far",
            zorder=1,
        )
    left.set_xlabel("trial")
    left.set_ylabel(_label(document))
    _curves(right, document, rows)
    for axis in (left, right):
        _scale(axis, document, [row["best"] for row in rows])
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.margins(x=0.03)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    titled(figure, document["study"], f"{plural(len(document['trials']), 'trial')} of the sweep")
    return figure


def _curves(axis: Axes, document: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """The metric over the epochs of every trial."""
    best = None if document["best"] is None else document["best"]["trial"]
    for row in sorted(rows, key=lambda row: (row["trial"] == best, row["state"] == "complete")):
        epochs, values = zip(*row["curve"], strict=True)
        if row["trial"] == best:
            look: dict[str, Any] = {"color": _VERMILION, "linewidth": 1.8}
        elif row["state"] == "complete":
            look = {"color": _BLUE, "linewidth": 0.9, "alpha": 0.7}
        else:
            look = {"color": "0.6", "linewidth": 0.9, "linestyle": "--"}
        end = {"marker": "x" if row["state"] != "complete" else "", "markevery": [-1], "markersize": 5}
        axis.plot(epochs, values, **look, **end)
    axis.set_xlabel("epoch")
    axis.set_ylabel(_label(document, best=False))
    axis.tick_params(labelleft=True)


# -- what mattered -----------------------------------------------------------------------------------


def _what_mattered(document: Mapping[str, Any]) -> Figure:
    settings = document["settings"]
    columns = min(_COLUMNS, len(settings))
    lines = -(-len(settings) // columns)
    known = any(row["importance"] is not None for row in settings)
    heights = [1.0 + 0.3 * len(settings)] * known + [2.7 * lines + 0.5]  # in inches
    figure = Figure(figsize=(1.0 + 3.1 * max(columns, 2), 0.4 + sum(heights)), layout="constrained")
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    lower = parts[-1]
    if known:
        _importances(parts[0].subplots(), document)
    axes = np.atleast_1d(lower.subplots(lines, columns, sharey=True, squeeze=False)).ravel()
    for place, axis in enumerate(axes):
        if place >= len(settings):
            axis.set_visible(False)
            continue
        _panel(axis, settings[place], document)
    lower.supylabel(_label(document), fontsize="medium")
    handles = [Line2D([], [], **style, label=name) for _, style, name in _marks(document)]
    lower.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    titled(figure, document["study"], "settings and what came of them")
    return figure


def _importances(axis: Axes, document: Mapping[str, Any]) -> None:
    """A bar for each setting, from zero, the most important on top."""
    settings = document["settings"]
    shares = [100 * (row["importance"] or 0.0) for row in settings]
    places = range(len(settings))
    drawn = axis.barh(places, shares, color=_GREEN, height=0.65)
    known = [row["importance"] is not None for row in settings]
    texts = [_percent(share) if there else "not known" for share, there in zip(shares, known, strict=True)]
    axis.bar_label(drawn, texts, padding=3, fontsize="small")
    axis.set_yticks(places, [plain(row["name"]) for row in settings])
    axis.set_ylim(len(settings) - 0.5, -0.5)
    axis.set_xlim(0, max(1.15 * max(shares, default=0.0), 1.0))
    axis.tick_params(axis="y", left=False)
    axis.spines[["top", "right"]].set_visible(False)
    count = document["counts"].get("complete", 0)
    axis.set_xlabel(f"importance (% of all settings'), PED-ANOVA of {count} complete trials")


def _percent(share: float) -> str:
    """A share of 100 as text: ``85 %``, ``0.4 %``."""
    return f"{share:.0f} %" if share >= 1 or share < 0.05 else f"{share:.1f} %"


def _panel(axis: Axes, setting: Row, document: Mapping[str, Any]) -> None:
    """The metric against the values of one setting."""
    name, domain = setting["name"], setting["range"]
    choices = domain.get("choices")
    for group, style, _ in _marks(document):
        rows = [row for row in group if name in row["params"]]
        values = [row["params"][name] for row in rows]
        if choices is not None:  # beside each other, in the order of the trials, the same in every picture
            values = [choices.index(v) + _beside(row["trial"]) for v, row in zip(values, rows, strict=True)]
        axis.plot(values, [row["best"] for row in rows], **style)
    axis.set_xlabel(plain(name))
    _scale(axis, document, [row["best"] for row in _measured(document)])
    if choices is not None:
        _name_choices(axis, choices)
    elif domain.get("log"):
        axis.set_xscale("log")
        axis.set_xlim(domain["low"] / 1.3, domain["high"] * 1.3)
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.xaxis.set_major_formatter(lambda value, _: plain_number(value))
    else:
        margin = 0.05 * (domain["high"] - domain["low"])
        axis.set_xlim(domain["low"] - margin, domain["high"] + margin)
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=isinstance(domain["low"], int)))


def _beside(trial: int) -> float:
    """How far from the middle of its choice a trial stands: multiples of the golden ratio spread evenly."""
    return 0.5 * ((trial * 0.6180339887) % 1.0 - 0.5)


def _name_choices(axis: Axes, choices: Sequence[Any]) -> None:
    names = [plain(str(choice)) for choice in choices]
    turned = sum(map(len, names)) > 22
    axis.set_xticks(range(len(names)), names, rotation=90 if turned else 0)
    axis.set_xlim(-0.5, len(names) - 0.5)
    axis.tick_params(axis="x", bottom=False)
    for place in range(1, len(names)):
        axis.axvline(place - 0.5, color="0.85", linewidth=0.6)
