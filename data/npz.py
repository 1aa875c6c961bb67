"""NumPy's ``.npy`` and ``.npz`` files out of untrusted bytes: no pickle, no memory but for what is there."""

from __future__ import annotations

import io
import math
import warnings
from tokenize import TokenError
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_numba.data.archives import Archive, ArchiveError
from lstm_numba.data.file_io import one_line

Array = npt.NDArray[Any]


class NpzError(ValueError):
    """An archive or array is damaged or of a kind that is not read; one line without the file's name."""


def _short(text: object) -> str:
    return one_line(text, 120)


def read_npz(content: bytes, largest: int) -> tuple[dict[str, Array], bytes]:
    """The arrays of an archive, and its comment.

    Parameters
    ----------
    content : bytes
        Of the file.
    largest : int
        Bytes that it may unpack to.

    Raises
    ------
    NpzError
        It is damaged, holds something else than arrays, or one of Python objects.
    """
    arrays: dict[str, Array] = {}
    try:
        archive = Archive(content, largest)
        for member in archive:
            name = member.removesuffix(".npy")
            if name == member:
                raise NpzError(f"{_short(name)}: not an array")
            arrays[name] = read_npy(name, archive.read(member))
    except ArchiveError as error:
        raise NpzError(str(error)) from None
    return arrays, archive.comment


def read_npy(name: str, content: bytes) -> Array:
    """An array from the bytes of a ``.npy`` file; `numpy.load` would trust the size in the header.

    Parameters
    ----------
    name : str
        For messages.
    content : bytes

    Raises
    ------
    NpzError
        The header is damaged, or of Python objects, or does not fit the size.
    """
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise NpzError(f"{name}: .npy format {version} is not read")
    read = np.lib.format.read_array_header_1_0 if version[0] == 1 else np.lib.format.read_array_header_2_0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about Python 2 headers and invalid escapes
            shape, column_major, dtype = read(file)
    except (TokenError, MemoryError) as error:  # from ast.literal_eval of the header
        raise NpzError(f"{name}: damaged header ({_short(error)})") from None
    if dtype.hasobject:
        raise NpzError(f"{name}: holds Python objects, which are not read")
    data = content[file.tell() :]
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(data):
        raise NpzError(f"{name}: {len(data)} bytes do not make shape {shape} of {dtype}")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if column_major else "C")
