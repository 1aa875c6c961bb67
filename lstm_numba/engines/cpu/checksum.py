"""A checksum of parameters: plain arrays that anybody may write to, so that a change must be looked for.

Reading all numbers takes a fraction of the time of packing them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import cgutils, types
from numba.extending import intrinsic

from lstm_numba.engines.cpu.function_pointers import compile_apart, once
from lstm_numba.engines.cpu.layout import split
from lstm_numba.engines.cpu.options import EXACT
from lstm_numba.engines.cpu.vector import pointer_to, splat

_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplying with it loses nothing
_LEFT, _RIGHT = np.uint64(29), np.uint64(35)
#: Sums side by side: words in a vector, and vectors.
_LANES, _VECTORS = 8, 4


@njit(**EXACT)
def _stir(sum_, word):
    """Another word into a sum: one-to-one in either, so that a single changed word always shows.

    The rotation brings the upper bits, which a product moves nowhere, down to where it spreads them.
    """
    mixed = sum_ ^ word
    return ((mixed << _LEFT) | (mixed >> _RIGHT)) * _FACTOR


@intrinsic
def _stir_rounds(typingctx: Any, words: Any, rounds: Any, seed: Any) -> Any:
    """`_stir` as many words a round as there are lanes, each into a sum of its own, and then these together.

    One sum would wait for each product; side by side they keep up with the level-2 cache.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        number, vector = ir.IntType(64), ir.VectorType(ir.IntType(64), _LANES)

        def stir(total: Any, word: Any) -> Any:
            def like(value: int) -> Any:
                one = ir.Constant(number, value)
                return ir.Constant(vector, [one] * _LANES) if total.type == vector else one

            mixed = builder.xor(total, word)
            turned = builder.or_(builder.shl(mixed, like(int(_LEFT))), builder.lshr(mixed, like(int(_RIGHT))))
            return builder.mul(turned, like(int(_FACTOR)))

        first = [ir.Constant(vector, [_LANES * n + lane for lane in range(_LANES)]) for n in range(_VECTORS)]
        seeds = splat(builder, args[2], vector)
        totals = [cgutils.alloca_once_value(builder, builder.add(seeds, lanes)) for lanes in first]
        with cgutils.for_range(builder, args[1], intp=number) as loop:
            begin = builder.mul(loop.index, ir.Constant(number, _LANES * _VECTORS))
            for n, total in enumerate(totals):
                index = builder.gep(args[0], [builder.add(begin, ir.Constant(number, n * _LANES))])
                read = builder.load(builder.bitcast(index, vector.as_pointer()), align=4)
                builder.store(stir(builder.load(total), read), total)
        result = args[2]
        for total in totals:
            for lane in range(_LANES):
                one = builder.extract_element(builder.load(total), ir.Constant(ir.IntType(32), lane))
                result = stir(result, one)
        return result

    return types.uint64(words, types.int64, types.uint64), codegen


@njit(**EXACT)
def _checksum(start, count, seed):
    """Checksum of `count` words of 64 bits."""
    words, rounds = pointer_to(start, seed), count // (_LANES * _VECTORS)
    total = _stir_rounds(words, rounds, seed)
    for n in range(rounds * _LANES * _VECTORS, count):
        total = _stir(total, words[n])
    return total


@njit(**EXACT)
def checksum_part(words, arrays, part, parts):
    """Checksum of one of the parts of some arrays, whose addresses and bytes are listed."""
    total = _FACTOR
    for n in range(arrays):
        first, last = split(words[2 * n + 1] // 8, parts, part)
        total = _stir(total, _checksum(words[2 * n] + 8 * first, last - first, total))
        if part == 0 and words[2 * n + 1] % 8 > 0:  # a float32 is left over
            rest = pointer_to(words[2 * n] + words[2 * n + 1] // 8 * 8, np.uint32(0))
            total = _stir(total, np.uint64(rest[0]))
    return np.int64(total)


@once
def checksum_address() -> int:
    """Address of `checksum_part`, for calls with (words, arrays, address of the sums, part, parts)."""

    def checksum(words, arrays, sums, part, parts):
        sums[part] = checksum_part(words, arrays, part, parts)

    numbers = types.CPointer(types.int64)
    address: int = compile_apart(checksum, numbers, types.int64, numbers, types.int64, types.int64).address
    return address
