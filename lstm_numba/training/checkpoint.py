"""Checkpoints: one safetensors file, written so that at any moment a whole one is on disk.

Tensors are stored under their names, everything else as one JSON text in the file's metadata (one entry,
because the order of several is not fixed). Equal content gives equal bytes: no times, sorted keys. A checksum
covers all of it, which safetensors itself does not have.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_numba.errors import CheckpointError

Array = npt.NDArray[Any]

_KEY = "lstm_numba"
FORMAT = 1


def atomic_write(path: Path, content: bytes) -> None:
    """Replace a file's content: a reader, or a crash, sees the old content or the new, nothing between.

    Parameters
    ----------
    path : Path
    content : bytes

    Raises
    ------
    OSError
        The file system refuses; the old content stays.
    """
    # One fixed name: what a killed process left is written over by the next.
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable, where the system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows cannot open folders
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # some network file systems cannot; the file itself is safe
    finally:
        os.close(descriptor)


def save(path: Path, tensors: Mapping[str, Array], meta: Mapping[str, Any]) -> None:
    """Write a checkpoint.

    Parameters
    ----------
    path : Path
    tensors : dict of ndarray
    meta : dict
        Anything that JSON can hold; no NaN or inf.
    """
    from safetensors.numpy import save as to_bytes

    arrays = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    text = json.dumps(meta, sort_keys=True, separators=(",", ":"), allow_nan=False)
    stored = {"format": FORMAT, "checksum": _checksum(text, arrays), "meta": text}
    atomic_write(path, to_bytes(arrays, metadata={_KEY: json.dumps(stored, sort_keys=True)}))


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
        The file is missing, damaged or something else; one line that names it.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load as from_bytes

    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no checkpoint") from None
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from None
    try:
        stored = _stored_text(content)
        tensors: dict[str, Array] = from_bytes(content)
    except (SafetensorError, ValueError, KeyError, TypeError, UnicodeDecodeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise CheckpointError(f"{path}: damaged, or not a checkpoint of this program ({reason})") from None
    if stored.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: checkpoint format {stored.get('format')!r}, this version reads format {FORMAT}"
        )
    if stored.get("checksum") != _checksum(stored["meta"], tensors):
        raise CheckpointError(f"{path}: damaged: its checksum does not match")
    meta: dict[str, Any] = json.loads(stored["meta"])
    return tensors, meta


def _stored_text(content: bytes) -> dict[str, Any]:
    """The JSON of the metadata; safetensors itself reads it only from a file by name."""
    size = int.from_bytes(content[:8], "little")
    if len(content) < 8 or size > len(content) - 8:
        raise ValueError(f"{len(content)} bytes, cut short")
    header = json.loads(content[8 : 8 + size])
    stored: dict[str, Any] = json.loads(header["__metadata__"][_KEY])
    if not isinstance(stored, dict) or not isinstance(stored.get("meta"), str):
        raise ValueError("no metadata")
    return stored
