"""Memory of the device: arrays in memory that is used again, and copies to and from it.

CUDA's own allocation waits for the device. So memory that is given back is kept for the next array of its
size, on the stream that it was used on: what is put on a stream later cannot overtake what is there already.
"""

from __future__ import annotations

import contextlib
import contextvars
import copyreg
import ctypes
import functools
import math
from collections import defaultdict, deque
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from lstm_numba.engines.cuda.device_array import DeviceView, as_view
from lstm_numba.engines.cuda.driver import (
    DEVICE_ARRAY,
    SIMULATED,
    CudaAPIError,
    Event,
    cuda,
    current_device,
    driver,
)
from lstm_numba.engines.cuda.grid_stride import stride_range
from lstm_numba.engines.cuda.launch import (
    current_stream,
    launch_over,
    launch_over_box,
    stream_handle,
    stream_key,
)
from lstm_numba.engines.cuda.options import KERNEL
from lstm_numba.errors import DeviceError

#: An array on the device: one of ours, or in the simulator one of its.
DeviceArray = Any

_SMALL = 1 << 20
#: Up to so many bytes a copy to the device goes through page-locked memory.
_STAGED = 1 << 24


class _Lease:
    """Held by an array and all views of it; when the last is gone, the block goes back.

    The block itself is the pool's: where arrays are part of a cycle, Python's collector would have numba-cuda
    free what they hold before it comes to `__del__`.
    """

    __slots__ = ("address", "idle", "pool")

    def __init__(self, pool: Pool, address: int, idle: list[int]) -> None:
        self.pool, self.address, self.idle = pool, address, idle

    def __del__(self) -> None:
        self.idle.append(self.address)


class Pool:
    """Blocks of device memory by address, and those that nobody uses by device, stream and size."""

    def __init__(self) -> None:
        self._blocks: dict[int, Any] = {}
        self._idle: defaultdict[Any, list[int]] = defaultdict(list)

    def take(self, size: int) -> tuple[int, _Lease]:
        """Address of at least `size` bytes, and who gives them back when it is forgotten."""
        step = 512 if size <= _SMALL else 2 * _SMALL
        rounded = -(-size // step) * step
        idle = self._idle[current_device(), stream_key(), rounded]
        try:
            address = idle.pop()
        except IndexError:
            address = self._allocate(rounded)
        return address, _Lease(self, address, idle)

    def _allocate(self, size: int) -> int:
        """Address of a new block."""
        try:
            block, address = _allocate(size)
        except DeviceError:
            self.clear()
            block, address = _allocate(size)
        self._blocks[address] = block
        return address

    def clear(self) -> None:
        """Give all unused memory back to CUDA."""
        for idle in self._idle.values():
            while idle:
                del self._blocks[idle.pop()]
        cuda.current_context().memory_manager.deallocations.clear()


def _allocate(size: int) -> tuple[Any, int]:
    try:
        block = cuda.device_array(size, np.uint8)
    except CudaAPIError as error:
        if "OUT_OF_MEMORY" not in str(error):
            raise
        free, total = cuda.current_context().get_memory_info()
        raise DeviceError(
            f"out of device memory: asked for {size / 2**20:,.1f} MiB, "
            f"{free / 2**20:,.1f} of {total / 2**20:,.1f} MiB are free"
        ) from None
    return block, block.__cuda_array_interface__["data"][0]


_default_pool = Pool()
_pool: contextvars.ContextVar[Pool | None] = contextvars.ContextVar("pool", default=None)
_recording: contextvars.ContextVar[bool] = contextvars.ContextVar("recording", default=False)


@contextlib.contextmanager
def taken_from(pool: Pool) -> Iterator[None]:
    """Take the memory of a ``with`` block's arrays from a pool, which it goes back to."""
    token = _pool.set(pool)
    try:
        yield
    finally:
        _pool.reset(token)


@contextlib.contextmanager
def recording() -> Iterator[None]:
    """Refuse copies from the host in a ``with`` block, in which work is noted and not done."""
    token = _recording.set(True)
    try:
        yield
    finally:
        _recording.reset(token)


def empty(shape: tuple[int, ...], dtype: npt.DTypeLike) -> DeviceArray:
    """An array with whatever the memory holds.

    Raises
    ------
    DeviceError
        There is not so much memory; the text says what was asked for and what was free.
    """
    kind = np.dtype(dtype)
    if SIMULATED:
        return cuda.device_array(shape, kind)
    size = math.prod(shape) * kind.itemsize
    address, lease = (_pool.get() or _default_pool).take(size) if size else (0, None)
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
        Work is being recorded: it would copy these numbers each time.
    """
    if _recording.get():
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
    if SIMULATED or source.nbytes > _STAGED or not _is_contiguous(out):
        out.copy_to_device(source, stream=current_stream())
    else:
        _staging.copy(source, address(out))
    return out


def _is_contiguous(array: DeviceArray) -> bool:
    """Whether an array is one piece of memory in C's order."""
    return bool(array.is_c_contiguous())


def address(array: DeviceArray) -> int:
    """Where an array's first number lies; in the simulator in the host's memory."""
    if SIMULATED:
        return int(array._ary.ctypes.data)
    return int(as_view(array).address)


def download(array: DeviceArray) -> npt.NDArray[Any]:
    """Copy an array from the device, and wait for it."""
    if array.size == 0:
        return np.empty(array.shape, array.dtype)
    result: npt.NDArray[Any] = array.copy_to_host(stream=current_stream())
    synchronize()
    return result


def _unpickled(numbers: npt.NDArray[Any]) -> DeviceArray:
    array = upload(numbers)
    synchronize()  # the next call may be on another stream
    return array


# A copy that Python makes of a device array by itself shares its memory, and does not keep it.
for _kind in (DEVICE_ARRAY, DeviceView):
    copyreg.pickle(_kind, lambda array: (_unpickled, (download(array),)))


class _Staging:
    """Copies to the device for which the host need not wait.

    The driver reads page-locked memory while the host goes on, so that what is copied goes there first. A
    piece of it is used again when an event tells that it has been read.
    """

    def __init__(self) -> None:
        self._pieces: defaultdict[Any, deque[tuple[_PageLocked, Event]]] = defaultdict(deque)

    def copy(self, source: npt.NDArray[Any], target: int) -> None:
        """Copy a C-contiguous array that is not empty to an address."""
        size, stream = source.nbytes, stream_handle()
        rounded = 1 << (size - 1).bit_length()
        pieces = self._pieces[current_device(), rounded]
        host, event = self._take(pieces) or (_PageLocked(rounded), Event())
        ctypes.memmove(host.address, source.__array_interface__["data"][0], size)
        driver.cuMemcpyHtoDAsync(target, host.address, size, stream)
        event.record(stream)
        pieces.append((host, event))

    @staticmethod
    def _take(pieces: deque[tuple[_PageLocked, Event]]) -> tuple[_PageLocked, Event] | None:
        """The piece that was filled first, if it has been read."""
        try:  # one operation, which threads cannot interrupt
            piece = pieces.popleft()
        except IndexError:
            return None
        if piece[1].passed():
            return piece
        pieces.appendleft(piece)
        return None


class _PageLocked:
    """Memory of the host that the device reads and writes while the host goes on.

    Attributes
    ----------
    bytes : ndarray of uint8
    address : int
    """

    def __init__(self, size: int) -> None:
        self.bytes = cuda.pinned_array(size, np.uint8)
        self.address = self.bytes.__array_interface__["data"][0]


_staging = _Staging()


class Download:
    """A copy to the host on its way: call it for the numbers, and it waits until they are there.

    Only page-locked memory is written to while the host goes on; it is dear to make, and used again.
    """

    _idle: ClassVar[defaultdict[Any, list[tuple[_PageLocked, Event]]]] = defaultdict(list)

    def __init__(self, array: DeviceArray) -> None:
        self._result: npt.NDArray[Any] | None = None
        if SIMULATED or array.size == 0 or not _is_contiguous(array):
            self._result = download(array)
            return
        stream = stream_handle()
        self._array = array  # its memory must not go to somebody else before it has been read
        self._pieces = self._idle[current_device(), array.nbytes]
        try:
            self._host, self._event = self._pieces.pop()
        except IndexError:
            self._host, self._event = _PageLocked(array.nbytes), Event()
        driver.cuMemcpyDtoHAsync(self._host.address, address(array), array.nbytes, stream)
        self._event.record(stream)

    def __call__(self) -> npt.NDArray[Any]:
        """The numbers."""
        if self._result is None:
            self._event.wait()
            numbers = self._host.bytes.view(self._array.dtype).reshape(self._array.shape)
            self._result = np.array(numbers)
            self._pieces.append((self._host, self._event))
        return self._result


def synchronize() -> None:
    """Wait for all work on the current stream."""
    stream = current_stream()
    if stream:
        stream.synchronize()
    else:
        cuda.synchronize()


def flat(array: DeviceArray) -> DeviceArray:
    """A C-contiguous array as one of one dimension, without a copy."""
    if array.ndim == 1:
        return array
    return array.flat if type(array) is DeviceView and array.is_c_contiguous() else array.reshape(array.size)


def transposed(matrix: DeviceArray) -> DeviceArray:
    """A matrix (M, N) as (N, M), without a copy.

    ``matrix.T`` of numba-cuda is a copy, by a kernel that is compiled anew at each call.
    """
    if SIMULATED:
        return type(matrix)(matrix._ary.T)
    return _view(matrix, 0, matrix.shape[::-1], matrix.strides[::-1])


def columns(matrix: DeviceArray, begin: int, end: int) -> DeviceArray:
    """Columns ``[begin, end)`` of a matrix (M, N), without a copy.

    A slice ``matrix[:, begin:end]`` of numba-cuda makes a Python tuple for each of the M rows.
    """
    if SIMULATED:
        return type(matrix)(matrix._ary[:, begin:end])
    return _view(matrix, begin * matrix.strides[1], (matrix.shape[0], end - begin), matrix.strides)


def _view(array: DeviceArray, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> DeviceView:
    """Numbers of an array in another shape, from `offset` bytes on."""
    array = as_view(array)
    return DeviceView.at(array.address + offset, shape, array.dtype, array.owner, strides)


def span(array: DeviceArray) -> DeviceArray:
    """All memory from an array's first to its last number as a flat array, without a copy.

    Kernels that take a matrix of any strides take this and the strides: one type for all matrices.
    """
    if array.is_c_contiguous():
        return flat(array)
    last = sum((n - 1) * stride for n, stride in zip(array.shape, array.strides, strict=True))
    count = 0 if array.size == 0 else last // array.dtype.itemsize + 1
    strides = (array.dtype.itemsize,)
    if SIMULATED:
        view = np.lib.stride_tricks.as_strided(array._ary, (count,), strides)
        return type(array)(view)
    return _view(array, 0, (count,), strides)


@cuda.jit(**KERNEL)
def _fill(array, value):
    for i in stride_range(cuda.grid(1), array.size, cuda.gridsize(1)):
        array[i] = value


@cuda.jit(**KERNEL)
def _gather(target, source):
    (x, y, z), (x_step, y_step, z_step) = cuda.grid(3), cuda.gridsize(3)
    depth, rows, columns = source.shape
    for i in stride_range(z, depth, z_step):
        for j in stride_range(y, rows, y_step):
            for k in stride_range(x, columns, x_step):
                target[(i * rows + j) * columns + k] = source[i, j, k]


def fill(array: DeviceArray, value: float) -> None:
    """Put one number everywhere in a C-contiguous array."""
    if value == 0 and array.size and not SIMULATED:
        driver.cuMemsetD8Async(address(array), 0, array.nbytes, stream_handle())
        return
    launch_over(_fill, array.size, flat(array), array.dtype.type(value))


def contiguous(array: DeviceArray) -> DeviceArray:
    """The array itself where it is C-contiguous, else a copy; three dimensions."""
    return array if array.is_c_contiguous() else copied(array)


def copied(array: DeviceArray) -> DeviceArray:
    """A C-contiguous copy of an array, which has three dimensions or is C-contiguous."""
    result = empty(array.shape, array.dtype)
    if not array.is_c_contiguous():
        launch_over_box(_gather, array.shape, flat(result), array)
    else:
        assign(result, array)
    return result


def counters(count: int) -> DeviceArray:
    """Zeros, of which kernels count blocks and which they leave at zero: (n,) int32, n at least `count`.

    Those of one stream belong to one kernel after the other.
    """
    size = 1 << max(10, (count - 1).bit_length())
    return _counters(size, current_device(), stream_key())


def constant(numbers: npt.NDArray[Any]) -> DeviceArray:
    """An array that nobody will write to; it may be made while work is recorded, and is no part of it."""
    if SIMULATED or not _recording.get():
        return _upload(numbers)
    array, source = empty(numbers.shape, numbers.dtype), np.ascontiguousarray(numbers)
    driver.cuMemcpyHtoD(address(array), source.__array_interface__["data"][0], source.nbytes)
    return array


def assign(target: DeviceArray, source: DeviceArray | None) -> None:
    """Copy an array to another one of its shape and dtype, both C-contiguous; None stands for zeros."""
    if source is None:
        fill(target, 0)
    elif SIMULATED:
        target.copy_to_device(source)
    elif target.size:
        driver.cuMemcpyDtoDAsync(address(target), address(source), target.nbytes, stream_handle())


def zero() -> DeviceArray:
    """A zero that kernels read and none writes to: (1,) int64."""
    return _zero(current_device())


@functools.cache
def _zero(device: int) -> DeviceArray:
    array = zeros((1,), np.int64)
    synchronize()  # the next call may be on another stream
    return array


@functools.cache
def _counters(size: int, device: int, stream: Any) -> DeviceArray:
    return zeros((size,), np.int32)
