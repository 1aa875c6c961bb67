"""Gradients of which only some rows are not zero."""

from __future__ import annotations

import numpy as np

from lstm_numba.engines import engine
from lstm_numba.engines.sparse import SparseRows

DTYPES = [np.float32, np.float64]


def test_sparse_rows_add_to_a_matrix() -> None:
    rows = SparseRows(np.array([1, 3]), np.array([[1.0, 2.0], [3.0, 4.0]]), (4, 2))
    dense = np.ones((4, 2))
    engine("cpu").add_rows(rows, dense)
    np.testing.assert_array_equal(dense, [[1, 1], [2, 3], [1, 1], [4, 5]])
