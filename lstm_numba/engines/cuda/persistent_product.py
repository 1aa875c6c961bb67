"""The recurrent product of a persistent kernel: weights kept in shared memory, operands handed on through L2.

The product is one of a few columns (gates of some hidden units in the forward pass, hidden units in the
backward pass) and a few rows of the batch for each thread, over a part of the depth. What its columns need of
the weights is the thread's own: it keeps as many of them in shared memory as fit, for the whole sequence, and
reads the rest at every step. The operand is the same for all blocks of the same rows: they hand it on in an
exchange buffer, as it is needed in shared memory, a row of the batch beside the other.
G. Diamos et al., "Persistent RNNs: stashing recurrent weights on-chip", ICML 2016.

As in `lstm_numba.engines.cuda.specialize`, plain bodies define the functions, and Numba replaces them.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import Any, NamedTuple

from lstm_numba.engines.cuda.driver import (
    SIMULATED,
    intrinsic,
    ir,
    make_signature,
    overload,
    types,
    unpack_tuple,
)
from lstm_numba.engines.cuda.scalar import Scalar, assembly, data_pointer, indexer, multiply_add, times
from lstm_numba.engines.cuda.specialize import class_constant, stage_constant, stage_of, stage_type

#: Bytes of a vector load or of an asynchronous copy, and rows that are a multiple of it in either precision.
VECTOR_BYTES = 16
_ALIGNED_ROWS = 4

_I64 = ir.IntType(64)


class Kept(NamedTuple):
    """Where a stage's weights are in shared memory.

    Attributes
    ----------
    at : int
        Offset of the first thread's.
    part, tile : int
        Stride from one part of the depth to the next, and from one tile of hidden units to the next.
    depth : int
        How many hidden units of each part's depth are kept; the weights of the others are read at every step.
    """

    at: Any
    part: Any
    tile: Any
    depth: Any


class Persistent(NamedTuple):
    """Buffers and offsets of a persistent kernel.

    Attributes
    ----------
    exchange : flat device array
        The operands that blocks hand on: two for each stage and row of the grid.
    operand : int
        Elements of one of them.
    buffer : int
        Offset in shared memory of the staged operand, and later of the parts' sums.
    chunk : int
        Hidden units of each part's depth that are staged at a time.
    operand_part, sums_part : int
        Stride from one part of the depth to the next, in the staged operand and in the sums.
    kept : tuple of Kept
        One for each stage.
    """

    exchange: Any
    operand: Any
    buffer: Any
    chunk: Any
    operand_part: Any
    sums_part: Any
    kept: Any


# -- tiles -----------------------------------------------------------------------------------------

#: Rows of the batch and hidden units that a thread may have.
ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32)
UNITS = (1, 2, 4)


def _tile(rows: int, units: int) -> Any:
    kind = namedtuple(f"Rows{rows}Units{units}", (), module=__name__)
    kind.rows, kind.units = rows, units  # type: ignore[attr-defined]
    kind.__doc__ = f"A thread's tile is {rows} rows of the batch and {units} hidden units."
    return kind


#: Tiles by their rows and units.
TILES: dict[tuple[int, int], Any] = {(r, u): _tile(r, u)() for r in ROWS for u in UNITS}
# Numba finds a class of its disk cache by its name.
globals().update({type(tile).__name__: type(tile) for tile in TILES.values()})


def aligned_rows(rows: int) -> int:
    """Rows of an operand, with those that fill the last vector."""
    return -(-rows // _ALIGNED_ROWS) * _ALIGNED_ROWS


tile_units = class_constant(lambda tile: tile.units)
#: Stride from one element of the depth of an operand to the next.
operand_rows = class_constant(lambda tile: aligned_rows(tile.rows))
#: The first gate of a stage; the others follow it, where a persistent kernel can be used.
stage_gate = stage_constant(lambda cell, stage: stage_of(cell, stage).gates[0])
#: For a division by the tile's rows: the quotient is ``n * row_inverse(tile) >> 16``.
row_inverse = class_constant(lambda tile: -(-65536 // tile.rows))


def tile_columns(tile: Any, first: Any, step: Any, last: Any) -> Any:
    """The tile's hidden units, `first`, ``first + step``, ...; `last` in the place of any that is beyond."""
    return tuple(min(first + v * step, last) for v in range(tile.units))


@intrinsic
def _emit_tile_columns(typingctx: Any, tile: Any, first: Any, step: Any, last: Any) -> Any:
    count = tile.instance_class.units

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        values = []
        for n in range(count):
            unit = builder.add(args[1], times(builder, args[2], n))
            values.append(builder.select(builder.icmp_signed("<", unit, args[3]), unit, args[3]))
        return context.make_tuple(builder, sig.return_type, values)

    index = types.int64
    return make_signature(types.UniTuple(index, count), tile, index, index, index), codegen


@overload(tile_columns)
def _(tile, first, step, last):
    return lambda tile, first, step, last: _emit_tile_columns(tile, first, step, last)


# -- weights ---------------------------------------------------------------------------------------


def stage_weights(cell: Any, stage: Any, tile: Any, weights: Any, offset: Any, block: Any, units: Any) -> Any:
    """The weights of all gates of a stage and of all units of a tile, for one element of the depth.

    That of gate g and unit u is at ``offset + g * block + u``, in global or shared memory.
    """
    return tuple(
        weights[offset + gate * block + unit] for gate in stage_of(cell, stage).gates for unit in units
    )


@intrinsic
def _emit_stage_weights(
    typingctx: Any, cell: Any, stage: Any, tile: Any, weights: Any, offset: Any, block: Any, units: Any
) -> Any:
    gates = stage_type(cell, stage).gates

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = indexer(context, builder, sig.args[3], args[3])
        columns = unpack_tuple(builder, args[6], len(units))
        values = [
            builder.load(pointer(args[4], times(builder, args[5], gate), unit))
            for gate in gates
            for unit in columns
        ]
        return context.make_tuple(builder, sig.return_type, values)

    kind, index = types.UniTuple(Scalar(weights.dtype), len(gates) * len(units)), types.int64
    return make_signature(kind, cell, stage, tile, weights, index, index, units), codegen


@overload(stage_weights)
def _(cell, stage, tile, weights, offset, block, units):
    return lambda cell, stage, tile, weights, offset, block, units: _emit_stage_weights(
        cell, stage, tile, weights, offset, block, units
    )


# -- products --------------------------------------------------------------------------------------


def add_to_gates(cell: Any, stage: Any, tile: Any, sums: Any, weights: Any, shared: Any, at: Any) -> Any:
    """Forward: add the outer product of `stage_weights` and the operand's rows, which are at `at`.

    The sum of gate g, unit v and row r is number ``(g * units + v) * rows + r``.
    """
    rows = tile.rows
    return tuple(total + weights[n // rows] * shared[at + n % rows] for n, total in enumerate(sums))


def add_to_units(cell: Any, stage: Any, tile: Any, sums: Any, weights: Any, shared: Any, at: Any) -> Any:
    """Backward: for each unit and row add the inner product of all gates' weights and gradients.

    The sum of unit v and row r is number ``v * rows + r``; a gate's rows follow those of the one before.
    """
    rows, units, width = tile.rows, tile.units, aligned_rows(tile.rows)
    result = list(sums)
    for g in range(len(weights) // units):
        for n in range(units * rows):
            result[n] += weights[g * units + n // rows] * shared[at + g * width + n % rows]
    return tuple(result)


def _load_rows(builder: Any, data: Any, at: Any, count: int, size: int) -> list[Any]:
    """The first `count` numbers from an aligned address on, by vector loads; `size`: bytes of a number."""
    lanes = VECTOR_BYTES // size
    vector, values = ir.VectorType(data.type.pointee, lanes), []
    for n in range(-(-count // lanes)):
        pointer = builder.gep(data, [builder.add(at, ir.Constant(_I64, n * lanes))])
        loaded = builder.load(builder.bitcast(pointer, vector.as_pointer()), align=VECTOR_BYTES)
        values += [
            builder.extract_element(loaded, ir.Constant(ir.IntType(32), lane)) for lane in range(lanes)
        ]
    return values[:count]


def _register_product(function: Any, place_of: Callable[[int, int], tuple[int, int]]) -> None:
    """Replace a product; ``place_of(weight, units)``: its column of the sums, and its line of the operand."""

    @intrinsic
    def emit(
        typingctx: Any, cell: Any, stage: Any, tile: Any, sums: Any, weights: Any, shared: Any, at: Any
    ) -> Any:
        kind = tile.instance_class
        rows, units = kind.rows, kind.units
        size = shared.dtype.bitwidth // 8

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            totals = list(unpack_tuple(builder, args[3], len(sums)))
            data, loaded = data_pointer(context, builder, sig.args[5], args[5]), {}
            for n, weight in enumerate(unpack_tuple(builder, args[4], len(weights))):
                column, line = place_of(n, units)
                if line not in loaded:
                    start = builder.add(args[6], ir.Constant(_I64, line * aligned_rows(rows)))
                    loaded[line] = _load_rows(builder, data, start, rows, size)
                for r, value in enumerate(loaded[line]):
                    place = column * rows + r
                    totals[place] = multiply_add(builder, weight, value, totals[place])
            return context.make_tuple(builder, sig.return_type, totals)

        return make_signature(sums, cell, stage, tile, sums, weights, shared, types.int64), codegen

    @overload(function)
    def _(cell, stage, tile, sums, weights, shared, at):
        return lambda cell, stage, tile, sums, weights, shared, at: emit(
            cell, stage, tile, sums, weights, shared, at
        )


_register_product(add_to_gates, lambda n, units: (n, 0))
_register_product(add_to_units, lambda n, units: (n % units, n // units))


# -- the exchange buffer ---------------------------------------------------------------------------


def gate_values(cell: Any, stage: Any, slots: Any) -> Any:
    """Those of a unit's slots that a stage feeds."""
    first, gates, _ = stage_of(cell, stage)
    return slots[first : first + len(gates)]


@intrinsic
def _emit_gate_values(typingctx: Any, cell: Any, stage: Any, slots: Any) -> Any:
    first, gates, _ = stage_type(cell, stage)
    chosen = slice(first, first + len(gates))

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        values = list(unpack_tuple(builder, args[2], len(slots)))[chosen]
        return context.make_tuple(builder, sig.return_type, values)

    return make_signature(types.Tuple(list(slots)[chosen]), cell, stage, slots), codegen


@overload(gate_values)
def _(cell, stage, slots):
    return lambda cell, stage, slots: _emit_gate_values(cell, stage, slots)


def copy_vector(target: Any, at: Any, source: Any, start: Any) -> None:
    """Begin to copy a vector of 16 bytes from global to shared memory; see `copies_done`.

    It passes by the first-level cache, which may hold what another block has overwritten.
    """
    for n in range(VECTOR_BYTES // target.itemsize):
        target[at + n] = source[start + n]


def copies_done() -> None:
    """Wait for this thread's copies."""


def vector_length(array: Any) -> int:
    """Numbers of a vector."""
    return VECTOR_BYTES // int(array.itemsize)


@intrinsic
def _emit_copy(typingctx: Any, target: Any, at: Any, source: Any, start: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        to = builder.gep(data_pointer(context, builder, sig.args[0], args[0]), [args[1]])
        origin = builder.gep(data_pointer(context, builder, sig.args[2], args[2]), [args[3]])
        if SIMULATED:  # a processor: no asynchronous copies
            kind = ir.VectorType(to.type.pointee, VECTOR_BYTES // (target.dtype.bitwidth // 8)).as_pointer()
            value = builder.load(builder.bitcast(origin, kind), align=8)
            builder.store(value, builder.bitcast(to, kind), align=8)
            return context.get_dummy_value()
        text = (
            "{ .reg .u64 place; cvta.to.shared.u64 place, $0; cp.async.cg.shared.global [place], [$1], 16; }"
        )
        addresses = [builder.ptrtoint(pointer, _I64) for pointer in (to, origin)]
        assembly(builder, ir.VoidType(), text, "l,l,~{memory}", *addresses)
        return context.get_dummy_value()

    return make_signature(types.void, target, types.int64, source, types.int64), codegen


@intrinsic
def _emit_done(typingctx: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if not SIMULATED:
            assembly(builder, ir.VoidType(), "cp.async.wait_all;", "~{memory}")
        return context.get_dummy_value()

    return make_signature(types.void), codegen


@overload(copy_vector)
def _(target, at, source, start):
    return lambda target, at, source, start: _emit_copy(target, at, source, start)


@overload(copies_done)
def _():
    return lambda: _emit_done()


@overload(vector_length)
def _(array):
    length = VECTOR_BYTES // (array.dtype.bitwidth // 8)
    return lambda array: length
