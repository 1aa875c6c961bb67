"""Numba's disk cache, made safe against concurrent writers, damaged files and full disks.

Numba saves a kernel under the first free number in the function's index. Two processes that save at the same
time for different types choose the same number, and one later loads the other's kernel. A lock per folder
prevents that.

Kernels are kept in ``NUMBA_CACHE_DIR``, else in a folder of the user's cache, else where Numba keeps those of
any package. Not beside the sources, where Numba would look first: what is left there when the package is
uninstalled makes ``import lstm_numba`` succeed, with nothing in it.

A truncated or otherwise damaged file counts as a cache miss and is rewritten. If no folder is writable,
kernels are compiled for this process alone, with one warning.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from numba.core import caching, config

from lstm_numba.errors import CacheWarning, warn

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

_LOCK = "lstm_numba.lock"
_PACKAGE = Path(__file__).resolve().parent.parent

#: Trailer after the pickled object, which unpickling ignores: magic bytes, size of the object, its CRC-32.
_TRAILER = struct.Struct("<8sQI")
_MAGIC = b"\nlstm_n\n"

#: How to fix the cause of a `CacheWarning`.
REMEDY = "set NUMBA_CACHE_DIR to a folder with space that can be written to, or every process compiles again"


@contextmanager
def _locked(folder: str) -> Iterator[None]:
    """Hold an exclusive lock on a cache folder; the system releases it if the process ends."""
    with ExitStack() as stack:
        if fcntl is not None:
            with suppress(OSError):  # a file system without locks
                file = stack.enter_context((Path(folder) / _LOCK).open("w"))
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


class _SafeCacheFile(caching.IndexDataCacheFile):
    """The cache files of a function: index and kernels."""

    def save(self, key: Any, data: Any) -> None:
        with _locked(self._cache_path):
            super().save(key, data)

    def _dump(self, obj: Any) -> bytes:
        content: bytes = super()._dump(obj)
        return content + _TRAILER.pack(_MAGIC, len(content), zlib.crc32(content))

    def _load_index(self) -> Any:
        try:
            _check(self._index_path)
            return super()._load_index()
        except Exception:  # a damaged pickle may raise anything
            return {}

    def _load_data(self, name: str) -> Any:
        try:
            _check(self._data_path(name))
            return super()._load_data(name)
        except Exception as error:
            raise OSError(f"{name}: damaged") from error  # a cache miss to Numba


def _check(path: str) -> None:
    """Raise a ValueError if a file is damaged; files that plain Numba wrote have no trailer to check."""
    content = Path(path).read_bytes()
    end = content[-_TRAILER.size :]
    magic, size, checksum = _TRAILER.unpack(end) if len(content) > _TRAILER.size else (b"", 0, 0)
    if magic == _MAGIC and zlib.crc32(content[-_TRAILER.size - size : -_TRAILER.size]) != checksum:
        raise ValueError(f"{path}: damaged")


def own_folder() -> Path:
    """The folder for this library's kernels in the user's cache, which may not exist."""
    from numba.misc.appdirs import AppDirs

    folder = AppDirs(appname="lstm_numba", appauthor=False).user_cache_dir
    if not os.path.isabs(folder):  # an empty XDG_CACHE_HOME counts as none
        folder = os.path.expanduser("~/.cache/lstm_numba")
    return Path(folder, "kernels")


class _OwnLocator(caching._SourceFileBackedLocatorMixin, caching._CacheLocator):
    """Locates cache files of this package in `own_folder`, unless ``NUMBA_CACHE_DIR`` names another one."""

    def __init__(self, py_func: Any, py_file: str) -> None:
        self._py_file = py_file
        self._lineno = py_func.__code__.co_firstlineno
        self._folder = own_folder() / self.get_suitable_cache_subpath(py_file)

    def get_cache_path(self) -> str:
        return str(self._folder)

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> Any:
        if config.CACHE_DIR or _PACKAGE not in Path(py_file).resolve().parents:
            return None
        return super().from_function(py_func, py_file)


class _ReadOnlyLocator:
    """Locates cache files of this package in a folder that is not writable: some may exist already."""

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> Any:
        if _PACKAGE not in Path(py_file).resolve().parents:
            return None
        locator = caching.UserProvidedCacheLocator if config.CACHE_DIR else caching.InTreeCacheLocator
        return locator(py_func, py_file)


_save = caching.Cache.save_overload
_warned = False


def _save_if_possible(self: Any, sig: Any, data: Any) -> None:
    global _warned
    try:
        _save(self, sig, data)
    except OSError as error:
        if not _warned:
            _warned = True
            why = f"{self.cache_path}: {error.strerror or error}"
            warn(f"compiled kernels are not kept on disk: {why}; {REMEDY}", CacheWarning)


def use_own_folder(implementation: Any) -> None:
    """Have this package's kernels kept in `own_folder`, unless ``NUMBA_CACHE_DIR`` is set.

    Parameters
    ----------
    implementation : type
        The class of Numba's, or of numba-cuda's, that looks for folders.
    """
    if _OwnLocator not in implementation._locator_classes:
        implementation._locator_classes.insert(0, _OwnLocator)


def make_cache_safe() -> None:
    """Apply this module to all Numba caches of this process, also those of other packages."""
    if caching.Cache.save_overload is not _save_if_possible:
        caching.IndexDataCacheFile = _SafeCacheFile
        caching.Cache.save_overload = _save_if_possible
        use_own_folder(caching.CacheImpl)
        caching.CacheImpl._locator_classes.append(_ReadOnlyLocator)


def cache_folder() -> Path | None:
    """The folder to which this process writes compiled kernels; None if none is writable."""
    make_cache_safe()
    locator = caching.FunctionCache(_check)._impl.locator
    try:
        locator.ensure_cache_path()
    except OSError:
        return None
    return Path(locator.get_cache_path())


def kernel_files() -> list[Path]:
    """This library's compiled kernels on disk, wherever it may have kept them.

    Of folders that hold other packages' kernels too, as ``NUMBA_CACHE_DIR`` may, only those of this library's
    modules, which Numba keeps apart by the path of the sources.
    """
    from numba.misc.appdirs import AppDirs

    packages = dict.fromkeys((_PACKAGE, Path(__file__).parent.parent))  # Numba knows the path as it was named
    sources = [path.parent for package in packages for path in package.rglob("*.py")]
    shared = [Path(AppDirs(appname="numba", appauthor=False).user_cache_dir)]
    shared += [Path(config.CACHE_DIR)] if config.CACHE_DIR else []
    subpath = caching._CacheLocator.get_suitable_cache_subpath
    folders = [folder / "__pycache__" for folder in dict.fromkeys(sources)]
    for folder in dict.fromkeys(sources):
        folders += [where / subpath(str(folder / "module.py")) for where in shared]
    with suppress(OSError):
        folders += sorted(own_folder().iterdir())
    return list(dict.fromkeys(path for folder in folders for path in _kernels_in(folder)))


def _kernels_in(folder: Path) -> list[Path]:
    try:
        return sorted(
            path for path in folder.iterdir() if path.suffix in (".nbi", ".nbc") or path.name == _LOCK
        )
    except OSError:  # there is none
        return []


def remove_kernels(files: Iterable[Path]) -> None:
    """Remove compiled kernels, and their folders where nothing else is in them.

    Raises
    ------
    OSError
        A file cannot be removed.
    """
    paths = list(files)
    for path in paths:
        path.unlink(missing_ok=True)
    own = own_folder()
    for folder in (*dict.fromkeys(path.parent for path in paths), own, own.parent):
        with suppress(OSError):  # something else is in it
            folder.rmdir()
