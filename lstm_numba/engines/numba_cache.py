"""Numba's kernels on disk: safe from processes that save at the same time, from damage, from full disks.

Numba gives what it saves the first free number in the function's index, then writes index and kernel. Of two
processes that do so at the same moment for different types, both take the same number: one's kernel then
answers for the other's. So they take turns, one folder at a time.

A file that a crash or a full disk cut off, or that is otherwise not what was written, is a miss, and written
anew. Where nothing can be written, kernels are compiled for this process alone, which a warning says once.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from numba.core import caching, config

from lstm_numba.errors import CacheWarning

try:
    import fcntl
except ImportError:  # no such locks on this system
    fcntl = None  # type: ignore[assignment]

_LOCK = "lstm_numba.lock"
_PACKAGE = Path(__file__).resolve().parent.parent

#: What follows an object in a file, where reading stops before: a mark, the object's bytes, their checksum.
_SEAL = struct.Struct("<8sQI")
_MARK = b"\nlstm_n\n"

#: What mends a `CacheWarning`.
REMEDY = "set NUMBA_CACHE_DIR to a folder with space that can be written to, or every process compiles anew"


@contextmanager
def _turn(folder: str) -> Iterator[None]:
    """Wait until no other process saves in a folder; the lock goes with the process."""
    with ExitStack() as stack:
        if fcntl is not None:
            with suppress(OSError):  # a file system without locks
                file = stack.enter_context((Path(folder) / _LOCK).open("w"))
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


class _Files(caching.IndexDataCacheFile):
    """A function's files, index and kernels."""

    def save(self, key: Any, data: Any) -> None:
        with _turn(self._cache_path):
            super().save(key, data)

    def _dump(self, obj: Any) -> bytes:
        content: bytes = super()._dump(obj)
        return content + _SEAL.pack(_MARK, len(content), zlib.crc32(content))

    def _load_index(self) -> Any:
        try:
            _check(self._index_path)
            return super()._load_index()
        except Exception:  # a damaged pickle fails in any way
            return {}

    def _load_data(self, name: str) -> Any:
        try:
            _check(self._data_path(name))
            return super()._load_data(name)
        except Exception as error:
            raise OSError(f"{name}: damaged") from error  # which Numba takes for a miss


def _check(path: str) -> None:
    """Raise a ValueError if a file is not as it was written; what others wrote has no seal."""
    content = Path(path).read_bytes()
    mark, size, checksum = _SEAL.unpack(content[-_SEAL.size :]) if len(content) > _SEAL.size else (b"", 0, 0)
    if mark == _MARK and zlib.crc32(content[-_SEAL.size - size : -_SEAL.size]) != checksum:
        raise ValueError(f"{path}: damaged")


class _LastResort:
    """Where this library's functions are looked for if no folder can be written to: some may be there."""

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> Any:
        if _PACKAGE not in Path(py_file).resolve().parents:
            return None
        places = caching.UserProvidedCacheLocator if config.CACHE_DIR else caching.InTreeCacheLocator
        return places(py_func, py_file)


_save = caching.Cache.save_overload
_told = False


def _save_if_possible(self: Any, sig: Any, data: Any) -> None:
    global _told
    try:
        _save(self, sig, data)
    except OSError as error:
        if not _told:
            _told = True
            why = f"{self.cache_path}: {error.strerror or error}"
            warnings.warn(
                f"compiled kernels are not kept on disk: {why}; {REMEDY}", CacheWarning, stacklevel=2
            )


def take_turns() -> None:
    """Have this process keep kernels, whoever's they are, as this module says."""
    if caching.Cache.save_overload is not _save_if_possible:
        caching.IndexDataCacheFile = _Files
        caching.Cache.save_overload = _save_if_possible
        caching.CacheImpl._locator_classes.append(_LastResort)


def kept_in() -> Path | None:
    """The folder in which this process keeps compiled kernels; None if there is none."""
    take_turns()
    locator = caching.FunctionCache(_check)._impl.locator
    try:
        locator.ensure_cache_path()
    except OSError:
        return None
    return Path(locator.get_cache_path())
