"""The figures of an inspection, by the names of their files."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.figure import Figure

from lstm_numba.data.file_io import one_line
from lstm_numba.plots import trace_statistics, traces
from lstm_numba.plots.style import titled
from lstm_numba.traces.inspection import ClassAnswers, Inspection, TokenAnswers
from lstm_numba.traces.views import LayerView

#: Draws a figure, so that it can be drawn once more in other colours.
Draw = Callable[[], Figure]


#: Titles of the figures but for the heat maps, which name the network.
_TITLES = {
    "saturation": "saturated gates",
    "memory": "how long units remember",
    "surprise": "surprise at each token",
    "probabilities": "probabilities of the classes after each step",
    "predictions": "predictions after each step",
    "forecast": "forecast",
}


def pictures(it: Inspection) -> dict[str, Draw]:
    """What draws each figure.

    Returns
    -------
    dict of str to callable
        ``values-l0`` and so on, ``saturation`` where there are gates, ``memory`` where one of them decides
        what is kept, and ``surprise``, ``probabilities``, ``predictions`` or ``forecast``.
    """
    found: dict[str, Draw] = {f"values-{view.key}": _heat_maps(it, view) for view in it.views}
    if it.views[0].shares:
        shares = {view.title: dict(view.shares) for view in it.views}
        found["saturation"] = lambda: trace_statistics.saturation(shares)
    kept = it.views[0].kept
    if kept is not None:
        constants = {view.title: view.constants for view in it.views if view.constants is not None}
        found["memory"] = lambda: trace_statistics.memories(constants, str(kept))
    name, draw = _answers(it)
    found[name] = draw
    return {name: _named(it, name, draw) for name, draw in found.items()}


def _named(it: Inspection, name: str, draw: Draw) -> Draw:
    """Draws a figure, and writes above it what run it is of and what it shows, unless that is there."""

    def draw_named() -> Figure:
        figure = draw()
        if name in _TITLES:
            titled(figure, one_line(it.run, 60), _TITLES[name], 11)
        return figure

    return draw_named


def _heat_maps(it: Inspection, view: LayerView) -> Draw:
    title = ": ".join(filter(None, (one_line(it.run, 60), it.network, view.title)))
    return lambda: traces.heat_maps(
        view.values,
        view.roles,
        view.order,
        view.kept is not None,
        it.steps,
        it.unit,
        it.strip,
        title,
    )


def _answers(it: Inspection) -> tuple[str, Draw]:
    answers, strip, unit = it.answers, it.strip, it.unit
    if isinstance(answers, TokenAnswers):
        return "surprise", lambda: trace_statistics.surprise(it.steps, answers.surprise, unit)
    if isinstance(answers, ClassAnswers):
        true = "" if answers.true is None else f", true class {answers.classes[answers.true]}"
        title = one_line(f"{it.input}{true}", 90)
        return "probabilities", lambda: trace_statistics.probabilities(
            answers.probabilities, answers.classes, unit, strip, title
        )
    if answers.forecast:
        targets = answers.targets
        window = strip.values[:, [strip.names.index(name) for name in targets]]
        return "forecast", lambda: trace_statistics.forecast(
            window, answers.values, answers.names, answers.true, targets
        )
    return "predictions", lambda: trace_statistics.numbers(
        answers.values, answers.names, answers.true, unit, strip
    )
