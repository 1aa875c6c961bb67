"""Windows of series as a model takes them: standardised, relative to their last step if the series drift."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_numba.data.scaling import Scaler
from lstm_numba.data.series_windows import WindowIndex
from lstm_numba.engines.number_losses import GAUSSIAN
from lstm_numba.models.base import SequenceBatch
from lstm_numba.models.regressor import SequenceRegressor

Array = npt.NDArray[Any]

#: Windows from which mean and scale are taken.
_SAMPLE = 2000
#: Windows of a prediction's batch.
_PREDICTION_BATCH = 500


def drifts(series: SequenceOf[Array]) -> bool:
    """Whether series move to where they never were: a network must not have to know their level.

    Parameters
    ----------
    series : sequence of ndarray (T, M)
        NaN where missing.

    Returns
    -------
    bool
        Whether, for most series and targets, the mean of the last third is more than the standard deviation
        of the series away from that of the first.
    """
    votes = []
    for values in series:
        third = len(values) // 3
        for column in values.T:
            first, last = column[: third or 1], column[-third or -1 :]
            if np.isnan(first).all() or np.isnan(last).all():
                continue
            votes.append(abs(np.nanmean(last) - np.nanmean(first)) > np.nanstd(column))
    return bool(votes) and float(np.mean(votes)) > 0.5


class ForecastWindows:
    """The windows of a `WindowIndex`, and the steps after them, in the numbers that a model works with.

    Parameters
    ----------
    index : WindowIndex
        Of M targets and F features.
    columns : sequence of int
        The targets' places among the features.
    relative : bool
        Subtract from the targets, among the features too, their values at the window's last step.
    inputs, targets : Scaler, optional
        Of the features and of the targets; by default those of the windows, all or some of them.
    standardize : bool
        False leaves the numbers in their units, where no scaler is given.
    """

    def __init__(
        self,
        index: WindowIndex,
        columns: SequenceOf[int],
        *,
        relative: bool = False,
        inputs: Scaler | None = None,
        targets: Scaler | None = None,
        standardize: bool = True,
    ) -> None:
        self.index, self.relative = index, relative
        self._columns = np.asarray(columns, np.int64)
        if inputs is None or targets is None:
            inputs, targets = self._fit() if standardize else (None, None)
        self.inputs, self.targets = inputs, targets

    def __len__(self) -> int:
        return len(self.index)

    def _fit(self) -> tuple[Scaler, Scaler]:
        count = len(self.index)
        chosen = np.unique(np.linspace(0, count - 1, min(count, _SAMPLE)).astype(np.int64))
        x, y, weights, _ = self._read(chosen)
        y = np.where(weights > 0, y, np.nan)
        return Scaler.fit(x.reshape(-1, x.shape[-1])), Scaler.fit(y.reshape(-1, y.shape[-1]))

    def _read(self, chosen: npt.NDArray[np.int64]) -> tuple[Array, Array, Array, Array]:
        """Windows (T, B, F), targets (B, H, M), their weights, and the level (B, M) that was subtracted."""
        found = self.index.gather(chosen)
        x, y = found.x, found.y
        last = np.zeros((len(chosen), len(self._columns)))
        if self.relative:
            last = x[-1][:, self._columns]
            x = x.copy()
            x[:, :, self._columns] -= last
            y = y - last[:, None]
        return x, y, found.weights, last

    def gather(self, chosen: npt.NDArray[np.int64], dtype: npt.DTypeLike) -> SequenceBatch:
        """The windows `chosen` (B,) as a batch: labels (B, H * M)."""
        x, y, weights, _ = self._read(chosen)
        if self.inputs is not None and self.targets is not None:
            x, y = self.inputs.transform(x), self.targets.transform(y)
        flat = None if (weights == 1).all() else weights.reshape(len(chosen), -1)
        return SequenceBatch(x.astype(dtype), y.reshape(len(chosen), -1), None, flat)

    def predict(self, model: SequenceRegressor, chosen: npt.NDArray[np.int64] | None = None) -> Array:
        """Forecasts of the windows `chosen`, by default all, in the units of the data.

        Returns
        -------
        ndarray (N, H, M, P), float64
            P as `SequenceRegressor.predict` gives; of many models with a leading axis of them.
        """
        parts, every = [], np.arange(len(self)) if chosen is None else chosen
        for first in range(0, len(every), _PREDICTION_BATCH):
            some = every[first : first + _PREDICTION_BATCH]
            x, _, _, last = self._read(some)
            x = x if self.inputs is None else self.inputs.transform(x)
            found = model.predict(x.astype(model.dtype))
            found = found.reshape(*found.shape[:-2], -1, len(self._columns), model.loss.width)
            parts.append(self._in_units(found, last[:, None, :, None], model.loss.kind == GAUSSIAN))
        return np.concatenate(parts, axis=-4)

    def _in_units(self, found: Array, last: Array, gaussian: bool) -> Array:
        if self.targets is not None:
            found = found * self.targets.scale[:, None]
            last = last + self.targets.mean[:, None]
        if not gaussian:
            return found + last
        return np.concatenate([found[..., :1] + last, found[..., 1:]], axis=-1)
