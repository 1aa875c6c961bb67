"""The calls of cuBLAS, with NumPy as a stand-in: it is column-major, our arrays are row-major."""

from __future__ import annotations

import contextlib
import ctypes
import sys
import types
from typing import Any

import numpy as np
import pytest
from cuda_tools import DTYPES, normal
from tolerances import assert_close

from lstm_numba.engines.cuda import cublas, gemm


class HostArray(np.ndarray):
    """An array of the host that calls its address one of the device."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"data": (self.ctypes.data, False)}


def matrix(address: int, rows: int, columns: int, step: int, dtype: Any) -> Any:
    """A matrix column by column, columns `step` apart."""
    assert step >= max(1, rows), "cuBLAS refuses such a leading dimension"
    size = np.dtype(dtype).itemsize
    memory = (ctypes.c_byte * (size * (step * (columns - 1) + rows))).from_address(address)
    return np.ndarray((rows, columns), dtype, memory, strides=(size, size * step))


_GEMM = (
    "gemm(intptr_t handle, int transa, int transb, int m, int n, int k, "
    "size_t alpha, size_t A, int lda, size_t B, int ldb, size_t beta, size_t C, int ldc)"
)

_BATCHED = (
    "gemmStridedBatched(intptr_t handle, int transa, int transb, int m, int n, int k, "
    "size_t alpha, size_t A, int lda, long long strideA, size_t B, int ldb, long long strideB, "
    "size_t beta, size_t C, int ldc, long long strideC, int batchCount)"
)

#: What is used of ``cupy_backends.cuda.libs.cublas``, values and parameters, as CuPy 14.2.0 has it.
WRAPPER = {
    "CUBLAS_DEFAULT_MATH": 0,
    "CUBLAS_OP_N": 0,
    "CUBLAS_OP_T": 1,
    "CUBLAS_POINTER_MODE_HOST": 0,
    "create": "create() -> intptr_t",
    "dgemm": f"d{_GEMM}",
    "dgemmStridedBatched": f"d{_BATCHED}",
    "setMathMode": "setMathMode(intptr_t handle, int mode)",
    "setPointerMode": "setPointerMode(intptr_t handle, int mode)",
    "sgemm": f"s{_GEMM}",
    "sgemmStridedBatched": f"s{_BATCHED}",
}


class Library(types.ModuleType):
    """As much of CuPy's wrapper as is used; remembers the modes it was put in."""

    def __init__(self) -> None:
        super().__init__("cublas")
        self.modes: list[int] = []
        vars(self).update({name: value for name, value in WRAPPER.items() if isinstance(value, int)})

    def create(self) -> int:
        return 7

    def setPointerMode(self, handle: int, mode: int) -> None:
        assert (handle, mode) == (7, self.CUBLAS_POINTER_MODE_HOST)

    def setMathMode(self, handle: int, mode: int) -> None:
        assert handle == 7
        self.modes.append(mode)

    def sgemm(self, *arguments: Any) -> None:
        self._gemm(np.float32, *arguments)

    def dgemm(self, *arguments: Any) -> None:
        self._gemm(np.float64, *arguments)

    def sgemmStridedBatched(self, *arguments: Any) -> None:
        self._batched(np.float32, *arguments)

    def dgemmStridedBatched(self, *arguments: Any) -> None:
        self._batched(np.float64, *arguments)

    def _batched(
        self, dtype: Any, handle: int, a_kind: int, b_kind: int, m: int, n: int, k: int, alpha: int,
        a: int, a_step: int, a_stride: int, b: int, b_step: int, b_stride: int, beta: int,
        c: int, c_step: int, c_stride: int, count: int,
    ) -> None:  # fmt: skip
        size = np.dtype(dtype).itemsize
        for model in range(count):
            places = [at + model * stride * size for at, stride in ((a, a_stride), (b, b_stride))]
            self._gemm(
                dtype, handle, a_kind, b_kind, m, n, k, alpha, places[0], a_step, places[1], b_step, beta,
                c + model * c_stride * size, c_step,
            )  # fmt: skip

    def _gemm(
        self, dtype: Any, handle: int, a_kind: int, b_kind: int, m: int, n: int, k: int, alpha: int,
        a: int, a_step: int, b: int, b_step: int, beta: int, c: int, c_step: int,
    ) -> None:  # fmt: skip
        first = matrix(a, k, m, a_step, dtype).T if a_kind else matrix(a, m, k, a_step, dtype)
        second = matrix(b, n, k, b_step, dtype).T if b_kind else matrix(b, k, n, b_step, dtype)
        result = matrix(c, m, n, c_step, dtype)
        factor = matrix(beta, 1, 1, 1, dtype)[0, 0]
        before = factor * result if factor else 0
        result[...] = matrix(alpha, 1, 1, 1, dtype)[0, 0] * (first @ second) + before


@pytest.fixture
def library(monkeypatch: Any) -> Library:
    fake, null = Library(), contextlib.nullcontext()
    streams = types.SimpleNamespace(
        Stream=types.SimpleNamespace(null=null), ExternalStream=lambda number: null
    )
    for name, contents in {
        "cupy": {"cuda": streams},
        "cupy_backends": {},
        "cupy_backends.cuda": {},
        "cupy_backends.cuda.libs": {"cublas": fake},
    }.items():
        module = types.ModuleType(name)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)
    for name in ("_handle", "_stream"):  # without what they keep
        monkeypatch.setattr(cublas, name, getattr(cublas, name).__wrapped__)
    monkeypatch.setattr(gemm, "_chosen", "cublas")
    return fake


def laid_out(values: Any, layout: str) -> Any:
    if layout == "columns":
        # A new array has the strides that the device's would have, where a dimension is one, too.
        return np.array(values.T, order="C", copy=True).view(HostArray).T
    if layout == "slice":
        wide = np.full((values.shape[0], values.shape[1] + 3), np.nan, values.dtype)
        wide[:, 2:-1] = values
        return wide.view(HostArray)[:, 2:-1]
    return values.copy().view(HostArray)


def test_is_asked_for_through_its_folder(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only so CuPy 14 looks for NVIDIA's library where pip has put it."""
    monkeypatch.setattr(cublas, "SIMULATED", False)
    assert cublas.available.__wrapped__()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("size", [(3, 4, 5), (1, 4, 5), (3, 1, 5), (3, 4, 1), (1, 1, 1)], ids=str)
def test_matches_numpy(library: Library, size: Any, accumulate: bool, dtype: Any) -> None:
    m, k, n = size
    a, b, before = normal((m, k), dtype), normal((k, n), dtype, 1), normal((m, n), dtype, 2)
    expected = a.astype(np.float64) @ b + (before if accumulate else 0)
    for first in ("rows", "columns", "slice"):
        for second in ("rows", "columns", "slice"):
            for third in ("rows", "slice"):
                out = laid_out(before, third)
                gemm.matmul(laid_out(a, first), laid_out(b, second), out, accumulate)
                assert_close(np.asarray(out), expected, "product", f"{first}, {second}, {third}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("shared", [None, "a", "b"])
def test_many_models_in_one_call(library: Library, accumulate: bool, shared: Any, dtype: Any) -> None:
    a, b = normal((3, 2, 4), dtype), normal((3, 4, 5), dtype, 1)
    a, b = a[0] if shared == "a" else a, b[0] if shared == "b" else b
    before = normal((3, 2, 9), dtype, 2).view(HostArray)
    expected = a.astype(np.float64) @ b + (before[..., 2:7] if accumulate else 0)
    gemm.matmul(a.view(HostArray), b.view(HostArray), before[..., 2:7], accumulate)
    assert_close(np.asarray(before[..., 2:7]), expected, "product")


def test_tf32_only_where_asked_for(library: Library) -> None:
    a, out = np.ones((2, 2), np.float32).view(HostArray), np.ones((2, 2), np.float32).view(HostArray)
    gemm.matmul(a, a, out)
    gemm.allow_tf32(True)
    try:
        gemm.matmul(a, a, out)
    finally:
        gemm.allow_tf32(False)
    gemm.matmul(a, a, out)
    assert library.modes == [0, 3, 0]


def test_the_stand_in_has_no_names_of_its_own() -> None:
    own = {name for name in vars(Library) if not name.startswith("_")}
    assert own <= WRAPPER.keys()


def test_cupy_has_these_names() -> None:
    try:
        import cupy
        from cupy_backends.cuda.libs import cublas as real
    except ImportError as error:
        pytest.skip(f"needs CuPy with its cuBLAS: {error}".splitlines()[0])
    found = {name: getattr(real, name, None) for name in WRAPPER}
    assert {n: v if isinstance(v, int) else v.__doc__ for n, v in found.items()} == WRAPPER
    assert callable(cupy.cuda.ExternalStream)
    assert cupy.cuda.Stream.null.ptr == 0
    assert callable(cupy.asarray)
