"""Tiles use the vector registers of the processor that they are compiled for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lstm_numba.engines.cpu.cpu_features import column_groups, flat_tile_rows, tile_rows, vector_unit

pytestmark = pytest.mark.processor

# The checks run this file once more with other processors' names, see `.ci/run`.

_CHILD = """
import sys
import numpy as np
from lstm_numba.engines.cpu.microkernel import _compiled
print(_compiled(int(sys.argv[1]), np.dtype(sys.argv[2]))._library.get_asm_str())
"""
#: Unit -> registers of its tiles, and of wider ones.
_REGISTERS = {
    "AVX-512": (r"zmm\d+", "$^"),
    "AVX2": (r"ymm\d+", r"zmm\d+"),
    "baseline": (r"xmm\d+", r"[yz]mm\d+"),
    "NEON": (r"fmla\s+v\d+\.4s", "$^"),
}


def _assembly(vectors: int, dtype: str, cache: Path) -> str:
    """What a new process compiles: a tile that Numba took from its cache has no assembly."""
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(vectors), dtype],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "NUMBA_CACHE_DIR": str(cache)},
    )
    return done.stdout


def test_a_tile_uses_the_registers_of_this_processor(tmp_path: Path) -> None:
    code = _assembly(4, "float32", tmp_path)
    used, wider = _REGISTERS[vector_unit().name]
    assert re.search(used, code)
    assert not re.search(wider, code)


@pytest.mark.parametrize(
    ("vectors", "dtype"), [(3, "float32"), (4, "float32"), (4, "float64"), (7, "float32")]
)
def test_a_tile_fits_the_registers(vectors: int, dtype: str, tmp_path: Path) -> None:
    """In its loops no vector goes to the stack and back, which would cost a third of the speed."""
    loops = re.findall(
        r"^(\.L\w+):((?:(?!^\.L).*\n)*?\s*j\w+\s+\1)$", _assembly(vectors, dtype, tmp_path), re.M
    )
    bodies = [body for _, body in loops if "add" in body and re.search("mm[0-9]", body)]
    assert len(bodies) >= tile_rows(vectors)
    spilled = [line for body in bodies for line in body.splitlines() if "(%rsp)" in line and "mm" in line]
    assert spilled == []


def test_columns_of_a_tile_are_cut_evenly_and_fit() -> None:
    for vectors in range(1, 13):
        rows = tile_rows(vectors)
        groups = [column_groups(vectors, height) for height in range(1, rows + 1)]
        assert all(sum(group) == vectors and max(group) - min(group) <= 1 for group in groups)
        # The tallest tile has as many accumulators as two units of a latency of four cycles keep busy.
        assert max(groups[-1]) * rows >= (8 if vector_unit().registers == 16 else 12)
        assert flat_tile_rows(vectors) <= rows
        fits = column_groups(vectors, 1) == (vectors,)
        assert not fits or column_groups(vectors, flat_tile_rows(vectors)) == (vectors,)
    if vector_unit().name == "AVX2":
        assert [flat_tile_rows(vectors) for vectors in range(1, 9)] == [12, 6, 4, 3, 2, 2, 1, 1]
        assert [tile_rows(vectors) for vectors in range(1, 9)] == [12, 6, 4, 6, 4, 4, 4, 4]


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
