"""Tests of the CUDA engine alone: on a GPU, or in CUDA's simulator with ``NUMBA_ENABLE_CUDASIM=1``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from backends import reason_without_cuda


class _SkippedModule(pytest.Module):
    """A file that is not even imported: without numba-cuda it could not be."""

    def collect(self) -> Any:
        pytest.skip(reason_without_cuda(), allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: Any) -> Any:
    """Skip all files of this folder for one reason."""
    return _SkippedModule.from_parent(parent, path=module_path) if reason_without_cuda() else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark this folder's tests, so that ``-m gpu`` finds them."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)
