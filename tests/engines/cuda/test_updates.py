"""The optimizers' updates on the device."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from cuda_tools import DTYPES, cases, download, normal, totals, upload
from tolerances import assert_close

from lstm_numba.engines.cpu import updates as cpu
from lstm_numba.engines.cuda import updates
from lstm_numba.engines.sparse import SparseRows

ADAM = (0.01, 0.99, 0.9, 0.1, 0.99, 0.01, 0.02, 1.7, 1e-8)
RMSPROP = (0.02, 0.01, 0.9, 0.1, 1e-8, 0.5)
FACTOR = 0.3
#: Sizes of the parameters that are updated together.
SIZES = cases([[13, 1, 0, 4], [0], [1]], [[10**6 + 1, 3, 0, 1, 2000]])


def arrays(count: int, sizes: list[int], dtype: Any) -> list[list[Any]]:
    """Parameters, gradients and states; squares are not negative."""
    drawn = [[normal(size, dtype, 10 * n + m) for m, size in enumerate(sizes)] for n in range(count)]
    return [*drawn[:2], *([abs(array) for array in column] for column in drawn[2:])]


def compare(
    update: Any, kernel: Any, count: int, sizes: list[int], dtype: Any, hyper: Any, of_cpu: Any
) -> None:
    """Three steps on both devices, then one with a factor of NaN."""
    host = arrays(count, sizes, dtype)
    device = [[upload(array) for array in column] for column in host]
    sums = totals(np.nan, FACTOR)
    for _ in range(3):
        for row in zip(*host, strict=True):
            kernel(*row, *of_cpu)
        update(*device, sums, 1, hyper)
    assert_same(device, host, assert_close)
    before = [[download(array) for array in column] for column in device]
    update(*device, sums, 0, hyper)
    assert_same(device, before, lambda a, b, _: np.testing.assert_array_equal(a, b))


def assert_same(device: Any, host: Any, check: Any) -> None:
    """Columns of arrays of both devices are the same."""
    for actual, expected in zip(device, host, strict=True):
        for a, b in zip(actual, expected, strict=True):
            check(download(a), b, "optimizer")


def typed(dtype: Any, *hyper: Any) -> list[Any]:
    return [n if isinstance(n, bool) else dtype(n) for n in hyper]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_sgd(sizes: list[int], dtype: Any) -> None:
    compare(updates.sgd, cpu.sgd, 2, sizes, dtype, (0.7,), typed(dtype, 0.7 * FACTOR))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_momentum(sizes: list[int], nesterov: bool, dtype: Any) -> None:
    of_cpu = typed(dtype, 0.1, FACTOR, 0.01, 0.9, nesterov)
    update = functools.partial(updates.with_momentum, nesterov=nesterov)
    compare(update, cpu.with_momentum, 3, sizes, dtype, (0.1, 0.01, 0.9), of_cpu)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_adam(sizes: list[int], dtype: Any) -> None:
    compare(updates.adam, cpu.adam, 4, sizes, dtype, ADAM, typed(dtype, FACTOR, *ADAM))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_rmsprop(sizes: list[int], dtype: Any) -> None:
    of_cpu = typed(dtype, RMSPROP[0], FACTOR, *RMSPROP[1:])
    compare(updates.rmsprop, cpu.rmsprop, 4, sizes, dtype, RMSPROP, of_cpu)


@pytest.mark.parametrize("dtype", DTYPES)
def test_weight_decay_without_momentum_keeps_no_velocity(dtype: Any) -> None:
    (p, q), (g, f) = arrays(2, [9, 2], dtype)
    g[0] = np.inf  # what is passed as velocity is not read
    device, grads = [upload(p), upload(q)], [upload(g), upload(f)]
    for array, gradient in ((p, g), (q, f)):
        rest = np.zeros_like(array)
        cpu.with_momentum(array, gradient, rest, *typed(dtype, 0.1, FACTOR, 0.01, 0.0, False))
    updates.with_momentum(device, grads, None, totals(FACTOR), 0, (0.1, 0.01, 0.0), False)
    np.testing.assert_array_equal(download(grads[0]), g)
    for actual, expected in zip(device, (p, q), strict=True):
        assert_close(download(actual)[1:], expected[1:], "optimizer")
    assert download(device[0])[0] == p[0] == -np.inf


@pytest.mark.parametrize("dtype", DTYPES)
def test_sparse_rows_beside_whole_gradients(dtype: Any) -> None:
    table, values, p, g = (normal(n, dtype, i) for i, n in enumerate([(9, 5), (3, 5), (2, 3), (2, 3)]))
    indices = np.array([0, 4, 8], np.int64)
    device, sums = [upload(table), upload(p)], totals(FACTOR, np.nan)
    cpu.sgd_rows(table, indices, values, dtype(0.7 * FACTOR))
    cpu.sgd(p.reshape(-1), g.reshape(-1), dtype(0.7 * FACTOR))
    for at in (0, 1):  # the second changes nothing
        rows = SparseRows(upload(indices), upload(values), table.shape)
        updates.sgd(device, [rows, upload(g)], sums, at, (0.7,))
        assert_close(download(device[0]), table, "optimizer")
        assert_close(download(device[1]), p, "optimizer")
    none = SparseRows(upload(indices[:0]), upload(values[:0]), table.shape)
    updates.sgd(device[:1], [none], sums, 0, (0.7,))
    assert_close(download(device[0]), table, "optimizer")


@pytest.mark.parametrize("dtype", DTYPES)
def test_hyperparameters_on_the_device(dtype: Any) -> None:
    """As in a graph: the same launch after the hyperparameters were overwritten.

    Another kernel than with numbers, in which the compiler may join other products and sums.
    """
    host = arrays(4, [7, 3], dtype)
    ours, theirs = ([[upload(array) for array in column] for column in host] for _ in range(2))
    hyper, sums = upload(np.zeros(9)), totals(FACTOR)
    for rate in (0.02, 0.3):
        given = (*ADAM[:6], rate, *ADAM[7:])
        upload(np.array(given), hyper)
        updates.adam(*ours, sums, 0, hyper)
        updates.adam(*theirs, sums, 0, given)
    expected = [[download(array) for array in column] for column in theirs]
    assert_same(ours, expected, assert_close)


def test_both_dtypes_together() -> None:
    host = [normal(5, np.float32), normal(3, np.float64, 1), normal((2, 2), np.float32, 2)]
    device = [upload(array) for array in host]
    updates.sgd(device, [upload(array) for array in host], totals(1), 0, (0.25,))
    for actual, expected in zip(device, host, strict=True):
        np.testing.assert_array_equal(download(actual), expected - expected.dtype.type(0.25) * expected)
