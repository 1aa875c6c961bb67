"""Pictures of the experiment ``toy-grammar``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from lstm_numba.plots.style import LINES, colours, titled


def figures(document: Mapping[str, Any]) -> dict[str, Figure]:
    """What the networks believe in, and how they learn, from the outcome's document."""
    return {"beliefs": beliefs(document), "losses": losses(document)}


def beliefs(document: Mapping[str, Any]) -> Figure:
    """Probability of each sentence for each network, as a table of colours."""
    networks = list(document["series"]["losses"])
    rows = [row for row in document["rows"] if row["possible"] is not None]
    rows = [*sorted(rows[:-1], key=lambda row: not row["possible"]), rows[-1]]  # the last one is the total
    values = np.array([[row[name] for name in networks] for row in rows])
    figure = Figure(figsize=(2.9 + 1.05 * len(networks), 1.3 + 0.3 * len(rows)), layout="constrained")
    axes = figure.subplots()
    axes.pcolormesh(
        values, cmap="viridis", vmin=0.0, vmax=1.0, edgecolors="white", linewidth=1.5, clip_on=False
    )
    for y, line in enumerate(values):
        for x, value in enumerate(line):
            colour = "white" if value < 0.6 else "black"
            axes.text(x + 0.5, y + 0.5, _percent(value), ha="center", va="center", color=colour, fontsize=9)
    axes.set_xticks(np.arange(len(networks)) + 0.5, networks)
    axes.set_yticks(np.arange(len(rows)) + 0.5, [row["sentence"] for row in rows])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.invert_yaxis()
    possible = sum(row["possible"] for row in rows)
    for y in (possible, len(rows) - 1):
        axes.axhline(y, color="black", linewidth=2.0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xlabel("probability at the start of a sentence (%)")
    for y, name in ((possible / 2, "possible"), ((possible + len(rows)) / 2, "impossible")):
        axes.annotate(
            name, (1.02, y), xycoords=("axes fraction", "data"), rotation=270, va="center", fontsize=11
        )  # fmt: skip
    titled(figure, document["experiment"], "sentences that networks believe in")
    return figure


def _percent(value: float) -> str:
    """One decimal, or that it is less."""
    return "<0.1" if value < 0.0005 else f"{100 * value:.1f}"


def losses(document: Mapping[str, Any]) -> Figure:
    """Loss against updates, the mean of the seeds and their range, and the floors."""
    series = document["series"]
    figure = Figure(figsize=(7.0, 4.6), layout="constrained")
    axes = figure.subplots()
    x = np.array(series["updates"][1:])  # without the start, for which a logarithm has no place
    names = list(series["losses"])
    for n, (name, colour) in enumerate(zip(names, colours(len(names)), strict=True)):
        curves = np.array(series["losses"][name])[:, 1:]
        axes.fill_between(x, curves.min(axis=0), curves.max(axis=0), color=colour, alpha=0.2, linewidth=0)
        style = LINES[n % len(LINES)]
        axes.plot(x, curves.mean(axis=0), color=colour, linestyle=style, linewidth=2.0, label=name)
    for kind, text in (("one step", "lowest with one step of memory"), ("all", "lowest with all memory")):
        floor = series["floors"][kind]
        axes.axhline(floor, color="black", linewidth=1.0, linestyle=(0, (1, 2)))
        axes.annotate(
            f"{text}: {floor:.3f}", (x[-1], floor), xytext=(-2, 4), textcoords="offset points", ha="right",
            va="bottom", fontsize=9,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlim(1, x[-1])
    axes.set_ylim(0, None)
    axes.set_xlabel("updates of the parameters")
    axes.set_ylabel("loss (nats a token)")
    axes.grid(visible=True, alpha=0.3)
    figure.legend(loc="outside lower center", ncols=min(len(names), 5), frameon=False)
    titled(figure, document["experiment"], "loss of each network, mean and range of the seeds")
    return figure
