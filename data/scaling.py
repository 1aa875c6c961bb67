"""Standardisation of columns: mean 0, standard deviation 1 over what is known of the training data."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Scaler(NamedTuple):
    """Mean and scale of each column.

    Attributes
    ----------
    mean, scale : ndarray (F,), float64
        The scale is the standard deviation, 1 for a column that is constant or of which nothing is known.
    """

    mean: Array
    scale: Array

    @classmethod
    def fit(cls, rows: Array, weights: Array | None = None) -> Scaler:
        """Mean and standard deviation of the columns, without NaN.

        Parameters
        ----------
        rows : ndarray (R, F)
        weights : ndarray (R,), optional
            Not negative; a row of weight 2 counts as two.
        """
        rows = np.asarray(rows, np.float64)
        known = ~np.isnan(rows)
        counted = known if weights is None else known * np.asarray(weights, np.float64)[:, None]
        total = counted.sum(axis=0)
        divisor = np.where(total > 0, total, 1.0)
        filled = np.where(known, rows, 0.0)
        mean = (counted * filled).sum(axis=0) / divisor
        square = (counted * np.where(known, rows - mean, 0.0) ** 2).sum(axis=0) / divisor
        deviation = np.sqrt(square)
        # What rounding leaves of a constant column is not a spread.
        constant = deviation <= 1e-12 * np.maximum(np.abs(mean), np.finfo(np.float64).tiny)
        return cls(mean, np.where(constant, 1.0, deviation))

    @classmethod
    def identity(cls, columns: int) -> Scaler:
        """One that changes nothing."""
        return cls(np.zeros(columns), np.ones(columns))

    def transform(self, rows: Array) -> Array:
        """Standardised (..., F), float64; NaN stays NaN."""
        return (np.asarray(rows, np.float64) - self.mean) / self.scale

    def inverse(self, rows: Array) -> Array:
        """Undo `transform`."""
        return np.asarray(rows, np.float64) * self.scale + self.mean

    def to_dict(self) -> dict[str, list[float]]:
        """As JSON can hold it."""
        return {"mean": self.mean.tolist(), "scale": self.scale.tolist()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Scaler:
        """Undo `to_dict`.

        Raises
        ------
        ValueError, TypeError, KeyError
            It is no scaler: columns that do not fit, numbers that are not finite, or a scale that is not
            positive.
        """
        mean, scale = (np.array(values[name], np.float64) for name in ("mean", "scale"))
        if mean.ndim != 1 or mean.shape != scale.shape:
            raise ValueError(f"expected as many means as scales, got {mean.shape} and {scale.shape}")
        if not np.all(np.isfinite(mean)) or not np.all(np.isfinite(scale)) or not np.all(scale > 0):
            raise ValueError("expected finite means and positive, finite scales")
        return cls(mean, scale)
