"""HDF5 files out of untrusted bytes, in plain Python: the part of the format that Keras writes.

Source: docs.hdfgroup.org, "HDF5 File Format Specification", version 3.0; names of the parts are in brackets.

libhdf5 is not used: it searches some damaged files without end, opens other files and loads libraries that a
file names. Here a file is nothing but its bytes; soft and external links are not followed, and what is stored
elsewhere, virtual, or packed by another method than gzip is refused by name. So are large groups of the newer
format (``track_order``, ``libver="latest"``), which Keras does not write. Checksums are not compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from lstm_numba.data.file_io import one_line
from lstm_numba.errors import WeightsError
from lstm_numba.interop.files.contents import Array
from lstm_numba.interop.files.hdf5.data import Dataset, Layout, read_filters, read_layout
from lstm_numba.interop.files.hdf5.types import (
    Cursor,
    Source,
    Type,
    numbers,
    read_shape,
    read_tree,
    read_type,
)

SIGNATURE = b"\x89HDF\r\n\x1a\n"
#: An address that stands for nothing.
_UNDEFINED = (1 << 64) - 1
#: Groups within groups at most.
_DEPTH = 40
#: Object header messages.
_SHAPE, _LINK_INFO, _TYPE, _LINK, _EXTERNAL, _LAYOUT, _FILTERS, _ATTRIBUTE, _CONTINUED, _SYMBOLS = (
    0x01, 0x02, 0x03, 0x06, 0x07, 0x08, 0x0B, 0x0C, 0x10, 0x11,
)  # fmt: skip


class Group(NamedTuple):
    """A group: what it is told, and what it holds, by name.

    Attributes
    ----------
    attributes : dict of str to (str, list of str, ndarray or None)
        None for one of a type that is not read.
    members : dict of str to (Group or Dataset)
        Linked groups are left out.
    """

    attributes: dict[str, Any]
    members: dict[str, Any]

    def group(self, name: str) -> Group:
        """The group of a path with slashes.

        Raises
        ------
        WeightsError
            It is not in this one.
        """
        found = self
        for part in name.split("/"):
            following = found.members.get(part)
            if not isinstance(following, Group):
                raise WeightsError(f"{one_line(name, 120)}: the group is missing")
            found = following
        return found

    def array(self, name: str) -> Array:
        """Numbers of the dataset of a path with slashes.

        Raises
        ------
        WeightsError
            It is not in this group, or cannot be read.
        """
        folder, _, last = name.rpartition("/")
        found = (self.group(folder) if folder else self).members.get(last)
        if not isinstance(found, Dataset):
            raise WeightsError(f"{one_line(name, 120)}: the dataset is missing")
        return found.read(one_line(name, 120))


def read_hdf5(content: bytes) -> Group:
    """Read all groups and attributes of a file; the numbers of datasets are read when asked for.

    Raises
    ------
    WeightsError
        It is damaged, or of a kind that is not read.
    """
    source = Source(content)
    found = _Walk(source).node(_root(source), "/", 0)
    if not isinstance(found, Group):
        raise WeightsError("damaged: there is no group that holds all others")
    return found


def _root(source: Source) -> int:
    """Address of the root group's object header (superblock)."""
    head = Cursor(source.take(0, min(96, source.size)))
    if head.left < 8 or head.take(8) != SIGNATURE:
        raise WeightsError("damaged, or not an HDF5 file")
    version = head.number(1)
    if version in (0, 1):
        head.skip(4)
        sizes = (head.number(1), head.number(1))
        head.skip(9 if version == 0 else 13)
        base = head.number(8)
        head.skip(32)  # free space, end, driver; the root's symbol table entry begins with a name
    elif version in (2, 3):
        sizes = (head.number(1), head.number(1))
        head.skip(1)
        base = head.number(8)
        head.skip(16)
    else:
        raise WeightsError(f"HDF5 of an unknown version ({version})")
    if sizes != (8, 8) or base != 0:
        raise WeightsError(f"HDF5 with addresses of {sizes[0]} bytes from {base}; expected 8 from 0")
    return head.number(8)


class _Walk:
    """Reads groups and attributes.

    Parameters
    ----------
    source : Source
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._heaps: dict[int, dict[int, bytes]] = {}

    def node(self, address: int, name: str, depth: int) -> Any:
        """A group or dataset by the address of its object header; None for something else."""
        if depth > _DEPTH:
            raise WeightsError(
                f"damaged: {one_line(name, 120)} contains itself, or too many groups within groups"
            )
        messages: dict[int, list[bytes]] = {}
        for kind, data in self._messages(address):
            messages.setdefault(kind, []).append(data)
        if _SYMBOLS in messages or _LINK in messages or _LINK_INFO in messages:
            members = {}
            for key, place in self._links(messages, name):
                if key in members:
                    raise WeightsError(f"damaged: {one_line(key, 120)} is in a group twice")
                members[key] = self.node(place, key, depth + 1)
            return Group(self._attributes(messages), members)
        if _LAYOUT not in messages or _TYPE not in messages or _SHAPE not in messages:
            return None  # a committed type, or damaged
        return self._dataset(messages)

    def _dataset(self, messages: dict[int, list[bytes]]) -> Dataset:
        if _EXTERNAL in messages:
            layout = Layout("in another file")
        else:
            layout = read_layout(Cursor(messages[_LAYOUT][0]))
        filters = read_filters(Cursor(messages[_FILTERS][0])) if _FILTERS in messages else []
        kind, shape = read_type(Cursor(messages[_TYPE][0])), read_shape(Cursor(messages[_SHAPE][0]))
        attributes = self._attributes(messages)
        if attributes.get("dtype") == "bfloat16" and kind.size == 2:
            kind = Type("bfloat16", None, 2)
        return Dataset(self._source, kind, shape, layout, filters)

    # -- object headers

    def _messages(self, address: int) -> Iterator[tuple[int, bytes]]:
        head = self._source.take(address, 16)
        if head[:4] == b"OHDR":
            return self._messages_2(address)
        if head[0] != 1:
            raise WeightsError("damaged: an object's header is not where it should be")
        return self._messages_1(address, head)

    def _messages_1(self, address: int, head: bytes) -> Iterator[tuple[int, bytes]]:
        blocks = [(address + 16, int.from_bytes(head[8:12], "little"))]
        left = int.from_bytes(head[2:4], "little")
        for place, size in blocks:
            block = Cursor(self._source.take(place, size))
            while block.left >= 8 and left:
                kind, length, flags = block.number(2), block.number(2), block.number(1)
                block.skip(3)
                data = block.take(length)
                left -= 1
                if kind == _CONTINUED:
                    more = Cursor(data)
                    blocks.append((more.number(8), more.number(8)))
                else:
                    yield kind, _own(kind, flags, data)

    def _messages_2(self, address: int) -> Iterator[tuple[int, bytes]]:
        flags = self._source.take(address, 6)[5]
        place = address + 6 + 16 * (flags >> 5 & 1) + 4 * (flags >> 4 & 1)
        width = 1 << (flags & 3)
        blocks = [(place + width, int.from_bytes(self._source.take(place, width), "little"))]
        order = 2 * (flags >> 2 & 1)
        for place, size in blocks:
            block = Cursor(self._source.take(place, size))
            while block.left >= 4 + order:
                kind, length, said = block.number(1), block.number(2), block.number(1)
                block.skip(order)
                data = block.take(length)
                if kind == _CONTINUED:
                    more = Cursor(data)
                    start, length = more.number(8), more.number(8)
                    if self._source.take(start, 4) != b"OCHK" or length < 8:
                        raise WeightsError("damaged: an object's header does not continue where it should")
                    blocks.append((start + 4, length - 8))
                else:
                    yield kind, _own(kind, said, data)

    # -- groups

    def _links(self, messages: dict[int, list[bytes]], name: str) -> Iterator[tuple[str, int]]:
        for data in messages.get(_LINK_INFO, []):
            info = Cursor(data)
            info.skip(1)
            if info.number(1) & 1:
                info.skip(8)
            if info.number(8) != _UNDEFINED:
                raise WeightsError(
                    f"{one_line(name, 120)}: a group in HDF5's newer format, which is not read; "
                    "write the file with h5py's default options"
                )
        for data in messages.get(_LINK, []):
            yield from _link(Cursor(data))
        for data in messages.get(_SYMBOLS, []):
            symbols = Cursor(data)
            tree, heap = symbols.number(8), Cursor(self._source.take(symbols.number(8), 32))
            if heap.take(4) != b"HEAP":
                raise WeightsError("damaged: the names in a group are not where they should be")
            heap.skip(4)
            size = heap.number(8)
            heap.skip(8)
            yield from self._leaves(tree, None, self._source.take(heap.number(8), size))

    def _leaves(self, address: int, level: int | None, names: bytes) -> Iterator[tuple[str, int]]:
        """Links in a tree of symbol nodes [version 1 B-tree, SNOD]; levels fall, so that it ends."""
        own, used, entries = read_tree(self._source, address, 0, level, 8)
        for _ in range(used):
            entries.skip(8)
            child = entries.number(8)
            yield from self._leaves(child, own - 1, names) if own else self._symbols(child, names)

    def _symbols(self, address: int, names: bytes) -> Iterator[tuple[str, int]]:
        head = Cursor(self._source.take(address, 8))
        if head.take(4) != b"SNOD":
            raise WeightsError("damaged: a group's links are not where they should be")
        head.skip(2)
        count = head.number(2)
        entries = Cursor(self._source.take(address + 8, 40 * count))
        for _ in range(count):
            start, place, kind = entries.number(8), entries.number(8), entries.number(4)
            entries.skip(20)
            stop = names.find(b"\0", start)
            if stop < 0:
                raise WeightsError("damaged: a name has no end")
            if kind != 2:  # 2: a soft link
                yield _decoded(names[start:stop]), place

    # -- attributes

    def _attributes(self, messages: dict[int, list[bytes]]) -> dict[str, Any]:
        found = {}
        for data in messages.get(_ATTRIBUTE, []):
            cursor = Cursor(data)
            version, flags = cursor.number(1), cursor.number(1)
            sizes = [cursor.number(2) for _ in range(3)]
            cursor.skip(1 if version == 3 else 0)
            parts = []
            for size in sizes:  # name, type, shape
                parts.append(cursor.take(size))
                cursor.skip(-size % 8 if version == 1 else 0)
            name = _decoded(parts[0].rstrip(b"\0"))
            shared = version > 1 and flags & 3
            found[name] = None if shared else self._value(Cursor(parts[1]), Cursor(parts[2]), cursor)
        return found

    def _value(self, kind: Cursor, extent: Cursor, data: Cursor) -> Any:
        of, shape = read_type(kind), read_shape(extent)
        if shape is None or of.kind not in ("number", "text", "long text"):
            return None
        if of.dtype is not None:
            return numbers(data.rest(), of.dtype, shape, "an attribute")
        count = 1
        for size in shape:
            count *= size
        if count * of.size > data.left:
            raise WeightsError("damaged: an attribute is shorter than it says")
        texts = [_decoded(self._text(data.take(of.size), of.kind == "long text")) for _ in range(count)]
        return texts if shape else texts[0]

    def _text(self, stored: bytes, long: bool) -> bytes:
        if not long:
            return stored.partition(b"\0")[0]
        place = Cursor(stored)
        size, address, index = place.number(4), place.number(8), place.number(4)
        if not size:
            return b""
        if address not in self._heaps:
            self._heaps[address] = self._heap(address)
        text = self._heaps[address].get(index, b"")[:size]
        if len(text) != size:
            raise WeightsError("damaged: a text is not where it should be")
        return text.partition(b"\0")[0]

    def _heap(self, address: int) -> dict[int, bytes]:
        """Texts by their numbers [global heap collection]."""
        head = Cursor(self._source.take(address, 16))
        if head.take(4) != b"GCOL":
            raise WeightsError("damaged: texts are not where they should be")
        head.skip(4)
        size = head.number(8)
        cursor, found = Cursor(self._source.take(address + 16, max(size - 16, 0))), {}
        while cursor.left >= 16:
            index = cursor.number(2)
            cursor.skip(6)
            length = cursor.number(8)
            if not index:  # the free rest
                break
            found[index] = cursor.take(length)
            cursor.skip(min(-length % 8, cursor.left))
        return found


def _decoded(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise WeightsError(f"damaged: a name or text is not UTF-8 ({error.reason})") from None


def _own(kind: int, flags: int, data: bytes) -> bytes:
    """The content of a message, which may be stored elsewhere."""
    if flags & 2 and kind in (_SHAPE, _TYPE, _LAYOUT, _FILTERS, _ATTRIBUTE):
        raise WeightsError("HDF5 with types that several datasets share, which are not read")
    return data


def _link(data: Cursor) -> Iterator[tuple[str, int]]:
    """A link [link message]; nothing if it is soft or external."""
    data.skip(1)
    flags = data.number(1)
    kind = data.number(1) if flags & 8 else 0
    data.skip(8 if flags & 4 else 0)
    data.skip(1 if flags & 16 else 0)
    name = _decoded(data.take(data.number(1 << (flags & 3))))
    if kind == 0:
        yield name, data.number(8)
