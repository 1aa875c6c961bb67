"""What the processor offers: width and number of its vector registers, and the tile sizes that follow."""

from __future__ import annotations

import functools
import platform
from typing import Any, NamedTuple

import numpy as np


class VectorUnit(NamedTuple):
    """A processor's vector registers.

    Attributes
    ----------
    name : str
        Instruction set, for people.
    width : int
        Bytes in one register.
    registers : int
        Number of registers that a kernel can use.
    """

    name: str
    width: int
    registers: int


@functools.cache
def vector_unit() -> VectorUnit:
    """Describe the vector registers that Numba will compile for.

    ``NUMBA_CPU_NAME`` and ``NUMBA_CPU_FEATURES`` are honoured as Numba honours them, so that the
    narrower tiles can be tried on a wider machine.
    """
    features = _enabled_features()
    if platform.machine().lower() in {"aarch64", "arm64"}:
        return VectorUnit("NEON", 16, 32)
    if {"avx512f", "avx512vl", "avx512dq"} <= features:
        return VectorUnit("AVX-512", 64, 32)
    if {"avx2", "fma"} <= features:
        return VectorUnit("AVX2", 32, 16)
    return VectorUnit("baseline", 16, 16)


def _enabled_features() -> set[str]:
    from llvmlite import binding
    from numba.core import config

    if config.CPU_FEATURES is not None:
        return {word[1:] for word in str(config.CPU_FEATURES).split(",") if word.startswith("+")}
    if config.CPU_NAME is not None and config.CPU_NAME == "generic":
        return set()
    try:
        return {name for name, enabled in binding.get_host_cpu_features().items() if enabled}
    except RuntimeError:  # LLVM cannot tell on this platform
        return set()


@functools.cache
def lanes(dtype: Any) -> int:
    """Numbers of `dtype` in one vector register."""
    return vector_unit().width // np.dtype(dtype).itemsize


def tile_rows(vectors: int) -> int:
    """Rows of a register tile that is `vectors` registers wide.

    The tile's accumulators, one row of the packed operand and one broadcast number must fit the
    register file; more rows would spill.
    """
    return max(1, min(12, (vector_unit().registers - vectors - 1) // vectors))


def round_up(value: int, multiple: int) -> int:
    """The smallest multiple of `multiple` that is at least `value`."""
    return -(-value // multiple) * multiple
