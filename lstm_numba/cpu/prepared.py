"""What calls with the same parameters share: where these lie, and weights that are packed already.

Parameters are plain arrays that anybody may write to, so a change is noticed by a checksum of all their
numbers: reading them takes a fraction of the time of packing them.
"""

from __future__ import annotations

import itertools
from operator import is_not
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, prange
from numba.core import cgutils, types
from numba.extending import intrinsic

from lstm_numba.cpu.arrays import ALIGNMENT, address
from lstm_numba.cpu.layout import split
from lstm_numba.cpu.options import EXACT, EXACT_PARALLEL
from lstm_numba.cpu.packed import Parameters
from lstm_numba.cpu.simd import pointer_to, splat
from lstm_numba.cpu.target import round_up
from lstm_numba.cpu.tasks import thread_count

Array = np.ndarray[Any, Any]

#: Bytes from which the threads share the reading.
_SHARED = 1 << 21
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
                place = builder.gep(args[0], [builder.add(begin, ir.Constant(number, n * _LANES))])
                read = builder.load(builder.bitcast(place, vector.as_pointer()), align=4)
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
def _checksums(job, seed, part, parts):
    """Checksum of one of the parts of all arrays; a job lists their addresses and bytes."""
    total = seed
    for n in range(job.size // 2):
        first, last = split(job[2 * n + 1] // 8, parts, part)
        total = _stir(total, _checksum(job[2 * n] + 8 * first, last - first, total))
        if part == 0 and job[2 * n + 1] % 8 > 0:  # a float32 is left over
            rest = pointer_to(job[2 * n] + job[2 * n + 1] // 8 * 8, np.uint32(0))
            total = _stir(total, np.uint64(rest[0]))
    return total


@njit(**EXACT_PARALLEL)
def _checksums_parallel(job, seed, sums, parts):
    for part in prange(parts):
        sums[part] = _checksums(job, seed, np.int64(part), parts)


class Located(NamedTuple):
    """Parameters that were checked, and where they lie.

    Attributes
    ----------
    arrays : list of ndarray
        As they were given.
    whole : dict of str to ndarray
        C-contiguous: the same, or copies.
    ends : dict of str to int
        Where each would end in memory in which they all lie, in bytes, on whole cache lines.
    places : Parameters
        Addresses of these; 0 for what there is not.
    words : ndarray of int64
        Address and bytes of each, for the checksum.
    large : bool
        Whether it pays to share the checksum.
    """

    arrays: list[Array]
    whole: dict[str, Array]
    ends: dict[str, int]
    places: Parameters
    words: Array
    large: bool


def locate(cell: Any, params: dict[str, Array], inputs: int, hidden: int, dtype: Any) -> Located:
    """Check parameters, as the kernels read as much as they expect, and say where they lie.

    Raises
    ------
    TypeError, ValueError
        A parameter has another dtype, or not its shape.
    """
    gates = len(cell.gates) * hidden
    shapes: dict[str, tuple[int, ...]] = {"weight_ih": (gates, inputs), "weight_hh": (gates, hidden)}
    shapes["weight_ph"] = (len(cell.peepholes) * hidden,)
    for name, array in params.items():
        if array.dtype != dtype:
            raise TypeError(f"{name}: expected {dtype}, as the layer, got {array.dtype}")
        if array.shape != shapes.get(name, (gates,)):
            raise ValueError(f"{name}: expected shape {shapes.get(name, (gates,))}, got {array.shape}")
    whole = {name: np.ascontiguousarray(array) for name, array in params.items()}
    places = Parameters(*(address(whole[name]) if name in whole else 0 for name in Parameters._fields))
    words = np.array([n for array in whole.values() for n in (address(array), array.nbytes)], np.int64)
    sizes = [round_up(array.nbytes, ALIGNMENT) for array in whole.values()]
    ends = dict(zip(whole, itertools.accumulate(sizes), strict=True))
    return Located(list(params.values()), whole, ends, places, words, sum(sizes) > _SHARED)


class Prepared:
    """What is remembered of the parameters of one layer and direction. Threads may share it."""

    def __init__(self) -> None:
        # Each is replaced as a whole, so that no thread sees half of it.
        self._located: Located | None = None
        self._packed: tuple[Located | None, Any, Any] = (None, None, None)

    def locate(self, cell: Any, params: dict[str, Array], inputs: int, hidden: int, dtype: Any) -> Located:
        """See `locate`, which arrays that were found to be C-contiguous are spared.

        Raises
        ------
        TypeError, ValueError
            A parameter has another dtype, or not its shape.
        """
        arrays, known = list(params.values()), self._located
        if (
            known is not None
            and len(arrays) == len(known.arrays)
            and not any(map(is_not, arrays, known.arrays))
        ):
            return known
        found = locate(cell, params, inputs, hidden, dtype)
        if not any(map(is_not, found.arrays, found.whole.values())):
            self._located = found
        return found

    def packed(self, located: Located) -> tuple[Any, Any]:
        """The weights that were last kept, None where parameters have changed since, and their checksum."""
        sums = _sums(located)
        owner, kept, weights = self._packed
        return (weights if owner is located and kept == sums else None), sums

    def keep(self, located: Located, sums: Any, weights: Any) -> None:
        """Keep the weights that were packed from parameters with a checksum."""
        self._packed = located, sums, weights


def _sums(located: Located) -> Any:
    """Checksums of parameters, one of each part that a thread reads."""
    parts = thread_count() if located.large else 1
    if parts == 1:
        return _checksums(located.words, _FACTOR, 0, 1)
    sums = np.zeros(parts, np.uint64)
    _checksums_parallel(located.words, _FACTOR, sums, parts)
    return sums.tolist()
