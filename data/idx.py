"""The IDX format of MNIST's files: a magic number, big-endian sizes, then the bytes.

The magic number is two zero bytes, the type of the items (8: unsigned byte) and the number of dimensions; one
32-bit size per dimension follows. Description: LeCun, Cortes and Burges, "The MNIST database of
handwritten digits".
"""

from __future__ import annotations

import io
import os
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lstm_numba.data.file_io import LARGEST_CONTENT, ContentReader, atomic_write, fault, reason

_TYPES = {
    0x08: "unsigned bytes",
    0x09: "signed bytes",
    0x0B: "16-bit",
    0x0C: "32-bit",
    0x0D: "float32",
    0x0E: "float64",
}


def read_idx(path: str | os.PathLike[str], dimensions: int | None = None) -> npt.NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, plain or gzipped.

    Parameters
    ----------
    path : path
        The file.
    dimensions : int, optional
        Required number of dimensions: 1 for labels, 3 for images.

    Returns
    -------
    ndarray, uint8
        With the shape in the header.

    Raises
    ------
    DataError
        The file is missing, empty, damaged, no IDX file, of another type or number of dimensions, or holds
        more or fewer bytes than its header says. No memory is allocated from the header alone.
    """
    with ContentReader(path) as reader:
        shape = _read_header(reader, dimensions)
        declared = prod(shape)
        text = " x ".join(map(str, shape))
        if declared > LARGEST_CONTENT:
            raise fault(
                path, f"the header declares {text} = {declared} bytes; at most {LARGEST_CONTENT} are read"
            )
        if not reader.gzipped:
            present = reader.compressed_size - (4 + 4 * len(shape))
            if present != declared:
                raise _wrong_count(path, text, declared, f"{present}")
        content = reader.read(declared + 1)
    if len(content) < declared:
        raise _wrong_count(path, text, declared, f"{len(content)}")
    if len(content) > declared:
        raise _wrong_count(path, text, declared, "more")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


def _wrong_count(path: str | os.PathLike[str], text: str, declared: int, present: str) -> Exception:
    kind = "truncated: " if present != "more" and int(present) < declared else ""
    return fault(path, f"{kind}the header declares {text} = {declared} bytes, the file holds {present}")


def _read_header(reader: ContentReader, dimensions: int | None) -> tuple[int, ...]:
    magic = reader.read(4)
    if len(magic) < 4:
        raise fault(reader.path, f"truncated: {len(magic)} bytes are not an IDX header")
    if magic[0] or magic[1] or magic[2] not in _TYPES:
        raise fault(reader.path, f"not an IDX file: wrong magic number 0x{magic.hex()}")
    if magic[2] != 0x08:
        raise fault(
            reader.path, f"IDX file of {_TYPES[magic[2]]} numbers: expected unsigned bytes (type 0x08)"
        )
    count = magic[3]
    if dimensions is not None and count != dimensions:
        kinds = {1: " (labels)", 3: " (images)"}
        raise fault(
            reader.path,
            f"wrong magic number 0x{magic.hex()}: IDX file of {count} dimensions{kinds.get(count, '')}, "
            f"expected {dimensions}{kinds.get(dimensions, '')}",
        )
    if not 1 <= count <= 8:
        raise fault(reader.path, f"not an IDX file: {count} dimensions")
    sizes = reader.read(4 * count)
    if len(sizes) < 4 * count:
        raise fault(
            reader.path, f"truncated: the header ends after {4 + len(sizes)} of {4 + 4 * count} bytes"
        )
    shape = tuple(int(size) for size in np.frombuffer(sizes, dtype=">u4"))
    if 0 in shape:
        raise fault(reader.path, f"holds nothing: the header declares {' x '.join(map(str, shape))}")
    return shape


def write_idx(path: str | os.PathLike[str], array: npt.NDArray[np.uint8]) -> None:
    """Write an array of unsigned bytes as an IDX file, gzipped if the name ends in ``.gz``.

    Raises
    ------
    ValueError, TypeError
        `array` is not of uint8 or has not 1 to 8 dimensions.
    DataError
        The file cannot be written.
    """
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8:
        raise TypeError(
            f"array: expected an array of uint8, got {getattr(array, 'dtype', type(array).__name__)}"
        )
    if not 1 <= array.ndim <= 8:
        raise ValueError(f"array: expected 1 to 8 dimensions, got {array.ndim}")
    header = bytes([0, 0, 0x08, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes()
    target, content = Path(path), header + array.tobytes()
    if target.suffix == ".gz":
        import gzip

        # Neither time nor name in the header: equal arrays give equal files.
        with gzip.GzipFile(filename="", mode="wb", fileobj=(packed := io.BytesIO()), mtime=0) as file:
            file.write(content)
        content = packed.getvalue()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(target, content)
    except OSError as error:
        raise fault(target, f"cannot be written: {reason(error)}") from None
