"""``lstm-numba info``: versions, hardware, caches and data, as needed for a bug report."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import click

from lstm_numba import __version__
from lstm_numba.cli.console import print_json
from lstm_numba.cli.options import data_dir_option, json_option
from lstm_numba.cli.types import SectionedCommand
from lstm_numba.environment import processor_name, versions

_PACKAGES = (
    "numba",
    "llvmlite",
    "numpy",
    "scipy",
    "click",
    "pooch",
    "safetensors",
    "matplotlib",
    "pillow",
    "numba-cuda",
    "cupy-cuda12x",
    "cupy-cuda13x",
)


@click.command(
    cls=SectionedCommand,
    epilog="""\b
Examples:
  lstm-numba info
  lstm-numba info --json
""",
)
@data_dir_option
@json_option
def info(data_dir: str | None, as_json: bool) -> None:
    """Show versions, CPU, threads, CUDA device, cache folders and data sets, for bug reports.

    The caches are the folders with compiled kernels and with downloaded data.
    """
    found: dict[str, Any] = {
        "versions": _versions(),
        "cpu": _cpu(),
        "threads": _threads(),
        "cuda": _cuda(),
        "caches": _caches(),
        "data": _data(data_dir),
    }
    if as_json:
        print_json(found)
        return
    for heading, values in found.items():
        click.echo(f"{heading}:")
        width = max(map(len, values))
        for name, value in values.items():
            click.echo(f"  {name:<{width}}  {_text(value)}")


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(value)
    if value is None:
        return "not installed"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _versions() -> dict[str, str | None]:
    return {
        "lstm_numba": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        **versions(_PACKAGES),
    }


def _cpu() -> dict[str, Any]:
    from llvmlite import binding

    from lstm_numba.engines.cpu.cpu_features import vector_unit

    unit = vector_unit()
    try:
        features = sorted(name for name, enabled in binding.get_host_cpu_features().items() if enabled)
    except RuntimeError:  # LLVM cannot tell on this platform
        features = []
    return {
        "name": processor_name(),
        "llvm_name": binding.get_host_cpu_name(),
        "cores": os.cpu_count(),
        "vector_unit": unit.name,
        "vector_bits": 8 * unit.width,
        "features": features,
    }


def _threads() -> dict[str, Any]:
    import numba

    from lstm_numba.engines.cpu.threads import core_quota, thread_count

    quota = core_quota()
    return {
        "used": thread_count(),
        "available": int(numba.config.NUMBA_NUM_THREADS),
        "quota": "none" if quota is None else f"{quota:g} cores",
    }


def _cuda() -> dict[str, Any]:
    from lstm_numba.engines import find_cuda

    found = find_cuda()
    if not found.available:
        return {"available": False, "why": found.text}
    from lstm_numba.engines.cuda import gemm

    return {"available": True, "device": found.text, "products": gemm.backend()}


def _caches() -> dict[str, str]:
    import lstm_numba
    from lstm_numba.data import store
    from lstm_numba.engines.numba_cache import REMEDY, cache_folder

    folder = cache_folder()
    if folder is None:
        kernels = f"not kept: {REMEDY}"
    elif folder.name == "__pycache__":
        kernels = f"__pycache__ folders in {Path(lstm_numba.__file__).parent}"
    else:
        kernels = str(folder.parent)
    return {"kernels": kernels, "data": str(store.roots(None)[-1])}


def _data(data_dir: str | None) -> dict[str, str]:
    from lstm_numba.cli.data import state_and_folders
    from lstm_numba.data.catalog import DATASETS

    found = {}
    for name in DATASETS:
        state, folders = state_and_folders(name, data_dir)
        found[name] = ", ".join([state, *folders])
    return found
