"""Numba's kernels on disk, safe from processes that save at the same time.

Numba gives what it saves the first free number in the function's index, then writes index and kernel. Of two
processes that do so at the same moment for different types, both take the same number: one's kernel then
answers for the other's. So they take turns, one folder at a time.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from numba.core import caching

try:
    import fcntl
except ImportError:  # no such locks on this system
    fcntl = None  # type: ignore[assignment]

_LOCK = "lstm_numba.lock"


@contextmanager
def _turn(folder: str) -> Iterator[None]:
    """Wait until no other process saves in a folder; the lock goes with the process."""
    with ExitStack() as stack:
        if fcntl is not None:
            with suppress(OSError):  # a file system without locks
                file = stack.enter_context((Path(folder) / _LOCK).open("w"))
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _locked(save: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(save)
    def locked(self: Any, key: Any, data: Any) -> None:
        with _turn(self._cache_path):
            save(self, key, data)

    locked.takes_turns = True  # type: ignore[attr-defined]
    return locked


def take_turns() -> None:
    """Have this process take turns with others, whatever it saves."""
    files = caching.IndexDataCacheFile
    if not hasattr(files.save, "takes_turns"):
        files.save = _locked(files.save)
