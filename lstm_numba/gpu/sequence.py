"""One layer and direction over a whole sequence on the device: plans, prepares, launches the kernels."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from lstm_numba.cells.base import Stage
from lstm_numba.gpu.backward import backward_kernel
from lstm_numba.gpu.dispatch import FourRows, OneRow
from lstm_numba.gpu.driver import cuda, current_device
from lstm_numba.gpu.elementwise import transpose
from lstm_numba.gpu.forward import forward_kernel
from lstm_numba.gpu.launch import cooperative_blocks, launch, launch_over, limits
from lstm_numba.gpu.layout import Alone, Arrays, Gradients, Sizes, Together
from lstm_numba.gpu.memory import (
    DeviceArray,
    columns,
    copied,
    empty,
    fill,
    flat,
    synchronize,
    transposed,
    upload,
)
from lstm_numba.gpu.options import DEVICE, KERNEL
from lstm_numba.gpu.products import matmul
from lstm_numba.gpu.reductions import column_sums

#: Up to so many bytes of recurrent weights a block reads all of them in about the time in which the blocks of
#: a grid come together.
ALONE_BYTES = 1 << 18


class Trace(NamedTuple):
    """What `forward_sequence` keeps for `backward_sequence`."""

    cell: Any
    params: dict[str, DeviceArray]
    x: DeviceArray
    arrays: Arrays
    sizes: Sizes


class _Shape(NamedTuple):
    """Sizes of a layer's sequence."""

    steps: int
    batch: int
    inputs: int
    hidden: int


# -- who does what -----------------------------------------------------------------------------------


def _tile(batch: int) -> Any:
    return OneRow() if batch < FourRows.rows else FourRows()


def _together(cell: Any, hidden: int, dtype: Any) -> bool:
    """Whether the blocks share the units, and so have to meet at every step."""
    gates = sum(len(stage.gates) for stage in cell.stages)
    return gates * hidden * hidden * np.dtype(dtype).itemsize > ALONE_BYTES


def _run(kernel: Any, cell: Any, numbers: int, sizes: Sizes, *groups: Any) -> None:
    """Launch a sequence's kernel; `numbers` are the sums that a thread has for a row."""
    lanes, parts, tile = limits().lanes, limits().parts, _tile(sizes.batch)
    block = (lanes, parts)
    dtype = groups[0].h.dtype
    shared = parts * lanes * tile.rows * numbers * dtype.itemsize
    columns, rows = -(-sizes.hidden // lanes), -(-sizes.batch // tile.rows)
    if not _together(cell, sizes.hidden, dtype):
        launch(kernel, (1, rows), block, cell, Alone(), tile, sizes, *groups, shared=shared)
        return
    args = (cell, Together(), tile, sizes, *groups)
    most = max(1, cooperative_blocks(kernel, args, block, shared))
    across = min(columns, most)
    launch(kernel, (across, min(rows, max(1, most // across))), block, *args, shared=shared)


def _segments(first: int, gates: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
    """Cut slots from `first` on into runs whose gates are neighbours too: (slot, gate, how many)."""
    start = 0
    for n in range(1, len(gates) + 1):
        if n == len(gates) or gates[n] != gates[n - 1] + 1:
            yield first + start, gates[start], n - start
            start = n


def _input_segments(cell: Any) -> Iterator[tuple[int, int, int]]:
    return _segments(0, cell.input_gates)


def _stage_segments(stage: Stage) -> Iterator[tuple[int, int, int]]:
    return _segments(stage.first, stage.gates)


def _gate_tables(cell: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """For each slot the gate whose input bias it gets, and whose recurrent bias; -1 for none."""
    count = len(cell.slots)
    inputs = cell.input_gates + (-1,) * (count - len(cell.input_gates))
    recurrent = [-1] * count
    for stage in cell.stages:
        recurrent[stage.first : stage.first + len(stage.gates)] = stage.gates
    return inputs, tuple(recurrent)


# -- small kernels around the sequence's --------------------------------------------------------------


@cuda.jit(**DEVICE)
def _gate_bias(gates, slot, bias, unit, hidden, zero):
    gate = gates[slot]
    return bias[gate * hidden + unit] if gate >= 0 and bias.size > 0 else zero


@cuda.jit(**KERNEL)
def _fill_biases(slots, input_gates, recurrent_gates, bias_ih, bias_hh, hidden, zero):
    """Put every slot's bias where its pre-activation comes to lie."""
    width = len(input_gates) * hidden
    for i in range(cuda.grid(1), slots.size, cuda.gridsize(1)):
        column = i % width
        slot, unit = column // hidden, column % hidden
        slots[i] = _gate_bias(input_gates, slot, bias_ih, unit, hidden, zero) + _gate_bias(
            recurrent_gates, slot, bias_hh, unit, hidden, zero
        )


@cuda.jit(**KERNEL)
def _spread_sums(sums, input_gates, recurrent_gates, bias_ih, bias_hh, hidden):
    """The biases' gradients from the slots' sums."""
    for i in range(cuda.grid(1), sums.size, cuda.gridsize(1)):
        slot, unit = i // hidden, i % hidden
        if input_gates[slot] >= 0:
            bias_ih[input_gates[slot] * hidden + unit] = sums[i]
        if recurrent_gates[slot] >= 0:
            bias_hh[recurrent_gates[slot] * hidden + unit] = sums[i]


@cuda.jit(**KERNEL)
def _put_states(h, h_at, memory, memory_at, memory_state, sources, source_at, size):
    """Copy initial states, a tuple of stacked arrays, into the history."""
    for i in range(cuda.grid(1), size, cuda.gridsize(1)):
        h[h_at + i] = sources[0][source_at + i]
        for n in range(1, len(sources)):
            memory[(n - 1) * memory_state + memory_at + i] = sources[n][source_at + i]


@cuda.jit(**KERNEL)
def _take_states(h, h_at, memory, memory_at, memory_state, targets, target_at, size):
    """Copy final states out of the history."""
    for i in range(cuda.grid(1), size, cuda.gridsize(1)):
        targets[0][target_at + i] = h[h_at + i]
        for n in range(1, len(targets)):
            targets[n][target_at + i] = memory[(n - 1) * memory_state + memory_at + i]


@cuda.jit(**KERNEL)
def _put_gradients(dstates, sources, source_at, size):
    for i in range(cuda.grid(1), size, cuda.gridsize(1)):
        for n in range(len(sources)):
            dstates[n * size + i] = sources[n][source_at + i]


@cuda.jit(**KERNEL)
def _take_gradients(dstates, targets, target_at, size):
    for i in range(cuda.grid(1), size, cuda.gridsize(1)):
        for n in range(len(targets)):
            targets[n][target_at + i] = dstates[n * size + i]


@cuda.jit(**KERNEL)
def _write_output(h, h_at, lengths, y, column, batch, hidden, width, zero):
    """Copy h of all steps to its columns of the output, zero past a sequence's end."""
    for i in range(cuda.grid(1), y.size // width * hidden, cuda.gridsize(1)):
        row, unit = i // hidden, i % hidden
        inside = row // batch < lengths[row % batch]
        y[row * width + column + unit] = h[h_at + i] if inside else zero


# -- a sequence ----------------------------------------------------------------------------------------


def forward_sequence(
    cell: Any,
    params: dict[str, DeviceArray],
    x: DeviceArray,
    states: list[DeviceArray],
    finals: list[DeviceArray],
    place: int,
    lengths: DeviceArray,
    reverse: bool,
    keep: bool,
) -> tuple[DeviceArray, int, Trace | None]:
    """Run one layer and direction.

    Parameters
    ----------
    cell : Cell
    params : dict
        ``weight_ih`` (G*H, I), ``weight_hh`` (G*H, H), optionally ``bias_ih``, ``bias_hh`` (G*H,) and
        ``weight_ph`` (P*H,).
    x : device array, shape (T, B, I)
    states, finals : list of device array, shape (layers * directions, B, H)
        Initial states, and where the final ones go.
    place : int
        Which of the first axis.
    lengths : device array of int64, shape (B,)
    reverse : bool
        From the last step to the first.
    keep : bool
        Keep what the backward pass needs.

    Returns
    -------
    h : device array, flat
        All values of h; beyond a sequence's end it repeats the last state.
    at : int
        Where in it the outputs (T, B, H) begin.
    trace : Trace or None
    """
    if keep:  # the backward pass needs the weights of this one, which may change until then
        params = {name: copied(p) if name.startswith("weight") else p for name, p in params.items()}
    shape = _Shape(*x.shape, hidden=states[0].shape[2])
    dtype, state = x.dtype, shape.batch * shape.hidden
    rows, width = shape.steps * shape.batch, len(cell.slots) * shape.hidden
    depth = shape.steps + 1 if keep else 1
    sizes = Sizes(
        steps=shape.steps,
        batch=shape.batch,
        hidden=shape.hidden,
        reverse=int(reverse),
        memory_step=state if keep else 0,
        memory_state=depth * state,
    )
    arrays = Arrays(
        slots=empty((rows * width,), dtype),
        h=empty(((shape.steps + 1) * state,), dtype),
        memory=empty(((len(cell.states) - 1) * depth * state,), dtype),
        message=empty((rows * shape.hidden if len(cell.stages) > 1 else 0,), dtype),
        weights=flat(transpose(params["weight_hh"])),
        peephole=params.get("weight_ph", empty((0,), dtype)),
        lengths=lengths,
    )
    _start(cell, params, x, arrays, shape)
    first, last = (shape.steps, 0) if reverse else (0, shape.steps)

    def history(entry: int) -> tuple[Any, ...]:
        return arrays.h, entry * state, arrays.memory, entry * sizes.memory_step, sizes.memory_state

    launch_over(_put_states, state, *history(first), _stacks(states), place * state, state)
    _run(forward_kernel, cell, max(len(stage.gates) for stage in cell.stages), sizes, arrays)
    launch_over(_take_states, state, *history(last), _stacks(finals), place * state, state)
    trace = Trace(cell, params, x, arrays, sizes) if keep else None
    return arrays.h, 0 if reverse else state, trace


def _stacks(arrays: list[DeviceArray]) -> tuple[DeviceArray, ...]:
    return tuple(flat(array) for array in arrays)


def _start(cell: Any, params: dict[str, DeviceArray], x: DeviceArray, arrays: Arrays, shape: _Shape) -> None:
    """Put biases and products with the input weights into the slots."""
    hidden = shape.hidden
    fill_biases(cell, params, arrays.slots, hidden)
    slots, inputs = _matrix(arrays.slots, cell, hidden), x.reshape(-1, shape.inputs)
    for slot, gate, count in _input_segments(cell):
        weights = params["weight_ih"][gate * hidden : (gate + count) * hidden]
        target = columns(slots, slot * hidden, (slot + count) * hidden)
        matmul(inputs, transposed(weights), out=target, accumulate=True)


def fill_biases(cell: Any, params: dict[str, DeviceArray], slots: DeviceArray, hidden: int) -> None:
    """Fill the slots of any number of rows with their biases, zero where there are none."""
    none = empty((0,), slots.dtype)
    biases = params.get("bias_ih", none), params.get("bias_hh", none)
    zero = slots.dtype.type(0)
    launch_over(_fill_biases, slots.size, slots, *_gate_tables(cell), *biases, hidden, zero)


def _matrix(slots: DeviceArray, cell: Any, hidden: int) -> DeviceArray:
    """The slots as rows, one a step and sequence."""
    return slots.reshape(-1, len(cell.slots) * hidden)


def write_output(
    h: DeviceArray, at: int, lengths: DeviceArray, y: DeviceArray, direction: int, hidden: int
) -> None:
    """Copy the outputs of one direction to their columns of y (T, B, D*H), zero past a sequence's end."""
    _, batch, width = y.shape
    zero = y.dtype.type(0)
    launch_over(
        _write_output, y.size // width * hidden, h, at, lengths, flat(y), direction * hidden, batch, hidden,
        width, zero,
    )  # fmt: skip


def backward_sequence(
    trace: Trace,
    dy: DeviceArray,
    direction: int,
    dstates: list[DeviceArray],
    initial: list[DeviceArray],
    place: int,
    dx: DeviceArray | None,
    accumulate: bool,
) -> dict[str, DeviceArray]:
    """Back-propagate through one layer and direction; uses the trace up.

    Parameters
    ----------
    trace : Trace
    dy : device array, shape (T, B, D*H)
        Gradient of the output. What lies beyond a sequence's end is ignored.
    direction : int
        Which columns of it are this direction's.
    dstates, initial : list of device array, shape (layers * directions, B, H)
        Gradients of the final states, and where those of the initial ones go.
    place : int
        Which of the first axis.
    dx : device array, shape (T, B, I), or None
        Gets the gradient of the input, where that is wanted.
    accumulate : bool
        Add to it.

    Returns
    -------
    dict
        Gradients of the parameters, keys as in ``params``.
    """
    cell, params, x, arrays, sizes = trace
    dtype, state = x.dtype, sizes.batch * sizes.hidden
    gradients = Gradients(
        dy=flat(dy),
        dstates=empty((len(cell.states) * state,), dtype),
        dpeephole=empty((len(cell.peepholes) * state,), dtype),
        weights=flat(params["weight_hh"]),
    )
    if cell.peepholes:
        fill(gradients.dpeephole, 0)
    launch_over(_put_gradients, state, gradients.dstates, _stacks(dstates), place * state, state)
    sizes = sizes._replace(dy_row=dy.shape[2], dy_at=direction * sizes.hidden)
    _run(backward_kernel, cell, 1, sizes, arrays, gradients)
    launch_over(_take_gradients, state, gradients.dstates, _stacks(initial), place * state, state)
    slots, hidden = _matrix(arrays.slots, cell, sizes.hidden), sizes.hidden
    if dx is not None:
        target = dx.reshape(-1, x.shape[2])
        for slot, gate, count in _input_segments(cell):
            weights = params["weight_ih"][gate * hidden : (gate + count) * hidden]
            part = columns(slots, slot * hidden, (slot + count) * hidden)
            matmul(part, weights, out=target, accumulate=accumulate)
            accumulate = True
    return _parameter_gradients(trace, slots, gradients.dpeephole)


def _parameter_gradients(trace: Trace, slots: DeviceArray, dpeephole: DeviceArray) -> dict[str, DeviceArray]:
    """Gradients of the parameters from the slots' of all steps."""
    cell, params, x, arrays, sizes = trace
    hidden, state, rows = sizes.hidden, sizes.batch * sizes.hidden, sizes.steps * sizes.batch
    grads = {name: empty(array.shape, array.dtype) for name, array in params.items()}
    start = state if sizes.reverse else 0
    before = arrays.h[start : start + rows * hidden].reshape(rows, hidden)
    operands = [before] if len(cell.stages) == 1 else [before, arrays.message.reshape(rows, hidden)]
    jobs = [(x.reshape(rows, -1), "weight_ih", _input_segments(cell))]
    jobs += [(o, "weight_hh", _stage_segments(s)) for o, s in zip(operands, cell.stages, strict=True)]
    for operand, name, segments in jobs:
        for slot, gate, count in segments:
            part = columns(slots, slot * hidden, (slot + count) * hidden)
            matmul(transposed(part), operand, out=grads[name][gate * hidden : (gate + count) * hidden])
    if "bias_ih" in params:
        sums = column_sums(slots)
        targets = (grads["bias_ih"], grads["bias_hh"])
        launch_over(_spread_sums, sums.size, sums, *_gate_tables(cell), *targets, hidden)
    if cell.peepholes:
        column_sums(dpeephole.reshape(sizes.batch, -1), grads["weight_ph"])
    return grads


def full_lengths(steps: int, batch: int) -> DeviceArray:
    """Lengths of sequences that all have every step."""
    return _full_lengths(steps, batch, current_device())


@functools.lru_cache(maxsize=64)
def _full_lengths(steps: int, batch: int, device: int) -> DeviceArray:
    lengths = upload(np.full(batch, steps, np.int64))
    synchronize()  # the next call may be on another stream
    return lengths
