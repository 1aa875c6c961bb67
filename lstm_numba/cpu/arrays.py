"""Arrays as the kernels want them: aligned, flat, and always of one Numba type."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from lstm_numba.cpu.options import SERIAL

#: Bytes of a cache line, and of the widest vector register: an aligned load never crosses a line.
ALIGNMENT = 64


def aligned_empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
    """`numpy.empty` that starts on a cache line."""
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    raw = np.empty(size + ALIGNMENT, np.uint8)
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
