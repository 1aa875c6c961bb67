"""How a persistent kernel's work is laid out on a device, by an estimate of its time.

Blocks along x of the grid share the hidden units, blocks along y the rows of the batch. With more rows each,
fewer blocks read the same weights, with fewer rows less is handed on between blocks. What does not fit into
shared memory is read from the second-level cache at every step.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from lstm_numba.cells.protocol import Stage
from lstm_numba.engines.cuda.driver import DeviceLimits
from lstm_numba.engines.cuda.persistent_product import (
    ROWS,
    TILES,
    UNITS,
    VECTOR_BYTES,
    Kept,
    Persistent,
    aligned_rows,
)

#: Threads along x of a block, and chunks that an operand is staged in.
_LANES = (1, 2, 4, 8, 12, 16, 24, 32)
_CHUNKS = (1, 2, 3, 4, 6, 8, 12, 16)

#: Sums that a thread has room for, in registers of 32 bits, by the number of stages: forward, backward.
SUM_REGISTERS = {1: (80, 56), 2: (60, 40)}

#: Bytes from the second-level cache, of one multiprocessor in a cycle and of all of an H100's in a µs; cycles
#: of a µs.
_CACHE_BYTES, _DEVICE_BYTES, _CYCLES = 64, 5.5e6, 1700.0
#: µs: until a copy arrives, for a unit's equations, for a thread barrier; and of a barrier of so many blocks,
#: as an H100 was measured.
_COPY, _EQUATIONS, _SYNCHRONISE = 0.5, 0.5, 0.03
_BARRIERS = ((1, 0.05), (4, 0.75), (16, 0.88), (66, 0.92), (132, 1.03))


class Problem(NamedTuple):
    """One pass of a sequence.

    Attributes
    ----------
    stages : tuple of Stage
        The cell's. (Cells themselves are all equal: they are empty tuples.)
    projected : bool
    size : int
        Bytes of a number.
    backward : bool
    batch, hidden, output : int
    """

    stages: tuple[Stage, ...]
    projected: bool
    size: int
    backward: bool
    batch: int
    hidden: int
    output: int

    def depths(self) -> list[tuple[int, int, int]]:
        """For each stage its gates, the units of its operand, and numbers of the operand for each of them."""
        found = []
        for number, stage in enumerate(self.stages):
            projected = self.projected and number == int(self.backward)
            gates = len(stage.gates)
            found.append((gates, self.output if projected else self.hidden, gates if self.backward else 1))
        return found


class Layout(NamedTuple):
    """A layout, with all that a launch needs.

    Attributes
    ----------
    tile
    grid, block : tuple of int
    shared_bytes, exchange : int
        Bytes of shared memory, and numbers of the exchange buffer.
    sizes : dict
        Of `lstm_numba.engines.cuda.layout.Sizes`.
    own : Persistent
        Without its buffer.
    resident : float
        Which part of its weights a block keeps.
    us : float
        Estimated time of a step.
    """

    tile: Any
    grid: tuple[int, int]
    block: tuple[int, int]
    shared_bytes: int
    exchange: int
    sizes: dict[str, int]
    own: Persistent
    resident: float
    us: float

    def describe(self) -> str:
        """What the layout is, in a line."""
        return (
            f"{self.grid[0]} x {self.grid[1]} blocks of {self.block[0] * self.tile.units} units and "
            f"{self.tile.rows} rows, {self.resident:.0%} of the weights in shared memory "
            f"({self.shared_bytes / 1024:.0f} KiB)"
        )


def _padded(count: int, rest: int, modulus: int) -> int:
    """The smallest number from `count` on that leaves a rest: a stride by which threads use all banks."""
    return count + (rest - count) % modulus


@functools.lru_cache(maxsize=1024)
def layouts(problem: Problem, device: DeviceLimits, threads: int) -> list[Layout]:
    """All layouts that fit on a device, the fastest first, for blocks of at most so many threads."""
    found = []
    for lanes in _LANES:
        for units in UNITS:
            for rows in ROWS:
                if lanes <= threads and rows < 2 * problem.batch:
                    found += _fitting(problem, device, (lanes, threads // lanes), rows, units)
    return sorted(found, key=lambda layout: layout.us)


def _fitting(
    problem: Problem, device: DeviceLimits, block: tuple[int, int], rows: int, units: int
) -> list[Layout]:
    """The fastest layout with a tile, as a list, or none."""
    gates = 1 if problem.backward else max(len(stage.gates) for stage in problem.stages)
    most = SUM_REGISTERS[len(problem.stages)][problem.backward]
    if gates * units * rows * problem.size // 4 > most and (rows, units) != (1, 1):
        return []
    if block[0] * units >= 2 * problem.hidden and (block[0], units) != (1, 1):
        return []
    tried = [_layout(problem, device, block, rows, units, chunks) for chunks in _CHUNKS]
    return sorted((one for one in tried if one is not None), key=lambda layout: layout.us)[:1]


def _layout(
    problem: Problem, device: DeviceLimits, block: tuple[int, int], rows: int, units: int, chunks: int
) -> Layout | None:
    lanes, parts = block
    unit_tiles, row_tiles = -(-problem.hidden // (lanes * units)), -(-problem.batch // rows)
    across = min(unit_tiles, device.multiprocessors)
    grid = across, min(row_tiles, device.multiprocessors // across)
    part_depth = -(-problem.hidden // parts)
    chunk = -(-part_depth // chunks)
    if chunk * (chunks - 1) >= part_depth and chunks > 1:
        return None
    tiles = -(-unit_tiles // across)
    width, banks, stages = aligned_rows(rows), 128 // problem.size, problem.depths()
    inner = max(each for _, _, each in stages)
    gates = 1 if problem.backward else max(count for count, _, _ in stages)
    operand_part = _padded(chunk * inner * width, VECTOR_BYTES // problem.size, banks)
    sums_part = _padded(gates * units * rows * lanes, lanes % banks, banks)
    buffer = max(operand_part, sums_part) * parts
    left = device.shared // problem.size - buffer
    if left < 0:
        return None
    kept, at, kept_numbers, numbers = [], 0, 0, 0
    for number, (count, depth, _) in enumerate(stages):
        each = count * units * lanes  # numbers of a part for one unit of the depth
        share = (left - at) // (len(stages) - number)
        wanted = -(-depth // parts)
        most = min(wanted, max(0, share // (tiles * parts) - banks) // each)
        part = _padded(most * each, lanes % banks, banks) if most else 0
        kept.append(Kept(at, part, parts * part, most))
        at += tiles * parts * part
        kept_numbers, numbers = kept_numbers + most * each, numbers + wanted * each
    at = _padded(at, 0, VECTOR_BYTES // problem.size)
    operand = problem.hidden * inner * width  # a unit that the next product does not read stores, too
    shared_bytes = (at + buffer) * problem.size
    if shared_bytes > device.shared:
        return None
    layout = Layout(
        tile=TILES[rows, units],
        grid=grid,
        block=block,
        shared_bytes=shared_bytes,
        exchange=2 * len(stages) * grid[1] * operand,
        sizes={
            "unit_tiles": unit_tiles,
            "row_tiles": row_tiles,
            "part_depth": part_depth,
            "output_part": -(-problem.output // parts),
        },
        own=Persistent(None, operand, at, chunk, operand_part, sums_part, tuple(kept)),
        resident=kept_numbers / numbers,
        us=0.0,
    )
    return layout._replace(us=_estimate(problem, layout, chunks))


def _estimate(problem: Problem, layout: Layout, chunks: int) -> float:
    """Estimated µs of a step, for all rows of a batch."""
    (lanes, parts), (across, down), (rows, units) = (
        layout.block,
        layout.grid,
        (layout.tile.rows, layout.tile.units),
    )
    warps, width, us = lanes * parts / 32, aligned_rows(rows), 0.0
    blocks, part_depth = across * down, layout.sizes["part_depth"]
    wide = problem.size // 4  # a float64 takes two registers, and twice the time
    for kept, (gates, depth, inner) in zip(layout.own.kept, problem.depths(), strict=True):
        # A part is padded to the longest one.
        adds = part_depth * gates * units * rows
        loads = part_depth * (gates * units + inner * width / 4)
        issued = (adds + loads + 4 * part_depth) * wide * warps / 4
        from_shared = part_depth * (gates * units + inner * width / 2) * warps * wide
        streamed = parts * lanes * units * gates * (part_depth - kept.depth) * problem.size
        from_cache = max(streamed * blocks / _DEVICE_BYTES, streamed / _CACHE_BYTES / _CYCLES)
        product = max(max(issued, from_shared) / _CYCLES, from_cache)
        operand = depth * inner * width * problem.size
        staged = max(operand * blocks / _DEVICE_BYTES, operand / _CACHE_BYTES / _CYCLES) + chunks * _COPY
        sums = 1 if problem.backward else gates
        rounds = -(-units * rows // parts)
        finish = rounds * (2 * parts * sums * wide / _CYCLES + _EQUATIONS)
        stored = sums * units * rows * warps * wide / _CYCLES
        tile = product + staged + stored + finish + (3 + chunks) * _SYNCHRONISE
        us += tile * -(-layout.sizes["unit_tiles"] // across)
        us += next((us for count, us in _BARRIERS if across <= count), _BARRIERS[-1][1])
    return us * -(-layout.sizes["row_tiles"] // down)
