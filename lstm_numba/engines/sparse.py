"""Gradients of tables, of which only the rows that were read are not zero."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class SparseRows(NamedTuple):
    """The rows of a matrix that are not zero; arrays of NumPy, or on the device where the matrix lies.

    Attributes
    ----------
    indices : ndarray (n,), int64
        Row numbers, ascending, each once.
    values : ndarray (n, E)
        The rows.
    shape : tuple of int
        Shape of the whole matrix.
    """

    indices: Any
    values: Any
    shape: tuple[int, int]

    def to_dense(self) -> Any:
        """The whole matrix; of NumPy arrays only."""
        dense = np.zeros(self.shape, self.values.dtype)
        dense[self.indices] = self.values
        return dense
