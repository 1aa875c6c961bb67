"""Reading files that may be anything, with bounded memory and one-line errors; atomic writing."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
import zlib
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

from lstm_numba.errors import DataError, UserError

#: Largest content that is read from a file, in bytes; twice that of EMNIST's largest file.
LARGEST_CONTENT = 1 << 30

_CHUNK = 1 << 20
#: Compressed bytes per read; most members in a gzip file, each of which copies the rest of a read.
_PIECE, _MEMBERS = 1 << 16, 1 << 16
_AT_ONCE = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_GZIP_MAGIC = b"\x1f\x8b"


def one_line(text: object, limit: int = 200) -> str:
    """Return `text` as one printable line of at most `limit` characters."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))
    return line if len(line) <= limit else line[: limit - 3] + "..."


def fault(path: str | os.PathLike[str], what: str, kind: type[UserError] = DataError) -> UserError:
    """Return the error that names `path` and what is wrong with it, in one line."""
    return kind(f"{one_line(os.fspath(path), 400)}: {one_line(what, 1000)}")


def reason(error: OSError) -> str:
    """Return the system's text for a failed file operation."""
    return error.strerror or one_line(error) or type(error).__name__


def open_regular(path: str | os.PathLike[str], kind: type[UserError] = DataError) -> BufferedReader:
    """Open a regular file for reading; pipes, devices and sockets, which may block or never end, are refused.

    Parameters
    ----------
    path : path
    kind : type of UserError, optional
        Class of the error to raise.

    Raises
    ------
    UserError
        Of the class `kind`: it is missing, something else, or cannot be read.
    """
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISREG(mode):
            # Non-blocking: it may have become a pipe since.
            return os.fdopen(os.open(path, _AT_ONCE), "rb")
    except FileNotFoundError:
        raise fault(path, "no such file", kind) from None
    except OSError as error:
        raise fault(path, f"cannot be read: {reason(error)}", kind) from None
    except ValueError as error:  # a NUL byte in the name
        raise fault(path, f"not a file name: {error}", kind) from None
    raise fault(path, "is a folder" if stat.S_ISDIR(mode) else "not a regular file", kind)


def read_file(
    path: str | os.PathLike[str], limit: int = LARGEST_CONTENT, kind: type[UserError] = DataError
) -> bytes:
    """Return a file's bytes as stored; `read_content` decompresses.

    Parameters
    ----------
    path : path
        Regular file.
    limit : int
        Largest size in bytes.
    kind : type of UserError, optional
        Class of the error to raise.

    Raises
    ------
    UserError
        Of the class `kind`: it is missing, something else, cannot be read, or is longer than `limit`.
    """
    with open_regular(path, kind) as file:
        try:
            size = os.fstat(file.fileno()).st_size
            if size <= limit:
                return file.read(size)
        except OSError as error:
            raise fault(path, f"cannot be read: {reason(error)}", kind) from None
    raise _too_large(path, size, limit, kind)


def _too_large(
    path: str | os.PathLike[str], size: int, limit: int, kind: type[UserError] = DataError
) -> UserError:
    return fault(path, f"too large: {size} bytes; at most {limit} are read", kind)


class ContentReader:
    """Reads a file sequentially, decompressing it if it is gzipped; every error is a `DataError`.

    Memory grows with the bytes that are really there, never with a size from a header, up to the number of
    bytes that the caller asks for.

    Parameters
    ----------
    path : path
        Regular file. Its first bytes, not its name, tell whether it is gzipped.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._decompressor: Any = None
        self._pending = b""
        self._members = 1
        self._file = open_regular(self.path)
        try:
            self.compressed_size = os.fstat(self._file.fileno()).st_size
            self.gzipped = self._file.peek(2)[:2] == _GZIP_MAGIC
        except OSError as error:
            raise fault(self.path, f"cannot be read: {reason(error)}") from None
        if not 0 < self.compressed_size <= LARGEST_CONTENT:
            self._file.close()
            if not self.compressed_size:
                raise fault(self.path, "the file is empty")
            raise _too_large(self.path, self.compressed_size, LARGEST_CONTENT)
        if self.gzipped:
            self._decompressor = zlib.decompressobj(wbits=31)

    def __enter__(self) -> ContentReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int) -> bytearray:
        """Return the next `size` bytes of content, fewer at its end."""
        out = bytearray()
        while len(out) < size:
            part = self._next(min(size - len(out), _CHUNK))
            if not part:
                break
            out += part
        return out

    def _next(self, size: int) -> bytes:
        try:
            return self._inflate(size) if self.gzipped else self._file.read(size)
        except OSError as error:
            raise fault(self.path, f"cannot be read: {reason(error)}") from None
        except zlib.error as error:
            raise fault(self.path, f"damaged gzip file: {error}") from None

    def _inflate(self, size: int) -> bytes:
        # zlib instead of GzipFile: `max_length` bounds the output of a step.
        while True:
            data = self._pending or self._file.read(_PIECE)
            if self._decompressor.eof:
                data = data.lstrip(b"\0")  # tar and some mirrors pad with zeros
                if not data:
                    self._pending = b""
                    if not self._file.peek(1):
                        return b""
                    continue
                if not data.startswith(_GZIP_MAGIC[: len(data)]):
                    raise fault(self.path, "damaged gzip file: something follows its end")
                self._members += 1
                if self._members > _MEMBERS:
                    raise fault(self.path, f"gzip file of more than {_MEMBERS} members")
                self._decompressor = zlib.decompressobj(wbits=31)
            elif not data:
                raise fault(self.path, "truncated gzip file: it ends before its content does")
            out: bytes = self._decompressor.decompress(data, size)
            self._pending = self._decompressor.unused_data or self._decompressor.unconsumed_tail
            if out:
                return out


def read_content(path: str | os.PathLike[str], limit: int = LARGEST_CONTENT) -> bytes:
    """Return the whole content of a file, decompressed if it is gzipped.

    Parameters
    ----------
    path : path
        Regular file.
    limit : int
        Largest size of the content in bytes.

    Raises
    ------
    DataError
        Missing, unreadable, empty, damaged or longer than `limit`.
    """
    with ContentReader(path) as reader:
        content = reader.read(limit + 1)
    if len(content) > limit:
        raise fault(path, f"the content is longer than {limit} bytes")
    if not content:
        raise fault(path, "the content is empty")
    return bytes(content)


def sha256(content: bytes | bytearray | memoryview) -> str:
    """Return the SHA-256 of `content` as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def unique_name(path: Path) -> Path:
    """A unique name beside `path` for an incomplete file. It ends in ``.tmp``."""
    return path.with_name(f"{path.name[:40]}.{secrets.token_hex(4)}.tmp")


def atomic_write(path: Path, content: bytes, *, fresh: bool = False) -> None:
    """Replace a file's content atomically: a reader, or a crash, sees the old content or the new.

    Parameters
    ----------
    path : Path
    content : bytes
    fresh : bool
        Never replace a file: of several processes that write the same name one succeeds.

    Raises
    ------
    OSError
        The file system refuses, or, `FileExistsError`, `fresh` and the file is there; the old content stays.
        `filename` is `path`.
    """
    temporary = unique_name(path)
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if fresh:
            _name_once(temporary, path)
        else:
            temporary.replace(path)
    except OSError as error:  # for a full disk the system names no file
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    _sync_folder(path.parent)


def _name_once(temporary: Path, path: Path) -> None:
    """Rename unless the file exists: a link never replaces one."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links; a crash just here leaves an empty file
        path.open("xb").close()
        temporary.replace(path)


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


@contextlib.contextmanager
def folder_lock(folder: Path) -> Iterator[bool]:
    """Hold a folder's lock, which ends with the process; False where there are no locks.

    Raises
    ------
    BlockingIOError
        Another process holds it.
    OSError
        There is no such folder.
    """
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        yield False
        return
    # Not a file in it: files are replaced, and the lock would stay with the old one.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        held = True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            held = False  # the file system has no locks
        yield held
    finally:
        os.close(descriptor)
