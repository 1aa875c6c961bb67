"""Fixtures and settings that every test file shares."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parent.parent


def _source_hash() -> str:
    digest = hashlib.sha256()
    for folder in ("lstm_numba", "data", "cli"):
        for path in sorted((_ROOT / folder).rglob("*.py")):
            digest.update(path.relative_to(_ROOT).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


# Numba's disk cache looks at the file of the cached function only, not at the files of the functions it
# calls: a folder named by a hash of all sources keeps a stale kernel from answering for an edited one.
# Set before numba is imported.
if "NUMBA_CACHE_DIR" not in os.environ:
    os.environ["NUMBA_CACHE_DIR"] = str(Path(tempfile.gettempdir()) / f"lstm-numba-cache-{_source_hash()}")


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    """The number of threads holds for the process: what a test sets must not reach the tests after it."""
    import numba

    threads = numba.get_num_threads()
    yield
    numba.set_num_threads(threads)
