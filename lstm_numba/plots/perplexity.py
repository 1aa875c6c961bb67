"""Validation perplexity over the epochs, beside a published value."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, MaxNLocator, MultipleLocator

from lstm_numba.plots.adaptive import INK, style

_OURS, _PUBLISHED = "#0072b2", "#d55e00"
#: Of the first epochs nothing is drawn above this many times the lowest value: they would hide the others.
_HIGHEST = 2.5


def draw(
    title: str, values: Sequence[float], epochs: int, published: float | None = None, source: str = ""
) -> Figure:
    """Draw one training.

    Parameters
    ----------
    title : str
        What was trained.
    values : sequence of float
        Perplexity on the validation text after each epoch that was done.
    epochs : int
        Epochs of the whole training.
    published : float, optional
        The published value at the end, a horizontal line.
    source : str
        Of that value.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        There is no value.
    """
    if not values:
        raise ValueError("values: expected the perplexity of one epoch or more, got none")
    done = f"{len(values)} of {epochs} epochs" if len(values) < epochs else f"{epochs} epochs"
    with style():
        figure = Figure(figsize=(6.4, 3.4), layout="constrained")
        axes = figure.subplots()
        steps = range(1, len(values) + 1)
        axes.plot(steps, values, color=_OURS, marker="o", markersize=3, label=f"lstm_numba ({done})")
        if published is not None:
            label = f"{source}, at the end: {published:g}"
            axes.axhline(published, color=_PUBLISHED, linestyle="--", label=label)
        lowest = min(*values, published or values[-1], values[-1])
        axes.annotate(
            f"{values[-1]:.1f}", (len(values), values[-1]), xytext=(4, 6), textcoords="offset points"
        )
        top = min(max(values), _HIGHEST * lowest)
        axes.set_ylim(0.92 * lowest, 1.05 * top)
        axes.set_xlim(0, epochs + 1)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("epoch")
        axes.set_ylabel("validation perplexity")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(MultipleLocator(20) if top - lowest > 40 else MultipleLocator(5))
        axes.yaxis.set_major_formatter(FormatStrFormatter("%d"))
        axes.grid(axis="y", color=INK, alpha=0.2, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="upper right")
    return figure
