"""Tables of rows on the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cuda_tools import DTYPES, cases, download, normal, totals, upload

from lstm_numba.engines.cuda.embedding import (
    add_rows,
    clear_rows,
    gather,
    row_gradient,
    set_rows,
    upload_tokens,
)
from lstm_numba.engines.cuda.updates import sgd
from lstm_numba.nn.embedding import Embedding

SIZES = cases([((1,), 1, 1), ((5, 3), 4, 7), ((6,), 1, 9), ((0,), 3, 2)], [((35, 20), 650, 10000)])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "width", "count"), SIZES)
def test_gather(shape: Any, width: int, count: int, dtype: Any) -> None:
    weight = normal((count, width), dtype)
    ids = np.random.default_rng(0).integers(0, count, shape)
    result = gather(upload(weight), upload_tokens(ids))
    assert result.shape == (*shape, width)
    np.testing.assert_array_equal(download(result), weight[ids])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "width", "count"), SIZES)
def test_row_gradient_has_the_bits_of_the_cpu(shape: Any, width: int, count: int, dtype: Any) -> None:
    ids = np.random.default_rng(0).integers(0, count, shape)
    dy = normal((*shape, width), dtype)
    expected = Embedding(count, width, dtype=dtype).backward(ids, dy)
    actual = row_gradient(upload_tokens(ids), upload(dy), (count, width))
    np.testing.assert_array_equal(download(actual.indices), expected.indices)
    np.testing.assert_array_equal(download(actual.values), expected.values)
    assert actual.shape == expected.shape


def test_order_of_occurrence() -> None:
    ids = np.array([3, 1, 3, 3, 1], np.int32)
    dy = np.array([1e8, 5, 1, -1e8, 6], np.float32).reshape(-1, 1)
    actual = row_gradient(upload_tokens(ids), upload(dy), (4, 1))
    np.testing.assert_array_equal(download(actual.indices), [1, 3])
    np.testing.assert_array_equal(download(actual.values), [[11], [0]])  # 1 is lost beside 1e8


def test_add_to() -> None:
    ids, dy = np.array([2, 0, 2]), normal((3, 5), np.float32)
    rows = row_gradient(upload_tokens(ids), upload(dy), (4, 5))
    dense = normal((4, 5), np.float32, 1)
    device = upload(dense)
    add_rows(rows, device)
    dense[0] += dy[1]
    dense[2] += dy[0] + dy[2]
    np.testing.assert_array_equal(download(device), dense)


def test_a_fixed_number_of_rows() -> None:
    """Padding rows are zero and change nothing: not even the last row, which index -1 means to NumPy."""
    ids, dy = np.array([[3, 1], [3, 3]]), upload(normal((2, 2, 5), np.float32))
    few, fixed = (
        row_gradient(upload_tokens(ids), dy, (6, 5)),
        row_gradient(upload_tokens(ids, fixed=True), dy, (6, 5)),
    )
    values = download(fixed.values)
    np.testing.assert_array_equal(download(fixed.indices), [*download(few.indices), -1, -1])
    np.testing.assert_array_equal(values, [*download(few.values), *np.zeros((2, 5))])
    values[2:] = np.nan
    fixed = fixed._replace(values=upload(values))
    changes = (add_rows, set_rows, clear_rows, lambda rows, dense: sgd([dense], [rows], totals(1), 0, (0.5,)))
    for change in changes:
        results = []
        for rows in (few, fixed):
            dense = upload(normal((6, 5), np.float32, 1))
            change(rows, dense)
            results.append(download(dense))
        np.testing.assert_array_equal(*results)


def test_tokens_take_the_place_of_others() -> None:
    dy = upload(normal((4, 3), np.float32))
    first = upload_tokens(np.array([5, 5, 5, 5]), fixed=True)
    second = upload_tokens(np.array([0, 5, 2, 0]), out=first)
    assert second.packed is first.packed
    rows, expected = (
        row_gradient(t, dy, (6, 3)) for t in (second, upload_tokens(np.array([0, 5, 2, 0]), fixed=True))
    )
    np.testing.assert_array_equal(download(rows.indices), [0, 2, 5, -1])
    np.testing.assert_array_equal(download(rows.values), download(expected.values))
