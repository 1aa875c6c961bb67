"""Files of PyTorch in its formats, and pickles, read without PyTorch and without executing anything.

A zip archive holds a pickle, ``data.pkl``, and the storages that it refers to (``torch.save`` since PyTorch
1.6, ``torch.jit.save``); before, four pickles came first and the storages after them, in one file; and
``pickle.dump`` writes one pickle. Described by ``torch/serialization.py``.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from lstm_numba.data.archives import Archive, ArchiveError
from lstm_numba.data.file_io import one_line
from lstm_numba.errors import WeightsError
from lstm_numba.interop.files.contents import LARGEST, Contents
from lstm_numba.interop.files.pickled.flattening import flatten
from lstm_numba.interop.files.pickled.functions import NAMES, functions
from lstm_numba.interop.files.pickled.inert import Budget, Known, Name, kind_of
from lstm_numba.interop.files.pickled.instructions import unpickle
from lstm_numba.interop.files.pickled.tensors import (
    STORAGE_TYPES,
    Storage,
    storage_item_size,
    whole_number,
)

#: First number and version of a file in the old format.
_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001
_ORDERS = {b"little": "<", b"big": ">"}
#: Classes of which the attributes are read: those of TorchScript's modules; settings beside a state_dict.
_CLASSES = ("__torch__.", "argparse.Namespace")

_Read = Callable[[str], memoryview]


def read_torch_file(content: bytes) -> Contents:
    """Read a file of PyTorch, in any of its formats, or a pickle of tensors or NumPy arrays.

    Parameters
    ----------
    content : bytes
        Of the file; its first bytes tell the format.

    Returns
    -------
    Contents
        Of the kind "torch", "torchscript" or "pickle". Names of nested dictionaries are joined by dots; what
        is no tensor is left out. Quantised, sparse and other tensors that NumPy lacks have no numbers.

    Raises
    ------
    WeightsError
        It is damaged, or names a function or class other than those of tensors and arrays.
    """
    budget = Budget(len(content))
    if content.startswith(b"PK"):
        return _read_archive(content, budget)
    if content[257:262] == b"ustar":
        raise WeightsError("a tar archive, PyTorch's format before version 0.1.10, which is not read")
    kind, value = _read_stream(content, budget)
    return Contents(kind, flatten(value))


def _known(budget: Budget, classes: tuple[str, ...] = (), nested: bool = False) -> Known:
    """What has a meaning; a storage in a pickle of `pickle.dump` is a file of the old format in bytes."""
    found = functions(budget)
    if not nested:
        found["torch.storage._load_from_bytes"] = partial(_load_from_bytes, budget)
    return Known(found, NAMES, classes)


# -- the old format, and pickles ---------------------------------------------------------------------------


def _read_stream(content: bytes, budget: Budget, nested: bool = False) -> tuple[str, Any]:
    """Kind of the file and its value; the value's storages can be read afterwards."""
    file = io.BytesIO(content)
    known = _known(budget, _CLASSES, nested)
    first = unpickle(file, known, budget)
    if type(first) is not int or first != _MAGIC:
        _check_end(file, content)
        return "pickle", first
    version = unpickle(file, known, budget)
    if type(version) is not int or version != _VERSION:
        raise WeightsError(f"damaged: expected version {_VERSION} of the old format")
    unpickle(file, known, budget)  # the machine that wrote it; all write storages alike
    storages: dict[str, memoryview] = {}
    sizes: dict[str, int] = {}

    def read(key: str) -> memoryview:
        if key not in storages:
            raise WeightsError(f"damaged: storage {one_line(key, 40)} is not in it")
        return storages[key]

    value = unpickle(file, known, budget, partial(_stored, read, "<", sizes))
    keys = unpickle(file, known, budget)
    _read_storages(file, content, keys, sizes, storages)
    _check_end(file, content)
    return "torch", value


def _read_storages(
    file: io.BytesIO, content: bytes, keys: Any, sizes: Mapping[str, int], storages: dict[str, memoryview]
) -> None:
    """Find the storages that follow the pickles: a number of elements, and these, of each."""
    if type(keys) is not list:
        raise WeightsError("damaged: no list of storages")
    place, whole = file.tell(), memoryview(content)
    for key in keys:
        if type(key) is not str or key not in sizes or key in storages:
            raise WeightsError("damaged: its list of storages is not that of its tensors")
        count, start = int.from_bytes(whole[place : place + 8], "little"), place + 8
        place = start + count * sizes[key]
        if place > len(content):
            raise WeightsError(f"damaged: ends before its storage {one_line(key, 40)}")
        storages[key] = whole[start:place]
    file.seek(place)


def _load_from_bytes(budget: Budget, content: Any = None) -> Any:
    """A storage, from bytes in a pickle."""
    if type(content) not in (bytes, bytearray):
        raise WeightsError(f"damaged pickle: a storage of {kind_of(content)}")
    kind, value = _read_stream(content, budget, nested=True)
    if kind != "torch":
        raise WeightsError("damaged pickle: a storage in an unknown format")
    return value


def _check_end(file: io.BytesIO, content: bytes) -> None:
    if file.tell() != len(content):
        raise WeightsError(f"{len(content) - file.tell()} bytes follow its end; expected one pickle")


# -- zip archives -------------------------------------------------------------------------------------------


def _read_archive(content: bytes, budget: Budget) -> Contents:
    try:
        archive = Archive(content, LARGEST)
        folder = _folder(archive)
        order = archive.read(f"{folder}byteorder") if f"{folder}byteorder" in archive else b"little"
        if order not in _ORDERS:
            raise WeightsError(f"an unknown byte order, {one_line(order, 40)}")
        pickle = archive.read(f"{folder}data.pkl")
        storages: dict[str, memoryview] = {}

        def read(key: str) -> memoryview:
            if key not in storages:
                storages[key] = memoryview(archive.read(f"{folder}data/{key}"))
            return storages[key]

        file = io.BytesIO(pickle)
        known = _known(budget, _CLASSES)
        value = unpickle(file, known, budget, partial(_stored, read, _ORDERS[order], {}))
        _check_end(file, pickle)
        kind = "torchscript" if f"{folder}constants.pkl" in archive else "torch"
        return Contents(kind, flatten(value))
    except ArchiveError as error:
        raise WeightsError(str(error)) from None


def _folder(archive: Archive) -> str:
    """The folder that all is in, such as "archive/"."""
    found = [name for name in archive if name.rpartition("/")[2] == "data.pkl" and name.count("/") < 2]
    if len(found) != 1:
        raise WeightsError(
            f"a zip archive with {len(found)} files data.pkl; expected one, as torch.save writes"
        )
    return found[0].removesuffix("data.pkl")


# -- both ---------------------------------------------------------------------------------------------------


def _stored(read: _Read, order: str, sizes: dict[str, int], identity: Any) -> Storage:
    """What a pickle refers to: ("storage", class, key, device, elements[, view of it]).

    `sizes` gets the bytes of an element of each.
    """
    if type(identity) is not tuple or len(identity) not in (5, 6) or identity[0] != "storage":
        raise WeightsError("damaged pickle: refers to something else than a storage")
    kind, key, _, count = identity[1:5]
    if not isinstance(kind, Name) or kind.name not in STORAGE_TYPES or type(key) is not str:
        raise WeightsError(f"damaged pickle: a storage of the class {kind_of(kind)}")
    item = storage_item_size(kind.name)
    if sizes.setdefault(key, item) != item:
        raise WeightsError(f"damaged: storage {one_line(key, 40)} has elements of two sizes")
    start = 0
    if len(identity) == 6 and identity[5] is not None:
        view = identity[5]
        if type(view) is not tuple or len(view) != 3:
            raise WeightsError(f"damaged pickle: an odd view of storage {one_line(key, 40)}")
        start, count = whole_number(view[1], "offset"), view[2]
    count = whole_number(count, "elements")
    return Storage(kind.name, count * item, partial(read, key), order, start * item)
