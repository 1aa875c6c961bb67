"""Checkpoints: one safetensors file, replaced atomically.

Tensors are stored under their names, everything else as one JSON text in the file's metadata (one entry,
because the order of several is not fixed). Equal content gives equal bytes: no times, sorted keys. A checksum
covers everything; safetensors has none.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from lstm_numba.data.file_io import atomic_write, open_regular
from lstm_numba.errors import CheckpointError, printable

Array = npt.NDArray[Any]

_KEY = "lstm_numba"
FORMAT = 1
#: Bytes of a header, as safetensors bounds them.
_LONGEST_HEADER = 100_000_000


def save(path: Path, tensors: Mapping[str, Array], meta: Mapping[str, Any]) -> None:
    """Write a checkpoint, see `encode`."""
    atomic_write(path, encode(tensors, meta))


def encode(tensors: Mapping[str, Array], meta: Mapping[str, Any]) -> bytes:
    """A checkpoint as bytes.

    Parameters
    ----------
    tensors : dict of ndarray
    meta : dict
        Anything that JSON can hold; no NaN or inf.
    """
    from safetensors.numpy import save as to_bytes

    arrays = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    text = json.dumps(meta, sort_keys=True, separators=(",", ":"), allow_nan=False)
    stored = {"format": FORMAT, "checksum": _checksum(text, arrays), "meta": text}
    return to_bytes(arrays, metadata={_KEY: json.dumps(stored, sort_keys=True)})


def not_finite(tensors: Mapping[str, Array]) -> str | None:
    """Name of the first tensor that holds NaN or infinity, if one does."""
    return next((name for name, array in tensors.items() if not np.all(np.isfinite(array))), None)


def _checksum(text: str, arrays: Mapping[str, Array]) -> int:
    """CRC-32 of the JSON text and of every tensor's name, kind and content."""
    total = zlib.crc32(text.encode())
    for name in sorted(arrays):
        array = arrays[name]
        total = zlib.crc32(f"{name} {array.dtype.str} {array.shape}".encode(), total)
        total = zlib.crc32(array.reshape(-1).view(np.uint8).data, total)
    return total


def load(path: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """Read a checkpoint and check it.

    Parameters
    ----------
    path : Path

    Returns
    -------
    tensors : dict of ndarray
    meta : dict

    Raises
    ------
    CheckpointError
        The file is missing, damaged or something else, or a tensor is not finite; one line that names it.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load as from_bytes

    damage = (
        SafetensorError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
        OverflowError,
    )

    if not path.exists():
        raise CheckpointError(f"{path}: the checkpoint does not exist")
    try:
        with open_regular(path, CheckpointError) as file:
            stored, content = _stored_text(file)
        tensors: dict[str, Array] = from_bytes(content)
        meta = json.loads(stored["meta"])
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
    except damage as error:
        reason = " ".join(str(error).split())[:120]
        raise CheckpointError(f"{path}: damaged, or not a checkpoint of this program ({reason})") from None
    if stored.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: checkpoint format {stored.get('format')!r}, this version reads format {FORMAT}"
        )
    if stored.get("checksum") != _checksum(stored["meta"], tensors):
        raise CheckpointError(f"{path}: damaged: its checksum does not match")
    if not isinstance(meta, dict):
        raise CheckpointError(f"{path}: damaged: expected an object of metadata")
    unfit = not_finite(tensors)
    if unfit is not None:
        raise CheckpointError(f"{path}: {printable(unfit, 80)}: holds numbers that are not finite")
    return tensors, meta


def _stored_text(file: BinaryIO) -> tuple[dict[str, Any], bytes]:
    """The JSON of the metadata, which safetensors itself reads only by name, and the file's content.

    The file must be as long as its header says.
    """
    length = os.fstat(file.fileno()).st_size
    size = int.from_bytes(file.read(8), "little")
    if length < 8 or size > min(length - 8, _LONGEST_HEADER):
        raise ValueError(f"{length} bytes, cut short")
    header = json.loads(file.read(size))
    stored: dict[str, Any] = json.loads(header.pop("__metadata__")[_KEY])
    if not isinstance(stored, dict) or not isinstance(stored.get("meta"), str):
        raise ValueError("no metadata")
    expected = 8 + size + max((int(tensor["data_offsets"][1]) for tensor in header.values()), default=0)
    if length != expected:
        raise ValueError(f"{length} bytes, expected {expected}")
    file.seek(0)
    return stored, file.read(length)
