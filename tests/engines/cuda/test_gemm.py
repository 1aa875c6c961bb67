"""Matrix products on the device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from cuda_tools import DTYPES, cases, download, normal, upload
from tolerances import assert_close

from lstm_numba.engines.cuda import cublas, gemm
from lstm_numba.engines.cuda.device_array import columns, transposed
from lstm_numba.engines.cuda.launch import limits, set_limits
from lstm_numba.engines.cuda.memory import counters
from lstm_numba.engines.cuda.microkernel import LargeTile, SmallTile

SIZES = cases(
    [(1, 1, 1), (3, 1, 5), (1, 7, 1), (8, 4, 8), (9, 3, 17), (17, 33, 5), (2, 70, 3)],
    [(64, 64, 64), (65, 63, 66), (700, 650, 2600), (129, 20000, 131), (1, 3000, 1), (3000, 1, 500)],
)
LAYOUTS = ["rows", "columns", "slice"]


@pytest.fixture(params=["numba", "cublas"])
def backend(request: Any) -> Iterator[str]:
    if request.param == "cublas" and not cublas.available():
        pytest.skip("no cuBLAS: CuPy is not installed, or this is the simulator")
    gemm.use(request.param)
    yield request.param
    gemm.use(None)


def on_device(matrix: Any, layout: str) -> Any:
    """The matrix on the device: as it is, as the transpose of another, or as some columns of another."""
    if layout == "rows":
        return upload(matrix)
    if layout == "columns":
        return transposed(upload(np.ascontiguousarray(matrix.T)))
    wide = np.full((matrix.shape[0], matrix.shape[1] + 5), np.nan, matrix.dtype)
    wide[:, 3:-2] = matrix
    return upload(wide)[:, 3 : 3 + matrix.shape[1]]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("layouts", [("rows", "rows"), ("rows", "columns"), ("columns", "rows")], ids=str)
def test_matches_numpy(backend: str, size: Any, layouts: Any, dtype: Any) -> None:
    m, k, n = size
    a, b = normal((m, k), dtype), normal((k, n), dtype, 1)
    actual = download(gemm.matmul(on_device(a, layouts[0]), on_device(b, layouts[1])))
    assert actual.dtype == dtype
    assert_close(actual, a.astype(np.float64) @ b, "product")


@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [(5, 6, 9), (3, 40, 3)], ids=str)
def test_writes_to_columns_of_a_matrix(backend: str, size: Any, layout: str, accumulate: bool) -> None:
    m, k, n = size
    a, b, before = (
        normal((m, k), np.float32),
        normal((k, n), np.float32, 1),
        normal((m, n + 4), np.float32, 2),
    )
    whole = upload(before)
    out = whole[:, 1 : 1 + n]
    assert gemm.matmul(on_device(a, layout), on_device(b, layout), out, accumulate) is out
    expected = before.astype(np.float64)
    expected[:, 1 : 1 + n] = a.astype(np.float64) @ b + (before[:, 1 : 1 + n] if accumulate else 0)
    result = download(whole)
    assert_close(result, expected, "product")
    np.testing.assert_array_equal(result[:, 0], before[:, 0])
    np.testing.assert_array_equal(result[:, 1 + n :], before[:, 1 + n :])


def test_large_patches_and_parts_of_the_depth_are_both_taken() -> None:
    side = limits().tile
    tile, grid, parts = gemm._plan(3, 3, 100 * side)
    assert isinstance(tile, SmallTile)
    assert grid == (1, 1)
    assert parts > 1
    tile, _, parts = gemm._plan(8 * side * 16, 8 * side * 16, 100 * side)
    assert isinstance(tile, LargeTile)
    assert parts == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_patches(monkeypatch: Any, dtype: Any) -> None:
    monkeypatch.setattr(gemm, "_BLOCKS", 2)
    monkeypatch.setattr(gemm, "_chosen", "numba")
    side = limits().tile
    m, k, n = 8 * side + 3, 2 * side + 1, 8 * side - 1
    a, b = normal((m, k), dtype), normal((k, n), dtype, 1)
    assert isinstance(gemm._plan(m, n, k)[0], LargeTile)
    actual = download(gemm.matmul(upload(a), on_device(b, "columns")))
    assert_close(actual, a.astype(np.float64) @ b, "product")


@pytest.mark.parametrize("side", [1, 4, 8])
def test_any_block(monkeypatch: Any, side: int) -> None:
    monkeypatch.setattr(gemm, "_chosen", "numba")
    before = limits()
    set_limits(before._replace(tile=side))
    try:
        a, b = normal((9, 21), np.float32), normal((21, 6), np.float32, 1)
        actual = download(gemm.matmul(upload(a), upload(b)))
    finally:
        set_limits(before)
    assert_close(actual, a.astype(np.float64) @ b, "product")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("accumulate", [False, True])
def test_parts_of_the_depth_are_added_by_the_last_block(
    monkeypatch: Any, accumulate: bool, dtype: Any
) -> None:
    monkeypatch.setattr(gemm, "_chosen", "numba")
    side = limits().tile
    m, k, n = 4 * side + 3, 60 * side + 1, 2
    a, b, before = normal((m, k), dtype), normal((k, n), dtype, 1), normal((m, n + 1), dtype, 2)
    assert gemm._plan(m, n, k)[1:] == ((2, 1), 7)
    whole = upload(before)
    gemm.matmul(on_device(a, "slice"), upload(b), columns(whole, 1, n + 1), accumulate)
    before[:, 1:] = a.astype(np.float64) @ b + (before[:, 1:] if accumulate else 0)
    assert_close(download(whole), before, "product")
    np.testing.assert_array_equal(download(counters(1)), 0)


@pytest.mark.parametrize("shared", [None, "a", "b"])
@pytest.mark.parametrize(("depth", "accumulate"), [(5, False), (60, False), (60, True)])
def test_products_of_many_models(backend: str, depth: int, accumulate: bool, shared: Any) -> None:
    """A short depth, and one that three blocks share; what all models have has no axis of them."""
    models, m, n = 3, 5, 6
    a, b = normal((models, m, depth), np.float32), normal((models, n, depth), np.float32, 1)
    a, b = a[0] if shared == "a" else a, b[0] if shared == "b" else b
    before = normal((models, m, n + 4), np.float32, 2)
    whole = upload(before)
    gemm.matmul(upload(a), transposed(upload(b)), columns(whole, 1, 1 + n), accumulate)
    expected = before.astype(np.float64)
    product = a.astype(np.float64) @ b.swapaxes(-2, -1)
    expected[..., 1 : 1 + n] = product + (before[..., 1 : 1 + n] if accumulate else 0)
    assert_close(download(whole), expected, "product")
    np.testing.assert_array_equal(download(counters(1)), 0)


def test_no_depth_and_no_rows(backend: str) -> None:
    a, b = upload(np.zeros((3, 0), np.float32)), upload(np.zeros((0, 2), np.float32))
    out = upload(np.ones((3, 2), np.float32))
    np.testing.assert_array_equal(download(gemm.matmul(a, b, out, accumulate=True)), 1)
    np.testing.assert_array_equal(download(gemm.matmul(a, b, out)), 0)
    nothing = gemm.matmul(upload(np.zeros((0, 4), np.float32)), upload(np.zeros((4, 2), np.float32)))
    assert nothing.shape == (0, 2)


def test_nan_stays_in_its_row(backend: str) -> None:
    a, b = normal((5, 4), np.float32), normal((4, 3), np.float32, 1)
    a[4, 2] = np.nan
    actual = download(gemm.matmul(upload(a), upload(b)))
    assert np.isnan(actual[4]).all()
    assert np.isfinite(actual[:4]).all()


def test_same_bits_again(backend: str) -> None:
    a, b = upload(normal((3, 50), np.float32)), upload(normal((50, 5), np.float32, 1))
    first = download(gemm.matmul(a, b))
    np.testing.assert_array_equal(download(gemm.matmul(a, b)), first)


def test_bad_arguments() -> None:
    a, b = upload(np.zeros((2, 3), np.float32)), upload(np.zeros((3, 4), np.float32))
    with pytest.raises(ValueError, match=r"expected shapes \(M, K\)"):
        gemm.matmul(a, a)
    with pytest.raises(TypeError, match="both the same"):
        gemm.matmul(a, upload(np.zeros((3, 4))))
    with pytest.raises(ValueError, match="out: expected float32"):
        gemm.matmul(a, b, a)
    with pytest.raises(ValueError, match="accumulate"):
        gemm.matmul(a, b, accumulate=True)
    with pytest.raises(ValueError, match="rows are contiguous"):
        gemm.matmul(a, b, transposed(upload(np.zeros((4, 2), np.float32))))
    with pytest.raises(ValueError, match="backend"):
        gemm.use("mkl")
