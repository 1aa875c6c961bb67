"""The products with the weights of one stage of a cell, on a tile of rows, one step of the depth at a time.

As in `lstm_numba.engines.cuda.specialize`, plain bodies define the functions, and Numba replaces them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lstm_numba.cells.protocol import Stage
from lstm_numba.engines.cuda.driver import intrinsic, make_signature, overload, types, unpack_tuple
from lstm_numba.engines.cuda.scalar import Scalar, indexer, multiply_add, times
from lstm_numba.engines.cuda.specialize import stage_of, stage_type


def row_offsets(tile: Any, row: Any, batch: Any, stride: Any) -> Any:
    """Offsets of the tile's rows, from `row` on; past the end of the batch, that of its last row."""
    return tuple(min(row + r, batch - 1) * stride for r in range(tile.rows))


@overload(row_offsets)
def _(tile, row, batch, stride):
    if tile.instance_class.rows == 1:
        return lambda tile, row, batch, stride: (min(row, batch - 1) * stride,)

    def four(tile, row, batch, stride):
        last = batch - 1
        return (
            min(row, last) * stride,
            min(row + 1, last) * stride,
            min(row + 2, last) * stride,
            min(row + 3, last) * stride,
        )

    return four


def _product_zeros(count_of: Callable[[Any, Stage], int]) -> Any:
    """Make ``zeros(cell, stage, tile, array)``: zeros in the array's precision, to add products to."""

    def zeros(cell: Any, stage: Any, tile: Any, array: Any) -> Any:
        return (array.dtype.type(0),) * count_of(tile, stage_of(cell, stage))

    @intrinsic
    def emit(typingctx: Any, cell: Any, stage: Any, tile: Any, array: Any) -> Any:
        count = count_of(tile.instance_class, stage_type(cell, stage))

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            zero = context.get_constant(array.dtype, 0.0)
            return context.make_tuple(builder, sig.return_type, [zero] * count)

        return make_signature(types.UniTuple(Scalar(array.dtype), count), cell, stage, tile, array), codegen

    @overload(zeros)
    def _(cell, stage, tile, array):
        return lambda cell, stage, tile, array: emit(cell, stage, tile, array)

    return zeros


#: What the sums of `add_outer` and of `add_inner` start from.
outer_zeros = _product_zeros(lambda tile, stage: tile.units * tile.rows * len(stage.gates))
inner_zeros = _product_zeros(lambda tile, stage: tile.units * tile.rows)


def add_outer(
    cell: Any, stage: Any, tile: Any, sums: Any, weights: Any, offset: Any, hidden: Any, operand: Any,
    rows: Any, k: Any,
) -> Any:  # fmt: skip
    """Forward: add an outer product, of a unit's weights of all gates of the stage and the rows' operands.

    The weight of gate g is at ``offset + g * hidden``, the operand of row r at ``rows[r] + k``.
    """
    gates = stage_of(cell, stage).gates
    return tuple(
        sums[r * len(gates) + g] + weights[offset + gate * hidden] * operand[rows[r] + k]
        for r in range(tile.rows)
        for g, gate in enumerate(gates)
    )


def add_inner(
    cell: Any, stage: Any, tile: Any, sums: Any, weights: Any, offset: Any, block: Any, operand: Any,
    rows: Any, k: Any, hidden: Any,
) -> Any:  # fmt: skip
    """Backward: for every row add an inner product, of the gradients of the stage's slots and their weights.

    The weight of gate g is at ``offset + g * block``, the gradient of slot s of row r at
    ``rows[r] + s * hidden + k``.
    """
    first, gates, _ = stage_of(cell, stage)
    result = list(sums)
    for r in range(tile.rows):
        for g, gate in enumerate(gates):  # in this order
            result[r] += weights[offset + gate * block] * operand[rows[r] + (first + g) * hidden + k]
    return tuple(result)


@intrinsic
def _emit_add_outer(
    typingctx: Any, cell: Any, stage: Any, tile: Any, sums: Any, weights: Any, offset: Any, hidden: Any,
    operand: Any, rows: Any, k: Any,
) -> Any:  # fmt: skip
    gates = stage_type(cell, stage).gates

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        w = indexer(context, builder, sig.args[4], args[4])
        x = indexer(context, builder, sig.args[7], args[7])
        factors = [builder.load(w(args[5], times(builder, args[6], gate))) for gate in gates]
        result = []
        totals = unpack_tuple(builder, args[3], len(sums))
        for r, start in enumerate(unpack_tuple(builder, args[8], len(rows))):
            value = builder.load(x(start, args[9]))
            for g, factor in enumerate(factors):
                result.append(multiply_add(builder, factor, value, totals[r * len(gates) + g]))
        return context.make_tuple(builder, sig.return_type, result)

    index = types.int64
    return (
        make_signature(sums, cell, stage, tile, sums, weights, index, index, operand, rows, index),
        codegen,
    )


@intrinsic
def _emit_add_inner(
    typingctx: Any, cell: Any, stage: Any, tile: Any, sums: Any, weights: Any, offset: Any, block: Any,
    operand: Any, rows: Any, k: Any, hidden: Any,
) -> Any:  # fmt: skip
    first, gates, _ = stage_type(cell, stage)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        w = indexer(context, builder, sig.args[4], args[4])
        x = indexer(context, builder, sig.args[7], args[7])
        factors = [builder.load(w(args[5], times(builder, args[6], gate))) for gate in gates]
        result = []
        totals = unpack_tuple(builder, args[3], len(sums))
        for r, start in enumerate(unpack_tuple(builder, args[8], len(rows))):
            total = totals[r]
            for g, factor in enumerate(factors):
                value = builder.load(x(start, args[9], times(builder, args[10], first + g)))
                total = multiply_add(builder, factor, value, total)
            result.append(total)
        return context.make_tuple(builder, sig.return_type, result)

    index = types.int64
    return (
        make_signature(sums, cell, stage, tile, sums, weights, index, index, operand, rows, index, index),
        codegen,
    )


@overload(add_outer)
def _(cell, stage, tile, sums, weights, offset, hidden, operand, rows, k):
    return lambda cell, stage, tile, sums, weights, offset, hidden, operand, rows, k: _emit_add_outer(
        cell, stage, tile, sums, weights, offset, hidden, operand, rows, k
    )


@overload(add_inner)
def _(cell, stage, tile, sums, weights, offset, block, operand, rows, k, hidden):
    return lambda cell, stage, tile, sums, weights, offset, block, operand, rows, k, hidden: _emit_add_inner(
        cell, stage, tile, sums, weights, offset, block, operand, rows, k, hidden
    )


def load_sums(cell: Any, stage: Any, array: Any, offset: Any, stride: Any) -> Any:
    """Load a number for every slot that a stage feeds: number n is at ``offset + n * stride``."""
    return tuple(array[offset + n * stride] for n in range(len(stage_of(cell, stage).gates)))


@intrinsic
def _emit_load_sums(typingctx: Any, cell: Any, stage: Any, array: Any, offset: Any, stride: Any) -> Any:
    count = len(stage_type(cell, stage).gates)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = indexer(context, builder, sig.args[2], args[2])
        values = [builder.load(pointer(args[3], times(builder, args[4], n))) for n in range(count)]
        return context.make_tuple(builder, sig.return_type, values)

    kind = types.UniTuple(Scalar(array.dtype), count)
    return make_signature(kind, cell, stage, array, types.int64, types.int64), codegen


@overload(load_sums)
def _(cell, stage, array, offset, stride):
    return lambda cell, stage, array, offset, stride: _emit_load_sums(cell, stage, array, offset, stride)


def add_to_stage(cell: Any, stage: Any, slots: Any, sums: Any) -> Any:
    """The slots, with the sums added to those that the stage feeds."""
    first, gates, _ = stage_of(cell, stage)
    return (
        *slots[:first],
        *(slots[first + n] + sums[n] for n in range(len(gates))),
        *slots[first + len(gates) :],
    )


@intrinsic
def _emit_add_to_stage(typingctx: Any, cell: Any, stage: Any, slots: Any, sums: Any) -> Any:
    first = stage_type(cell, stage).first

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        values = list(unpack_tuple(builder, args[2], len(slots)))
        for n, value in enumerate(unpack_tuple(builder, args[3], len(sums))):
            values[first + n] = builder.fadd(values[first + n], value)
        return context.make_tuple(builder, sig.return_type, values)

    return make_signature(slots, cell, stage, slots, sums), codegen


@overload(add_to_stage)
def _(cell, stage, slots, sums):
    return lambda cell, stage, slots, sums: _emit_add_to_stage(cell, stage, slots, sums)
