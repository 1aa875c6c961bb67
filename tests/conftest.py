"""Fixtures and settings that every test file shares."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from backends import reason_without_cuda, simulated

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


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def backend(request: pytest.FixtureRequest) -> str:
    """The device that a test runs on, one after the other."""
    if request.param == "cuda" and reason_without_cuda():
        pytest.skip(reason_without_cuda())
    return str(request.param)


@pytest.fixture(scope="session", autouse=True)
def _few_threads() -> Iterator[None]:
    """The simulator's threads are Python's: few of them, which take turns often."""
    if not simulated():
        yield
        return
    from lstm_numba.gpu.launch import Limits, limits, set_limits

    interval, before = sys.getswitchinterval(), limits()
    sys.setswitchinterval(1e-5)
    set_limits(Limits(threads=4, blocks=2, lanes=4, parts=2, tile=2))
    yield
    set_limits(before)
    sys.setswitchinterval(interval)
