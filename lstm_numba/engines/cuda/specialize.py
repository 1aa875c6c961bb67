"""From a cell to compiled code: its equations, and loads and products of the sizes that it names.

The plain bodies say what a function means and are what CUDA's simulator runs; Numba replaces each function by
one for the class of the cell that a kernel is called with, while it compiles the kernel.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import lstm_numba.engines.cuda.activations  # noqa: F401  (registers the functions of equations)
from lstm_numba.cells.protocol import Stage
from lstm_numba.engines.cuda.driver import intrinsic, make_signature, overload, types, unpack_tuple
from lstm_numba.engines.cuda.scalar import Number, line_of, load_tuple, multiply_add, times


class First(NamedTuple):
    """Names a cell's first stage in a kernel."""

    number = 0


class Second(NamedTuple):
    """Names a cell's second stage in a kernel."""

    number = 1


class Input(NamedTuple):
    """Names the product with the input weights, as if it were a stage."""

    number = -1


class OneRow(NamedTuple):
    """A thread's tile has one row of the batch."""

    rows = 1


class FourRows(NamedTuple):
    """A thread's tile has four rows of the batch: a weight is loaded once for all of them."""

    rows = 4


FIRST, SECOND, INPUT = First(), Second(), Input()

load_slots = load_tuple(lambda cell: len(cell.slots))
load_cell_states = load_tuple(lambda cell: len(cell.states) - 1)
load_states = load_tuple(lambda cell: len(cell.states))
load_peephole = load_tuple(lambda cell: len(cell.peepholes))
load_rows = load_tuple(lambda tile: tile.rows)
load_one = load_tuple(lambda cell: 1)


def cell_forward(self: Any, slots: Any, previous: Any, peephole: Any) -> Any:
    """The cell's forward equations."""
    return self.forward(slots, previous, peephole)


def cell_backward(self: Any, slots: Any, previous: Any, states: Any, peephole: Any, gradient: Any) -> Any:
    """The cell's backward equations."""
    return self.backward(slots, previous, states, peephole, gradient)


def cell_operand(self: Any, slots: Any, previous: Any) -> Any:
    """The cell's message."""
    return self.operand(slots, previous)


def cell_operand_backward(self: Any, slots: Any, previous: Any, gradient: Any) -> Any:
    """The backward equations of the cell's message."""
    return self.operand_backward(slots, previous, gradient)


@overload(cell_forward, strict=False)
def _(self, slots, previous, peephole):
    return self.instance_class.forward


@overload(cell_backward, strict=False)
def _(self, slots, previous, states, peephole, gradient):
    return self.instance_class.backward


@overload(cell_operand, strict=False)
def _(self, slots, previous):
    return self.instance_class.operand


@overload(cell_operand_backward, strict=False)
def _(self, slots, previous, gradient):
    return self.instance_class.operand_backward


def tile_rows(tile: Any) -> Any:
    """Rows of a thread's tile."""
    return tile.rows


@overload(tile_rows)
def _(tile):
    rows = tile.instance_class.rows
    return lambda tile: rows


def constant(of: Callable[[Any], int]) -> Any:
    """Make a function of a cell, whose value Numba knows while it compiles."""

    def number(cell: Any) -> Any:
        return of(cell)

    @overload(number)
    def _(cell):
        value = of(cell.instance_class)
        return lambda cell: value

    return number


slot_count = constant(lambda cell: len(cell.slots))
gate_count = constant(lambda cell: len(cell.gates))
peephole_count = constant(lambda cell: len(cell.peepholes))
stage_count = constant(lambda cell: len(cell.stages))


def stage_width(cell: Any, stage: Any) -> Any:
    """Number of slots that a stage feeds."""
    return len(stage_of(cell, stage).gates)


@overload(stage_width)
def _(cell, stage):
    width = len(_stage(cell, stage).gates)
    return lambda cell, stage: width


def stage_gates(cell: Any, stage: Any) -> Any:
    """The gates that feed a stage's slots."""
    return stage_of(cell, stage).gates


@overload(stage_gates)
def _(cell, stage):
    gates = _stage(cell, stage).gates
    return lambda cell, stage: gates


def stage_first(cell: Any, stage: Any) -> Any:
    """A stage's first slot."""
    return stage_of(cell, stage).first


@overload(stage_first)
def _(cell, stage):
    first = _stage(cell, stage).first
    return lambda cell, stage: first


def stage_of(cell: Any, stage: Any) -> Stage:
    """Which slots a product feeds, and from which gates; of instances or of classes."""
    return cell.stages[stage.number] if stage.number >= 0 else Stage(0, cell.input_gates)


def _stage(cell: Any, stage: Any) -> Any:
    return stage_of(cell.instance_class, stage.instance_class)


def row_offsets(tile: Any, row: Any, batch: Any, stride: Any) -> Any:
    """Where the tile's rows begin; one beyond the batch is the last of the batch again."""
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


def _floats(count: Any) -> Any:
    """An intrinsic ``zeros(a, b, array)``: as many zeros, in the array's precision."""

    @intrinsic
    def emit(typingctx: Any, cell: Any, stage: Any, tile: Any, array: Any) -> Any:
        number = Number(array.dtype)
        width = count(_stage(cell, stage), tile.instance_class)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            zero = context.get_constant(array.dtype, 0.0)
            return context.make_tuple(builder, sig.return_type, [zero] * width)

        return make_signature(types.UniTuple(number, width), cell, stage, tile, array), codegen

    return emit


_emit_outer_zeros = _floats(lambda stage, tile: tile.rows * len(stage.gates))
_emit_inner_zeros = _floats(lambda stage, tile: tile.rows)


def outer_zeros(cell: Any, stage: Any, tile: Any, array: Any) -> Any:
    """What `add_outer` begins with."""
    return (array.dtype.type(0),) * (tile.rows * len(stage_of(cell, stage).gates))


def inner_zeros(cell: Any, stage: Any, tile: Any, array: Any) -> Any:
    """What `add_inner` begins with."""
    return (array.dtype.type(0),) * tile.rows


@overload(outer_zeros)
def _(cell, stage, tile, array):
    return lambda cell, stage, tile, array: _emit_outer_zeros(cell, stage, tile, array)


@overload(inner_zeros)
def _(cell, stage, tile, array):
    return lambda cell, stage, tile, array: _emit_inner_zeros(cell, stage, tile, array)


def add_outer(
    cell: Any,
    stage: Any,
    tile: Any,
    sums: Any,
    weights: Any,
    at: Any,
    hidden: Any,
    operand: Any,
    rows: Any,
    k: Any,
) -> Any:
    """Forward: one weight of every gate of the stage times one number of every row.

    The weights lie `hidden` apart from `at` on, gate 0 first; the numbers lie at ``rows[r] + k``.
    """
    gates = stage_of(cell, stage).gates
    return tuple(
        sums[r * len(gates) + g] + weights[at + gate * hidden] * operand[rows[r] + k]
        for r in range(tile.rows)
        for g, gate in enumerate(gates)
    )


def add_inner(
    cell: Any, stage: Any, tile: Any, sums: Any, weights: Any, at: Any, block: Any, operand: Any, rows: Any,
    k: Any, hidden: Any,
) -> Any:  # fmt: skip
    """Backward: a slot's gradient times its gate's weight, summed over the slots of the stage, for every row.

    The weights lie `block` apart from `at` on, gate 0 first; the gradients `hidden` apart, slot 0 first.
    """
    first, gates = stage_of(cell, stage)
    return tuple(
        sums[r]
        + sum(
            weights[at + gate * block] * operand[rows[r] + (first + g) * hidden + k]
            for g, gate in enumerate(gates)
        )
        for r in range(tile.rows)
    )


@intrinsic
def _emit_add_outer(
    typingctx: Any, cell: Any, stage: Any, tile: Any, sums: Any, weights: Any, at: Any, hidden: Any,
    operand: Any, rows: Any, k: Any,
) -> Any:  # fmt: skip
    gates = _stage(cell, stage).gates

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        w = line_of(context, builder, sig.args[4], args[4])
        x = line_of(context, builder, sig.args[7], args[7])
        factors = [builder.load(w(args[5], times(builder, args[6], gate))) for gate in gates]
        result = []
        totals = unpack_tuple(builder, args[3], len(sums))
        for r, start in enumerate(unpack_tuple(builder, args[8], len(rows))):
            number = builder.load(x(start, args[9]))
            for g, factor in enumerate(factors):
                result.append(multiply_add(builder, factor, number, totals[r * len(gates) + g]))
        return context.make_tuple(builder, sig.return_type, result)

    index = types.int64
    return (
        make_signature(sums, cell, stage, tile, sums, weights, index, index, operand, rows, index),
        codegen,
    )


@intrinsic
def _emit_add_inner(
    typingctx: Any, cell: Any, stage: Any, tile: Any, sums: Any, weights: Any, at: Any, block: Any,
    operand: Any, rows: Any, k: Any, hidden: Any,
) -> Any:  # fmt: skip
    first, gates = _stage(cell, stage)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        w = line_of(context, builder, sig.args[4], args[4])
        x = line_of(context, builder, sig.args[7], args[7])
        factors = [builder.load(w(args[5], times(builder, args[6], gate))) for gate in gates]
        result = []
        totals = unpack_tuple(builder, args[3], len(sums))
        for r, start in enumerate(unpack_tuple(builder, args[8], len(rows))):
            total = totals[r]
            for g, factor in enumerate(factors):
                number = builder.load(x(start, args[9], times(builder, args[10], first + g)))
                total = multiply_add(builder, factor, number, total)
            result.append(total)
        return context.make_tuple(builder, sig.return_type, result)

    index = types.int64
    return (
        make_signature(sums, cell, stage, tile, sums, weights, index, index, operand, rows, index, index),
        codegen,
    )


@overload(add_outer)
def _(cell, stage, tile, sums, weights, at, hidden, operand, rows, k):
    return lambda cell, stage, tile, sums, weights, at, hidden, operand, rows, k: _emit_add_outer(
        cell, stage, tile, sums, weights, at, hidden, operand, rows, k
    )


@overload(add_inner)
def _(cell, stage, tile, sums, weights, at, block, operand, rows, k, hidden):
    return lambda cell, stage, tile, sums, weights, at, block, operand, rows, k, hidden: _emit_add_inner(
        cell, stage, tile, sums, weights, at, block, operand, rows, k, hidden
    )


def load_sums(cell: Any, stage: Any, array: Any, at: Any, stride: Any) -> Any:
    """A number for every slot that a stage feeds, as `load_tuple` loads."""
    return tuple(array[at + n * stride] for n in range(len(stage_of(cell, stage).gates)))


@intrinsic
def _emit_load_sums(typingctx: Any, cell: Any, stage: Any, array: Any, at: Any, stride: Any) -> Any:
    count = len(_stage(cell, stage).gates)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = line_of(context, builder, sig.args[2], args[2])
        values = [builder.load(data(args[3], times(builder, args[4], n))) for n in range(count)]
        return context.make_tuple(builder, sig.return_type, values)

    kind = types.UniTuple(Number(array.dtype), count)
    return make_signature(kind, cell, stage, array, types.int64, types.int64), codegen


@overload(load_sums)
def _(cell, stage, array, at, stride):
    return lambda cell, stage, array, at, stride: _emit_load_sums(cell, stage, array, at, stride)


def add_to_stage(cell: Any, stage: Any, slots: Any, sums: Any) -> Any:
    """The slots, those that the stage feeds with the sums added."""
    first, gates = stage_of(cell, stage)
    return (
        *slots[:first],
        *(slots[first + n] + sums[n] for n in range(len(gates))),
        *slots[first + len(gates) :],
    )


@intrinsic
def _emit_add_to_stage(typingctx: Any, cell: Any, stage: Any, slots: Any, sums: Any) -> Any:
    first = _stage(cell, stage).first

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        values = list(unpack_tuple(builder, args[2], len(slots)))
        for n, value in enumerate(unpack_tuple(builder, args[3], len(sums))):
            values[first + n] = builder.fadd(values[first + n], value)
        return context.make_tuple(builder, sig.return_type, values)

    return make_signature(slots, cell, stage, slots, sums), codegen


@overload(add_to_stage)
def _(cell, stage, slots, sums):
    return lambda cell, stage, slots, sums: _emit_add_to_stage(cell, stage, slots, sums)


def _zeros(count_of: Callable[[Any], int]) -> Any:
    """Make ``zeros(cell, array)``: so many zeros, in the array's precision."""

    def zeros(cell: Any, array: Any) -> Any:
        return (array.dtype.type(0),) * count_of(cell)

    @intrinsic
    def emit(typingctx: Any, cell: Any, array: Any) -> Any:
        count = count_of(cell.instance_class)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            zero = context.get_constant(array.dtype, 0.0)
            return context.make_tuple(builder, sig.return_type, [zero] * count)

        return make_signature(types.UniTuple(Number(array.dtype), count), cell, array), codegen

    @overload(zeros)
    def _(cell, array):
        return lambda cell, array: emit(cell, array)

    return zeros


zero_slots = _zeros(lambda cell: len(cell.slots))
zero_states = _zeros(lambda cell: len(cell.states))
zero_peephole = _zeros(lambda cell: len(cell.peepholes))


def gate_tables(cell: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """For each slot the gate whose input bias it gets, and whose recurrent bias; -1 for none."""
    count = len(cell.slots)
    inputs = cell.input_gates + (-1,) * (count - len(cell.input_gates))
    recurrent = [-1] * count
    for stage in cell.stages:
        recurrent[stage.first : stage.first + len(stage.gates)] = stage.gates
    return inputs, tuple(recurrent)


def load_inputs(cell: Any, slots: Any, at: Any, stride: Any) -> Any:
    """The slots' products with the input weights, zero where a slot has none; they lie as in `load_slots`."""
    zero = slots.dtype.type(0)
    return tuple(zero if gate < 0 else slots[at + n * stride] for n, gate in enumerate(gate_tables(cell)[0]))


def load_biases(cell: Any, bias_ih: Any, bias_hh: Any, unit: Any, hidden: Any) -> Any:
    """The slots' biases of a unit, both together."""
    zero = bias_ih.dtype.type(0)

    def one(bias: Any, gate: int) -> Any:
        return zero if gate < 0 else bias[gate * hidden + unit]

    return tuple(one(bias_ih, i) + one(bias_hh, r) for i, r in zip(*gate_tables(cell), strict=True))


@intrinsic
def _emit_load_inputs(typingctx: Any, cell: Any, slots: Any, at: Any, stride: Any) -> Any:
    gates, _ = gate_tables(cell.instance_class)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        line = line_of(context, builder, sig.args[1], args[1])
        zero = context.get_constant(slots.dtype, 0.0)
        values = [
            zero if gate < 0 else builder.load(line(args[2], times(builder, args[3], n)))
            for n, gate in enumerate(gates)
        ]
        return context.make_tuple(builder, sig.return_type, values)

    kind = types.UniTuple(Number(slots.dtype), len(gates))
    return make_signature(kind, cell, slots, types.int64, types.int64), codegen


@intrinsic
def _emit_load_biases(typingctx: Any, cell: Any, bias_ih: Any, bias_hh: Any, unit: Any, hidden: Any) -> Any:
    tables = gate_tables(cell.instance_class)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        lines = [line_of(context, builder, sig.args[n], args[n]) for n in (1, 2)]
        values = []
        for gates in zip(*tables, strict=True):
            known = [
                builder.load(line(args[3], times(builder, args[4], gate)))
                for line, gate in zip(lines, gates, strict=True)
                if gate >= 0
            ]
            none = context.get_constant(bias_ih.dtype, 0.0)
            values.append(functools.reduce(builder.fadd, known) if known else none)
        return context.make_tuple(builder, sig.return_type, values)

    kind = types.UniTuple(Number(bias_ih.dtype), len(tables[0]))
    return make_signature(kind, cell, bias_ih, bias_hh, types.int64, types.int64), codegen


@overload(load_inputs)
def _(cell, slots, at, stride):
    return lambda cell, slots, at, stride: _emit_load_inputs(cell, slots, at, stride)


@overload(load_biases)
def _(cell, bias_ih, bias_hh, unit, hidden):
    return lambda cell, bias_ih, bias_hh, unit, hidden: _emit_load_biases(
        cell, bias_ih, bias_hh, unit, hidden
    )
