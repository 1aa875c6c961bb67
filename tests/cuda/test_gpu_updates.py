"""The optimisers' updates on the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cuda_tools import DTYPES, cases, download, normal, totals, upload
from tolerances import assert_close

from lstm_numba import updates as cpu
from lstm_numba.gpu import updates

ADAM = (0.01, 0.99, 0.9, 0.1, 0.99, 0.01, 0.02, 1.7, 1e-8)
RMSPROP = (0.02, 0.01, 0.9, 0.1, 1e-8, 0.5)
FACTOR = 0.3
SIZES = cases([1, 4, 13], [10**6 + 1])


def arrays(count: int, size: int, dtype: Any) -> list[Any]:
    """Parameter, gradient and state; squares are not negative."""
    return [normal(size, dtype, n) if n < 2 else abs(normal(size, dtype, n)) for n in range(count)]


def compare(update: Any, kernel: Any, count: int, size: int, dtype: Any, numbers: Any, of_cpu: Any) -> None:
    """Three steps on both devices, then one with a factor of NaN."""
    host = arrays(count, size, dtype)
    device = [upload(array) for array in host]
    sums = totals(np.nan, FACTOR)
    for _ in range(3):
        kernel(*host, *of_cpu)
        update(*device, sums, 1, *numbers)
    for actual, expected in zip(device, host, strict=True):
        assert_close(download(actual), expected, "optimizer")
    before = [download(array) for array in device]
    update(*device, sums, 0, *numbers)
    for actual, expected in zip(device, before, strict=True):
        np.testing.assert_array_equal(download(actual), expected)


def typed(dtype: Any, *numbers: Any) -> list[Any]:
    return [n if isinstance(n, bool) else dtype(n) for n in numbers]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_sgd(size: int, dtype: Any) -> None:
    compare(updates.sgd, cpu.sgd, 2, size, dtype, (0.7,), typed(dtype, 0.7 * FACTOR))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_momentum(size: int, nesterov: bool, dtype: Any) -> None:
    of_cpu = typed(dtype, 0.1, FACTOR, 0.01, 0.9, nesterov)
    compare(updates.with_momentum, cpu.with_momentum, 3, size, dtype, (0.1, 0.01, 0.9, nesterov), of_cpu)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_adam(size: int, dtype: Any) -> None:
    compare(updates.adam, cpu.adam, 4, size, dtype, ADAM, typed(dtype, FACTOR, *ADAM))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_rmsprop(size: int, dtype: Any) -> None:
    of_cpu = typed(dtype, RMSPROP[0], FACTOR, *RMSPROP[1:])
    compare(updates.rmsprop, cpu.rmsprop, 4, size, dtype, RMSPROP, of_cpu)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sgd_rows(dtype: Any) -> None:
    table, values = normal((9, 5), dtype), normal((3, 5), dtype, 1)
    indices = np.array([0, 4, 8], np.int64)
    device, sums = upload(table), totals(FACTOR, np.nan)
    cpu.sgd_rows(table, indices, values, dtype(0.7 * FACTOR))
    for at in (0, 1):  # the second changes nothing
        updates.sgd_rows(device, upload(indices), upload(values), sums, at, 0.7)
        assert_close(download(device), table, "optimizer")
    updates.sgd_rows(device, upload(indices[:0]), upload(values[:0]), sums, 0, 0.7)
    assert_close(download(device), table, "optimizer")


def test_matrices_are_taken_as_they_are() -> None:
    p, g = normal((3, 4), np.float32), normal((3, 4), np.float32, 1)
    device = upload(p)
    updates.sgd(device, upload(g), totals(1), 0, 0.5)
    assert_close(download(device), p - 0.5 * g, "optimizer")
