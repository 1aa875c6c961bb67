"""Aligned arrays in memory that is reused, and their addresses."""

from __future__ import annotations

import ctypes
import math
from typing import Any, ClassVar

import numpy as np

#: Bytes of a cache line, and of the widest vector register: an aligned load never crosses a line.
ALIGNMENT = 64

#: From this many bytes on memory is kept for reuse; the C library recycles smaller pieces well.
LARGE = 1 << 16


class _Piece(np.ndarray):
    """Memory of the operating system. Of a plain array NumPy would take it, not `Memory`, for the owner."""

    __slots__ = ()


class Memory(np.ndarray):
    """A large piece of memory, which is kept for the next user when its last array is gone.

    Fresh memory costs a page fault for every few kilobytes, which at the sizes of a training step is a
    tenth of its time. To NumPy it is the owner of all arrays that are made in it by
    ``numpy.ndarray(shape, dtype, memory, offset)``.
    """

    __slots__ = ("piece",)

    #: Idle memory kept for later use, in bytes; beyond it, and an eighth, the size longest unused is let go.
    limit: ClassVar[int] = 256 << 20
    #: What no array uses at present, by size.
    idle: ClassVar[dict[int, list[_Piece]]] = {}
    #: Bytes that came back since they were last counted; threads may lose some of it.
    returned: ClassVar[int] = 0

    piece: _Piece

    @classmethod
    def of(cls, size: int) -> Memory:
        """Memory of so many bytes, or a few more, so that similar sizes can take each other's place."""
        step = 1 << max(0, size.bit_length() - 4)
        size = -(-size // step) * step
        try:  # one operation, which threads cannot interrupt
            piece = cls.idle[size].pop()
        except (KeyError, IndexError):
            piece = _Piece(size, np.uint8)
        memory = cls(size, np.uint8, piece)
        memory.piece = piece
        return memory

    def __del__(self) -> None:
        piece = getattr(self, "piece", None)
        if piece is None:  # a view of memory
            return
        kind, size = type(self), self.size  # where the interpreter ends, the module has no names any more
        pieces = kind.idle.pop(size, [])  # to the end: sizes in use are the last to be let go
        pieces.append(piece)
        kind.idle[size] = pieces
        kind.returned += size
        if 8 * kind.returned > kind.limit:
            kind.returned = 0
            while sum(size * len(pieces) for size, pieces in list(kind.idle.items())) > kind.limit:
                oldest = next(iter(list(kind.idle)), 0)
                kind.idle.pop(oldest, None)


def reserve(size: int) -> tuple[np.ndarray[Any, Any], int, int]:
    """Uninitialised memory: what keeps it alive, the offset of its first cache line, the address of that."""
    size += ALIGNMENT
    owner: np.ndarray[Any, Any] = np.empty(size, np.uint8) if size < LARGE else Memory.of(size)
    where = address(owner)
    offset = -where % ALIGNMENT
    return owner, offset, where + offset


def allocate(shape: tuple[int, ...], dtype: Any) -> tuple[np.ndarray[Any, Any], int]:
    """`aligned_empty`, and the address of what it gives, which costs nothing here."""
    owner, offset, where = reserve(math.prod(shape) * np.dtype(dtype).itemsize)
    return np.ndarray(shape, dtype, owner, offset), where


def aligned_empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
    """`numpy.empty` that starts on a cache line; large arrays reuse memory of earlier ones."""
    return allocate(shape, dtype)[0]


def aligned_zeros(shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
    """`numpy.zeros` that starts on a cache line."""
    array = aligned_empty(shape, dtype)
    array.fill(0)
    return array


def address(array: np.ndarray[Any, Any]) -> int:
    """Address of an array's first number."""
    try:
        memory: Any = array
        return ctypes.addressof(ctypes.c_char.from_buffer(memory))  # a seventh of the time of what follows
    except (TypeError, ValueError, BufferError):  # read-only, empty, or not C-contiguous
        where: int = array.__array_interface__["data"][0]
        return where


def is_fixed(array: np.ndarray[Any, Any]) -> bool:
    """Whether the numbers can never change: it is made of `bytes`, which NumPy lets nobody write to."""
    owner: Any = array
    while isinstance(owner, np.ndarray) and not owner.flags.writeable:
        owner = owner.base
    return isinstance(owner, bytes)


def fixed(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The array if it `is_fixed`, else a C-contiguous copy that is."""
    if is_fixed(array):
        return array
    return np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape)


def strided(array: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], int, int]:
    """Describe a matrix by its address and two strides.

    Parameters
    ----------
    array : ndarray, 2-D

    Returns
    -------
    array : ndarray
        The matrix, or a copy if its strides are negative or no multiples of its item size.
    row, column : int
        Strides, in numbers.
    """
    size, flags = array.itemsize, array.flags
    if flags.c_contiguous and flags.aligned:
        return array, array.shape[1], 1
    if min(array.strides) < 0 or any(stride % size for stride in array.strides) or not flags.aligned:
        array = np.ascontiguousarray(array)
    return array, array.strides[0] // size, array.strides[1] // size
