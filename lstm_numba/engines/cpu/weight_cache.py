"""Weights that are packed once for repeated calls with the same parameters."""

from __future__ import annotations

import itertools
from operator import is_not
from typing import Any, NamedTuple

import numba
import numpy as np

from lstm_numba.arguments import float_array
from lstm_numba.cells.parameters import check_shapes, second_weight
from lstm_numba.engines.cpu.cpu_features import round_up
from lstm_numba.engines.cpu.memory import ALIGNMENT, address, allocate, is_fixed
from lstm_numba.engines.cpu.records import Addresses

Array = np.ndarray[Any, Any]

#: Bytes from which the threads share the reading.
_SHARED = 1 << 21


class Located(NamedTuple):
    """Parameters that were checked, and their addresses.

    Attributes
    ----------
    cell : Cell
    arrays : list of ndarray
        As they were given.
    whole : dict of str to ndarray
        C-contiguous: the same, or copies.
    ends : dict of str to int
        End of each, in bytes, in one piece of memory for all, on whole cache lines.
    addresses : Addresses
    words : ndarray of int64
        For the checksum, address and bytes of each that can change.
    words_at : int
        Address of these.
    large : bool
        Whether it pays to share the checksum.
    """

    cell: Any
    arrays: list[Array]
    whole: dict[str, Array]
    ends: dict[str, int]
    addresses: Addresses
    words: Array
    words_at: int
    large: bool


def locate(cell: Any, params: dict[str, Array], inputs: int, hidden: int, output: int, dtype: Any) -> Located:
    """Check parameters, as the kernels cannot, and find their addresses.

    Raises
    ------
    TypeError, ValueError
        A parameter has another dtype, or not its shape.
    """
    for name, array in params.items():
        float_array(name, array, dtype)
    check_shapes(cell, params, inputs, hidden, output)
    whole = {name: np.ascontiguousarray(array) for name, array in params.items()}
    addresses = Addresses(*(address(whole[name]) if name in whole else 0 for name in field_names(cell)))
    sizes = [round_up(array.nbytes, ALIGNMENT) for array in whole.values()]
    ends = dict(zip(whole, itertools.accumulate(sizes), strict=True))
    open_ = [array for array in whole.values() if not is_fixed(array)]
    words = np.array([n for array in open_ for n in (address(array), array.nbytes)], np.int64)
    large = sum(array.nbytes for array in open_) > _SHARED
    return Located(cell, list(params.values()), whole, ends, addresses, words, address(words), large)


def field_names(cell: Any) -> tuple[str, ...]:
    """The parameters whose addresses are the fields of `Addresses`."""
    return (*Addresses._fields[:-1], second_weight(cell))


class PackedWeights(NamedTuple):
    """Memory for packed weights.

    Attributes
    ----------
    located : Located or None
        The parameters that they are packed from.
    weights, sums : int
        Address of the packed weights; address of the number of checksums of what was packed (0 at first),
        then these.
    memory : tuple of ndarray
        Owner of both.
    """

    located: Located | None
    weights: int
    sums: int
    memory: tuple[Array, ...]


class WeightCache:
    """Addresses and packed weights of one layer and direction. Threads may share it.

    It knows arrays by their addresses, so a copy, which travels with copies of the arrays, remembers nothing.
    """

    def __init__(self) -> None:
        # Each is replaced as a whole, so that no thread sees half of it.
        self._located: Located | None = None
        self._kept = PackedWeights(None, 0, 0, ())

    def __reduce__(self) -> Any:
        return WeightCache, ()

    def locate(
        self, cell: Any, params: dict[str, Array], inputs: int, hidden: int, output: int, dtype: Any
    ) -> Located:
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
        found = locate(cell, params, inputs, hidden, output, dtype)
        if not any(map(is_not, found.arrays, found.whole.values())):
            self._located = found
        return found

    def packed(self, located: Located, size: int) -> PackedWeights:
        """Memory of so many bytes for the packed weights, the same as long as the parameters' addresses are.

        Threads that find it out of date at the same time write the same numbers to it.
        """
        kept = self._kept
        if kept.located is not located:
            weights, where = allocate((size,), np.uint8)
            sums = np.zeros(1 + numba.config.NUMBA_NUM_THREADS, np.int64)
            self._kept = kept = PackedWeights(located, where, address(sums), (weights, sums))
        return kept
