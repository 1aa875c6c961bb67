"""A patch of a matrix product that one thread holds in registers: tuples of numbers, and what is done to it.

A patch has as many rows as columns, in groups of four, which lie side by side in memory: a group of operands
is one instruction to load. Its size is named by a class, as a cell is (see
`lstm_numba.engines.cuda.specialize`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from lstm_numba.engines.cuda.driver import intrinsic, ir, make_signature, overload, types, unpack_tuple
from lstm_numba.engines.cuda.scalar import Number, data_of, load_tuple, multiply_add, place

_I64 = ir.IntType(64)
_GROUP = 4


class Small(NamedTuple):
    """A patch of four by four numbers."""

    side = 4


class Large(NamedTuple):
    """A patch of eight by eight numbers: fewer loads for each, but a small product has too few patches."""

    side = 8


#: ``load(patch, array, at, stride)``: one side's numbers.
load_side = load_tuple(lambda patch: patch.side)
#: The same for all its numbers.
load_patch = load_tuple(lambda patch: patch.side**2)


def patch_side(patch: Any) -> Any:
    """Rows and columns of a patch."""
    return patch.side


@overload(patch_side)
def _(patch):
    side = patch.instance_class.side
    return lambda patch: side


def _integer(n: int) -> Any:
    return ir.Constant(_I64, n)


def clamped(patch: Any, first: Any, step: Any, count: Any, stride: Any) -> Any:
    """Places of one side's lines `step` apart; a line beyond the matrix is its last again."""
    return tuple(min(first + n * step, count - 1) * stride for n in range(patch.side))


def inside(patch: Any, first: Any, step: Any, count: Any, stride: Any) -> Any:
    """Places of one side's lines, groups of four lying `step` apart; -1 for a line beyond the matrix."""
    lines = [first + n // _GROUP * step + n % _GROUP for n in range(patch.side)]
    return tuple(line * stride if line < count else -1 for line in lines)


def _lines(emit_place: Callable[..., Any]) -> Any:
    """An intrinsic that makes one side's places from a first line, a step, a count of lines and a stride."""

    @intrinsic
    def emit(typingctx: Any, patch: Any, first: Any, step: Any, count: Any, stride: Any) -> Any:
        side = patch.instance_class.side

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            values = [emit_place(builder, n, *args[1:]) for n in range(side)]
            return context.make_tuple(builder, sig.return_type, values)

        index = types.int64
        return make_signature(types.UniTuple(index, side), patch, index, index, index, index), codegen

    return emit


def _clamped(builder: Any, n: int, first: Any, step: Any, count: Any, stride: Any) -> Any:
    line = builder.add(first, builder.mul(step, _integer(n)))
    last = builder.sub(count, _integer(1))
    return builder.mul(builder.select(builder.icmp_signed("<", line, last), line, last), stride)


def _inside(builder: Any, n: int, first: Any, step: Any, count: Any, stride: Any) -> Any:
    line = builder.add(builder.add(first, builder.mul(step, _integer(n // _GROUP))), _integer(n % _GROUP))
    return builder.select(builder.icmp_signed("<", line, count), builder.mul(line, stride), _integer(-1))


_emit_clamped, _emit_inside = _lines(_clamped), _lines(_inside)


@overload(clamped)
def _(patch, first, step, count, stride):
    return lambda patch, first, step, count, stride: _emit_clamped(patch, first, step, count, stride)


@overload(inside)
def _(patch, first, step, count, stride):
    return lambda patch, first, step, count, stride: _emit_inside(patch, first, step, count, stride)


def side_zeros(patch: Any, array: Any) -> Any:
    """As many zeros as a side has, in the array's precision."""
    return (array.dtype.type(0),) * patch.side


def patch_zeros(patch: Any, array: Any) -> Any:
    """As many zeros as a patch has numbers, in the array's precision."""
    return (array.dtype.type(0),) * patch.side**2


def _zeros(power: int) -> Any:
    @intrinsic
    def emit(typingctx: Any, patch: Any, array: Any) -> Any:
        count = patch.instance_class.side**power

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            zero = context.get_constant(array.dtype, 0.0)
            return context.make_tuple(builder, sig.return_type, [zero] * count)

        return make_signature(types.UniTuple(Number(array.dtype), count), patch, array), codegen

    return emit


_emit_side_zeros, _emit_patch_zeros = _zeros(1), _zeros(2)


@overload(side_zeros)
def _(patch, array):
    return lambda patch, array: _emit_side_zeros(patch, array)


@overload(patch_zeros)
def _(patch, array):
    return lambda patch, array: _emit_patch_zeros(patch, array)


def load_lines(patch: Any, array: Any, places: Any, at: Any) -> Any:
    """A number of each of one side's lines."""
    return tuple(array[line + at] for line in places)


@intrinsic
def _emit_load_lines(typingctx: Any, patch: Any, array: Any, places: Any, at: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = data_of(context, builder, sig.args[1], args[1])
        lines = unpack_tuple(builder, args[2], len(places))
        values = [builder.load(builder.gep(data, [builder.add(line, args[3])])) for line in lines]
        return context.make_tuple(builder, sig.return_type, values)

    kind = types.UniTuple(Number(array.dtype), len(places))
    return make_signature(kind, patch, array, places, types.int64), codegen


@overload(load_lines)
def _(patch, array, places, at):
    return lambda patch, array, places, at: _emit_load_lines(patch, array, places, at)


def load_groups(patch: Any, shared: Any, at: Any, step: Any) -> Any:
    """One side's numbers: groups of four neighbours, `step` apart.

    `at` and `step` are multiples of four, and the memory is declared with `SHARED_ALIGNMENT`.
    """
    return tuple(shared[at + n // _GROUP * step + n % _GROUP] for n in range(patch.side))


@intrinsic
def _emit_load_groups(typingctx: Any, patch: Any, shared: Any, at: Any, step: Any) -> Any:
    side = patch.instance_class.side

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = data_of(context, builder, sig.args[1], args[1])
        vector = ir.VectorType(data.type.pointee, _GROUP)
        values = []
        for group in range(side // _GROUP):
            where = builder.bitcast(place(builder, data, args[2], args[3], group), vector.as_pointer())
            loaded = builder.load(where, align=16)
            values += [builder.extract_element(loaded, ir.Constant(ir.IntType(32), n)) for n in range(_GROUP)]
        return context.make_tuple(builder, sig.return_type, values)

    kind = types.UniTuple(Number(shared.dtype), side)
    return make_signature(kind, patch, shared, types.int64, types.int64), codegen


@overload(load_groups)
def _(patch, shared, at, step):
    return lambda patch, shared, at, step: _emit_load_groups(patch, shared, at, step)


def add_outer_product(sums: Any, column: Any, row: Any) -> Any:
    """A patch, row by row, and the product of a column and a row."""
    products = [x * y for x in column for y in row]
    return tuple(a + b for a, b in zip(sums, products, strict=True))


@intrinsic
def _emit_add_outer_product(typingctx: Any, sums: Any, column: Any, row: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        totals = iter(unpack_tuple(builder, args[0], len(sums)))
        numbers = unpack_tuple(builder, args[2], len(row))
        result = [
            multiply_add(builder, x, y, next(totals))
            for x in unpack_tuple(builder, args[1], len(column))
            for y in numbers
        ]
        return context.make_tuple(builder, sig.return_type, result)

    return make_signature(sums, sums, column, row), codegen


@overload(add_outer_product)
def _(sums, column, row):
    return lambda sums, column, row: _emit_add_outer_product(sums, column, row)


def store_patch(array: Any, at: Any, rows: Any, columns: Any, sums: Any, accumulate: Any) -> None:
    """Store a patch, or add it, where its rows and columns are inside the matrix."""
    for n, value in enumerate(sums):
        row, column = rows[n // len(columns)], columns[n % len(columns)]
        if row >= 0 and column >= 0:
            where = at + row + column
            array[where] = array[where] + value if accumulate else value


@intrinsic
def _emit_store_patch(
    typingctx: Any, array: Any, at: Any, rows: Any, columns: Any, sums: Any, accumulate: Any
) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = data_of(context, builder, sig.args[0], args[0])
        lines = unpack_tuple(builder, args[2], len(rows))
        places = unpack_tuple(builder, args[3], len(columns))
        adds = builder.icmp_signed("!=", args[5], _integer(0))
        for n, value in enumerate(unpack_tuple(builder, args[4], len(sums))):
            row, column = lines[n // len(columns)], places[n % len(columns)]
            # The sign of either is the sign of both together.
            both = builder.icmp_signed(">=", builder.or_(row, column), _integer(0))
            with builder.if_then(both):
                where = builder.gep(data, [builder.add(args[1], builder.add(row, column))])
                with builder.if_else(adds) as (add, overwrite):
                    with add:
                        builder.store(builder.fadd(builder.load(where), value), where)
                    with overwrite:
                        builder.store(value, where)
        return context.get_dummy_value()

    index = types.int64
    return make_signature(types.void, array, index, rows, columns, sums, index), codegen


@overload(store_patch)
def _(array, at, rows, columns, sums, accumulate):
    return lambda array, at, rows, columns, sums, accumulate: _emit_store_patch(
        array, at, rows, columns, sums, accumulate
    )
