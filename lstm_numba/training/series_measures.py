"""How good predictions of series are, in the measures of the field, and how good simple baselines are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from lstm_numba import metrics
from lstm_numba.data.tables import Array
from lstm_numba.training.baselines import (
    LastValue,
    LogisticRidge,
    Majority,
    MeanValue,
    RidgeForecast,
    SeasonalNaive,
    sequence_features,
)
from lstm_numba.training.ridge import PENALTIES
from lstm_numba.training.series_description import SeriesDescription
from lstm_numba.training.series_items import SeriesItems

#: Numbers that a linear classifier may read at once; of more items, some at equal distances are taken.
_MOST_NUMBERS = 1 << 24
#: Penalty where there is no validation part to choose it.
_PENALTY = (PENALTIES[2],)

Measures = dict[str, float]


def of_numbers(true: Array, predicted: Array, training: Sequence[Array], it: SeriesDescription) -> Measures:
    """MAE and RMSE, of forecasts MASE, and the efficiency NSE where the true numbers vary.

    Parameters
    ----------
    true, predicted : ndarray (N, K, M)
        NaN where missing; K steps ahead, or 1. Of several targets, MASE and NSE are the means over them.
    training : sequence of ndarray (T, M)
        The targets of the training part.
    it : SeriesDescription
    """
    found = {"mae": metrics.mae(true, predicted), "rmse": metrics.rmse(true, predicted)}
    each = range(true.shape[-1])
    if it.task == "forecast":
        found |= _where_defined(
            "mase",
            lambda m: metrics.mase(
                true[..., m], predicted[..., m], [part[:, m] for part in training], it.season or 1
            ),
            each,
        )
    return found | _where_defined("nse", lambda m: metrics.nse(true[..., m], predicted[..., m]), each)


def of_classes(true: Array, probabilities: Array) -> Measures:
    """Accuracy, macro-F1, and the area under the ROC curve where more than one class occurs.

    Parameters
    ----------
    true : ndarray (N,), int
    probabilities : ndarray (N, C)
    """
    answers = np.argmax(probabilities, axis=1)
    found = {
        "accuracy": metrics.accuracy(true, answers),
        "macro_f1": metrics.macro_f1(true, answers, probabilities.shape[1]),
    }
    return found | _where_defined("roc_auc", lambda _: metrics.roc_auc(true, probabilities), range(1))


def _where_defined(name: str, measure: Callable[[int], float], each: Sequence[int]) -> Measures:
    """The mean of a measure, unless it is undefined, as of constant numbers, or no number."""
    try:
        found = float(np.mean([measure(m) for m in each]))
    except ValueError:
        return {}
    return {name: found} if np.isfinite(found) else {}


def baselines(
    parts: dict[str, SeriesItems], it: SeriesDescription, training: Sequence[Array]
) -> tuple[dict[str, Measures], list[str]]:
    """Measures of simple predictions on the test part.

    Parameters
    ----------
    parts : dict of SeriesItems
        "train" and "test", and "valid" if there is such a part.
    it : SeriesDescription
    training
        See `of_numbers`.

    Returns
    -------
    found : dict of dict
        Measures by the baseline's name.
    remarks : list of str
        Which were left out, and why.
    """
    if it.task == "classify":
        return _class_baselines(parts, len(it.classes))
    found, remarks = {}, []
    test = [*_number_batches(parts["test"], it)]
    true = np.concatenate([np.where(weights > 0, y, np.nan) for _, y, weights in test])
    for name, fitted in _number_predictors(it).items():
        try:
            predict = fitted(parts)
            predicted = np.concatenate([predict(x).reshape(y.shape) for x, y, _ in test])
            found[name] = of_numbers(_axes(true), _axes(predicted), training, it)
        except ValueError as error:
            remarks.append(f"baseline {name} is left out: {' '.join(str(error).split())}")
    return found, remarks


def _axes(values: Array) -> Array:
    """(N, M) as (N, 1, M)."""
    return values[:, None] if values.ndim == 2 else values


def _number_predictors(it: SeriesDescription) -> dict[str, Callable[[dict[str, SeriesItems]], Any]]:
    """By name, what fits a baseline and gives its function of inputs."""

    def linear(parts: dict[str, SeriesItems]) -> Any:
        valid = parts.get("valid")
        held = None if valid is None else _number_batches(valid, it)
        ridge = RidgeForecast(_PENALTY if valid is None else None)
        return ridge.fit(_number_batches(parts["train"], it), held).predict

    def mean(parts: dict[str, SeriesItems]) -> Any:
        return MeanValue().fit(_number_batches(parts["train"], it)).predict

    if it.task != "forecast":
        return {"mean": mean, "linear (ridge)": linear}
    columns, horizon = it.target_columns, it.horizon or 1
    found: dict[str, Any] = {"last value": lambda _: lambda x: LastValue(columns).predict(x, horizon)}
    if it.season is not None and it.season > 1:
        season = it.season
        found[f"{season} steps ago"] = lambda _: lambda x: SeasonalNaive(columns, season).predict(x, horizon)
    return found | {"linear (ridge)": linear}


def _number_batches(items: SeriesItems, it: SeriesDescription) -> Iterator[tuple[Array, Array, Array]]:
    """Inputs (N, T, F) or features (N, P); targets and weights (N, H, M) or (N, M)."""
    for chosen in items.batches():
        found = items.index.gather(chosen)
        x = np.moveaxis(found.x, 0, 1)
        if it.task == "forecast":
            yield x, found.y, found.weights
        elif it.per_step:
            count = len(it.targets)
            rows = np.moveaxis(found.x, 0, 1).reshape(-1, x.shape[-1])
            y, weights = (np.moveaxis(a, 0, 1).reshape(-1, count) for a in (found.y, found.weights))
            yield rows, y, weights
        else:
            inputs = x if it.window is not None else sequence_features(x, found.lengths)
            yield inputs, found.y[:, 0], found.weights[:, 0]


def _class_baselines(parts: dict[str, SeriesItems], classes: int) -> tuple[dict[str, Measures], list[str]]:
    remarks: list[str] = []
    taken = {name: _some(items, name, remarks) for name, items in parts.items()}
    x, labels, lengths = taken["test"]
    trained = taken["train"]
    majority = Majority(classes).fit(trained[1])
    found = {"most frequent class": of_classes(labels, majority.probabilities(x))}
    valid = taken.get("valid")
    try:
        linear = LogisticRidge(classes, _PENALTY if valid is None else None)
        linear.fit(*trained, validation=valid)
        found["linear (logistic)"] = of_classes(labels, linear.probabilities(x, lengths))
    except ValueError as error:
        remarks.append(f"baseline linear (logistic) is left out: {' '.join(str(error).split())}")
    return found, remarks


def _some(items: SeriesItems, part: str, remarks: list[str]) -> tuple[Array, Array, Array | None]:
    """Inputs (N, T, F), classes and lengths of items; of very many to learn from, some."""
    count = len(items)
    size = items.index.longest * len(items.index.pieces[0].x[0])
    most = max(1, _MOST_NUMBERS // size)
    chosen = np.arange(count)
    if count > most and part != "test":
        chosen = np.unique(np.linspace(0, count - 1, most).astype(np.int64))
        remarks.append(f"the linear baseline sees {most} of the {count} items of the {part} part")
    found = items.index.gather(chosen)
    return np.moveaxis(found.x, 0, 1), found.y[:, 0, 0].astype(np.int64), found.lengths
