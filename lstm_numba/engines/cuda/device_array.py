"""Device arrays that are cheap to make: an address, a shape, and the owner of the memory.

An array of numba-cuda takes tens of microseconds to make, to slice or to reshape, because it asks the driver
for the current context each time and describes its memory in three ways. `DeviceView` is a subclass with the
same interface that makes these descriptions only when they are asked for.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lstm_numba.engines.cuda.driver import DEVICE_ARRAY, SIMULATED, describe_memory

Shape = tuple[int, ...]


def contiguous_strides(shape: Shape, itemsize: int) -> Shape:
    """Strides of a C-contiguous array in bytes."""
    strides = []
    for length in reversed(shape):
        strides.append(itemsize)
        itemsize *= length
    return tuple(reversed(strides))


def _same_strides(shape: Shape, strides: Shape, contiguous: Shape) -> bool:
    """Whether two sets of strides are equivalent; strides of dimensions of length 1 do not count."""
    return all(n == 1 or a == b for n, a, b in zip(shape, strides, contiguous, strict=True))


class DeviceView(DEVICE_ARRAY):
    """A device array that does not own its memory.

    Made by `at`; views of it, and what numba-cuda makes of it, keep the owner of the memory alive.

    Attributes
    ----------
    address : int
    shape, strides : tuple of int
    dtype : dtype
    ndim, size : int
    owner : object
        Kept alive.
    arguments : tuple
        Type of the array, and the values that it passes to a kernel as an argument.
    flat : DeviceView
        The same elements in one dimension; of C-contiguous arrays only.
    """

    stream = 0
    address: int
    owner: Any
    _contiguous: bool

    @classmethod
    def at(
        cls, address: int, shape: Shape, dtype: np.dtype[Any], owner: Any, strides: Shape | None = None
    ) -> DeviceView:
        """An array at an address; C-contiguous unless strides are given."""
        self = cls.__new__(cls)
        size = 1
        for length in shape:
            size *= length
        self.address, self.shape, self.dtype, self.owner = address, shape, dtype, owner
        self.ndim, self.size = len(shape), size
        contiguous = contiguous_strides(shape, dtype.itemsize)
        self.strides = contiguous if strides is None else strides
        self._contiguous = size == 0 or strides is None or _same_strides(shape, strides, contiguous)
        return self

    def __getattr__(self, name: str) -> Any:
        """Attributes that are made on demand: numba-cuda's, or ours where numba-cuda made this array."""
        if name in ("_dummy", "gpu_data", "alloc_size"):
            described = describe_memory(self.address, self.shape, self.strides, self.dtype, self.owner)
            self._dummy, self.gpu_data, self.alloc_size = described
        elif name == "address":
            self.address = self.gpu_data.device_pointer_value or 0
        elif name == "owner":
            self.owner = self.gpu_data
        elif name == "_contiguous":
            contiguous = contiguous_strides(self.shape, self.dtype.itemsize)
            self._contiguous = self.size == 0 or _same_strides(self.shape, self.strides, contiguous)
        elif name == "arguments":
            self.arguments = self._as_arguments()
        elif name == "flat":
            self.flat = self.at(self.address, (self.size,), self.dtype, self.owner)
        else:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return self.__dict__[name]

    def _as_arguments(self) -> tuple[Any, tuple[int, ...]]:
        layout = "C" if self._contiguous else "F" if self.is_f_contiguous() else "A"
        if 0 in self.strides and self.size:  # a broadcast array is neither to numba-cuda
            layout = "A"
        # Two pointers that only host arrays have, then what numba-cuda's kernels take.
        values = (0, 0, self.size, self.dtype.itemsize, self.address, *self.shape, *self.strides)
        return (self.dtype.char, self.ndim, layout), values

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """The array as other libraries see it."""
        return {
            "shape": self.shape,
            "strides": None if self._contiguous else self.strides,
            "data": (self.address, False),
            "typestr": self.dtype.str,
            "stream": int(self.stream) or None,
            "version": 3,
        }

    def is_c_contiguous(self) -> bool:
        """Whether the elements are in C order without gaps."""
        return bool(self._contiguous)

    def reshape(self, *newshape: Any, **kws: Any) -> Any:
        """A view in another shape; see ``numpy.ndarray.reshape``."""
        shape = newshape[0] if len(newshape) == 1 and isinstance(newshape[0], (tuple, list)) else newshape
        known = 1
        for length in shape:
            known *= 1 if length == -1 else length
        if kws or not self._contiguous or shape.count(-1) > 1 or known == 0:
            return super().reshape(*newshape, **kws)
        shape = tuple(self.size // known if length == -1 else int(length) for length in shape)
        if known * (self.size // known) != self.size or (-1 not in newshape and known != self.size):
            return super().reshape(*newshape, **kws)  # raises the error
        return self.at(self.address, shape, self.dtype, self.owner)

    def __getitem__(self, item: Any) -> Any:
        """A view, or one element; see ``numpy.ndarray.__getitem__``."""
        if type(item) is slice and item.step in (None, 1) and self.ndim:
            begin, end, _ = item.indices(self.shape[0])
            shape = (max(0, end - begin), *self.shape[1:])
            strides = None if self._contiguous else self.strides
            return self.at(self.address + begin * self.strides[0], shape, self.dtype, self.owner, strides)
        if type(item) is int and self.ndim > 1 and 0 <= item < self.shape[0]:
            strides = None if self._contiguous else self.strides[1:]
            address = self.address + item * self.strides[0]
            return self.at(address, self.shape[1:], self.dtype, self.owner, strides)
        if type(item) is tuple and len(item) <= self.ndim and all(map(_is_plain, item)):
            return self._parts(item)
        return super().__getitem__(item)

    def _parts(self, item: tuple[slice, ...]) -> Any:
        """A view of a part along each of the first axes."""
        address, shape = self.address, list(self.shape)
        for n, one in enumerate(item):
            begin, end, _ = one.indices(self.shape[n])
            address, shape[n] = address + begin * self.strides[n], max(0, end - begin)
        return self.at(address, tuple(shape), self.dtype, self.owner, self.strides)


def _is_plain(item: Any) -> bool:
    return type(item) is slice and item.step in (None, 1)


def as_view(array: Any) -> Any:
    """Any array on the device as a `DeviceView`, without a copy; in the simulator the array itself.

    Parameters
    ----------
    array : object with ``__cuda_array_interface__``
    """
    if type(array) is DeviceView or SIMULATED:
        return array
    interface = array.__cuda_array_interface__
    strides = interface.get("strides")
    return DeviceView.at(
        interface["data"][0] or 0,
        tuple(interface["shape"]),
        np.dtype(interface["typestr"]),
        array,
        None if strides is None else tuple(strides),
    )


# -- views, without a copy ----------------------------------------------------------------------------


def flat(array: Any) -> Any:
    """A C-contiguous array in one dimension."""
    if array.ndim == 1:
        return array
    return array.flat if type(array) is DeviceView and array.is_c_contiguous() else array.reshape(array.size)


def _turned(values: tuple[int, ...], first: int) -> tuple[int, ...]:
    """Shape or strides with the axes `first`, counted from the end, and the next one exchanged."""
    return (*values[:first], values[first + 1], values[first], *values[len(values) + first + 2 :])


def with_axes(array: Any, count: int) -> Any:
    """An array with further axes of length 1 before its own."""
    more = count - array.ndim
    if SIMULATED:
        return type(array)(array._ary[(None,) * more])
    return _view(array, 0, (1,) * more + array.shape, (0,) * more + array.strides)


def swapped(array: Any) -> Any:
    """An array (..., A, B, C) as (..., B, A, C)."""
    if SIMULATED:
        return type(array)(array._ary.swapaxes(-3, -2))
    return _view(array, 0, _turned(array.shape, -3), _turned(array.strides, -3))


def transposed(matrix: Any) -> Any:
    """A matrix (M, N), or those of many models, as (N, M).

    ``matrix.T`` of numba-cuda makes a copy, by a kernel that is compiled anew at each call.
    """
    if SIMULATED:
        return type(matrix)(matrix._ary.swapaxes(-2, -1))
    return _view(matrix, 0, _turned(matrix.shape, -2), _turned(matrix.strides, -2))


def columns(matrix: Any, begin: int, end: int) -> Any:
    """Columns ``[begin, end)`` of a matrix (M, N), or of those of many models.

    A slice ``matrix[:, begin:end]`` of numba-cuda makes a Python tuple for each of the M rows.
    """
    if SIMULATED:
        return type(matrix)(matrix._ary[..., begin:end])
    shape = (*matrix.shape[:-1], end - begin)
    return _view(matrix, begin * matrix.strides[-1], shape, matrix.strides)


def rows(matrix: Any, begin: int, end: int) -> Any:
    """Rows ``[begin, end)`` of a matrix (M, N), or of those of many models."""
    if SIMULATED:
        return type(matrix)(matrix._ary[..., begin:end, :])
    shape = (*matrix.shape[:-2], end - begin, *matrix.shape[-1:])
    return _view(matrix, begin * matrix.strides[-2], shape, matrix.strides)


def _view(array: Any, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> DeviceView:
    """Elements of an array in another shape, from byte `offset` on."""
    array = as_view(array)
    return DeviceView.at(array.address + offset, shape, array.dtype, array.owner, strides)


def span(array: Any) -> Any:
    """All memory from an array's first to its last element as a flat array.

    Kernels for matrices of any strides take this and the strides: one type for all matrices.
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
