"""The tiled matrix product against NumPy in float64."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numba
import numpy as np
import pytest
from numba import njit
from tolerances import assert_close

from lstm_numba.engines.cpu import gemm
from lstm_numba.engines.cpu.function_pointers import call_pointer
from lstm_numba.engines.cpu.gemm import matmul
from lstm_numba.engines.cpu.memory import address
from lstm_numba.engines.cpu.microkernel import tile_address
from lstm_numba.engines.cpu.records import ProductJob, ProductOperand
from lstm_numba.engines.cpu.thread_team import WORK, Phases, run_task
from lstm_numba.engines.cpu.vector import pointer_to

pytestmark = pytest.mark.processor

# Around the sizes of tiles, blocks and vectors, one less and one more.
SHAPES = [
    (1, 1, 1),
    (1, 300, 1),
    (3, 5, 7),
    (gemm.ROWS, 16, 32),
    (gemm.ROWS + 1, gemm.DEPTH + 1, 33),
    (gemm.HEIGHT + 1, 2 * gemm.DEPTH, 65),
    (200, 17, gemm.WIDTH + 5),
    (700, 31, 40),
]


def _layouts(matrix: np.ndarray) -> list[np.ndarray]:
    wide = np.zeros((matrix.shape[0], matrix.shape[1] + 3), matrix.dtype)
    wide[:, 1:-2] = matrix
    frozen = matrix.copy()
    frozen.flags.writeable = False
    return [matrix, np.asfortranarray(matrix), wide[:, 1:-2], frozen, matrix[::-1][::-1]]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_layout(shape: tuple[int, int, int], dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gemm, "SERIAL_LIMIT", 1 << 16)
    rng = np.random.default_rng(0)
    m, k, n = shape
    a = rng.standard_normal((m, k)).astype(dtype)
    b = rng.standard_normal((k, n)).astype(dtype)
    truth = a.astype(np.float64) @ b.astype(np.float64)
    for left in _layouts(a):
        for right in _layouts(b):
            assert_close(matmul(left, right), truth, "product")


@pytest.mark.parametrize("accumulate", [False, True])
def test_out_with_rows_apart(accumulate: bool) -> None:
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((50, 300)), rng.standard_normal((300, 41))
    store = np.full((50, 60), 7.0)
    result = matmul(a, b, out=store[:, 10:51], accumulate=accumulate)
    assert result.base is store
    assert_close(store[:, 10:51], a @ b + (7.0 if accumulate else 0.0), "product")
    assert np.all(store[:, :10] == 7)
    assert np.all(store[:, 51:] == 7)


def test_threads_do_not_change_the_bits() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((300, 500)), rng.standard_normal((500, 200))
    threads = numba.get_num_threads()
    results = []
    try:
        for count in {1, threads}:
            numba.set_num_threads(count)
            results.append(matmul(a, b))
    finally:
        numba.set_num_threads(threads)
    np.testing.assert_array_equal(results[0], results[-1])


def test_empty() -> None:
    out = np.ones((2, 3))
    assert np.all(matmul(np.ones((2, 0)), np.ones((0, 3)), out=out) == 0)
    assert np.all(matmul(np.ones((2, 0)), np.ones((0, 3)), out=out + 1, accumulate=True) == 1)
    assert matmul(np.ones((0, 2)), np.ones((2, 3))).shape == (0, 3)


@pytest.mark.smoke
def test_nan_shows() -> None:
    a = np.ones((20, 20), np.float32)
    a[3, 4] = np.nan
    product = matmul(a, np.ones((20, 20), np.float32))
    assert np.isnan(product[3]).all()
    assert np.isfinite(np.delete(product, 3, axis=0)).all()


@pytest.mark.parametrize(
    ("a", "b", "out", "error", "text"),
    [
        (np.ones((2, 3)), np.ones((2, 3)), None, ValueError, r"expected shapes \(M, K\) and \(K, N\)"),
        (np.ones((2, 3)), np.ones((3, 2), np.float32), None, TypeError, "both the same"),
        (np.ones((2, 2), int), np.ones((2, 2), int), None, TypeError, "float32 or float64"),
        (np.ones((2, 3)), np.ones((3, 2)), np.ones((3, 2)), ValueError, "out: expected"),
        (
            np.ones((2, 3)),
            np.ones((3, 2)),
            np.asfortranarray(np.ones((2, 2))),
            ValueError,
            "rows are contiguous",
        ),
    ],
)
def test_bad_arguments(a: np.ndarray, b: np.ndarray, out: np.ndarray | None, error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        matmul(a, b, out=out)


Segments = list[tuple[int, int, tuple[int, ...]]]


@contextlib.contextmanager
def product_job(
    a: np.ndarray, b: list[np.ndarray], outs: list[np.ndarray], segments: Segments, parts: int
) -> Iterator[int]:
    """Address of the `ProductJob` of a matrix, read transposed, as the weights' gradients are."""
    inner = len(a)
    lane, packed, operands = (
        gemm.LANES[a.dtype],
        8 * gemm.workspace_numbers.py_func(inner, gemm.LANES[a.dtype]),
        [],
    )
    for matrix, out in zip(b, outs, strict=True):
        width = out.shape[1]
        operands += ProductOperand(address(matrix), width, 1, address(out), width, width, packed)
        packed += 8 * gemm.operand_numbers.py_func(inner, width, lane)
    workspace = np.empty((parts, packed), np.uint8)
    tiles = tile_address(gemm.VECTORS, a.dtype), tile_address(1, a.dtype)
    head = ProductJob(
        address(a), 1, a.shape[1], inner, lane, 8, 0, address(workspace), packed, *tiles, parts, len(b),
        len(segments),
    )  # fmt: skip
    rest = [number for first, count, targets in segments for number in (first, count, *targets)]
    job = np.array([*head, *operands, *rest], np.int64)
    yield address(job)


@pytest.mark.parametrize("parts", [1, 3])
def test_segments_of_one_matrix_times_several(parts: int) -> None:
    rng = np.random.default_rng(4)
    inner = gemm.DEPTH + 9
    a = rng.standard_normal((inner, 70))
    b = [rng.standard_normal((inner, n)) for n in (5, 33)]
    outs = [np.full((60, 5), 7.0), np.full((44, 33), 7.0)]
    segments = [(2, 20, (30, -1)), (25, 13, (0, 4)), (40, 24, (-1, 20))]
    with product_job(a, b, outs, segments, parts) as job:
        run_task(gemm.product_task(a.dtype), job, Phases(work=parts))
    for n, (matrix, out) in enumerate(zip(b, outs, strict=True)):
        expected = np.full_like(out, 7.0)
        for first, count, targets in segments:
            if targets[n] >= 0:
                expected[targets[n] : targets[n] + count] = a.T[first : first + count] @ matrix
        assert_close(out, expected, "product")


@njit
def _one_part(task: int, job: int, part: int) -> None:
    call_pointer(task, (pointer_to(job, task), WORK, part))


@pytest.mark.parametrize("cheap_first", [True, False])
def test_parts_have_as_much_to_multiply(cheap_first: bool) -> None:
    """Of segments with few columns a part gets more rows: they are written by the part that computes them."""
    rng = np.random.default_rng(5)
    a, rows = rng.standard_normal((20, 1200)), 600
    b = [rng.standard_normal((20, n)) for n in (32, 384)]
    firsts = (0, rows) if cheap_first else (rows, 0)
    segments = sorted([(firsts[0], rows, (0, -1)), (firsts[1], rows, (-1, 0))])
    shares = []
    for part in range(2):
        outs = [np.full((rows, matrix.shape[1]), np.nan) for matrix in b]
        with product_job(a, b, outs, segments, 2) as job:
            _one_part(gemm.product_task(a.dtype), job, part)
        shares.append([np.count_nonzero(np.isfinite(out)) for out in outs])
    assert np.array_equal(np.sum(shares, 0), [rows * 32, rows * 384])
    work = np.sum(shares, 1)
    assert max(work) < 1.1 * min(work), shares
