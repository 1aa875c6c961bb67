"""The numbers of an HDF5 dataset: in one piece, or in chunks that may be packed by gzip."""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from lstm_numba.errors import WeightsError
from lstm_numba.interop.files.contents import Array, unreadable
from lstm_numba.interop.files.hdf5.types import Cursor, Source, Type, numbers, read_tree
from lstm_numba.interop.files.numbers import from_bfloat16

_UNDEFINED = (1 << 64) - 1
_GZIP, _SHUFFLE, _FLETCHER32 = 1, 2, 3


class Layout(NamedTuple):
    """Where a dataset's numbers are [data layout message].

    Parameters
    ----------
    kind : str
        "compact", "contiguous" or "chunked"; else a kind that is not read.
    data : bytes
        The numbers of a compact one.
    address, size : int
        Of the numbers, or of the tree of chunks.
    chunk : tuple of int
        Sizes of a chunk.
    """

    kind: str
    data: bytes = b""
    address: int = _UNDEFINED
    size: int = 0
    chunk: tuple[int, ...] = ()


def read_layout(data: Cursor) -> Layout:
    """Decode a data layout message."""
    version = data.number(1)
    if version not in (3, 4):
        return Layout(f"of layout version {version}")
    kind = data.number(1)
    if kind == 0:
        return Layout("compact", data.take(data.number(2)))
    if kind == 1:
        return Layout("contiguous", address=data.number(8), size=data.number(8))
    if kind == 2 and version == 3:
        rank = data.number(1)
        address = data.number(8)
        return Layout("chunked", address=address, chunk=tuple(data.number(4) for _ in range(rank - 1)))
    return Layout("virtual" if kind == 3 else "in chunks of HDF5's newer format")


class Filter(NamedTuple):
    """What a chunk goes through when it is stored."""

    number: int
    values: tuple[int, ...]


def read_filters(data: Cursor) -> list[Filter]:
    """Decode a filter pipeline message."""
    version, count = data.number(1), data.number(1)
    data.skip(6 if version == 1 else 0)
    found = []
    for _ in range(count):
        number = data.number(2)
        named = data.number(2) if version == 1 or number >= 256 else 0
        data.skip(2)
        values = data.number(2)
        data.skip(named + (-named % 8 if version == 1 else 0))
        found.append(Filter(number, tuple(data.number(4) for _ in range(values))))
        data.skip(4 if version == 1 and values % 2 else 0)
    return found


class Dataset(NamedTuple):
    """A dataset whose numbers are not read yet; `shape` is None without elements."""

    source: Source
    type: Type
    shape: tuple[int, ...] | None
    layout: Layout
    filters: Sequence[Filter]

    def read(self, name: str) -> Array:
        """The numbers, bfloat16 as float32; a type that is not read as `contents.unreadable`.

        Raises
        ------
        WeightsError
            It is damaged, or stored in a way that is not read.
        """
        kind, shape, layout = self.type, self.shape, self.layout
        if shape is None:
            raise WeightsError(f"{name}: has no elements")
        dtype = np.dtype("<u2") if kind.kind == "bfloat16" else kind.dtype
        if dtype is None:
            return unreadable(kind.kind, (0,))
        size = math.prod(shape) * dtype.itemsize
        if layout.kind == "compact":
            found = numbers(layout.data, dtype, shape, name)
        elif layout.kind in ("contiguous", "chunked") and size == 0:
            found = np.empty(shape, dtype)
        elif layout.kind in ("contiguous", "chunked") and layout.address == _UNDEFINED:
            raise WeightsError(f"{name}: nothing was written into it")
        elif layout.kind == "contiguous":
            found = numbers(self.source.numbers(layout.address, min(layout.size, size)), dtype, shape, name)
        elif layout.kind == "chunked":
            found = self._chunks(name, shape, dtype)
        else:
            raise WeightsError(f"{name}: is {layout.kind}, which is not read")
        return from_bfloat16(found) if kind.kind == "bfloat16" else found

    def _chunks(self, name: str, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
        chunk, rank = self.layout.chunk, len(shape)
        if len(chunk) != rank or not rank or 0 in chunk:
            raise WeightsError(f"{name}: damaged: chunks of shape {chunk} do not make shape {shape}")
        known = (_GZIP, _SHUFFLE, _FLETCHER32)
        for step in self.filters:
            if step.number not in known:
                raise WeightsError(f"{name}: packed by HDF5's filter {step.number}; gzip alone is read")
        size = math.prod(chunk) * dtype.itemsize
        starts = [range(0, whole, part) for whole, part in zip(shape, chunk, strict=True)]
        count = math.prod(map(len, starts))
        self.source.unpack(math.prod(shape) * dtype.itemsize)
        self.source.unpack(max(1, count) * size)
        out, seen = np.empty(shape, dtype), 0
        expected = itertools.product(*starts)  # chunks are in order in the tree
        for place, mask, stored in self._stored(self.layout.address, None, rank):
            if place != next(expected, None):
                raise WeightsError(f"{name}: damaged: a chunk is missing, or out of order")
            data = self._unpacked(stored, mask, size, name)
            block = numbers(data, dtype, chunk, name)
            into = tuple(slice(start, start + part) for start, part in zip(place, chunk, strict=True))
            part = out[into]
            part[...] = block[tuple(map(slice, part.shape))]
            seen += 1
        if seen != count:
            raise WeightsError(f"{name}: damaged: {seen} of {count} chunks are there")
        return out

    def _stored(
        self, address: int, level: int | None, rank: int
    ) -> Iterator[tuple[tuple[int, ...], int, memoryview]]:
        """First element, mask of filters and bytes of each chunk [version 1 B-tree]; levels fall."""
        own, used, entries = read_tree(self.source, address, 1, level, 16 + 8 * rank)
        for _ in range(used):
            size, mask = entries.number(4), entries.number(4)
            place = tuple(entries.number(8) for _ in range(rank))
            entries.skip(8)
            child = entries.number(8)
            if own:
                yield from self._stored(child, own - 1, rank)
            else:
                yield place, mask, self.source.numbers(child, size)

    def _unpacked(self, stored: memoryview, mask: int, size: int, name: str) -> bytes | memoryview:
        """A chunk's bytes, the filters undone, at most `size` and a checksum."""
        data: bytes | memoryview = stored
        for number, step in reversed(list(enumerate(self.filters))):
            if mask >> number & 1:  # left out for this chunk
                continue
            if step.number == _GZIP:
                try:
                    data = zlib.decompressobj().decompress(data, size + 4)
                except zlib.error as error:
                    raise WeightsError(f"{name}: damaged ({error})") from None
            elif step.number == _FLETCHER32:
                data = data[:-4]
            else:
                width = step.values[0] if step.values else 0
                if not width or len(data) % width:
                    raise WeightsError(f"{name}: damaged: {len(data)} bytes are not of {width} each")
                data = np.frombuffer(data, np.uint8).reshape(width, -1).T.tobytes()
        return data
