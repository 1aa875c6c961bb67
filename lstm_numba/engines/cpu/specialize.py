"""From a cell to compiled code: its equations, and loads and products of the sizes that it names.

Numba chooses these by the class of the cell that a kernel is called with, while it compiles the kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import njit
from numba.core import types
from numba.extending import intrinsic, overload

import lstm_numba.engines.cpu.activations  # noqa: F401  (registers the nonlinearities on vectors)
from lstm_numba.engines.cpu.cpu_features import flat_tile_rows, tile_rows
from lstm_numba.engines.cpu.microkernel import tile_product
from lstm_numba.engines.cpu.options import INLINE
from lstm_numba.engines.cpu.vector import Vector, load_lanes, prefetch, splat, vector_loader, vector_type

load_vector = vector_loader(lambda cell: 1)
load_slots = vector_loader(lambda cell: len(cell.slots))
load_cell_states = vector_loader(lambda cell: len(cell.states) - 1)
load_peephole = vector_loader(lambda cell: len(cell.peepholes))
load_reused = vector_loader(lambda cell: sum(cell.reused))
load_dreused = vector_loader(lambda cell: sum(cell.dreused))


def cell_constant(value_of: Callable[[Any], Any]) -> Any:
    """Make a function of a cell that compiled code replaces by ``value_of(the cell's class)``."""

    def constant(cell: Any) -> Any:
        return value_of(type(cell))

    @overload(constant, INLINE)
    def _(cell):
        value = value_of(cell.instance_class)
        return lambda cell: value

    return constant


def stage_constant(value_of: Callable[[Any], Any]) -> Any:
    """The same of a cell and the number of one of its stages, which is a literal."""

    def constant(cell: Any, number: Any) -> Any:
        return value_of(cell.stages[number])

    @overload(constant, INLINE, prefer_literal=True)
    def _(cell, number):
        value = value_of(cell.instance_class.stages[number.literal_value])
        return lambda cell, number: value

    return constant


def _products(cell: Any) -> list[int]:
    """Slots that each product feeds: that with the input, and those of the stages."""
    return [len(cell.input_gates), *(len(stage.gates) for stage in cell.stages)]


#: Row blocks of the input weights, and of the recurrent ones.
gate_count = cell_constant(lambda cell: len(cell.gates))
recurrent_gate_count = cell_constant(lambda cell: len(cell.recurrent_gates))
slot_count = cell_constant(lambda cell: len(cell.slots))
state_count = cell_constant(lambda cell: len(cell.states))
stage_count = cell_constant(lambda cell: len(cell.stages))
peephole_count = cell_constant(lambda cell: len(cell.peepholes))
#: Rounds of a step after the first: groups of means, or a second stage; no cell has both.
later_rounds = cell_constant(lambda cell: max(len(cell.mean_levels), len(cell.stages) - 1))
#: Means over a row's units.
mean_count = cell_constant(lambda cell: sum(map(len, cell.mean_levels)))
#: Numbers that equations of a step hand on to others that follow.
reused_count = cell_constant(lambda cell: sum(cell.reused))
dreused_count = cell_constant(lambda cell: sum(cell.dreused))
#: Whether the operand of the first recurrent product is prepared, as a number.
prepared_count = cell_constant(lambda cell: int(cell.prepared))
#: Products whose weights have a gradient: with the input, and of each stage.
product_count = cell_constant(lambda cell: 1 + len(cell.stages))
#: Slots that the input feeds, the first ones; that recurrent products feed; that a second stage feeds.
input_count = cell_constant(lambda cell: len(cell.input_gates))
recurrent_count = cell_constant(lambda cell: sum(_products(cell)[1:]))
second_count = cell_constant(lambda cell: sum(_products(cell)[2:]))
#: Rows of the tallest register tile that serves all of the cell's products, and of the tallest flat one.
tall_tile = cell_constant(lambda cell: min(map(tile_rows, _products(cell))))
flat_tile = cell_constant(lambda cell: min(map(flat_tile_rows, _products(cell))))
#: Whether products may have biases.
has_biases = cell_constant(lambda cell: bool(cell.biased))
#: Stages whose weights are in ``weight_hh``, the first ones, which have biases.
biased_stages = cell_constant(lambda cell: sum(stage.weight == "weight_hh" for stage in cell.stages))
#: Whether the first state, and what the second stage feeds, are projected, as a number.
projected_count = cell_constant(lambda cell: int(cell.projected))
#: First slot of a stage, and how many it feeds.
stage_first = stage_constant(lambda stage: stage.first)
stage_width = stage_constant(lambda stage: len(stage.gates))


@intrinsic
def load_extras(typingctx: Any, cell: Any, like: Any, extras: Any, t: Any, row: Any, unit: Any) -> Any:
    """Load one vector of every extra of a time and row; in an extra of rows all lanes are the same.

    `extras` is what `Sequence.extras` leads to; `like` a pointer to such numbers.
    """
    kinds = cell.instance_class.extra_units
    vector, index = Vector(like.dtype), types.int64

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind, values = vector_type(vector), []
        for n, units in enumerate(kinds):
            address, step, row_step, count = (builder.extract_value(args[2], 4 * n + k) for k in range(4))
            place = builder.add(builder.mul(args[3], step), builder.mul(args[4], row_step))
            start = builder.inttoptr(address, kind.element.as_pointer())
            if units:
                pointer = builder.gep(start, [builder.add(place, args[5])])
                values.append(load_lanes(builder, pointer, kind, builder.sub(count, args[5])))
            else:
                values.append(splat(builder, builder.load(builder.gep(start, [place])), kind))
        return context.make_tuple(builder, sig.return_type, values)

    return types.UniTuple(vector, len(kinds))(cell, like, extras, index, index, index), codegen


@intrinsic
def load_means(typingctx: Any, cell: Any, means: Any, offset: Any) -> Any:
    """Load each of a row's means into all lanes of a vector."""
    vector, count = Vector(means.dtype), sum(map(len, cell.instance_class.mean_levels))

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        values = []
        for n in range(count):
            place = builder.add(args[2], ir.Constant(ir.IntType(64), n))
            values.append(splat(builder, builder.load(builder.gep(args[1], [place])), vector_type(vector)))
        return context.make_tuple(builder, sig.return_type, values)

    return types.UniTuple(vector, count)(cell, means, types.int64), codegen


@intrinsic
def load_biased_slots(
    typingctx: Any, cell: Any, slots: Any, offset: Any, bias: Any, unit: Any, stride: Any
) -> Any:
    """Load one vector of every slot and add the slot's bias, if the cell may have biases."""
    count, biased = len(cell.instance_class.slots), cell.instance_class.biased
    vector = Vector(slots.dtype)
    index = types.int64
    signature = types.UniTuple(vector, count)(cell, slots, index, bias, index, index)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        slot_data = args[1]
        bias_data = args[3]
        values = []
        for n in range(count):
            step = builder.mul(args[5], ir.Constant(ir.IntType(64), n))
            value, *shift = (
                load_lanes(builder, builder.gep(data, [builder.add(start, step)]), vector_type(vector), None)
                for data, start in ((slot_data, args[2]), (bias_data, args[4]))[: 1 + biased]
            )
            values.append(builder.fadd(value, *shift) if biased else value)
        return context.make_tuple(builder, sig.return_type, values)

    return signature, codegen


# The functions below exist for their overloads: what a kernel calls, and Numba replaces by class.


def cell_forward(self: Any, slots: Any, previous: Any, peephole: Any) -> Any:
    """The cell's forward equations."""
    raise NotImplementedError


def cell_backward(self: Any, slots: Any, previous: Any, states: Any, peephole: Any, gradient: Any) -> Any:
    """The cell's backward equations."""
    raise NotImplementedError


def cell_operand(self: Any, slots: Any, previous: Any, peephole: Any) -> Any:
    """The operand of the cell's second product."""
    raise NotImplementedError


def cell_operand_backward(self: Any, slots: Any, previous: Any, peephole: Any, gradient: Any) -> Any:
    """The backward equations of that operand."""
    raise NotImplementedError


def cell_prepare(self: Any, previous: Any, peephole: Any) -> Any:
    """The operand of the cell's first product."""
    raise NotImplementedError


def cell_prepare_backward(self: Any, previous: Any, peephole: Any, gradient: Any) -> Any:
    """The backward equations of that operand."""
    raise NotImplementedError


@overload(cell_forward, INLINE, strict=False)
def _(self, slots, previous, peephole):
    return self.instance_class.forward


@overload(cell_backward, INLINE, strict=False)
def _(self, slots, previous, states, peephole, gradient):
    return self.instance_class.backward


@overload(cell_operand, INLINE, strict=False)
def _(self, slots, previous, peephole):
    return self.instance_class.operand


@overload(cell_operand_backward, INLINE, strict=False)
def _(self, slots, previous, peephole, gradient):
    return self.instance_class.operand_backward


@overload(cell_prepare, INLINE, strict=False)
def _(self, previous, peephole):
    return self.instance_class.prepare


@overload(cell_prepare_backward, INLINE, strict=False)
def _(self, previous, peephole, gradient):
    return self.instance_class.prepare_backward


def cell_means(self: Any, level: Any, slots: Any, previous: Any, peephole: Any) -> Any:
    """What a unit contributes to the means of a group, and what later equations reuse."""
    raise NotImplementedError


def cell_dmeans(
    self: Any, level: Any, slots: Any, previous: Any, states: Any, peephole: Any, gradient: Any
) -> Any:
    """What a unit contributes to the gradients of the means of a group, and what later equations reuse."""
    raise NotImplementedError


@overload(cell_means, INLINE, prefer_literal=True, strict=False)
def _(self, level, slots, previous, peephole):
    equations = njit(**INLINE)(getattr(self.instance_class, f"means_{level.literal_value}"))
    return lambda self, level, slots, previous, peephole: equations(self, slots, previous, peephole)


@overload(cell_dmeans, INLINE, prefer_literal=True, strict=False)
def _(self, level, slots, previous, states, peephole, gradient):
    equations = njit(**INLINE)(getattr(self.instance_class, f"dmeans_{level.literal_value}"))
    return lambda self, level, slots, previous, states, peephole, gradient: equations(
        self, slots, previous, states, peephole, gradient
    )


def _level_range(cell: Any, level: int) -> tuple[int, int]:
    first = sum(map(len, cell.mean_levels[:level]))
    return first, first + len(cell.mean_levels[level])


def level_range(cell: Any, level: Any) -> Any:
    """First and one past the last of the means of a group."""
    return _level_range(type(cell), level)


@overload(level_range, INLINE, prefer_literal=True)
def _(cell, level):
    first, last = _level_range(cell.instance_class, level.literal_value)
    return lambda cell, level: (first, last)


@intrinsic(prefer_literal=True)
def zero_means(typingctx: Any, cell: Any, level: Any, like: Any) -> Any:
    """A vector of zeros for each of the means of a group; `like`: a pointer to numbers of theirs."""
    count, vector = len(cell.instance_class.mean_levels[level.literal_value]), Vector(like.dtype)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return context.make_tuple(builder, sig.return_type, [ir.Constant(vector_type(vector), None)] * count)

    return types.UniTuple(vector, count)(cell, level, like), codegen


def _group_offset(counts_of: Callable[[Any], tuple[int, ...]]) -> Any:
    """Make a function of a cell and the number of a group: how many such numbers the groups before have."""

    def offset(cell: Any, level: Any) -> Any:
        return sum(counts_of(type(cell))[:level])

    @overload(offset, INLINE, prefer_literal=True)
    def _(cell, level):
        first = sum(counts_of(cell.instance_class)[: level.literal_value])
        return lambda cell, level: first

    return offset


first_reused = _group_offset(lambda cell: cell.reused)
first_dreused = _group_offset(lambda cell: cell.dreused)


def gate_product(
    cell: Any, kind: Any, tile: Any, rows: Any, a: Any, a_at: Any, a_row: Any, b: Any, panel: Any, depth: Any,
    lanes: Any, slots: Any, slot_at: Any, slot_row: Any, padded: Any, add: Any,
) -> Any:  # fmt: skip
    """Product of a few rows with one packed panel, into the slots that product `kind` feeds.

    `kind` is -1 for the input weights, else the number of the stage.
    """
    raise NotImplementedError


@overload(gate_product, INLINE, prefer_literal=True)
def _(cell, kind, tile, rows, a, a_at, a_row, b, panel, depth, lanes, slots, slot_at, slot_row, padded, add):
    number = kind.literal_value
    if number < 0:
        first, width = 0, len(cell.instance_class.input_gates)
    else:
        stage = cell.instance_class.stages[number]
        first, width = stage.first, len(stage.gates)

    def run(
        cell, kind, tile, rows, a, a_at, a_row, b, panel, depth, lanes, slots, slot_at, slot_row, padded, add
    ):
        tile_product(
            tile, rows, a, a_at, a_row, 1, b, panel * depth * width * lanes, depth,
            slots, slot_at + first * padded, slot_row, padded, add,
        )  # fmt: skip

    return run


def clear_hidden_slots(
    cell: Any, tile: Any, rows: Any, slots: Any, slot_at: Any, slot_row: Any, padded: Any
) -> Any:
    """Zero the slots that the input does not feed, so that the recurrent product can add to all."""
    raise NotImplementedError


@overload(clear_hidden_slots, INLINE)
def _(cell, tile, rows, slots, slot_at, slot_row, padded):
    first = len(cell.instance_class.input_gates)
    width = len(cell.instance_class.slots) - first
    if width == 0:
        return lambda cell, tile, rows, slots, slot_at, slot_row, padded: None

    def clear(cell, tile, rows, slots, slot_at, slot_row, padded):
        # A product of depth zero: what remains is the store.
        tile_product(
            tile, rows, slots, 0, 0, 0, slots, 0, 0, slots, slot_at + first * padded, slot_row, padded, False
        )

    return clear


def gate_of(cell: Any, product: Any, slot: Any) -> Any:
    """The gate whose weights feed a slot in a product, or -1; product 0 is the input, 1 and 2 the stages."""
    raise NotImplementedError


def gate_table(cell: Any) -> tuple[int, ...]:
    """What `gate_of` returns, for every product and slot: product 0 first."""
    count = len(cell.slots)
    table = [-1] * count * (1 + len(cell.stages))
    table[: len(cell.input_gates)] = cell.input_gates
    for number, stage in enumerate(cell.stages, 1):
        at = number * count + stage.first
        table[at : at + len(stage.gates)] = stage.gates
    return tuple(table)


@overload(gate_of, INLINE)
def _(cell, product, slot):
    table, count = gate_table(cell.instance_class), len(cell.instance_class.slots)
    return lambda cell, product, slot: table[product * count + slot]


@intrinsic
def prefetch_slots(typingctx: Any, cell: Any, slots: Any, offset: Any, stride: Any) -> Any:
    """Ask for one vector of every slot before it is needed; the address need not be valid."""
    count = len(cell.instance_class.slots)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        for n in range(count):
            place = builder.add(args[2], builder.mul(args[3], ir.Constant(ir.IntType(64), n)))
            prefetch(builder, builder.gep(args[1], [place]), write=False)
        return context.get_dummy_value()

    return types.void(cell, slots, types.int64, types.int64), codegen


@intrinsic
def zero_slots(typingctx: Any, cell: Any) -> Any:
    """A zero for every slot."""
    count = len(cell.instance_class.slots)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        zero = context.get_constant(types.int64, 0)
        return context.make_tuple(builder, sig.return_type, [zero] * count)

    return types.UniTuple(types.int64, count)(cell), codegen
