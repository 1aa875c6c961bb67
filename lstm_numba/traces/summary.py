"""An inspection in a few lines of text."""

from __future__ import annotations

import numpy as np

from lstm_numba.data.file_io import one_line
from lstm_numba.traces.inspection import (
    ClassAnswers,
    Inspection,
    NumberAnswers,
    TokenAnswers,
    mean_surprise,
)
from lstm_numba.traces.statistics import LEFT, RIGHT
from lstm_numba.traces.views import LayerView
from lstm_numba.wording import plural

#: Units that are named as those that remember longest.
_NAMED = 5


def lines(it: Inspection) -> list[str]:
    """Network and input, saturated gates and memories of each layer, and the last answer."""
    over = f"{plural(it.counted, 'step')} of {plural(it.sequences, 'sequence')}"
    head = f"{it.network}; {one_line(it.input)}, {plural(len(it.steps), it.unit)}; shares over {over}"
    layers = [line for view in it.views for line in layer_lines(view)]
    return [head, *layers, *_answer_lines(it), *(f"note: {note}" for note in it.notes)]


def layer_lines(view: LayerView) -> list[str]:
    """Mean shares of a layer's gates, and its memories."""
    found = [
        f"{view.title}: gate {gate} below {LEFT} at {100 * np.mean(share.left):.1f} % of the steps, "
        f"above {RIGHT} at {100 * np.mean(share.right):.1f} %"
        for gate, share in view.shares.items()
    ]
    if view.kept is None or view.constants is None:
        return [*found, f"{view.title}: no gate alone decides what is kept, no time constants"]
    best = ", ".join(f"{unit} ({view.constants[unit]:.3g})" for unit in view.order[:_NAMED])
    middle = float(np.median(view.constants))
    return [*found, f"{view.title}: {view.kept} keeps {middle:.3g} steps (median); longest: units {best}"]


def _answer_lines(it: Inspection) -> list[str]:
    answers = it.answers
    if isinstance(answers, TokenAnswers):
        mean = mean_surprise(answers)
        likely = zip(answers.words[-1], answers.likeliest.probabilities[-1], strict=True)
        found = [] if np.isnan(mean) else [f"surprise: {mean:.2f} bits per token, perplexity {2**mean:.4g}"]
        shown = ", ".join(f"{word} {100 * p:.1f} %" for word, p in likely)
        return [*found, f"next after {it.steps[-1]}: {shown}"]
    if isinstance(answers, ClassAnswers):
        last = answers.probabilities[-1]
        best = int(np.argmax(last))
        true = "" if answers.true is None else f", true {one_line(answers.classes[answers.true], 60)}"
        return [f"answer: {one_line(answers.classes[best], 60)} {100 * last[best]:.2f} %{true}"]
    assert isinstance(answers, NumberAnswers)
    pairs = zip(answers.names, answers.values[-1], strict=True)
    where = f"{plural(len(answers.values), 'step')} ahead" if answers.forecast else "at the end"
    return [f"predicted {where}: " + "; ".join(f"{one_line(name, 60)} {value:.4g}" for name, value in pairs)]
