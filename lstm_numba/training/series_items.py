"""Windows and whole sequences as a model takes them, and its answers in the units of the data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_numba.data.series import WindowIndex, Windows
from lstm_numba.data.tables import Array
from lstm_numba.engines.number_losses import GAUSSIAN
from lstm_numba.models.base import SequenceBatch
from lstm_numba.models.classifier import SequenceClassifier
from lstm_numba.models.regressor import SequenceRegressor
from lstm_numba.training.forecast_windows import ForecastWindows
from lstm_numba.training.series_description import SeriesDescription

Items = npt.NDArray[np.int64]

#: Items of a prediction's batch.
BATCH = 256


class SeriesItems:
    """The items of a part: what is gathered into batches, predicted and compared.

    Parameters
    ----------
    index : WindowIndex
        In the data's units.
    description : SeriesDescription
    """

    def __init__(self, index: WindowIndex, description: SeriesDescription) -> None:
        self.index, self._it = index, description
        self._forecast: ForecastWindows | None = None
        if description.task == "forecast":
            columns = description.target_columns
            self._forecast = ForecastWindows(
                index,
                columns,
                relative=description.relative,
                inputs=description.inputs,
                targets=description.outputs,
            )

    def __len__(self) -> int:
        return len(self.index)

    def batches(self, size: int = BATCH) -> Iterator[Items]:
        """The items in their order."""
        for first in range(0, len(self), size):
            yield np.arange(first, min(first + size, len(self)))

    def gather(self, chosen: Items, dtype: npt.DTypeLike) -> SequenceBatch:
        """The items `chosen` (B,) as a batch to train on; too large numbers become infinite."""
        with np.errstate(over="ignore"):
            return self._gather(chosen, dtype)

    def _gather(self, chosen: Items, dtype: npt.DTypeLike) -> SequenceBatch:
        if self._forecast is not None:
            return self._forecast.gather(chosen, dtype)
        found = self.index.gather(chosen)
        x = self._it.inputs.transform(found.x).astype(dtype)
        if self._it.task == "classify":
            return SequenceBatch(x, found.y[:, 0, 0].astype(np.int64), found.lengths)
        y, weights = self._it.outputs.transform(found.y), found.weights
        if not self._it.per_step:
            y, weights = y[:, 0], weights[:, 0]
        complete = bool((weights == 1).all())
        return SequenceBatch(x, y.astype(dtype), found.lengths, None if complete else weights)

    def read(self, chosen: Items) -> tuple[Windows, Array]:
        """Items in the data's units, and their targets, NaN where missing."""
        found = self.index.gather(chosen)
        return found, np.where(found.weights > 0, found.y, np.nan)

    def predict(self, model: Any, chosen: Items) -> Array:
        """The model's answers for some items, in the units of the data.

        Returns
        -------
        ndarray, float64
            Probabilities of the classes, (B, C); or numbers (B, H, M, P), (B, 1, M, P) or, at every step,
            (T, B, M, P), P as `SequenceRegressor.predict` gives.
        """
        if self._forecast is not None:
            return self._forecast.predict(model, chosen)
        found = self.index.gather(chosen)
        x = self._it.inputs.transform(found.x).astype(model.dtype)
        if isinstance(model, SequenceClassifier):
            return model.probabilities(x, found.lengths)
        assert isinstance(model, SequenceRegressor)
        answer = model.predict(x, found.lengths)
        return self.in_units(model, answer if self._it.per_step else answer[:, None])

    def in_units(self, model: SequenceRegressor, answer: Array) -> Array:
        """What a model of no forecast predicts, (..., M, P), in the units of the data."""
        scale, mean = self._it.outputs.scale[:, None], self._it.outputs.mean[:, None]
        if model.loss.kind == GAUSSIAN:
            return answer * scale + np.concatenate([mean, np.zeros_like(mean)], axis=1)
        return answer * scale + mean
