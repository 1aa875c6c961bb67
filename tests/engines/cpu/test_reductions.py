"""Sums of columns against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from tolerances import assert_close

from lstm_numba.engines.cpu.reductions import column_sums

DTYPES = [np.float32, np.float64]


@pytest.mark.parametrize("columns", [1, 255, 256, 257, 1000])
def test_column_sums(columns: int) -> None:
    matrix = np.random.default_rng(1).standard_normal((33, columns)).astype(np.float32)
    assert_close(column_sums(matrix), matrix.sum(axis=0, dtype=np.float64), "product", "sums")
