"""Arrays on the device: allocation, copies to and from it, and arrays of other libraries."""

from __future__ import annotations

import functools
import math
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_numba.errors import DeviceError
from lstm_numba.gpu.driver import SIMULATED, CudaAPIError, cuda
from lstm_numba.gpu.launch import current_stream, launch_over
from lstm_numba.gpu.options import KERNEL

#: A device array of numba-cuda.
DeviceArray = Any


def empty(shape: tuple[int, ...], dtype: npt.DTypeLike) -> DeviceArray:
    """An array with whatever the memory holds.

    Raises
    ------
    DeviceError
        There is not so much memory; the text says what was asked for and what was free.
    """
    kind = np.dtype(dtype)
    # CUDA has no arrays without numbers; a kernel that gets this one reads nothing of it.
    shape = tuple(int(n) for n in shape)
    if math.prod(shape) == 0:
        return (
            cuda.device_array(1, kind)[:0].reshape(shape)
            if len(shape) == 1
            else cuda.device_array(shape, kind)
        )
    try:
        return cuda.device_array(shape, kind)
    except CudaAPIError as error:
        if "OUT_OF_MEMORY" not in str(error):
            raise
        free, total = cuda.current_context().get_memory_info()
        mib = 2**20
        raise DeviceError(
            f"out of device memory: asked for {math.prod(shape) * kind.itemsize / mib:,.1f} MiB, "
            f"{free / mib:,.1f} of {total / mib:,.1f} MiB are free"
        ) from None


def zeros(shape: tuple[int, ...], dtype: npt.DTypeLike) -> DeviceArray:
    """An array of zeros."""
    array = empty(shape, dtype)
    fill(array, 0)
    return array


def upload(array: npt.NDArray[Any], out: DeviceArray | None = None) -> DeviceArray:
    """Copy a NumPy array to the device, into `out` if given."""
    source = np.ascontiguousarray(array)
    if out is None:
        out = empty(source.shape, source.dtype)
    if source.size:
        out.copy_to_device(source, stream=current_stream())
    return out


def download(array: DeviceArray) -> npt.NDArray[Any]:
    """Copy an array from the device, and wait for it."""
    if array.size == 0:
        return np.empty(array.shape, array.dtype)
    result: npt.NDArray[Any] = array.copy_to_host(stream=current_stream())
    synchronize()
    return result


def synchronize() -> None:
    """Wait for all work on the current stream."""
    stream = current_stream()
    if stream:
        stream.synchronize()
    else:
        cuda.synchronize()


def flat(array: DeviceArray) -> DeviceArray:
    """A C-contiguous array as one of one dimension, without a copy."""
    return array if array.ndim == 1 else array.reshape(array.size)


def span(array: DeviceArray) -> DeviceArray:
    """All memory from an array's first to its last number as a flat array, without a copy.

    Kernels that take a matrix of any strides take this and the strides: one type for all matrices.
    """
    if array.flags["C_CONTIGUOUS"]:
        return flat(array)
    last = sum((n - 1) * stride for n, stride in zip(array.shape, array.strides, strict=True))
    count = 0 if array.size == 0 else last // array.dtype.itemsize + 1
    strides = (array.dtype.itemsize,)
    if SIMULATED:
        view = np.lib.stride_tricks.as_strided(array._ary, (count,), strides)
        return type(array)(view)
    return type(array)(shape=(count,), strides=strides, dtype=array.dtype, gpu_data=array.gpu_data)


def scratch(purpose: str, size: int, dtype: npt.DTypeLike) -> DeviceArray:
    """A flat array to work in, kept for the next call; to allocate one may wait for the device.

    Calls of one purpose, thread and stream share it: what they put on the stream runs one after the other.
    """
    return _scratch(purpose, size, np.dtype(dtype), threading.get_ident(), current_stream())


@functools.lru_cache(maxsize=64)
def _scratch(purpose: str, size: int, dtype: np.dtype[Any], thread: int, stream: Any) -> DeviceArray:
    return empty((size,), dtype)


@cuda.jit(**KERNEL)
def _fill(array, value):
    for i in range(cuda.grid(1), array.size, cuda.gridsize(1)):
        array[i] = value


@cuda.jit(**KERNEL)
def _copy(target, to, source, at, count):
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        target[to + i] = source[at + i]


def fill(array: DeviceArray, value: float) -> None:
    """Put one number everywhere."""
    launch_over(_fill, array.size, flat(array), array.dtype.type(value))


def copy(
    target: DeviceArray, source: DeviceArray, to: int = 0, at: int = 0, count: int | None = None
) -> None:
    """Copy `count` numbers from place `at` of one array to place `to` of another, both C-contiguous."""
    count = source.size if count is None else count
    launch_over(_copy, count, flat(target), to, flat(source), at, count)
