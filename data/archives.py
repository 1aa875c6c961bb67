"""Zip archives out of untrusted bytes: no file is written, and memory is bounded by what is there."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from lstm_numba.data.file_io import one_line

#: Files in an archive at most.
_MEMBERS = 10_000
#: Largest unpacked size of an archive, in bytes or as a multiple of its size; numbers hardly compress.
_UNPACKED, _RATIO = 1 << 28, 100
#: Compression methods that writers of arrays use; others may expand without limit in one read.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

#: What zipfile raises on damaged archives.
_FAULTS = (
    zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, OSError, ValueError,
    struct.error,
)  # fmt: skip


class ArchiveError(ValueError):
    """An archive is damaged or of a kind that is not read; one line without the file's name."""


class Archive:
    """The files in a zip archive.

    Parameters
    ----------
    content : bytes
        Of the archive.
    largest : int
        Bytes that it may unpack to.

    Attributes
    ----------
    comment : bytes
    names : list of str
        Of the files in it; folders are left out.

    Raises
    ------
    ArchiveError
        It is damaged, names a file twice, or says that it unpacks to much more than its size.
    """

    def __init__(self, content: bytes, largest: int) -> None:
        count = content.count(b"PK\1\2")  # before zipfile allocates memory for each
        if count > _MEMBERS:
            raise ArchiveError(f"an archive of {count} files; at most {_MEMBERS} are read")
        with _damage():
            self._zip = zipfile.ZipFile(io.BytesIO(content))
        self.comment = self._zip.comment
        self._members: dict[str, zipfile.ZipInfo] = {}
        for member in self._zip.infolist():
            if member.filename in self._members:
                raise ArchiveError(f"{one_line(member.filename, 120)}: is in it twice")
            if not member.filename.endswith("/"):  # is_dir fails on an empty name
                self._members[member.filename] = member
        self.names = list(self._members)
        unpacked = sum(member.file_size for member in self._members.values())
        if unpacked > min(max(_UNPACKED, _RATIO * len(content)), largest):
            raise ArchiveError(f"damaged: {len(content)} bytes that say they are {unpacked}")

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def read(self, name: str) -> bytes:
        """Content of a file in it.

        Raises
        ------
        ArchiveError
            It is not in it, damaged, encrypted or packed by an unusual method.
        """
        if name not in self._members:
            raise ArchiveError(f"{one_line(name, 120)} is not in it")
        member = self._members[name]
        if member.compress_type not in _METHODS:
            raise ArchiveError(f"{one_line(name, 120)}: packed in a way that is not read")
        with _damage():
            return self._zip.read(member)


@contextmanager
def _damage() -> Iterator[None]:
    """Turn what zipfile raises on damaged archives into one line."""
    try:
        yield
    except _FAULTS as error:
        raise ArchiveError(f"damaged, or not a zip archive ({one_line(error, 120)})") from None
