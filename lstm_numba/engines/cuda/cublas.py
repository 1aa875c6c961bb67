"""NVIDIA's cuBLAS, through CuPy: products of matrices without copies, on the current stream."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from lstm_numba.engines.cuda.driver import SIMULATED, current_device
from lstm_numba.engines.cuda.launch import current_stream

#: cuBLAS takes alpha and beta by address.
_ZERO = {np.dtype(t): np.zeros(1, t) for t in (np.float32, np.float64)}
_ONE = {np.dtype(t): np.ones(1, t) for t in (np.float32, np.float64)}

#: cuBLAS calls it ``CUBLAS_TF32_TENSOR_OP_MATH``; CuPy has no name for it.
_TF32_MATH = 3

_tf32 = False


@functools.lru_cache(maxsize=1)
def available() -> bool:
    """Whether there is a CuPy that finds its cuBLAS."""
    if SIMULATED:
        return False
    try:
        import cupy  # noqa: F401
        from cupy_backends.cuda.libs import cublas  # noqa: F401  # so that it finds NVIDIA's library first
    except Exception:  # a CuPy without its libraries raises all kinds
        return False
    return True


def allow_tf32(on: bool) -> None:
    """Let float32 products round their operands to TF32."""
    global _tf32
    _tf32 = bool(on)


@functools.lru_cache(maxsize=64)
def _handle(thread: int, stream: Any, device: int) -> int:
    """A handle for one stream: cuBLAS is reproducible only if a handle stays with its stream."""
    from cupy_backends.cuda.libs import cublas

    handle: int = cublas.create()
    cublas.setPointerMode(handle, cublas.CUBLAS_POINTER_MODE_HOST)
    return handle


@functools.lru_cache(maxsize=64)
def _stream(stream: Any) -> Any:
    """A stream as CuPy's: its wrapper launches every call on CuPy's current stream."""
    import cupy

    return cupy.cuda.ExternalStream(int(stream)) if stream else cupy.cuda.Stream.null


def multiply(
    a: Any,
    b: Any,
    out: Any,
    accumulate: bool,
    strides: Callable[[Any], tuple[int, int]],
    model_stride: Callable[[Any], int],
) -> None:
    """``out = a b``, or ``out += a b``, or each of those of many models; all has been checked.

    cuBLAS is column-major: it sees our arrays transposed, and computes ``out' = b' a'``.
    """
    from cupy_backends.cuda.libs import cublas

    def operand(matrix: Any) -> tuple[int, int, int]:
        row, column = strides(matrix)
        transposed = column != 1
        kind = cublas.CUBLAS_OP_T if transposed else cublas.CUBLAS_OP_N
        return kind, _address(matrix), column if transposed else row

    (rows, depth), columns = a.shape[-2:], b.shape[b.ndim - 1]
    (a_op, a_address, a_ld), (b_op, b_address, b_ld) = operand(a), operand(b)
    stream = current_stream()
    handle = _handle(threading.get_ident(), stream, current_device())
    # The default mode is full float32.
    mode = _TF32_MATH if _tf32 else cublas.CUBLAS_DEFAULT_MATH
    cublas.setMathMode(handle, mode)
    one, beta = (_ONE[a.dtype].ctypes.data, (_ONE if accumulate else _ZERO)[a.dtype].ctypes.data)
    given = handle, b_op, a_op, columns, rows, depth, one
    kind = "s" if a.dtype == np.float32 else "d"
    with _stream(stream):
        if out.ndim == 2:
            gemm = getattr(cublas, f"{kind}gemm")
            gemm(*given, b_address, b_ld, a_address, a_ld, beta, _address(out), strides(out)[0])
        else:
            gemm = getattr(cublas, f"{kind}gemmStridedBatched")
            gemm(
                *given, b_address, b_ld, model_stride(b), a_address, a_ld, model_stride(a), beta,
                _address(out), strides(out)[0], model_stride(out), len(out),
            )  # fmt: skip


def _address(array: Any) -> int:
    address: int = array.__cuda_array_interface__["data"][0]
    return address
