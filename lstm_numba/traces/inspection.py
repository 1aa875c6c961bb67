"""What is known of a trained network and one input: steps, gates and states, answers as the steps come in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lstm_numba.traces.statistics import Array, Likeliest
from lstm_numba.traces.views import LayerView


class Strip(NamedTuple):
    """What stands beneath the pictures of gates and states, on the same axis.

    Attributes
    ----------
    kind : {"tokens", "picture", "series"}
    values : ndarray (T, F)
        Of a picture what was read at each step, 0 to 1; of a series the features in their units.
    names : tuple of str
        Of a series the features.
    """

    kind: str
    values: Array
    names: tuple[str, ...] = ()


class TokenAnswers(NamedTuple):
    """A language model's answers.

    Attributes
    ----------
    likeliest : Likeliest
        (T, 5), after each token.
    words : tuple of tuple of str
        The same as text.
    surprise : ndarray (T,), float64
        Bits, of each token; NaN where nothing came before.
    """

    likeliest: Likeliest
    words: tuple[tuple[str, ...], ...]
    surprise: Array


class ClassAnswers(NamedTuple):
    """Probabilities of classes, if the sequence ended after each step.

    Attributes
    ----------
    classes : tuple of str
    probabilities : ndarray (T, C), float64
    true : int or None
        The class that it is, where that is known.
    """

    classes: tuple[str, ...]
    probabilities: Array
    true: int | None = None


class NumberAnswers(NamedTuple):
    """Predicted numbers in the units of the data.

    Attributes
    ----------
    names : tuple of str
        Columns: targets, and of several quantiles which.
    values : ndarray (N, K), float64
        After each step, or of a forecast for each step ahead.
    true : ndarray (N, K), float64 or None
        NaN where unknown; one column for each of `values`.
    forecast : bool
    """

    names: tuple[str, ...]
    values: Array
    true: Array | None
    targets: tuple[str, ...]
    forecast: bool


Answers = TokenAnswers | ClassAnswers | NumberAnswers


@dataclass(frozen=True, eq=False)
class Inspection:
    """A network, an input, and what the one did with the other.

    Attributes
    ----------
    run, dataset, network : str
        Names, for headings.
    input : str
        What was read.
    unit : str
        What a step is: "token", "row", "pixel", "step".
    steps : tuple of str
        A name for each step.
    strip : Strip
    views : list of LayerView
    answers : TokenAnswers, ClassAnswers or NumberAnswers
    sequences, counted : int
        Sequences and steps that shares and time constants are taken over.
    notes : tuple of str
        Lines that say what must be known to read the rest.
    """

    run: str
    dataset: str
    network: str
    input: str
    unit: str
    steps: tuple[str, ...]
    strip: Strip
    views: list[LayerView]
    answers: Answers
    sequences: int
    counted: int
    notes: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """Everything but the values of each step, as JSON can hold it."""
        return {
            "run": self.run,
            "dataset": self.dataset,
            "network": self.network,
            "input": self.input,
            "unit": self.unit,
            "steps": list(self.steps),
            "statistics_of": {"sequences": self.sequences, "steps": self.counted},
            "layers": [layer_document(view) for view in self.views],
            **answers_document(self.answers),
            "notes": list(self.notes),
        }


def layer_document(view: LayerView) -> dict[str, Any]:
    """A layer and direction, as JSON can hold it."""
    found: dict[str, Any] = {"name": view.key, "gates": {}, "memory": None}
    for gate, share in view.shares.items():
        found["gates"][gate] = {"left": share.left.tolist(), "right": share.right.tolist()}
    if view.kept is not None and view.constants is not None:
        found["memory"] = {
            "kept": str(view.kept),
            "time_constants": view.constants.tolist(),
            "longest_first": view.order.tolist(),
        }
    return found


def answers_document(answers: Answers) -> dict[str, Any]:
    """Answers, as JSON can hold them."""
    if isinstance(answers, TokenAnswers):
        rows = zip(answers.words, answers.likeliest.probabilities.tolist(), strict=True)
        likeliest = [
            [{"token": word, "probability": p} for word, p in zip(words, numbers, strict=True)]
            for words, numbers in rows
        ]
        return {"likeliest_next": likeliest, "surprise_bits": answers.surprise.tolist()}
    if isinstance(answers, ClassAnswers):
        true = None if answers.true is None else answers.classes[answers.true]
        return {
            "classes": list(answers.classes),
            "true_class": true,
            "probabilities": answers.probabilities.tolist(),
        }
    return {
        "predicted": list(answers.names),
        "values": answers.values.tolist(),
        "true_values": None if answers.true is None else answers.true.tolist(),
        "forecast": answers.forecast,
    }


def mean_surprise(answers: TokenAnswers) -> float:
    """Bits a token, of those that something came before; NaN if there are none."""
    known = answers.surprise[~np.isnan(answers.surprise)]
    return float(known.mean()) if len(known) else float("nan")
