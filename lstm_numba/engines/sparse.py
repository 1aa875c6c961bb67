"""Sparse gradients of embedding tables."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class SparseRows(NamedTuple):
    """The nonzero rows of a matrix; arrays of NumPy, or of the device that holds the matrix.

    Attributes
    ----------
    indices : ndarray (n,), int64
        Row numbers, ascending and unique.
    values : ndarray (n, E)
        The rows.
    shape : tuple of int
        Shape of the whole matrix.
    """

    indices: Any
    values: Any
    shape: tuple[int, int]

    def to_dense(self) -> Any:
        """The whole matrix; NumPy arrays only."""
        dense = np.zeros(self.shape, self.values.dtype)
        dense[self.indices] = self.values
        return dense
