"""HDF5's types and shapes, and the bytes that they are read from, never twice as many as are there."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lstm_numba.errors import WeightsError
from lstm_numba.interop.files.contents import LARGEST, Array

#: What is read beside numbers: a multiple of the file's size, and bytes at most; each part counts this more.
_METADATA, _MOST, _PART = 4, 1 << 26, 32
#: Numbers out of packed datasets: bytes, or a multiple of the file's size.
_UNPACKED, _RATIO = 1 << 28, 100
#: Classes of types that are not read.
_CLASSES = ("integer", "float", "time", "text", "bits", "opaque", "compound", "reference", "enumeration")
#: Bits, place and size of the exponent, place and size of the mantissa, bias -> type.
_FLOATS: dict[tuple[int, ...], str] = {
    (16, 10, 5, 0, 10, 15): "f2",
    (32, 23, 8, 0, 23, 127): "f4",
    (64, 52, 11, 0, 52, 1023): "f8",
    (16, 7, 8, 0, 7, 127): "bfloat16",
}


class Source:
    """A file's bytes, of which no more are taken than it can need.

    Parameters
    ----------
    content : bytes

    Attributes
    ----------
    size : int
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.size = len(content)
        self._metadata = min(_METADATA * self.size + (1 << 20), _MOST)
        self._numbers = self.size
        self._unpacked = min(max(_UNPACKED, _RATIO * self.size), LARGEST)

    def take(self, place: int, size: int) -> bytes:
        """Some of what describes the numbers.

        Raises
        ------
        WeightsError
            It is not in the file, or so much was taken that parts must contain one another.
        """
        self._check(place, size)
        self._metadata -= size + _PART
        if self._metadata < 0:
            raise WeightsError("damaged: its parts contain one another")
        return self._content[place : place + size]

    def numbers(self, place: int, size: int) -> memoryview:
        """The bytes of a dataset, or of a part of it, without a copy; refused if too large as in `take`."""
        self._check(place, size)
        self._numbers -= size
        if self._numbers < 0:
            raise WeightsError("damaged: its datasets contain one another")
        return memoryview(self._content)[place : place + size]

    def unpack(self, size: int) -> None:
        """Say that so many bytes are about to be unpacked.

        Raises
        ------
        WeightsError
            Too many.
        """
        self._unpacked -= size
        if self._unpacked < 0:
            raise WeightsError(f"damaged: {self.size} bytes that say they are {size} and more")

    def _check(self, place: int, size: int) -> None:
        if place + size > self.size:
            raise WeightsError(f"damaged: it has {self.size} bytes and points to byte {place + size}")


class Cursor:
    """Reads on from where it is; a WeightsError at the end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._place = data, 0

    @property
    def left(self) -> int:
        """Number of bytes left."""
        return len(self._data) - self._place

    def take(self, size: int) -> bytes:
        """The next bytes."""
        if size > self.left:
            raise WeightsError("damaged: a part ends too early")
        self._place += size
        return self._data[self._place - size : self._place]

    def rest(self) -> bytes:
        """All bytes left."""
        return self.take(self.left)

    def number(self, size: int) -> int:
        """The next whole number of so many bytes."""
        return int.from_bytes(self.take(size), "little")

    def skip(self, size: int) -> None:
        """Pass over so many bytes."""
        self.take(size)


def read_tree(
    source: Source, address: int, kind: int, level: int | None, key: int
) -> tuple[int, int, Cursor]:
    """A node of a tree [version 1 B-tree]: its level, its number of entries, and these.

    Parameters
    ----------
    source : Source
    address : int
    kind : int
        0: links of a group; 1: chunks of a dataset.
    level : int, optional
        Level that it must have; levels fall towards the leaves, so that every tree ends.
    key : int
        Bytes before the address in an entry.

    Raises
    ------
    WeightsError
        It is not there.
    """
    head = Cursor(source.take(address, 24))
    if head.take(4) != b"TREE" or head.number(1) != kind:
        raise WeightsError("damaged: a tree is not where it should be")
    own, used = head.number(1), head.number(2)
    if level not in (None, own):
        raise WeightsError("damaged: a tree is none")
    return own, used, Cursor(source.take(address + 24, (key + 8) * used))


class Type(NamedTuple):
    """Type of a dataset or attribute.

    Parameters
    ----------
    kind : str
        "number", "bfloat16", "text" of a fixed size, "long text" stored elsewhere; else a type that is not
        read.
    dtype : dtype or None
        Of numbers.
    size : int
        Bytes of an element.
    """

    kind: str
    dtype: np.dtype[np.generic] | None
    size: int


def read_type(data: Cursor) -> Type:
    """Decode a datatype message."""
    first, bits, size = data.number(1) & 15, data.number(3), data.number(4)
    if first == 0 and size in (1, 2, 4, 8):
        letter = "i" if bits & 8 else "u"
        return Type("number", np.dtype(f"{'>' if bits & 1 else '<'}{letter}{size}"), size)
    if first == 1:
        data.skip(2)
        form = (data.number(2), *(data.number(1) for _ in range(4)), data.number(4))
        name = _FLOATS.get(form)
        if name and not bits & 0x40 and size == form[0] // 8:
            if name == "bfloat16":
                return Type("bfloat16" if not bits & 1 else name + " of reversed bytes", None, size)
            return Type("number", np.dtype(f"{'>' if bits & 1 else '<'}{name}"), size)
    if first == 3:
        return Type("text", None, size)
    if first == 9 and bits & 15 == 1 and size == 16:
        return Type("long text", None, size)
    return Type(_CLASSES[first] if first < len(_CLASSES) else "list", None, size)


def read_shape(data: Cursor) -> tuple[int, ...] | None:
    """Decode a dataspace message; None if it has no elements at all.

    Raises
    ------
    WeightsError
        Of an unknown version.
    """
    version, rank, _ = data.number(1), data.number(1), data.number(1)
    if version not in (1, 2) or rank > 32:
        raise WeightsError("damaged: a shape is of an unknown version")
    kind = data.number(1)
    data.skip(4 if version == 1 else 0)
    return None if version == 2 and kind == 2 else tuple(data.number(8) for _ in range(rank))


def numbers(data: bytes | memoryview, dtype: npt.DTypeLike, shape: tuple[int, ...], name: str) -> Array:
    """An array from its bytes, of which there must be enough.

    Raises
    ------
    WeightsError
        There are fewer.
    """
    count = math.prod(shape)
    size = count * np.dtype(dtype).itemsize
    if size > len(data):
        raise WeightsError(f"{name}: {len(data)} bytes do not make shape {shape}")
    return np.frombuffer(data[:size], dtype).reshape(shape)
