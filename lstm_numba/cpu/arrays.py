"""Arrays as the kernels want them: aligned, flat, and always of one Numba type."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from numba import njit

from lstm_numba.cpu.options import SERIAL

#: Bytes of a cache line, and of the widest vector register: an aligned load never crosses a line.
ALIGNMENT = 64

#: Arrays from this many bytes on take their memory from `_Block`; the C library recycles smaller ones well.
LARGE = 1 << 20


class _Block:
    """A large piece of memory that is kept for the next array when its last array is gone.

    Fresh memory costs a page fault for every few kilobytes, which at the sizes of a training step is a
    tenth of its time. As NumPy sees it, a block is the owner of an array's memory.
    """

    #: Idle memory kept for later arrays, in bytes; beyond it the oldest is let go.
    limit: ClassVar[int] = 256 << 20
    #: What no array uses at present, oldest first.
    idle: ClassVar[dict[int, np.ndarray[Any, Any]]] = {}

    def __init__(self, size: int) -> None:
        # A dictionary's single operations are atomic: threads need no lock, and a block that the garbage
        # collector ends in the midst of this cannot wait for itself.
        fitting = [(raw.size, key) for key, raw in list(self.idle.items()) if size <= raw.size <= 1.25 * size]
        raw = self.idle.pop(min(fitting)[1], None) if fitting else None
        self.raw = np.empty(size, np.uint8) if raw is None else raw
        self.__array_interface__ = {
            "shape": (size,),
            "typestr": "|u1",
            "data": (self.raw.ctypes.data, False),
            "version": 3,
        }

    def __del__(self) -> None:
        raw = self.__dict__.get("raw")
        if raw is None:
            return
        self.idle[id(raw)] = raw
        while sum(kept.size for kept in list(self.idle.values())) > self.limit:
            oldest = next(iter(list(self.idle)), None)
            self.idle.pop(oldest, None)  # type: ignore[arg-type]


def aligned_empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
    """`numpy.empty` that starts on a cache line; large arrays reuse memory of earlier ones."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.empty(size + ALIGNMENT, np.uint8) if size < LARGE else np.asarray(_Block(size + ALIGNMENT))
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)


def aligned_zeros(shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
    """`numpy.zeros` that starts on a cache line."""
    array = aligned_empty(shape, dtype)
    array.fill(0)
    return array


@njit(**SERIAL)
def aligned_start(array):
    """First index of a 1-D array that lies on a cache line."""
    return (-array.ctypes.data % ALIGNMENT) // array.itemsize


class _Memory:
    """An array's memory from its first number on, described to NumPy as writable and one-dimensional."""

    def __init__(self, array: np.ndarray[Any, Any], count: int) -> None:
        self.owner = array
        self.__array_interface__ = {
            "shape": (count,),
            "typestr": array.dtype.str,
            "data": (array.__array_interface__["data"][0], False),
            "version": 3,
        }


def flatten(array: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], int, int]:
    """Describe a matrix as flat memory and two strides.

    Numba compiles a kernel anew for every memory layout and for read-only arrays. Flat views with
    strides are one type for all of them. Kernels write only where their caller says so.

    Parameters
    ----------
    array : ndarray, 2-D

    Returns
    -------
    flat : ndarray, 1-D
        Shares the array's memory.
    row, column : int
        Strides, in numbers.
    """
    size = array.itemsize
    if array.flags.writeable and array.flags.c_contiguous:
        return array.reshape(-1), array.shape[1], 1
    if array.flags.writeable and array.flags.f_contiguous:
        return array.T.reshape(-1), 1, array.shape[0]
    if min(array.strides) < 0 or any(stride % size for stride in array.strides) or not array.flags.aligned:
        array = np.ascontiguousarray(array)
    row, column = (stride // size for stride in array.strides)
    extent = 1 + (array.shape[0] - 1) * row + (array.shape[1] - 1) * column
    flat: np.ndarray[Any, Any] = np.asarray(_Memory(array, extent))
    return flat, row, column
