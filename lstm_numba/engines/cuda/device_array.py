"""Device arrays that are cheap to make: an address, a shape, and who owns the memory.

An array of numba-cuda takes tens of microseconds to make, to slice or to reshape, because it asks the driver
for the current context each time and describes its memory in three ways. These are arrays of numba-cuda too,
with all that users know of them, but make such parts when somebody asks for them.
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


def _same_order(shape: Shape, strides: Shape, natural: Shape) -> bool:
    """Whether strides say the same as the natural ones; that of a single row or column says nothing."""
    return all(n == 1 or a == b for n, a, b in zip(shape, strides, natural, strict=True))


class LightArray(DEVICE_ARRAY):
    """A device array that holds no memory of its own.

    Made by `at`; views of it, and what numba-cuda makes of it, keep the owner of the memory.

    Attributes
    ----------
    address : int
    shape, strides : tuple of int
    dtype : dtype
    ndim, size : int
    owner : object
        Kept alive.
    arguments : tuple
        Type and numbers of the array as a kernel's argument.
    line : LightArray
        The same numbers in one dimension; of C-contiguous arrays only.
    """

    stream = 0
    address: int
    owner: Any
    _ordered: bool

    @classmethod
    def at(
        cls, address: int, shape: Shape, dtype: np.dtype[Any], owner: Any, strides: Shape | None = None
    ) -> LightArray:
        """An array at an address; C-contiguous unless strides are given."""
        self = cls.__new__(cls)
        size = 1
        for length in shape:
            size *= length
        self.address, self.shape, self.dtype, self.owner = address, shape, dtype, owner
        self.ndim, self.size = len(shape), size
        natural = contiguous_strides(shape, dtype.itemsize)
        self.strides = natural if strides is None else strides
        self._ordered = size == 0 or strides is None or _same_order(shape, strides, natural)
        return self

    def __getattr__(self, name: str) -> Any:
        """Parts that are made late: those of numba-cuda's arrays, or ours where numba-cuda made this one."""
        if name in ("_dummy", "gpu_data", "alloc_size"):
            described = describe_memory(self.address, self.shape, self.strides, self.dtype, self.owner)
            self._dummy, self.gpu_data, self.alloc_size = described
        elif name == "address":
            self.address = self.gpu_data.device_pointer_value or 0
        elif name == "owner":
            self.owner = self.gpu_data
        elif name == "_ordered":
            natural = contiguous_strides(self.shape, self.dtype.itemsize)
            self._ordered = self.size == 0 or _same_order(self.shape, self.strides, natural)
        elif name == "arguments":
            self.arguments = self._as_arguments()
        elif name == "line":
            self.line = self.at(self.address, (self.size,), self.dtype, self.owner)
        else:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return self.__dict__[name]

    def _as_arguments(self) -> tuple[Any, tuple[int, ...]]:
        layout = "C" if self._ordered else "F" if self.is_f_contiguous() else "A"
        if 0 in self.strides and self.size:  # a broadcast array is neither to numba-cuda
            layout = "A"
        # Two pointers that only Python's arrays have, then what numba-cuda's kernels take.
        numbers = (0, 0, self.size, self.dtype.itemsize, self.address, *self.shape, *self.strides)
        return (self.dtype.char, self.ndim, layout), numbers

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """The array as other libraries see it."""
        return {
            "shape": self.shape,
            "strides": None if self._ordered else self.strides,
            "data": (self.address, False),
            "typestr": self.dtype.str,
            "stream": int(self.stream) or None,
            "version": 3,
        }

    def is_c_contiguous(self) -> bool:
        """Whether numbers lie in C's order without gaps."""
        return bool(self._ordered)

    def reshape(self, *newshape: Any, **kws: Any) -> Any:
        """The same numbers in another shape; see ``numpy.ndarray.reshape``."""
        shape = newshape[0] if len(newshape) == 1 and isinstance(newshape[0], (tuple, list)) else newshape
        known = 1
        for length in shape:
            known *= 1 if length == -1 else length
        if kws or not self._ordered or shape.count(-1) > 1 or known == 0:
            return super().reshape(*newshape, **kws)
        shape = tuple(self.size // known if length == -1 else int(length) for length in shape)
        if known * (self.size // known) != self.size or (-1 not in newshape and known != self.size):
            return super().reshape(*newshape, **kws)  # which says what is wrong
        return self.at(self.address, shape, self.dtype, self.owner)

    def __getitem__(self, item: Any) -> Any:
        """A view, or a number; see ``numpy.ndarray.__getitem__``."""
        if type(item) is slice and item.step in (None, 1) and self.ndim:
            begin, end, _ = item.indices(self.shape[0])
            shape = (max(0, end - begin), *self.shape[1:])
            strides = None if self._ordered else self.strides
            return self.at(self.address + begin * self.strides[0], shape, self.dtype, self.owner, strides)
        if type(item) is int and self.ndim > 1 and 0 <= item < self.shape[0]:
            strides = None if self._ordered else self.strides[1:]
            address = self.address + item * self.strides[0]
            return self.at(address, self.shape[1:], self.dtype, self.owner, strides)
        return super().__getitem__(item)


def light(array: Any) -> Any:
    """Any array on the device as one of these, without a copy; in the simulator as it is.

    Parameters
    ----------
    array : object with ``__cuda_array_interface__``
    """
    if type(array) is LightArray or SIMULATED:
        return array
    interface = array.__cuda_array_interface__
    strides = interface.get("strides")
    return LightArray.at(
        interface["data"][0] or 0,
        tuple(interface["shape"]),
        np.dtype(interface["typestr"]),
        array,
        None if strides is None else tuple(strides),
    )
