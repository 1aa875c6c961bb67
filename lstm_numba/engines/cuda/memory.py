"""Arrays in device memory: allocation, copies to, from and on the device."""

from __future__ import annotations

import contextlib
import contextvars
import copyreg
import functools
import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from lstm_numba.engines.cuda.device_array import DeviceView, as_view, flat, with_axes
from lstm_numba.engines.cuda.driver import (
    DEVICE_ARRAY,
    SIMULATED,
    Event,
    copy_apart,
    cuda,
    current_device,
    driver,
)
from lstm_numba.engines.cuda.grid_stride import models_and_depth, stride_range
from lstm_numba.engines.cuda.launch import (
    current_stream,
    launch_over,
    launch_over_models,
    stream_handle,
    stream_key,
)
from lstm_numba.engines.cuda.options import KERNEL
from lstm_numba.engines.cuda.page_locked import PageLocked, staging
from lstm_numba.engines.cuda.pool import Pool, allocate_from, current_pool

#: An array on the device: a `DeviceView`, or in the simulator one of its own.
DeviceArray = Any

#: Copies to the device of up to so many bytes are staged in page-locked memory.
_STAGED = 1 << 24

#: Constants of the graph that is being recorded; None if none is.
_recording: contextvars.ContextVar[list[DeviceArray] | None] = contextvars.ContextVar(
    "recording", default=None
)


@contextlib.contextmanager
def recording() -> Iterator[list[DeviceArray]]:
    """Refuse copies from the host in a ``with`` block in which a graph is recorded.

    Yields
    ------
    list of device arrays
        What `keep` was called with: the graph's constants, which have to live as long as it.
    """
    constants: list[DeviceArray] = []
    token = _recording.set(constants)
    try:
        yield constants
    finally:
        _recording.reset(token)


def empty(shape: tuple[int, ...], dtype: npt.DTypeLike) -> DeviceArray:
    """An array that is not initialised.

    Raises
    ------
    DeviceError
        There is not enough memory; the message has the sizes asked for and free.
    """
    kind = np.dtype(dtype)
    if SIMULATED:
        return cuda.device_array(shape, kind)
    size = math.prod(shape) * kind.itemsize
    address, lease = current_pool().take(size) if size else (0, None)
    return DeviceView.at(address, shape, kind, lease)


def zeros(shape: tuple[int, ...], dtype: npt.DTypeLike) -> DeviceArray:
    """An array of zeros."""
    array = empty(shape, dtype)
    fill(array, 0)
    return array


def upload(array: npt.NDArray[Any], out: DeviceArray | None = None) -> DeviceArray:
    """Copy a NumPy array to the device, into `out` if given.

    Raises
    ------
    RuntimeError
        A graph is being recorded: it would copy the same values at each repetition.
    """
    if _recording.get() is not None:
        raise RuntimeError("no copy from the host can be part of a graph")
    return _upload(array, out)


def _upload(array: npt.NDArray[Any], out: DeviceArray | None = None) -> DeviceArray:
    source = np.ascontiguousarray(array)
    if out is None:
        out = empty(source.shape, source.dtype)
    elif out.shape != source.shape or out.dtype != source.dtype:
        raise ValueError(f"out: expected {source.dtype} {source.shape}, got {out.dtype} {out.shape}")
    if source.size == 0:
        return out
    if SIMULATED or source.nbytes > _STAGED or not out.is_c_contiguous():
        out.copy_to_device(source, stream=current_stream())
    else:
        staging.copy(source, address(out))
    return out


def address(array: DeviceArray) -> int:
    """Address of an array's first element; in the simulator in the host's memory."""
    if SIMULATED:
        return int(array._ary.ctypes.data)
    return int(as_view(array).address)


def download(array: DeviceArray) -> npt.NDArray[Any]:
    """Copy an array to the host, and wait for it."""
    if array.size == 0:
        return np.empty(array.shape, array.dtype)
    result: npt.NDArray[Any] = array.copy_to_host(stream=current_stream())
    synchronize()
    return result


def _unpickled(values: npt.NDArray[Any]) -> DeviceArray:
    array = upload(values)
    synchronize()  # the next call may be on another stream
    return array


# Python's own copy of a device array would share its memory and not keep it alive.
for _kind in (DEVICE_ARRAY, DeviceView):
    copyreg.pickle(_kind, lambda array: (_unpickled, (download(array),)))


class Download:
    """An asynchronous copy to the host: call it to wait for the copy and get the array.

    It goes to page-locked memory, which is expensive to allocate and therefore used again.
    """

    _free: ClassVar[defaultdict[Any, list[tuple[PageLocked, Event]]]] = defaultdict(list)

    def __init__(self, array: DeviceArray) -> None:
        self._result: npt.NDArray[Any] | None = None
        if SIMULATED or array.size == 0 or not array.is_c_contiguous():
            self._result = download(array)
            return
        stream = stream_handle()
        self._array = array  # its memory must not be used again before it has been read
        self._buffers = self._free[current_device(), array.nbytes]
        try:
            self._host, self._event = self._buffers.pop()
        except IndexError:
            self._host, self._event = PageLocked(array.nbytes), Event()
        driver.cuMemcpyDtoHAsync(self._host.address, address(array), array.nbytes, stream)
        self._event.record(stream)

    def __call__(self) -> npt.NDArray[Any]:
        """Wait for the copy; returns the array."""
        if self._result is None:
            self._event.wait()
            values = self._host.bytes.view(self._array.dtype).reshape(self._array.shape)
            self._result = np.array(values)
            self._buffers.append((self._host, self._event))
        return self._result


def synchronize() -> None:
    """Wait for all work on the current stream."""
    stream = current_stream()
    if stream:
        stream.synchronize()
    else:
        cuda.synchronize()


@cuda.jit(**KERNEL)
def _fill(array, value):
    for i in stride_range(cuda.grid(1), array.size, cuda.gridsize(1)):
        array[i] = value


@cuda.jit(**KERNEL)
def _copy_strided(target, source, bits):
    (x, y), (x_step, y_step) = cuda.grid(2), cuda.gridsize(2)
    model, model_step, z, z_step = models_and_depth(bits)
    models, depth, rows, columns = source.shape
    for n in stride_range(model, models, model_step):
        for i in stride_range(z, depth, z_step):
            for j in stride_range(y, rows, y_step):
                for k in stride_range(x, columns, x_step):
                    target[n, i, j, k] = source[n, i, j, k]


def fill(array: DeviceArray, value: float) -> None:
    """Set all elements of a C-contiguous array to one value."""
    if value == 0 and array.size and not SIMULATED:
        driver.cuMemsetD8Async(address(array), 0, array.nbytes, stream_handle())
        return
    launch_over(_fill, array.size, flat(array), array.dtype.type(value))


def contiguous(array: DeviceArray) -> DeviceArray:
    """The array itself if it is C-contiguous, else a copy; four dimensions at most."""
    return array if array.is_c_contiguous() else copied(array)


def copied(array: DeviceArray) -> DeviceArray:
    """A C-contiguous copy of an array, which has four dimensions at most or is C-contiguous."""
    result = empty(array.shape, array.dtype)
    assign(result, array)
    return result


def counters(count: int) -> DeviceArray:
    """Zeros with which kernels count blocks, and which they reset to zero: (n,) int32, n at least `count`.

    All kernels of a stream share them, as they run one after the other.
    """
    size = 1 << max(10, (count - 1).bit_length())
    return _counters(size, current_device(), stream_key())


def constant(array: npt.NDArray[Any]) -> DeviceArray:
    """Upload an array that is never written to; allowed while a graph is recorded, and not part of it."""
    if SIMULATED or _recording.get() is None:
        return _upload(array)
    with allocate_from(Pool()):  # not where recorded work has had arrays: it would overwrite this one
        result, source = empty(array.shape, array.dtype), np.ascontiguousarray(array)
    if source.size:
        copy_apart(address(result), source.__array_interface__["data"][0], source.nbytes)
    return result


def keep(array: DeviceArray) -> None:
    """If a graph is being recorded, let it keep a constant that it reads."""
    kept = _recording.get()
    if kept is not None:
        kept.append(array)


def assign(target: DeviceArray, source: DeviceArray | None) -> None:
    """Copy an array to another one of its shape and dtype; None stands for zeros.

    Zeros are for C-contiguous arrays, arrays that are not C-contiguous have four dimensions at most.
    """
    if source is None:
        fill(target, 0)
    elif not (target.is_c_contiguous() and source.is_c_contiguous()):
        four = with_axes(target, 4), with_axes(source, 4)
        launch_over_models(_copy_strided, four[0].shape, *four)
    elif SIMULATED:
        target.copy_to_device(source)
    elif target.size:
        driver.cuMemcpyDtoDAsync(address(target), address(source), target.nbytes, stream_handle())


def zero() -> DeviceArray:
    """A constant zero: (1,) int64."""
    return _zero(current_device())


@functools.cache
def _zero(device: int) -> DeviceArray:
    array = zeros((1,), np.int64)
    synchronize()  # the next call may be on another stream
    return array


@functools.cache
def _counters(size: int, device: int, stream: Any) -> DeviceArray:
    return zeros((size,), np.int32)
