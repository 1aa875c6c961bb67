"""Fixtures and settings that every test file shares."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from backends import reason_without_cuda, simulated
from repository import ROOT


def _source_hash() -> str:
    digest = hashlib.sha256()
    for folder in ("lstm_numba", "data", "cli"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(path.relative_to(ROOT).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


# Numba's disk cache looks at the file of the cached function only, not at the files of the functions it
# calls: a folder named by a hash of all sources keeps a stale kernel from answering for an edited one.
# Set before numba is imported.
if "NUMBA_CACHE_DIR" not in os.environ:
    os.environ["NUMBA_CACHE_DIR"] = str(Path(tempfile.gettempdir()) / f"lstm-numba-cache-{_source_hash()}")

# Workers share the cores: a thread of OpenMP that spins while it has nothing to do takes its core from one
# that has. Child processes inherit this.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    """The number of threads holds for the process: what a test sets must not reach the tests after it."""
    import numba

    threads = numba.get_num_threads()
    yield
    numba.set_num_threads(threads)


#: Files that pytest-xdist begins with: a long one at the end would leave other workers idle.
_LONG = (
    "nn/test_recurrent",
    "nn/test_wrappers",
    "kernels/test_kernels",
    "examples/test_examples",
    "kernels/test_refusals",
    "kernels/test_user_loops",
    "benchmarks/test_bench",
    "kernels/test_stream",
    "nn/test_register_cell_cache",
    "training/test_warmup",
    "docs/test_cells_guide",
    "nn/test_gradient_check",
)
_WORKER = os.environ.get("PYTEST_XDIST_WORKER")
#: Workers of `-n auto` at most: the longest file lasts as long anyway, and each worker takes its memory.
_WORKERS = 8


@pytest.hookimpl(optionalhook=True, wrapper=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """One worker a core, up to a limit."""
    return min((yield), _WORKERS)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Let ``pytest -m smoke`` use all cores by itself: most of its time is compilation."""
    given = getattr(config.option, "numprocesses", 0)  # 0 where pytest-xdist is not installed
    if config.option.markexpr == "smoke" and given is None and _WORKER is None:
        config.option.numprocesses, config.option.dist = "auto", "worksteal"


def pytest_configure(config: pytest.Config) -> None:
    """Begin files in the order of the tests, not with those that hold most."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what folders named `cuda` hold as `gpu`; long files first, where files are distributed."""
    for item in items:
        if _of_cuda(item.path):
            item.add_marker(pytest.mark.gpu)
    if _WORKER is not None:
        rank = {name: place for place, name in enumerate(_LONG)}
        items.sort(key=lambda item: rank.get(_short(item.path), len(rank)))


def _short(path: Path) -> str:
    return path.relative_to(ROOT / "tests").with_suffix("").as_posix()


def _of_cuda(path: Path) -> bool:
    """Whether a file tests the CUDA engine alone: on a GPU, or in the simulator (NUMBA_ENABLE_CUDASIM=1)."""
    return "cuda" in path.relative_to(ROOT).parts and path.stem != "test_compiled_kernels"


class _SkippedModule(pytest.Module):
    """A file that is not even imported: without numba-cuda it could not be."""

    def collect(self) -> Any:
        pytest.skip(reason_without_cuda(), allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: Any) -> Any:
    """Skip all files for CUDA for one reason."""
    if _of_cuda(module_path) and reason_without_cuda():
        return _SkippedModule.from_parent(parent, path=module_path)
    return None


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def backend(request: pytest.FixtureRequest) -> str:
    """The device that a test runs on, one after the other."""
    if request.param == "cuda" and reason_without_cuda():
        pytest.skip(reason_without_cuda())
    return str(request.param)


@pytest.fixture(scope="session", autouse=True)
def _few_threads() -> Iterator[None]:
    """The simulator runs kernels as Python: blocks of few threads."""
    if not simulated():
        yield
        return
    import simulator

    from lstm_numba.engines.cuda.launch import Limits, limits, set_limits

    simulator.install()
    before = limits()
    set_limits(Limits(threads=4, blocks=2, lanes=4, parts=2, tile=2))
    yield
    set_limits(before)
