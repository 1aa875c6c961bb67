"""Small passes over arrays on the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cuda_tools import DTYPES, cases, download, normal, upload

from lstm_numba.engines.cuda import elementwise

SHAPES = cases([(1, 1), (3, 5), (7, 2), (0, 3), (6, 6)], [(1000, 1001), (70000, 17)])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products(shape: Any, dtype: Any) -> None:
    a, b = normal(shape, dtype), normal(shape, dtype, 1)
    first, second = upload(a), upload(b)
    out = upload(np.zeros(shape, dtype))
    assert elementwise.multiply(first, second, out) is out
    np.testing.assert_array_equal(download(out), a * b)
    elementwise.multiply(first, second, first)
    np.testing.assert_array_equal(download(first), a * b)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_add_row(shape: Any) -> None:
    matrix, row = normal(shape, np.float32), normal(shape[1], np.float32, 1)
    device = upload(matrix)
    assert elementwise.add_row(device, upload(row)) is device
    np.testing.assert_array_equal(download(device), matrix + row)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_transpose(shape: Any, dtype: Any) -> None:
    matrix = normal(shape, dtype)
    result = elementwise.transpose(upload(matrix))
    assert result.shape == shape[::-1]
    np.testing.assert_array_equal(download(result), matrix.T)


def test_transpose_with_few_blocks(monkeypatch: Any) -> None:
    monkeypatch.setattr(elementwise, "MAX_GRID_Y", 2)
    matrix = normal((19, 7), np.float32)
    np.testing.assert_array_equal(download(elementwise.transpose(upload(matrix))), matrix.T)


@pytest.mark.parametrize(
    "shape", cases([(1, 1, 1), (3, 4, 5), (2, 1, 3), (3, 0, 2)], [(784, 64, 5)]), ids=str
)
def test_transpose_first(shape: Any) -> None:
    x = normal(shape, np.float32)
    np.testing.assert_array_equal(download(elementwise.transpose_first(upload(x))), x.transpose(1, 0, 2))
