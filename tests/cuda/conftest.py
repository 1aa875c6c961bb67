"""Tests of the CUDA engine: on a GPU, or in CUDA's simulator with ``NUMBA_ENABLE_CUDASIM=1``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def _reason_to_skip() -> str | None:
    try:
        from lstm_numba.gpu.driver import SIMULATED, cuda
    except Exception as error:  # no numba-cuda, or one that finds no CUDA
        return f"numba-cuda: {error}"
    if SIMULATED or cuda.is_available():
        return None
    return "no CUDA device, and CUDA's simulator is off (NUMBA_ENABLE_CUDASIM=1)"


_REASON = _reason_to_skip()


class _SkippedModule(pytest.Module):
    """A file that is not even imported: without numba-cuda it could not be."""

    def collect(self) -> Any:
        pytest.skip(str(_REASON), allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: Any) -> Any:
    """Skip all files of this folder for one reason."""
    return _SkippedModule.from_parent(parent, path=module_path) if _REASON else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark this folder's tests on a GPU, so that ``-m gpu`` finds them."""
    if _REASON:
        return
    from lstm_numba.gpu.driver import SIMULATED

    for item in items:
        if not SIMULATED and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(scope="session", autouse=True)
def _few_threads() -> Iterator[None]:
    """The simulator's threads are Python's: few of them, which take turns often."""
    from lstm_numba.gpu.driver import SIMULATED
    from lstm_numba.gpu.launch import Limits, limits, set_limits

    if not SIMULATED:
        yield
        return
    interval, before = sys.getswitchinterval(), limits()
    sys.setswitchinterval(1e-5)
    set_limits(Limits(threads=4, blocks=2, lanes=4, parts=2, tile=2))
    yield
    set_limits(before)
    sys.setswitchinterval(interval)
