"""Arrays on the device: memory that is used again, copies to and from it, and arrays of other libraries.

CUDA's own allocation waits for the device. So memory that is given back is kept for the next array of its
size, on the stream that it was used on: what is put on a stream later cannot overtake what is there already.
"""

from __future__ import annotations

import copyreg
import math
import weakref
from collections import defaultdict, deque
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from lstm_numba.errors import DeviceError
from lstm_numba.gpu.driver import DEVICE_ARRAY, SIMULATED, CudaAPIError, cuda, device_view
from lstm_numba.gpu.launch import current_stream, device_number, launch_over
from lstm_numba.gpu.options import KERNEL

#: A device array of numba-cuda.
DeviceArray = Any

_SMALL = 1 << 20
#: Up to so many bytes a copy to the device goes through page-locked memory.
_STAGED = 1 << 24


class _Pool:
    """Blocks of device memory that nobody uses, by device, stream and size."""

    def __init__(self) -> None:
        self._free: defaultdict[Any, list[Any]] = defaultdict(list)

    def take(self, size: int) -> tuple[Any, Any]:
        """A block of at least `size` bytes, and the key under which it comes back."""
        step = 512 if size <= _SMALL else 2 * _SMALL
        rounded = -(-size // step) * step
        key = (device_number(), current_stream(), rounded)
        if self._free[key]:
            return self._free[key].pop(), key
        try:
            return cuda.device_array(rounded, np.uint8), key
        except CudaAPIError as error:
            if "OUT_OF_MEMORY" not in str(error):
                raise
        self.clear()
        return _allocate(rounded), key

    def give(self, block: Any, key: Any) -> None:
        self._free[key].append(block)

    def clear(self) -> None:
        """Give all unused memory back to CUDA."""
        self._free.clear()
        cuda.current_context().memory_manager.deallocations.clear()


def _allocate(size: int) -> Any:
    try:
        return cuda.device_array(size, np.uint8)
    except CudaAPIError as error:
        if "OUT_OF_MEMORY" not in str(error):
            raise
        free, total = cuda.current_context().get_memory_info()
        raise DeviceError(
            f"out of device memory: asked for {size / 2**20:,.1f} MiB, "
            f"{free / 2**20:,.1f} of {total / 2**20:,.1f} MiB are free"
        ) from None


class _Lease:
    """Held by an array and all views of it; when the last is gone, the block goes back."""


_pool = _Pool()


def empty(shape: tuple[int, ...], dtype: npt.DTypeLike) -> DeviceArray:
    """An array with whatever the memory holds.

    Raises
    ------
    DeviceError
        There is not so much memory; the text says what was asked for and what was free.
    """
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    if SIMULATED or size == 0:
        return cuda.device_array(shape, kind)
    block, key = _pool.take(size)
    lease = _Lease()
    weakref.finalize(lease, _pool.give, block, key).atexit = False
    return device_view(block, shape, kind, lease)


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
    if source.size == 0:
        return out
    if SIMULATED or source.nbytes > _STAGED:
        out.copy_to_device(source, stream=current_stream())
    else:
        _staging.copy(source, out)
    return out


def download(array: DeviceArray) -> npt.NDArray[Any]:
    """Copy an array from the device, and wait for it."""
    if array.size == 0:
        return np.empty(array.shape, array.dtype)
    result: npt.NDArray[Any] = array.copy_to_host(stream=current_stream())
    synchronize()
    return result


def _restored(numbers: npt.NDArray[Any]) -> DeviceArray:
    array = upload(numbers)
    synchronize()  # the next call may be on another stream
    return array


# A copy that Python makes of a device array by itself shares its memory, and does not keep it.
copyreg.pickle(DEVICE_ARRAY, lambda array: (_restored, (download(array),)))


class _Staging:
    """Copies to the device for which the host need not wait.

    The driver reads page-locked memory while the host goes on, so that what is copied goes there first. A
    piece of it is used again when an event tells that it has been read.
    """

    def __init__(self) -> None:
        self._pieces: defaultdict[int, deque[tuple[Any, Any]]] = defaultdict(deque)

    def copy(self, source: npt.NDArray[Any], out: DeviceArray) -> None:
        """Copy a C-contiguous array that is not empty."""
        stream = current_stream() or cuda.default_stream()
        pieces = self._pieces[1 << (source.nbytes - 1).bit_length()]
        if pieces and pieces[0][1].query():
            host, event = pieces.popleft()
        else:
            host = cuda.pinned_array(1 << (source.nbytes - 1).bit_length(), np.uint8)
            event = cuda.event(timing=False)
        piece = host[: source.nbytes].view(source.dtype).reshape(source.shape)
        piece[...] = source
        out.copy_to_device(piece, stream=stream)
        event.record(stream)
        pieces.append((host, event))


_staging = _Staging()


class Download:
    """A copy to the host on its way: call it for the numbers, and it waits until they are there.

    Only page-locked memory is written to while the host goes on; it is dear to make, and used again.
    """

    _free: ClassVar[defaultdict[Any, list[Any]]] = defaultdict(list)

    def __init__(self, array: DeviceArray) -> None:
        stream = current_stream() or cuda.default_stream()
        self._key = (array.shape, array.dtype)
        free = self._free[self._key]
        self._host = free.pop() if free else cuda.pinned_array(array.shape, array.dtype)
        array.copy_to_host(self._host, stream=stream)
        self._event = None
        if not SIMULATED:
            self._event = cuda.event(timing=False)
            self._event.record(stream)
        self._result: npt.NDArray[Any] | None = None

    def __call__(self) -> npt.NDArray[Any]:
        """The numbers."""
        if self._result is None:
            if self._event is not None:
                self._event.synchronize()
            self._result = np.array(self._host)
            self._free[self._key].append(self._host)
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
    return array if array.ndim == 1 else array.reshape(array.size)


def transposed(matrix: DeviceArray) -> DeviceArray:
    """A matrix (M, N) as (N, M), without a copy.

    ``matrix.T`` of numba-cuda is a copy, by a kernel that is compiled anew at each call.
    """
    if SIMULATED:
        return type(matrix)(matrix._ary.T)
    shape, strides = matrix.shape[::-1], matrix.strides[::-1]
    return type(matrix)(shape=shape, strides=strides, dtype=matrix.dtype, gpu_data=matrix.gpu_data)


def columns(matrix: DeviceArray, begin: int, end: int) -> DeviceArray:
    """Columns ``[begin, end)`` of a matrix (M, N), without a copy.

    A slice ``matrix[:, begin:end]`` of numba-cuda makes a Python tuple for each of the M rows.
    """
    if SIMULATED:
        return type(matrix)(matrix._ary[:, begin:end])
    (rows, _), (row, column) = matrix.shape, matrix.strides
    stop = (rows - 1) * row + end * column if rows and end > begin else begin * column
    data = matrix.gpu_data.view(begin * column, stop)
    return type(matrix)(shape=(rows, end - begin), strides=(row, column), dtype=matrix.dtype, gpu_data=data)


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


@cuda.jit(**KERNEL)
def _fill(array, value):
    for i in range(cuda.grid(1), array.size, cuda.gridsize(1)):
        array[i] = value


@cuda.jit(**KERNEL)
def _gather(target, source):
    rows, columns = source.shape[1], source.shape[2]
    for i in range(cuda.grid(1), target.size, cuda.gridsize(1)):
        target[i] = source[i // (rows * columns), i // columns % rows, i % columns]


def fill(array: DeviceArray, value: float) -> None:
    """Put one number everywhere."""
    launch_over(_fill, array.size, flat(array), array.dtype.type(value))


def contiguous(array: DeviceArray) -> DeviceArray:
    """The array itself where it is C-contiguous, else a copy; three dimensions."""
    return array if array.is_c_contiguous() else copied(array)


def copied(array: DeviceArray) -> DeviceArray:
    """A C-contiguous copy of an array, which has three dimensions or is C-contiguous."""
    result = empty(array.shape, array.dtype)
    if not array.is_c_contiguous():
        launch_over(_gather, array.size, flat(result), array)
    elif array.size:
        result.copy_to_device(array, stream=current_stream())
    return result
