"""Sums on the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cuda_tools import DTYPES, cases, download, normal, totals, upload
from tolerances import assert_close

from lstm_numba.clipping import sum_of_squares as sum_of_squares_of_cpu
from lstm_numba.gpu.reductions import column_sums, sum_of_squares
from lstm_numba.linear import column_sums as column_sums_of_cpu


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape", cases([(1, 1), (7, 3), (65, 5), (33, 1)], [(8000, 2600), (20000, 3)]), ids=str
)
def test_column_sums(shape: Any, dtype: Any) -> None:
    matrix = normal(shape, dtype)
    out = upload(np.full(shape[1], np.nan, dtype))
    assert column_sums(upload(matrix), out) is out
    # Both add in float64 and round once; only the order differs. Its rounding errors scale with what is
    # added: a sum of 20,000 normal numbers is a five-hundredth of the sum of their absolute values.
    expected = column_sums_of_cpu(matrix)
    added = np.abs(matrix).sum(axis=0, dtype=np.float64)
    allowed = 1e-15 * added + np.finfo(dtype).eps * np.abs(expected)
    assert (np.abs(download(out).astype(np.float64) - expected) <= allowed).all()


def test_column_sums_of_columns() -> None:
    wide = normal((40, 9), np.float32)
    actual = download(column_sums(upload(wide)[:, 2:7]))
    assert_close(actual, wide[:, 2:7].sum(axis=0, dtype=np.float64), "loss")


def test_column_sums_add_in_float64() -> None:
    column = np.array([1e8] + [1.0] * 40 + [-1e8], np.float32)
    np.testing.assert_array_equal(download(column_sums(upload(column.reshape(-1, 1)))), [40])


def test_no_rows() -> None:
    np.testing.assert_array_equal(download(column_sums(upload(np.zeros((0, 3), np.float32)))), np.zeros(3))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", cases([0, 1, 3, 8, 61], [255, 257, 10**7 + 1]))
def test_sum_of_squares(size: int, dtype: Any) -> None:
    array = normal(size, dtype)
    sums = totals(7, 7, 7)
    sum_of_squares(upload(array), sums, 1)
    expected = sum_of_squares_of_cpu(array)
    actual = download(sums)
    np.testing.assert_allclose(actual[1], expected, rtol=1e-13)
    np.testing.assert_array_equal(actual[[0, 2]], 7)
    sum_of_squares(upload(array), sums, 1)
    assert download(sums)[1] == actual[1]


def test_nan_and_infinity_are_visible() -> None:
    for value in (np.nan, np.inf):
        array, sums = normal(9, np.float32), totals(0)
        array[8] = value
        sum_of_squares(upload(array), sums, 0)
        np.testing.assert_array_equal(download(sums), [value])
