"""What the processor offers: width and number of its vector registers, and the tile sizes that follow."""

from __future__ import annotations

import functools
import itertools
import platform
from typing import Any, NamedTuple

import numpy as np

#: Columns of a register tile that are computed at once, in vectors, and its rows: more gained nothing.
WIDEST, TALLEST = 3, 12


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
    fused : bool
        Whether one instruction multiplies and adds.
    """

    name: str
    width: int
    registers: int
    fused: bool = True


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
    return VectorUnit("baseline", 16, 16, fused=False)


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


def _fits(columns: int, rows: int) -> bool:
    """Whether the registers hold a tile: its accumulators, the shorter side of the operands, which stays, and
    one number or vector of the longer side, which passes; without fused multiply-add also a product.

    A tile that needs one register more runs at two thirds of the speed.
    """
    unit = vector_unit()
    return columns * rows + min(columns, rows) + 1 + (not unit.fused) <= unit.registers


@functools.cache
def column_groups(vectors: int, rows: int) -> tuple[int, ...]:
    """How a register tile `vectors` registers wide is cut into columns that are computed one after the other:
    into the fewest, nearly equal ones, whose rows fit the registers.
    """
    count = next(count for count in range(1, vectors + 1) if _fits(-(-vectors // count), rows))
    return tuple((vectors + n) // count for n in reversed(range(count)))


def group_start(vectors: int, group: int) -> int:
    """First of the vectors of a packed operand's n-th group of columns, or of what is behind the last group.

    The groups lie one after the other in memory: nearly equal ones of at most `WIDEST`, in which the tallest
    tiles read them. Plain arithmetic, which kernels compile.
    """
    count = -(-vectors // WIDEST)
    return -(-group * vectors // count)


def packed_groups(vectors: int) -> list[tuple[int, int]]:
    """First and one past the last vector of each of them."""
    starts = [group_start(vectors, n) for n in range(-(-vectors // WIDEST) + 1)]
    return list(itertools.pairwise(starts))


@functools.cache
def tile_rows(vectors: int) -> int:
    """Rows of a register tile that is `vectors` registers wide.

    As many as fit beside columns at most `WIDEST` vectors wide. GFLOP/s of one core of a Zen 5, float32,
    20 rows times a matrix 650x650, compiled for each kind of register:

    ========== ======== ======== ======== ======== ======== ======== ======== ========
    vectors       1        2        3        4        5        6        7        8
    ========== ======== ======== ======== ======== ======== ======== ======== ========
    AVX-512    12: 229  12: 260   9: 259  12: 259   9: 252   9: 248   9: 251   9: 255
    AVX2       12: 117   6: 122   4: 130   6: 124   4: 125   4: 131   4: 121   4: 124
    baseline   12: 41    6: 48    3: 47    6: 48    3: 49    3: 50    3: 48    3: 48
    ========== ======== ======== ======== ======== ======== ======== ======== ========

    Four vectors side by side, by 6, 3 and 2 rows, gave 263, 130 and 51. Two and two by twice the rows read
    the packed operand half as often, which counts where it comes from far: an LSTM's inference at 20x200
    units gained 4 % on AVX-512, 2 % on AVX2. On AVX2 four vectors by two rows gave 114, eight by one row 91.
    """
    return _most_rows(-(-vectors // -(-vectors // WIDEST)))


@functools.cache
def flat_tile_rows(vectors: int) -> int:
    """Rows of one whose columns are all computed at once, if they fit.

    Its packed operand is read once a tile, which is better where that comes from memory: an LSTM's inference
    at 20x1500 units gained 6 and 13 % on AVX-512 and 12 % on AVX2.
    """
    return _most_rows(vectors) if _fits(vectors, 1) else tile_rows(vectors)


def _most_rows(columns: int) -> int:
    return max(rows for rows in range(1, TALLEST + 1) if rows == 1 or _fits(columns, rows))


def round_up(value: int, multiple: int) -> int:
    """The smallest multiple of `multiple` that is at least `value`."""
    return -(-value // multiple) * multiple
