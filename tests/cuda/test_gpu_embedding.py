"""Tables of rows on the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cuda_tools import DTYPES, cases, download, normal, upload

from lstm_numba.embedding import Embedding
from lstm_numba.gpu.embedding import add_rows, gather, row_gradient

SIZES = cases([((1,), 1, 1), ((5, 3), 4, 7), ((6,), 1, 9), ((0,), 3, 2)], [((35, 20), 650, 10000)])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "width", "count"), SIZES)
def test_gather(shape: Any, width: int, count: int, dtype: Any) -> None:
    weight = normal((count, width), dtype)
    ids = np.random.default_rng(0).integers(0, count, shape)
    result = gather(upload(weight), upload(ids))
    assert result.shape == (*shape, width)
    np.testing.assert_array_equal(download(result), weight[ids])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "width", "count"), SIZES)
def test_row_gradient_has_the_bits_of_the_cpu(shape: Any, width: int, count: int, dtype: Any) -> None:
    ids = np.random.default_rng(0).integers(0, count, shape)
    dy = normal((*shape, width), dtype)
    expected = Embedding(count, width, dtype=dtype).backward(ids, dy)
    actual = row_gradient(ids, upload(dy), (count, width))
    np.testing.assert_array_equal(download(actual.indices), expected.indices)
    np.testing.assert_array_equal(download(actual.values), expected.values)
    assert actual.shape == expected.shape


def test_order_of_occurrence() -> None:
    ids = np.array([3, 1, 3, 3, 1], np.int32)
    dy = np.array([1e8, 5, 1, -1e8, 6], np.float32).reshape(-1, 1)
    actual = row_gradient(ids, upload(dy), (4, 1))
    np.testing.assert_array_equal(download(actual.indices), [1, 3])
    np.testing.assert_array_equal(download(actual.values), [[11], [0]])  # 1 is lost beside 1e8


def test_add_to() -> None:
    ids, dy = np.array([2, 0, 2]), normal((3, 5), np.float32)
    rows = row_gradient(ids, upload(dy), (4, 5))
    dense = normal((4, 5), np.float32, 1)
    device = upload(dense)
    add_rows(rows, device)
    dense[0] += dy[1]
    dense[2] += dy[0] + dy[2]
    np.testing.assert_array_equal(download(device), dense)
