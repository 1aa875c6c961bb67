"""From a cell to compiled code: its equations, and loads and products of the sizes that it names.

A cell, a stage and a tile are empty named tuples: their class says what they are. The plain Python bodies
define what a function computes, and are what CUDA's simulator runs; while Numba compiles a kernel, it
replaces each function by one for the classes that the kernel is called with.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import lstm_numba.engines.cuda.activations  # noqa: F401  (registers the functions of equations)
from lstm_numba.cells.protocol import Stage
from lstm_numba.engines.cuda.driver import intrinsic, ir, make_signature, overload, types
from lstm_numba.engines.cuda.scalar import Scalar, indexer, scalar_loader, scalar_zeros, times


class First(NamedTuple):
    """A cell's first stage."""

    number = 0


class Second(NamedTuple):
    """A cell's second stage."""

    number = 1


class Input(NamedTuple):
    """The product with the input weights, treated like a stage."""

    number = -1


class OneRow(NamedTuple):
    """A thread's tile is one row of the batch."""

    rows = 1
    units = 1


class FourRows(NamedTuple):
    """A thread's tile is four rows of the batch: a weight is loaded once for all four."""

    rows = 4
    units = 1


FIRST, SECOND, INPUT = First(), Second(), Input()


# -- constants of a class --------------------------------------------------------------------------


def stage_of(cell: Any, stage: Any) -> Stage:
    """Which slots a product feeds, and from which gates; of instances or of classes."""
    return cell.stages[stage.number] if stage.number >= 0 else Stage(0, cell.input_gates)


def stage_type(cell: Any, stage: Any) -> Stage:
    """The same of their Numba types."""
    return stage_of(cell.instance_class, stage.instance_class)


def class_constant(value_of: Callable[[Any], Any]) -> Any:
    """Make a function of a cell (or tile) whose value depends on its class only: a compile-time constant."""

    def constant(cell: Any) -> Any:
        return value_of(cell)

    @overload(constant)
    def _(cell):
        value = value_of(cell.instance_class)
        return lambda cell: value

    return constant


def stage_constant(value_of: Callable[[Any, Any], Any]) -> Any:
    """The same for a function of a cell and a stage."""

    def constant(cell: Any, stage: Any) -> Any:
        return value_of(cell, stage)

    @overload(constant)
    def _(cell, stage):
        value = value_of(cell.instance_class, stage.instance_class)
        return lambda cell, stage: value

    return constant


def has_own_weights(stage: Stage) -> bool:
    """Whether the weights of a recurrent product are not ``weight_hh``; then it has no bias."""
    return stage.weight != "weight_hh"


def _blocks(cell: Any, stage: Any) -> int:
    if has_own_weights(stage_of(cell, stage)):
        return len(stage_of(cell, stage).gates)
    return len(cell.gates if stage.number < 0 else cell.recurrent_gates)


slot_count = class_constant(lambda cell: len(cell.slots))
peephole_count = class_constant(lambda cell: len(cell.peepholes))
stage_count = class_constant(lambda cell: len(cell.stages))
#: Means over a row's units; and barriers of a step: after each group of means, and of each stage.
mean_count = class_constant(lambda cell: sum(map(len, cell.mean_levels)))
#: Numbers that equations of a step hand on to others of it.
reused_count = class_constant(lambda cell: sum(cell.reused))
dreused_count = class_constant(lambda cell: sum(cell.dreused))
barrier_count = class_constant(lambda cell: len(cell.stages) + len(cell.mean_levels))
is_projected = class_constant(lambda cell: cell.projected)
tile_rows = class_constant(lambda tile: tile.rows)

#: Row blocks of a product's weights.
block_count = stage_constant(_blocks)
#: The gates that feed a stage's slots, their number, and the first of these slots.
stage_gates = stage_constant(lambda cell, stage: stage_of(cell, stage).gates)
stage_width = stage_constant(lambda cell, stage: len(stage_of(cell, stage).gates))
stage_first = stage_constant(lambda cell, stage: stage_of(cell, stage).first)
#: Whether only the units of h are in a recurrent product's operand, and in the slots that it feeds.
reads_projected = stage_constant(lambda cell, stage: cell.projected and stage.number == 0)
feeds_projected = stage_constant(lambda cell, stage: cell.projected and stage.number == 1)

load_scalar = scalar_loader(lambda cell: 1)
load_slots = scalar_loader(lambda cell: len(cell.slots))
load_states = scalar_loader(lambda cell: len(cell.states))
load_cell_states = scalar_loader(lambda cell: len(cell.states) - 1)
load_peephole = scalar_loader(lambda cell: len(cell.peepholes))
_load_means = scalar_loader(lambda cell: sum(map(len, cell.mean_levels)))

zero_scalar = scalar_zeros(lambda cell: 1)
zero_slots = scalar_zeros(lambda cell: len(cell.slots))
zero_states = scalar_zeros(lambda cell: len(cell.states))
zero_peephole = scalar_zeros(lambda cell: len(cell.peepholes))


# -- a cell's equations ----------------------------------------------------------------------------


def cell_forward(self: Any, slots: Any, previous: Any, peephole: Any) -> Any:
    """The cell's forward equations."""
    return self.forward(slots, previous, peephole)


def cell_backward(self: Any, slots: Any, previous: Any, states: Any, peephole: Any, gradient: Any) -> Any:
    """The cell's backward equations."""
    return self.backward(slots, previous, states, peephole, gradient)


def cell_operand(self: Any, slots: Any, previous: Any, peephole: Any) -> Any:
    """The cell's operand of the second recurrent product."""
    return self.operand(slots, previous, peephole)


def cell_operand_backward(self: Any, slots: Any, previous: Any, peephole: Any, gradient: Any) -> Any:
    """The backward equations of the operand."""
    return self.operand_backward(slots, previous, peephole, gradient)


def cell_prepare(self: Any, previous: Any, peephole: Any) -> Any:
    """The cell's operand of the first recurrent product, where it is not h."""
    return self.prepare(previous, peephole)


def cell_prepare_backward(self: Any, previous: Any, peephole: Any, gradient: Any) -> Any:
    """The backward equations of that operand."""
    return self.prepare_backward(previous, peephole, gradient)


@overload(cell_forward, strict=False)
def _(self, slots, previous, peephole):
    return self.instance_class.forward


@overload(cell_backward, strict=False)
def _(self, slots, previous, states, peephole, gradient):
    return self.instance_class.backward


@overload(cell_operand, strict=False)
def _(self, slots, previous, peephole):
    return self.instance_class.operand


@overload(cell_operand_backward, strict=False)
def _(self, slots, previous, peephole, gradient):
    return self.instance_class.operand_backward


@overload(cell_prepare, strict=False)
def _(self, previous, peephole):
    return self.instance_class.prepare


@overload(cell_prepare_backward, strict=False)
def _(self, previous, peephole, gradient):
    return self.instance_class.prepare_backward


# -- numbers from outside --------------------------------------------------------------------------


def load_extras(cell: Any, extras: Any, strides: Any, t: Any, row: Any, unit: Any) -> Any:
    """The values of a cell's extras at time t, one of each array; beyond its last unit, that one's.

    `strides` are those of time and row, and the number of units.
    """
    return tuple(
        array[t * step + row * line + min(unit, count - 1)]
        for array, (step, line, count) in zip(extras, strides, strict=True)
    )


@intrinsic
def _emit_load_extras(
    typingctx: Any, cell: Any, extras: Any, strides: Any, t: Any, row: Any, unit: Any
) -> Any:
    kind = cell.instance_class

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        values = []
        for n, (array, of_unit) in enumerate(zip(extras, kind.extra_units, strict=True)):
            pointer = indexer(context, builder, array, builder.extract_value(args[1], n))
            step, line, count = (builder.extract_value(args[2], (n, m)) for m in range(3))
            terms = [builder.mul(args[3], step), builder.mul(args[4], line)]
            if of_unit and kind.projected:  # the extras of h have as many units as h
                last = builder.sub(count, ir.Constant(count.type, 1))
                terms.append(builder.select(builder.icmp_signed("<", args[5], last), args[5], last))
            elif of_unit:
                terms.append(args[5])
            values.append(builder.load(pointer(*terms)))
        return context.make_tuple(builder, sig.return_type, values)

    kinds = types.Tuple([Scalar(array.dtype) for array in extras])
    return make_signature(kinds, cell, extras, strides, *[types.int64] * 3), codegen


@overload(load_extras)
def _(cell, extras, strides, t, row, unit):
    return lambda cell, extras, strides, t, row, unit: _emit_load_extras(cell, extras, strides, t, row, unit)


def load_means(cell: Any, means: Any, row: Any) -> Any:
    """The means of a row, or their gradients, from the first array of a tuple; () for a cell without."""
    return _load_means(cell, means[0], row * mean_count(cell), 1) if cell.mean_levels else ()


@overload(load_means)
def _(cell, means, row):
    if not cell.instance_class.mean_levels:
        return lambda cell, means, row: ()
    return lambda cell, means, row: _load_means(cell, means[0], row * mean_count(cell), 1)


def _reused_loader(counts_of: Callable[[Any], tuple[int, ...]], place: int) -> Any:
    """Make ``load(cell, arrays, row, unit, hidden)``: what equations of a step hand on to others of it.

    It is in one of the arrays of a tuple; () for a cell without means.
    """
    load = scalar_loader(lambda cell: sum(counts_of(cell)))

    def loaded(cell: Any, arrays: Any, row: Any, unit: Any, hidden: Any) -> Any:
        count = sum(counts_of(cell))
        return load(cell, arrays[place], row * count * hidden + unit, hidden) if cell.mean_levels else ()

    @overload(loaded)
    def _(cell, arrays, row, unit, hidden):
        count = sum(counts_of(cell.instance_class))
        if not cell.instance_class.mean_levels:
            return lambda cell, arrays, row, unit, hidden: ()
        return lambda cell, arrays, row, unit, hidden: load(
            cell, arrays[place], row * count * hidden + unit, hidden
        )

    return loaded


load_reused = _reused_loader(lambda cell: cell.reused, 2)
load_dreused = _reused_loader(lambda cell: cell.dreused, 1)


# -- what the slots hold before the recurrent product ----------------------------------------------


def gate_tables(cell: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """For each slot the gate whose input weights and bias it gets, and whose recurrent bias; -1 for none."""
    count = len(cell.slots)
    inputs = cell.input_gates + (-1,) * (count - len(cell.input_gates))
    recurrent = [-1] * count
    for stage in (stage for stage in cell.stages if not has_own_weights(stage)):
        recurrent[stage.first : stage.first + len(stage.gates)] = stage.gates
    return inputs, tuple(recurrent)


def load_inputs(cell: Any, slots: Any, offset: Any, stride: Any) -> Any:
    """The slots' products with the input weights, stored as for `load_slots`; zero where a slot has none."""
    zero = slots.dtype.type(0)
    return tuple(
        zero if gate < 0 else slots[offset + n * stride] for n, gate in enumerate(gate_tables(cell)[0])
    )


def load_biases(cell: Any, bias_ih: Any, bias_hh: Any, unit: Any, hidden: Any) -> Any:
    """The sums of both biases of a unit's slots."""
    zero = bias_ih.dtype.type(0)

    def load(bias: Any, gate: int) -> Any:
        return zero if gate < 0 else bias[gate * hidden + unit]

    return tuple(load(bias_ih, i) + load(bias_hh, r) for i, r in zip(*gate_tables(cell), strict=True))


@intrinsic
def _emit_load_inputs(typingctx: Any, cell: Any, slots: Any, offset: Any, stride: Any) -> Any:
    gates, _ = gate_tables(cell.instance_class)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = indexer(context, builder, sig.args[1], args[1])
        zero = context.get_constant(slots.dtype, 0.0)
        values = [
            zero if gate < 0 else builder.load(pointer(args[2], times(builder, args[3], n)))
            for n, gate in enumerate(gates)
        ]
        return context.make_tuple(builder, sig.return_type, values)

    kind = types.UniTuple(Scalar(slots.dtype), len(gates))
    return make_signature(kind, cell, slots, types.int64, types.int64), codegen


@intrinsic
def _emit_load_biases(typingctx: Any, cell: Any, bias_ih: Any, bias_hh: Any, unit: Any, hidden: Any) -> Any:
    tables = gate_tables(cell.instance_class)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointers = [indexer(context, builder, sig.args[n], args[n]) for n in (1, 2)]
        values = []
        for gates in zip(*tables, strict=True):
            known = [
                builder.load(pointer(args[3], times(builder, args[4], gate)))
                for pointer, gate in zip(pointers, gates, strict=True)
                if gate >= 0
            ]
            none = context.get_constant(bias_ih.dtype, 0.0)
            values.append(functools.reduce(builder.fadd, known) if known else none)
        return context.make_tuple(builder, sig.return_type, values)

    kind = types.UniTuple(Scalar(bias_ih.dtype), len(tables[0]))
    return make_signature(kind, cell, bias_ih, bias_hh, types.int64, types.int64), codegen


@overload(load_inputs)
def _(cell, slots, offset, stride):
    return lambda cell, slots, offset, stride: _emit_load_inputs(cell, slots, offset, stride)


@overload(load_biases)
def _(cell, bias_ih, bias_hh, unit, hidden):
    return lambda cell, bias_ih, bias_hh, unit, hidden: _emit_load_biases(
        cell, bias_ih, bias_hh, unit, hidden
    )
