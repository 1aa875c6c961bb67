"""Sums on the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cuda_tools import DTYPES, cases, download, normal, upload
from tolerances import assert_close

from lstm_numba.engines.cpu.reductions import column_sums as column_sums_of_cpu
from lstm_numba.engines.cuda.memory import counters
from lstm_numba.engines.cuda.reductions import bias_gradients, column_sums


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape", cases([(1, 1), (7, 3), (65, 5), (33, 1)], [(8000, 2600), (20000, 3), (33, 10**5)]), ids=str
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
@pytest.mark.parametrize(("rows", "hidden"), cases([(1, 1), (70, 3), (33, 5)], [(700, 650)]))
def test_bias_gradients(rows: int, hidden: int, dtype: Any) -> None:
    slots = normal((rows, 4 * hidden), dtype)
    biases = [upload(np.full(3 * hidden, np.nan, dtype)) for _ in range(2)]
    bias_gradients(upload(slots), (1, 0, 2, -1), (1, -1, 0, 2), *biases)
    sums = download(column_sums(upload(slots))).reshape(4, hidden)
    np.testing.assert_array_equal(download(biases[0]).reshape(3, hidden), sums[[1, 0, 2]])
    np.testing.assert_array_equal(download(biases[1]).reshape(3, hidden), sums[[2, 0, 3]])


@pytest.mark.parametrize(("rows", "hidden"), cases([(70, 3)], [(700, 65)]))
def test_sums_of_many_models(rows: int, hidden: int) -> None:
    """Three parts of the rows, so that of four blocks one has nothing to do; arrays of unequal sizes."""
    slots = normal((3, rows, 4 * hidden), np.float32)
    biases = [upload(np.full((3, gates * hidden), np.nan, np.float32)) for gates in (3, 4)]
    tables = (1, 0, 2, -1), (1, 3, 0, 2)
    bias_gradients(upload(slots), *tables, *biases)
    sums = download(column_sums(upload(slots)))
    assert_close(sums, slots.sum(axis=1, dtype=np.float64), "loss")
    for n in range(3):
        alone = [upload(np.full(gates * hidden, np.nan, np.float32)) for gates in (3, 4)]
        bias_gradients(upload(slots[n]), *tables, *alone)
        for many, one in zip(biases, alone, strict=True):
            np.testing.assert_array_equal(download(many)[n], download(one))
    np.testing.assert_array_equal(download(counters(1)), 0)


def test_a_gate_without_a_slot_stays() -> None:
    biases = [upload(np.full(4, 7, np.float32)) for _ in range(2)]
    bias_gradients(upload(np.ones((3, 2), np.float32)), (1,), (-1,), *biases)
    np.testing.assert_array_equal(download(biases[0]), [7, 7, 3, 3])
    np.testing.assert_array_equal(download(biases[1]), 7)


def test_counters_are_zero_again() -> None:
    column_sums(upload(normal((130, 9), np.float32)))
    np.testing.assert_array_equal(download(counters(1)), 0)
