"""One layer and direction over a whole sequence on the device: prepares and launches the kernels."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from lstm_numba.cells.protocol import Stage
from lstm_numba.engines.cuda.branches import catch_up
from lstm_numba.engines.cuda.device_array import columns, flat, transposed
from lstm_numba.engines.cuda.driver import cuda, current_device
from lstm_numba.engines.cuda.elementwise import transpose
from lstm_numba.engines.cuda.gemm import matmul
from lstm_numba.engines.cuda.grid_stride import stride_range
from lstm_numba.engines.cuda.launch import launch, launch_over_box, limits
from lstm_numba.engines.cuda.layout import (
    COUNTER_STRIDE,
    Arrays,
    Gradients,
    Sizes,
)
from lstm_numba.engines.cuda.memory import DeviceArray, copied, counters, empty, synchronize, upload
from lstm_numba.engines.cuda.options import KERNEL
from lstm_numba.engines.cuda.plans import plan
from lstm_numba.engines.cuda.reductions import bias_gradients, column_sums
from lstm_numba.engines.cuda.specialize import gate_tables


class Saved(NamedTuple):
    """What `forward_sequence` saves for `backward_sequence`."""

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
    output: int


def _run(backward: bool, cell: Any, sizes: Sizes, *groups: Any) -> None:
    """Launch one of a sequence's kernels."""
    chosen = plan(backward, cell, sizes, groups)
    args = chosen.arguments(cell, sizes, *groups)
    launch(
        chosen.kernel, chosen.grid, chosen.block, *args, shared=chosen.shared, cooperative=chosen.cooperative
    )


def _segments(first: int, gates: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
    """Split slots from `first` on into runs of consecutive gates: (slot, gate, count)."""
    start = 0
    for n in range(1, len(gates) + 1):
        if n == len(gates) or gates[n] != gates[n - 1] + 1:
            yield first + start, gates[start], n - start
            start = n


def _input_segments(cell: Any) -> Iterator[tuple[int, int, int]]:
    return _segments(0, cell.input_gates)


def _stage_segments(stage: Stage) -> Iterator[tuple[int, int, int]]:
    return _segments(stage.first, stage.gates)


# -- outputs -------------------------------------------------------------------------------------------


@cuda.jit(**KERNEL)
def _write_output(h, h_offset, h_row, lengths, out, column, steps, hidden, width, zero):
    """Copy h of all steps, rows of `h_row` numbers, to its columns of the output; zero after a sequence's
    end.
    """
    (x, y, z), (x_step, y_step, z_step) = cuda.grid(3), cuda.gridsize(3)
    for t in stride_range(z, steps, z_step):
        for n in stride_range(y, lengths.size, y_step):
            row = t * lengths.size + n
            for unit in stride_range(x, hidden, x_step):
                value = h[h_offset + row * h_row + unit] if t < lengths[n] else zero
                out[row * width + column + unit] = value


# -- a sequence ----------------------------------------------------------------------------------------


def forward_sequence(
    cell: Any,
    params: dict[str, DeviceArray],
    x: DeviceArray,
    states: Sequence[DeviceArray] | None,
    finals: Sequence[DeviceArray],
    index: int,
    lengths: DeviceArray,
    reverse: bool,
    keep: bool,
    borrow: bool = False,
    extras: Sequence[DeviceArray] = (),
) -> tuple[DeviceArray, int, Saved | None]:
    """Run one layer and direction.

    Parameters
    ----------
    cell : Cell
    params : dict
        ``weight_ih`` (G*H, I), ``weight_hh`` (G*H, units of h), optionally ``bias_ih``, ``bias_hh`` (G*H,),
        ``weight_ph`` (P*H,) and the second stage's own weights.
    x : device array, shape (T, B, I)
    states, finals : list of device array, shape (layers * directions, B, H); h may have fewer units
        Initial states, None for zeros; and final ones, which are written.
    index : int
        Index of this layer and direction in the first axis.
    lengths : device array of int64, shape (B,)
    reverse : bool
        From the last step to the first.
    keep : bool
        Save what the backward pass needs.
    borrow : bool
        The parameters stay unchanged until the backward pass, which therefore needs no copies of them.
    extras : list of device array, shape (T or 1, B or 1, H or 1)
        One for each of the cell's extras; they stay unchanged until the backward pass.

    Returns
    -------
    h : device array, flat
        All values of h; after a sequence's end it repeats the last state.
    offset : int
        Of the outputs (T, B, units of h) in it.
    saved : Saved or None
    """
    if keep and not borrow:
        params = {name: copied(p) if name.startswith("weight") else p for name, p in params.items()}
    units = finals[0].shape[2]
    shape = _Shape(*x.shape, hidden_units(cell, params, units), units)
    state, output = shape.batch * shape.hidden, shape.batch * shape.output
    depth = shape.steps + 1 if keep else 1
    sizes = Sizes(
        steps=shape.steps,
        batch=shape.batch,
        hidden=shape.hidden,
        output=shape.output,
        reverse=int(reverse),
        cell_step=state if keep else 0,
        cell_stride=depth * state,
        unit_tiles=-(-shape.hidden // limits().lanes),
        row_tiles=0,  # depends on the tile
        part_depth=-(-shape.hidden // limits().parts),
        output_part=-(-shape.output // limits().parts),
        state_offset=index * state,
        output_offset=index * output,
    )
    arrays = _forward_arrays(cell, params, shape, depth, x.dtype, states, finals, lengths, extras)
    slots, inputs = _matrix(arrays.slots, cell, shape.hidden), x.reshape(-1, shape.inputs)
    for slot, gate, count in _input_segments(cell):
        weights = params["weight_ih"][gate * shape.hidden : (gate + count) * shape.hidden]
        target = columns(slots, slot * shape.hidden, (slot + count) * shape.hidden)
        matmul(inputs, transposed(weights), out=target)
    _run(False, cell, sizes, arrays)
    saved = Saved(cell, params, x, arrays, sizes) if keep else None
    return arrays.h, 0 if reverse else output, saved


def hidden_units(cell: Any, params: dict[str, DeviceArray], output: int) -> int:
    """Hidden units of a layer whose h has so many."""
    rows: int = params["weight_hh"].shape[0]
    return rows // len(cell.recurrent_gates) if cell.projected else output


def _recurrent_weights(cell: Any) -> list[str]:
    """Weights of the recurrent products by name: ``weight_hh``, and the second one's own."""
    return list(dict.fromkeys(stage.weight for stage in cell.stages))


def _forward_arrays(
    cell: Any,
    params: dict[str, DeviceArray],
    shape: _Shape,
    depth: int,
    dtype: np.dtype[Any],
    states: Sequence[DeviceArray] | None,
    finals: Sequence[DeviceArray],
    lengths: DeviceArray,
    extras: Sequence[DeviceArray],
) -> Arrays:
    """The arrays of a forward pass that keeps the cell states of `depth` steps."""
    rows, state, none = shape.steps * shape.batch, shape.batch * shape.hidden, empty((0,), dtype)
    output = shape.batch * shape.output
    return Arrays(
        slots=empty((rows * len(cell.slots) * shape.hidden,), dtype),
        h=empty(((shape.steps + 1) * output,), dtype),
        cell_states=empty(((len(cell.states) - 1) * depth * state,), dtype),
        operand=empty((rows * shape.hidden if len(cell.stages) > 1 else 0,), dtype),
        weights=tuple(flat(transpose(params[name])) for name in _recurrent_weights(cell)),
        peephole=params.get("weight_ph", none),
        lengths=lengths,
        bias_ih=params.get("bias_ih", none),
        bias_hh=params.get("bias_hh", none),
        initial=_stacks(states, cell, none),
        final=_stacks(finals, cell, none),
        counters=counters(shape.batch * COUNTER_STRIDE),
        prepared=(empty((shape.steps * output,), dtype),) if cell.prepared else (),
        extras=tuple(map(flat, extras)),
        extra_strides=tuple(map(_broadcast_strides, extras)),
        means=_mean_arrays(cell, shape, dtype),
    )


def _mean_arrays(cell: Any, shape: _Shape, dtype: np.dtype[Any]) -> tuple[DeviceArray, ...]:
    """See `Arrays.means`; for a cell without means none."""
    if not cell.mean_levels:
        return ()
    rows = shape.batch * sum(map(len, cell.mean_levels))
    unit_tiles = -(-shape.hidden // limits().lanes)
    reused = sum(cell.reused) * shape.batch * shape.hidden
    return tuple(empty((size,), dtype) for size in (shape.steps * rows, rows * unit_tiles, reused))


def _broadcast_strides(array: DeviceArray) -> tuple[int, int, int]:
    """Strides of the first two axes, 0 for an axis that has the same value everywhere; and units."""
    steps, rows, units = array.shape
    return 0 if steps == 1 else rows * units, 0 if rows == 1 else units, units


def _stacks(states: Sequence[DeviceArray] | None, cell: Any, none: DeviceArray) -> tuple[DeviceArray, ...]:
    """Flat stacked arrays, one for each of the cell's states; empty ones for zeros."""
    return (none,) * len(cell.states) if states is None else tuple(map(flat, states))


def _matrix(slots: DeviceArray, cell: Any, hidden: int) -> DeviceArray:
    """The slots as a matrix, a row for each step and sequence."""
    return slots.reshape(-1, len(cell.slots) * hidden)


def write_output(
    h: DeviceArray,
    offset: int,
    lengths: DeviceArray,
    y: DeviceArray,
    direction: int,
    hidden: int,
    row: int = 0,
) -> None:
    """Copy the outputs of one direction to their columns of y (T, B, D*H); zero after a sequence's end.

    They are from `offset` on, one every `row` numbers; by default without a gap.
    """
    steps, batch, width = y.shape
    column = direction * hidden
    operands = (h, offset, row or hidden, lengths, flat(y), column, steps, hidden, width, y.dtype.type(0))
    launch_over_box(_write_output, (steps, batch, hidden), *operands)


def backward_sequence(
    saved: Saved,
    dy: DeviceArray | None,
    direction: int,
    dstates: Sequence[DeviceArray] | None,
    initial: Sequence[DeviceArray],
    index: int,
    dx: DeviceArray | None,
    accumulate: bool,
) -> dict[str, DeviceArray]:
    """Back-propagate through one layer and direction; overwrites what was saved.

    Parameters
    ----------
    saved : Saved
    dy : device array, shape (T, B, D * units of h), or None
        Gradient of the output, None for zeros. It is ignored after a sequence's end.
    direction : int
        Its columns of `dy`: 0 forward, 1 reverse.
    dstates, initial : list of device array, shape (layers * directions, B, H)
        Gradients of the final states, None for zeros; and of the initial ones, which are written.
    index : int
        Index of this layer and direction in the first axis.
    dx : device array, shape (T, B, I), or None
        Gets the gradient of the input, where it is wanted.
    accumulate : bool
        Add to `dx`.

    Returns
    -------
    dict
        Gradients of the parameters, keys as in ``params``.
    """
    cell, params, x, arrays, sizes = saved
    dtype, state = x.dtype, sizes.batch * sizes.hidden
    none = empty((0,), dtype)
    gradients = Gradients(
        dy=none if dy is None else flat(dy),
        dstates=empty((len(cell.states) * state,), dtype),
        dpeephole=empty((len(cell.peepholes) * state,), dtype),
        weights=tuple(flat(params[name]) for name in _recurrent_weights(cell)),
        final=_stacks(dstates, cell, none),
        initial=_stacks(initial, cell, none),
        dmeans=_mean_gradients(cell, sizes, dtype),
    )
    row = 0 if dy is None else dy.shape[2]
    sizes = sizes._replace(
        dy_row=row,
        dy_offset=direction * sizes.output,
        state_offset=index * state,
        output_offset=index * sizes.batch * sizes.output,
    )
    _run(True, cell, sizes, arrays, gradients)
    slots, hidden = _matrix(arrays.slots, cell, sizes.hidden), sizes.hidden
    grads = _parameter_gradients(saved, slots, gradients.dpeephole)
    if dx is not None:
        if accumulate:
            catch_up()  # with the branch that wrote it
        target = dx.reshape(-1, x.shape[2])
        for slot, gate, count in _input_segments(cell):
            weights = params["weight_ih"][gate * hidden : (gate + count) * hidden]
            part = columns(slots, slot * hidden, (slot + count) * hidden)
            matmul(part, weights, out=target, accumulate=accumulate)
            accumulate = True
    return grads


def _mean_gradients(cell: Any, sizes: Sizes, dtype: np.dtype[Any]) -> tuple[DeviceArray, ...]:
    """See `Gradients.dmeans`."""
    count = sum(map(len, cell.mean_levels))
    if not count:
        return ()
    reused = sum(cell.dreused) * sizes.batch * sizes.hidden
    return empty((sizes.batch * count,), dtype), empty((reused,), dtype)


def _parameter_gradients(saved: Saved, slots: DeviceArray, dpeephole: DeviceArray) -> dict[str, DeviceArray]:
    """Gradients of the parameters, from the slots' gradients of all steps."""
    cell, params, x, arrays, sizes = saved
    hidden, output, rows = sizes.hidden, sizes.output, sizes.steps * sizes.batch
    grads = {name: empty(array.shape, array.dtype) for name, array in params.items()}
    start = sizes.batch * output if sizes.reverse else 0
    before = arrays.prepared[0] if cell.prepared else arrays.h[start : start + rows * output]
    jobs = [
        (x.reshape(rows, -1), "weight_ih", hidden, _input_segments(cell)),
        (before.reshape(rows, output), "weight_hh", hidden, _stage_segments(cell.stages[0])),
    ]
    for stage in cell.stages[1:]:
        units = output if cell.projected else hidden
        jobs.append((arrays.operand.reshape(rows, hidden), stage.weight, units, _stage_segments(stage)))
    for operand, name, units, segments in jobs:
        for slot, gate, count in segments:  # of one gate, where it has fewer units than a slot
            part = columns(slots, slot * hidden, slot * hidden + count * units)
            matmul(transposed(part), operand, out=grads[name][gate * units : (gate + count) * units])
    if "bias_ih" in params:
        bias_gradients(slots, *gate_tables(cell), grads["bias_ih"], grads["bias_hh"])
    if cell.peepholes:
        column_sums(dpeephole.reshape(sizes.batch, -1), grads["weight_ph"])
    return grads


def full_lengths(steps: int, batch: int) -> DeviceArray:
    """Lengths of sequences that all have `steps` steps."""
    return _full_lengths(steps, batch, current_device())


@functools.cache  # kept: a graph may read it later
def _full_lengths(steps: int, batch: int, device: int) -> DeviceArray:
    lengths = upload(np.full(batch, steps, np.int64))
    synchronize()  # the next call may be on another stream
    return lengths
