"""Evaluating a model on arrays in memory, and the forms in which it takes them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from lstm_numba.arguments import integer
from lstm_numba.data.sequences import Sequences
from lstm_numba.models.base import Model, SequenceBatch
from lstm_numba.models.classifier import SequenceClassifier
from lstm_numba.models.language_model import LanguageModel
from lstm_numba.models.regressor import SequenceRegressor
from lstm_numba.models.sequence_model import SequenceModel
from lstm_numba.signatures import explicit
from lstm_numba.training.array_data import Batches, SequenceData, Shuffled, TokenStreams, in_order
from lstm_numba.training.model_batches import stacked

#: Sequences of a batch in an evaluation.
_EVALUATION_BATCH = 500


class Result(NamedTuple):
    """Mean loss over data, and the share of right classes or tokens."""

    loss: float
    accuracy: float


def as_data(model: Model, data: Any, batch_size: int = 32, bptt: int = 35, name: str = "data") -> Any:
    """Data in one of the forms that `fit` takes, as `Items` or `Batches`; `name` is the argument's."""
    if isinstance(model, LanguageModel) and isinstance(data, (np.ndarray, list, tuple)):
        return TokenStreams(data, batch_size, bptt)
    if isinstance(data, tuple) and len(data) == 2:
        data = SequenceData(*data)
    if isinstance(data, SequenceData) and isinstance(model, SequenceModel):
        return _of_model(model, data)
    if hasattr(data, "gather") or hasattr(data, "batch"):
        return data
    expected = "tokens" if isinstance(model, LanguageModel) else "a tuple (x, y)"
    raise TypeError(f"{name}: expected {expected}, or batches, got {type(data).__name__}")


def _of_model(model: SequenceModel, data: SequenceData) -> SequenceData:
    """Data that fit a model; a ValueError of those that do not."""
    expected, features = model.rnn.input_size, data.x.rows.shape[1]
    if features != expected:
        raise ValueError(f"x: expected {expected} features, F of (N, T, F), got {features}")
    if isinstance(model, SequenceRegressor) and model.outputs == 1:
        data = data.with_target_axis(model.per_step)
    if isinstance(data.y, Sequences):
        model.check_labels(data.y.rows, 3)
    elif data.y.ndim == 1 and np.ndim(data.weights) == 1:
        model.check_labels(data.y[data.weights > 0])  # a class without weight may be any number
    else:
        model.check_labels(data.y)
    return data


def as_batches(model: Model, data: Any, batch_size: int, bptt: int, seed: int) -> Batches:
    """Data as batches to train on."""
    found = as_data(model, data, batch_size, bptt)
    if hasattr(found, "gather"):
        return Shuffled(found, integer("batch_size", batch_size), seed, model.dtype)
    return found


@explicit()
def evaluate(model: Model, data: Any, *, batch_size: int = _EVALUATION_BATCH, bptt: int = 35) -> Result:
    """Mean loss of a model over data, without dropout.

    Parameters
    ----------
    model, data
        See `fit`.
    batch_size, bptt : int
        See `fit`.

    Returns
    -------
    Result
        Accuracy is NaN for a regressor.

    Raises
    ------
    ValueError
        There are many models, see `evaluate_models`.
    """
    check_one(model, "evaluate_models")
    found, state, total, right, count = as_data(model, data, batch_size, bptt), None, 0.0, 0, 0.0
    batches: Any
    if hasattr(found, "gather"):
        batches = in_order(found, batch_size, model.dtype)
    else:
        batches = (found.batch(0, k) for k in range(len(found)))
    for batch in batches:
        result = model.evaluate(batch, state)
        state = result.state if getattr(found, "carries_state", False) else None
        total, right, count = total + result.loss_sum, right + result.correct, count + result.count
    return result_of(model, total, right, count)


def check_one(model: Model, instead: str) -> None:
    """Raise a TypeError for what is no model, and a ValueError for many, which names what takes them."""
    _check_kind(model)
    if model.models:
        raise ValueError(f"model: expected one, got {model.models}; {instead} takes many")


def _check_kind(model: Any) -> None:
    if not isinstance(model, Model):
        kinds = "SequenceClassifier, SequenceRegressor or LanguageModel"
        raise TypeError(f"model: expected a {kinds}, got {type(model).__name__}")


@explicit()
def evaluate_models(model: SequenceModel, data: Any, *, batch_size: int = _EVALUATION_BATCH) -> list[Result]:
    """Mean loss of each of many models over data, without dropout.

    Parameters
    ----------
    model : SequenceClassifier or SequenceRegressor
        Made with `models`.
    data : object
        What `evaluate` takes, the same for all models; or a list of one for each.
    batch_size : int

    Returns
    -------
    list of Result
        One for each model.

    Raises
    ------
    ValueError
        It is one model; there are as many data as there are no models.
    """
    several = of_each_model(data, models_of(model))
    items = [as_data(model, data)] if several is None else [as_data(model, one) for one in several]
    total, right, count = np.zeros((3, models_of(model)))
    for first in range(0, max(map(len, items)), batch_size):
        chosen = [np.arange(min(first, len(one)), min(first + batch_size, len(one))) for one in items]
        # What has no more items gives its first one, without weight.
        parts = [
            one.gather(which, model.dtype) if len(which) else _nothing(one.gather(np.arange(1), model.dtype))
            for one, which in zip(items, chosen, strict=True)
        ]
        batch = parts[0] if several is None else stacked(parts, model.per_step)
        result = model.evaluate(batch)
        total, right, count = total + result.loss_sum, right + result.correct, count + result.count
    return [result_of(model, *numbers) for numbers in zip(total, right, count, strict=True)]


def _nothing(batch: SequenceBatch) -> SequenceBatch:
    """A batch that counts for nothing."""
    return batch._replace(weights=np.zeros(batch.x.shape[1]))


def models_of(model: Model) -> int:
    """How many models there are; a ValueError for one that has no axis of them, a TypeError for none."""
    _check_kind(model)
    if not model.models:
        raise ValueError("model: expected many, made with models=N")
    return model.models


def of_each_model(data: Any, models: int) -> list[Any] | None:
    """Data of each of many models, where they are given as a list; None where they are the same for all.

    Raises
    ------
    ValueError
        There are as many as there are no models.
    """
    if not isinstance(data, list):
        return None
    if len(data) != models:
        raise ValueError(f"data: expected those of each of {models} models, got {len(data)}")
    return data


def result_of(model: Model, total: float, right: int, count: float) -> Result:
    """Means of sums over data."""
    classes = isinstance(model, (SequenceClassifier, LanguageModel))
    return Result(mean(total, count), mean(right, count) if classes else math.nan)


def mean(total: float, count: float) -> float:
    """NaN of nothing."""
    return total / count if count else math.nan


def named(result: Result, prefix: str) -> dict[str, float]:
    """The numbers of a history."""
    numbers = {f"{prefix}loss": result.loss}
    if not math.isnan(result.accuracy):
        numbers[f"{prefix}accuracy"] = result.accuracy
    return numbers
