"""Arrays as the kernels want them: aligned, in memory that is used again, known by their addresses."""

from __future__ import annotations

import ctypes
import math
from typing import Any, ClassVar

import numpy as np

#: Bytes of a cache line, and of the widest vector register: an aligned load never crosses a line.
ALIGNMENT = 64

#: Arrays from this many bytes on take their memory from `_Block`; the C library recycles smaller ones well.
LARGE = 1 << 16


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
        best, limit = None, size + size // 4
        for key, idle in list(self.idle.items()):
            if size <= idle.size <= limit:
                best, limit = key, idle.size - 1
        raw = None if best is None else self.idle.pop(best, None)
        self.raw = np.empty(size, np.uint8) if raw is None else raw
        place = (address(self.raw), False)
        self.__array_interface__ = {"shape": (size,), "typestr": "|u1", "data": place, "version": 3}

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
    return np.ndarray(shape, dtype, raw, -address(raw) % ALIGNMENT)


def aligned_zeros(shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
    """`numpy.zeros` that starts on a cache line."""
    array = aligned_empty(shape, dtype)
    array.fill(0)
    return array


def address(array: np.ndarray[Any, Any]) -> int:
    """Where an array's first number lies in memory."""
    memory: Any = array
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(memory))  # a seventh of the general way's time
    except (TypeError, ValueError):  # read-only, empty, or with gaps
        where: int = array.__array_interface__["data"][0]
        return where


def strided(array: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], int, int]:
    """Describe a matrix by its address and two strides.

    Parameters
    ----------
    array : ndarray, 2-D

    Returns
    -------
    array : ndarray
        The matrix, or a copy if its numbers do not lie at whole steps forward from its first.
    row, column : int
        Strides, in numbers.
    """
    size = array.itemsize
    if min(array.strides) < 0 or any(stride % size for stride in array.strides) or not array.flags.aligned:
        array = np.ascontiguousarray(array)
    return array, array.strides[0] // size, array.strides[1] // size
