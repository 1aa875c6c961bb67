"""Means over the units of a row, which the equations of some cells need, and their gradients.

A block stores the sums over its tiles of units. After a barrier every block adds those of all tiles in the
same order: the means are the same in all blocks and launch modes, to the bit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from lstm_numba.engines.cuda.driver import cuda, overload
from lstm_numba.engines.cuda.grid_stride import stride_range
from lstm_numba.engines.cuda.options import DEVICE
from lstm_numba.engines.cuda.scalar import add_tuples, store_scalars
from lstm_numba.engines.cuda.specialize import (
    load_scalar,
    mean_count,
    stage_constant,
    tile_rows,
    zero_scalar,
)


class FirstGroup(NamedTuple):
    """The means that are computed first."""

    number = 0


class SecondGroup(NamedTuple):
    """Means that need those of the first group."""

    number = 1


class ThirdGroup(NamedTuple):
    """Means that need those of the two other groups."""

    number = 2


FIRST_GROUP, SECOND_GROUP, THIRD_GROUP = GROUPS = FirstGroup(), SecondGroup(), ThirdGroup()

group_number = stage_constant(lambda cell, group: group.number)
_group_first = stage_constant(lambda cell, group: sum(map(len, cell.mean_levels[: group.number])))
_group_count = stage_constant(lambda cell, group: len(cell.mean_levels[group.number]))

#: Which of the numbers that are reused are the first ones of a group.
first_reused = stage_constant(lambda cell, group: sum(cell.reused[: group.number]))
first_dreused = stage_constant(lambda cell, group: sum(cell.dreused[: group.number]))


def shared_sums(cell: Any, sums: int, parts: int) -> int:
    """Numbers of shared memory for a row and thread: `sums` for a product, or enough for a group of means."""
    largest = max(map(len, cell.mean_levels), default=0)
    return max(sums, -(-largest // parts))


# -- a unit's contributions ----------------------------------------------------------------------------


def _means(name: str) -> Any:
    """The cell's function of that name, of one group of means."""

    def function(self: Any, slots: Any, previous: Any, peephole: Any) -> Any:
        return getattr(self, name)(slots, previous, peephole)

    @overload(function, strict=False)
    def _(self, slots, previous, peephole):
        return getattr(self.instance_class, name)

    return function


def _dmeans(name: str) -> Any:
    """The cell's function of that name, of the gradients of one group."""

    def function(self: Any, slots: Any, previous: Any, states: Any, peephole: Any, gradient: Any) -> Any:
        return getattr(self, name)(slots, previous, states, peephole, gradient)

    @overload(function, strict=False)
    def _(self, slots, previous, states, peephole, gradient):
        return getattr(self.instance_class, name)

    return function


_MEANS = [_means(f"means_{group.number}") for group in GROUPS]
_DMEANS = [_dmeans(f"dmeans_{group.number}") for group in GROUPS]


def cell_means(cell: Any, group: Any, slots: Any, previous: Any, vectors: Any) -> Any:
    """What a unit contributes to the means of a group, and what later equations reuse."""
    return _MEANS[group.number](cell, slots, previous, vectors)


def cell_dmeans(
    cell: Any, group: Any, slots: Any, previous: Any, states: Any, vectors: Any, gradient: Any
) -> Any:
    """What a unit contributes to the gradients of the means of a group, and what later equations reuse."""
    return _DMEANS[group.number](cell, slots, previous, states, vectors, gradient)


@overload(cell_means)
def _(cell, group, slots, previous, vectors):
    function = _MEANS[group.instance_class.number]
    return lambda cell, group, slots, previous, vectors: function(cell, slots, previous, vectors)


@overload(cell_dmeans)
def _(cell, group, slots, previous, states, vectors, gradient):
    function = _DMEANS[group.instance_class.number]
    return lambda cell, group, slots, previous, states, vectors, gradient: function(
        cell, slots, previous, states, vectors, gradient
    )


# -- sums ----------------------------------------------------------------------------------------------


@cuda.jit(**DEVICE)
def store_contribution(cell, group, shared, r, values):
    """Store what this thread's unit contributes in row r of its tile, to be added by `sum_tile`."""
    lanes = cuda.blockDim.x
    store_scalars(shared, r * _group_count(cell, group) * lanes + cuda.threadIdx.x, lanes, values)


@cuda.jit(**DEVICE)
def store_no_contribution(cell, group, shared, r):
    """The same for a unit or a row that is not there."""
    lanes, count = cuda.blockDim.x, _group_count(cell, group)
    for n in range(count):
        store_scalars(shared, (r * count + n) * lanes + cuda.threadIdx.x, 0, (0.0,))


@cuda.jit(**DEVICE)
def sum_tile(cell, group, tile, sizes, shared, partial, first, unit_tile):
    """Add the contributions of a tile of units to each mean of its rows, from row `first` on."""
    lanes, count = cuda.blockDim.x, _group_count(cell, group)
    cuda.syncthreads()
    for r in stride_range(cuda.threadIdx.y, min(tile_rows(tile), sizes.batch - first), cuda.blockDim.y):
        for n in stride_range(cuda.threadIdx.x, count, lanes):
            at = (r * count + n) * lanes
            total = load_scalar(cell, shared, at, 0)
            for k in range(1, lanes):
                total = add_tuples(total, load_scalar(cell, shared, at + k, 0))
            mean = (first + r) * mean_count(cell) + _group_first(cell, group) + n
            store_scalars(partial, mean * sizes.unit_tiles + unit_tile, 0, total)
    cuda.syncthreads()


@cuda.jit(**DEVICE)
def finish_means(cell, group, tile, sizes, partial, means, start):
    """The means of a group for all rows of this block, to `means` from `start` on; after a barrier."""
    height = tile_rows(tile)
    for row_tile in stride_range(cuda.blockIdx.y, sizes.row_tiles, cuda.gridDim.y):
        for r in stride_range(cuda.threadIdx.y, height, cuda.blockDim.y):
            row = row_tile * height + r
            if row < sizes.batch:
                for n in stride_range(cuda.threadIdx.x, _group_count(cell, group), cuda.blockDim.x):
                    mean = row * mean_count(cell) + _group_first(cell, group) + n
                    total = zero_scalar(cell, partial)
                    for unit_tile in range(sizes.unit_tiles):
                        value = load_scalar(cell, partial, mean * sizes.unit_tiles + unit_tile, 0)
                        total = add_tuples(total, value)
                    store_scalars(means, start + mean, 0, (total[0] / sizes.hidden,))
    cuda.syncthreads()
