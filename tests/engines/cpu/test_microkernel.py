"""Tiles use the vector registers of the processor that they are compiled for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lstm_numba.engines.cpu.cpu_features import vector_unit

pytestmark = pytest.mark.processor

# The checks run this file once more with other processors' names, see `.ci/run`.

_CHILD = """
import numpy as np
from lstm_numba.engines.cpu.microkernel import _compiled
print(_compiled(4, np.dtype("float32"))._library.get_asm_str())
"""
#: Unit -> registers of its tiles, and of wider ones.
_REGISTERS = {
    "AVX-512": (r"zmm\d+", "$^"),
    "AVX2": (r"ymm\d+", r"zmm\d+"),
    "baseline": (r"xmm\d+", r"[yz]mm\d+"),
    "NEON": (r"fmla\s+v\d+\.4s", "$^"),
}


def test_a_tile_uses_the_registers_of_this_processor(tmp_path: Path) -> None:
    """In what a new process compiles: a tile that Numba took from its cache has no assembly."""
    done = subprocess.run(
        [sys.executable, "-c", _CHILD],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
    )
    used, wider = _REGISTERS[vector_unit().name]
    assert re.search(used, done.stdout)
    assert not re.search(wider, done.stdout)


@pytest.mark.skipif(vector_unit().name == "NEON", reason="names of x86-64")
def test_features_of_another_processor_are_heeded() -> None:
    """Both variables, as Numba heeds them: with the name alone it takes this processor's features."""
    for name, features, unit in (
        ("haswell", "+avx,+avx2,+fma", "AVX2"),
        ("x86-64", "+sse2", "baseline"),
        ("skylake-avx512", "+avx512f,+avx512vl,+avx512dq,+avx2,+fma", "AVX-512"),
    ):
        settings = {**os.environ, "NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features}
        program = "from lstm_numba.engines.cpu.cpu_features import vector_unit; print(vector_unit().name)"
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=settings
        )
        assert done.stdout.strip() == unit
