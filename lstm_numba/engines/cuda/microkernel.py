"""The register tile of a matrix product: the part of the result that one thread holds in registers.

A tile is a tuple of scalars, with as many rows as columns. Its rows and columns are in vectors of four
neighbours, so that one instruction loads four operands. The size is given by a class, as a cell is (see
`lstm_numba.engines.cuda.specialize`). What is said of a tile's side holds for its rows and for its columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from lstm_numba.engines.cuda.driver import intrinsic, ir, make_signature, overload, types, unpack_tuple
from lstm_numba.engines.cuda.scalar import (
    Scalar,
    data_pointer,
    element_pointer,
    multiply_add,
    scalar_loader,
    scalar_zeros,
)
from lstm_numba.engines.cuda.specialize import class_constant

_I64 = ir.IntType(64)
_VECTOR = 4


class SmallTile(NamedTuple):
    """A tile of 4 by 4 numbers."""

    side = 4


class LargeTile(NamedTuple):
    """A tile of 8 by 8 numbers: fewer loads for each, but small products have too few such tiles."""

    side = 8


load_tile = scalar_loader(lambda tile: tile.side**2)
tile_side = class_constant(lambda tile: tile.side)
side_zeros = scalar_zeros(lambda tile: tile.side)
tile_zeros = scalar_zeros(lambda tile: tile.side**2)


def _integer(n: int) -> Any:
    return ir.Constant(_I64, n)


def clamped_offsets(tile: Any, first: Any, step: Any, count: Any, stride: Any) -> Any:
    """Offsets of rows (columns) `first`, ``first + step``, ...; past the matrix, that of its last one."""
    return tuple(min(first + n * step, count - 1) * stride for n in range(tile.side))


def masked_offsets(tile: Any, first: Any, step: Any, count: Any, stride: Any) -> Any:
    """Offsets of rows (columns) in vectors of four, the vectors `step` apart; -1 outside the matrix."""
    lines = [first + n // _VECTOR * step + n % _VECTOR for n in range(tile.side)]
    return tuple(line * stride if line < count else -1 for line in lines)


def _offset_maker(emit_offset: Callable[..., Any]) -> Any:
    """Make an intrinsic for the offsets of a side."""

    @intrinsic
    def emit(typingctx: Any, tile: Any, first: Any, step: Any, count: Any, stride: Any) -> Any:
        side = tile.instance_class.side

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            values = [emit_offset(builder, n, *args[1:]) for n in range(side)]
            return context.make_tuple(builder, sig.return_type, values)

        index = types.int64
        return make_signature(types.UniTuple(index, side), tile, index, index, index, index), codegen

    return emit


def _clamped_offset(builder: Any, n: int, first: Any, step: Any, count: Any, stride: Any) -> Any:
    line = builder.add(first, builder.mul(step, _integer(n)))
    last = builder.sub(count, _integer(1))
    return builder.mul(builder.select(builder.icmp_signed("<", line, last), line, last), stride)


def _masked_offset(builder: Any, n: int, first: Any, step: Any, count: Any, stride: Any) -> Any:
    line = builder.add(builder.add(first, builder.mul(step, _integer(n // _VECTOR))), _integer(n % _VECTOR))
    return builder.select(builder.icmp_signed("<", line, count), builder.mul(line, stride), _integer(-1))


_emit_clamped_offsets, _emit_masked_offsets = _offset_maker(_clamped_offset), _offset_maker(_masked_offset)


@overload(clamped_offsets)
def _(tile, first, step, count, stride):
    return lambda tile, first, step, count, stride: _emit_clamped_offsets(tile, first, step, count, stride)


@overload(masked_offsets)
def _(tile, first, step, count, stride):
    return lambda tile, first, step, count, stride: _emit_masked_offsets(tile, first, step, count, stride)


def gather_side(tile: Any, array: Any, offsets: Any, offset: Any) -> Any:
    """Load a side: one element of each of its rows (columns), at ``offsets[n] + offset``."""
    return tuple(array[line + offset] for line in offsets)


@intrinsic
def _emit_gather_side(typingctx: Any, tile: Any, array: Any, offsets: Any, offset: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = data_pointer(context, builder, sig.args[1], args[1])
        lines = unpack_tuple(builder, args[2], len(offsets))
        values = [builder.load(builder.gep(data, [builder.add(line, args[3])])) for line in lines]
        return context.make_tuple(builder, sig.return_type, values)

    kind = types.UniTuple(Scalar(array.dtype), len(offsets))
    return make_signature(kind, tile, array, offsets, types.int64), codegen


@overload(gather_side)
def _(tile, array, offsets, offset):
    return lambda tile, array, offsets, offset: _emit_gather_side(tile, array, offsets, offset)


def load_vectors(tile: Any, shared: Any, offset: Any, step: Any) -> Any:
    """Load a side by vector loads: vectors of four neighbours, `step` apart.

    `offset` and `step` are multiples of four, and the memory is declared with `SHARED_ALIGNMENT`.
    """
    return tuple(shared[offset + n // _VECTOR * step + n % _VECTOR] for n in range(tile.side))


@intrinsic
def _emit_load_vectors(typingctx: Any, tile: Any, shared: Any, offset: Any, step: Any) -> Any:
    side = tile.instance_class.side

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = data_pointer(context, builder, sig.args[1], args[1])
        vector = ir.VectorType(data.type.pointee, _VECTOR)
        values = []
        for n in range(side // _VECTOR):
            pointer = builder.bitcast(
                element_pointer(builder, data, args[2], args[3], n), vector.as_pointer()
            )
            loaded = builder.load(pointer, align=16)
            lanes = (ir.Constant(ir.IntType(32), lane) for lane in range(_VECTOR))
            values += [builder.extract_element(loaded, lane) for lane in lanes]
        return context.make_tuple(builder, sig.return_type, values)

    kind = types.UniTuple(Scalar(shared.dtype), side)
    return make_signature(kind, tile, shared, types.int64, types.int64), codegen


@overload(load_vectors)
def _(tile, shared, offset, step):
    return lambda tile, shared, offset, step: _emit_load_vectors(tile, shared, offset, step)


def add_outer_product(sums: Any, column: Any, row: Any) -> Any:
    """Add the outer product of a column and a row to a tile, which is stored row by row."""
    products = [x * y for x in column for y in row]
    return tuple(a + b for a, b in zip(sums, products, strict=True))


@intrinsic
def _emit_add_outer_product(typingctx: Any, sums: Any, column: Any, row: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        totals = iter(unpack_tuple(builder, args[0], len(sums)))
        values = unpack_tuple(builder, args[2], len(row))
        result = [
            multiply_add(builder, x, y, next(totals))
            for x in unpack_tuple(builder, args[1], len(column))
            for y in values
        ]
        return context.make_tuple(builder, sig.return_type, result)

    return make_signature(sums, sums, column, row), codegen


@overload(add_outer_product)
def _(sums, column, row):
    return lambda sums, column, row: _emit_add_outer_product(sums, column, row)


def store_tile(array: Any, offset: Any, rows: Any, columns: Any, sums: Any, accumulate: Any) -> None:
    """Store a tile, or add it, where its rows and columns are inside the matrix."""
    for n, value in enumerate(sums):
        row, column = rows[n // len(columns)], columns[n % len(columns)]
        if row >= 0 and column >= 0:
            index = offset + row + column
            array[index] = array[index] + value if accumulate else value


@intrinsic
def _emit_store_tile(
    typingctx: Any, array: Any, offset: Any, rows: Any, columns: Any, sums: Any, accumulate: Any
) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = data_pointer(context, builder, sig.args[0], args[0])
        row_offsets = unpack_tuple(builder, args[2], len(rows))
        column_offsets = unpack_tuple(builder, args[3], len(columns))
        adds = builder.icmp_signed("!=", args[5], _integer(0))
        for n, value in enumerate(unpack_tuple(builder, args[4], len(sums))):
            row, column = row_offsets[n // len(columns)], column_offsets[n % len(columns)]
            # Negative if either is.
            both = builder.icmp_signed(">=", builder.or_(row, column), _integer(0))
            with builder.if_then(both):
                pointer = builder.gep(data, [builder.add(args[1], builder.add(row, column))])
                with builder.if_else(adds) as (add, overwrite):
                    with add:
                        builder.store(builder.fadd(builder.load(pointer), value), pointer)
                    with overwrite:
                        builder.store(value, pointer)
        return context.get_dummy_value()

    index = types.int64
    return make_signature(types.void, array, index, rows, columns, sums, index), codegen


@overload(store_tile)
def _(array, offset, rows, columns, sums, accumulate):
    return lambda array, offset, rows, columns, sums, accumulate: _emit_store_tile(
        array, offset, rows, columns, sums, accumulate
    )
