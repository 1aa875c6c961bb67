"""One layer and direction over a whole sequence on the device: prepares and launches the kernels."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from lstm_numba.cells.protocol import Stage
from lstm_numba.engines.cuda import many_models, plans
from lstm_numba.engines.cuda.branches import catch_up
from lstm_numba.engines.cuda.device_array import columns, flat, rows, span, transposed
from lstm_numba.engines.cuda.driver import current_device
from lstm_numba.engines.cuda.elementwise import transpose
from lstm_numba.engines.cuda.gemm import matmul
from lstm_numba.engines.cuda.launch import limits
from lstm_numba.engines.cuda.layout import (
    COUNTER_STRIDE,
    Arrays,
    Gradients,
    Sizes,
)
from lstm_numba.engines.cuda.memory import (
    DeviceArray,
    contiguous,
    copied,
    counters,
    empty,
    synchronize,
    upload,
)
from lstm_numba.engines.cuda.model_arrays import Models, model_strides
from lstm_numba.engines.cuda.reductions import bias_gradients, column_sums
from lstm_numba.engines.cuda.specialize import gate_tables


class Saved(NamedTuple):
    """What `forward_sequence` saves for `backward_sequence`."""

    cell: Any
    params: dict[str, DeviceArray]
    x: DeviceArray
    arrays: Arrays
    sizes: Sizes
    models: Models | None = None


class _Shape(NamedTuple):
    """Sizes of a layer's sequence, of each of `lead` models."""

    steps: int
    batch: int
    inputs: int
    hidden: int
    output: int
    lead: tuple[int, ...]

    @property
    def models(self) -> int:
        """How many there are."""
        return math.prod(self.lead)


def _run(backward: bool, cell: Any, sizes: Sizes, models: Models | None, *groups: Any) -> None:
    """Launch one of a sequence's kernels, or those of many models."""
    if models is None:
        plans.run(backward, cell, sizes, *groups)
    else:
        many_models.run_models(backward, cell, sizes, models, *groups)


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
    models: int = 0,
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
    models : int
        0 for one model; else see `Engine.forward`.

    Returns
    -------
    h : device array, flat
        All values of h; after a sequence's end it repeats the last state.
    offset : int
        Of the outputs (T, B, units of h) in it, of the first model.
    saved : Saved or None
    """
    if keep and not borrow:
        params = {name: copied(p) if name.startswith("weight") else p for name, p in params.items()}
    if models:  # of heads they are slices
        params = {name: contiguous(array) for name, array in params.items()}
    (units,), lead = finals[0].shape[-1:], (models,) if models else ()
    shape = _Shape(*x.shape[-3:], hidden_units(cell, params, units), units, lead)
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
    slots, inputs = _matrix(arrays.slots, cell, shape.hidden, lead), _steps_of(x)
    for slot, gate, count in _input_segments(cell):
        weights = rows(params["weight_ih"], gate * shape.hidden, (gate + count) * shape.hidden)
        target = columns(slots, slot * shape.hidden, (slot + count) * shape.hidden)
        matmul(inputs, transposed(weights), out=target)
    many = _strides(arrays, models, lengths, extras) if models else None
    _run(False, cell, sizes, many, arrays)
    saved = Saved(cell, params, x, arrays, sizes, many) if keep else None
    return arrays.h, 0 if reverse else output, saved


def hidden_units(cell: Any, params: dict[str, DeviceArray], output: int) -> int:
    """Hidden units of a layer whose h has so many."""
    *_, count, _ = params["weight_hh"].shape
    return int(count) // len(cell.recurrent_gates) if cell.projected else output


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
    batch, none = shape.models * shape.batch, empty((0,), dtype)  # all models' rows
    steps, state, output = shape.steps * batch, batch * shape.hidden, batch * shape.output
    return Arrays(
        slots=empty((steps * len(cell.slots) * shape.hidden,), dtype),
        h=empty(((shape.steps + 1) * output,), dtype),
        cell_states=empty(((len(cell.states) - 1) * depth * state,), dtype),
        operand=empty((steps * shape.hidden if len(cell.stages) > 1 else 0,), dtype),
        weights=tuple(flat(transpose(params[name])) for name in _recurrent_weights(cell)),
        peephole=flat(params.get("weight_ph", none)),
        lengths=flat(lengths),
        bias_ih=flat(params.get("bias_ih", none)),
        bias_hh=flat(params.get("bias_hh", none)),
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
    batch = shape.models * shape.batch
    means = batch * sum(map(len, cell.mean_levels))
    unit_tiles = -(-shape.hidden // limits().lanes)
    reused = sum(cell.reused) * batch * shape.hidden
    return tuple(empty((size,), dtype) for size in (shape.steps * means, means * unit_tiles, reused))


def _broadcast_strides(array: DeviceArray) -> tuple[int, int, int]:
    """Strides of the first two axes, 0 for an axis that has the same value everywhere; and units."""
    steps, batch, units = array.shape[-3:]
    return 0 if steps == 1 else batch * units, 0 if batch == 1 else units, units


def _stacks(states: Sequence[DeviceArray] | None, cell: Any, none: DeviceArray) -> tuple[DeviceArray, ...]:
    """Flat stacked arrays, one for each of the cell's states; empty ones for zeros."""
    return (none,) * len(cell.states) if states is None else tuple(map(flat, states))


def _strides(arrays: Arrays, models: int, lengths: DeviceArray, extras: Sequence[DeviceArray]) -> Models:
    """From one model's arrays to the next one's; what has no axis of models all read."""
    shared = {
        "lengths": (lengths.size // models if lengths.ndim > 1 else 0,),
        "extras": tuple(extra.size // models if extra.ndim > 3 else 0 for extra in extras),
        "counters": (0,),
    }
    return Models(models, model_strides(arrays, models, shared))


def _matrix(slots: DeviceArray, cell: Any, hidden: int, lead: tuple[int, ...] = ()) -> DeviceArray:
    """The slots as a matrix, of each model, a row for each step and sequence."""
    return slots.reshape(*lead, -1, len(cell.slots) * hidden)


def _steps_of(x: DeviceArray) -> DeviceArray:
    """An array (..., T, B, I) as (..., T * B, I)."""
    *lead, steps, batch, inputs = x.shape
    return x.reshape(*lead, steps * batch, inputs)


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
    cell, params, x, arrays, sizes, models = saved
    dtype, batch = x.dtype, sizes.batch * (models.count if models else 1)
    none, state = empty((0,), dtype), batch * sizes.hidden
    gradients = Gradients(
        dy=none if dy is None else span(dy),
        dstates=empty((len(cell.states) * state,), dtype),
        dpeephole=empty((len(cell.peepholes) * state,), dtype),
        weights=tuple(flat(params[name]) for name in _recurrent_weights(cell)),
        final=_stacks(dstates, cell, none),
        initial=_stacks(initial, cell, none),
        dmeans=_mean_gradients(cell, batch, sizes.hidden, dtype),
    )
    row = 0 if dy is None else dy.shape[dy.ndim - 1]
    if models:
        dy_step = 0 if dy is None else dy.strides[0] // dtype.itemsize  # some steps of a longer array
        models = models._replace(gradients=model_strides(gradients, models.count, {"dy": (dy_step,)}))
    sizes = sizes._replace(
        dy_row=row,
        dy_offset=direction * sizes.output,
        state_offset=index * sizes.batch * sizes.hidden,
        output_offset=index * sizes.batch * sizes.output,
    )
    _run(True, cell, sizes, models, arrays, gradients)
    slots, hidden = _matrix(arrays.slots, cell, sizes.hidden, _lead(saved)), sizes.hidden
    grads = _parameter_gradients(saved, slots, gradients.dpeephole)
    if dx is not None:
        if accumulate:
            catch_up()  # with the branch that wrote it
        target = _steps_of(dx)
        for slot, gate, count in _input_segments(cell):
            weights = rows(params["weight_ih"], gate * hidden, (gate + count) * hidden)
            part = columns(slots, slot * hidden, (slot + count) * hidden)
            matmul(part, weights, out=target, accumulate=accumulate)
            accumulate = True
    return grads


def _lead(saved: Saved) -> tuple[int, ...]:
    """The axis of models, if there is one."""
    return (saved.models.count,) if saved.models else ()


def _mean_gradients(cell: Any, batch: int, hidden: int, dtype: np.dtype[Any]) -> tuple[DeviceArray, ...]:
    """See `Gradients.dmeans`; `batch`: all models' rows."""
    count = sum(map(len, cell.mean_levels))
    if not count:
        return ()
    return empty((batch * count,), dtype), empty((sum(cell.dreused) * batch * hidden,), dtype)


def _parameter_gradients(saved: Saved, slots: DeviceArray, dpeephole: DeviceArray) -> dict[str, DeviceArray]:
    """Gradients of the parameters, from the slots' gradients of all steps."""
    cell, params, x, arrays, sizes, _ = saved
    lead, hidden, output, count = _lead(saved), sizes.hidden, sizes.output, sizes.steps * sizes.batch
    grads = {name: empty(array.shape, array.dtype) for name, array in params.items()}
    history = arrays.prepared[0] if cell.prepared else arrays.h
    start = sizes.batch if sizes.reverse and not cell.prepared else 0
    before = rows(history.reshape(*lead, -1, output), start, start + count)
    jobs = [
        (_steps_of(x), "weight_ih", hidden, _input_segments(cell)),
        (before, "weight_hh", hidden, _stage_segments(cell.stages[0])),
    ]
    for stage in cell.stages[1:]:
        units = output if cell.projected else hidden
        operand = arrays.operand.reshape(*lead, count, hidden)
        jobs.append((operand, stage.weight, units, _stage_segments(stage)))
    for operand, name, units, segments in jobs:
        for slot, gate, gates in segments:  # of one gate, where it has fewer units than a slot
            part = columns(slots, slot * hidden, slot * hidden + gates * units)
            target = rows(grads[name], gate * units, (gate + gates) * units)
            matmul(transposed(part), operand, out=target)
    if "bias_ih" in params:
        bias_gradients(slots, *gate_tables(cell), grads["bias_ih"], grads["bias_hh"])
    if cell.peepholes:
        column_sums(dpeephole.reshape(*lead, sizes.batch, -1), grads["weight_ph"])
    return grads


def full_lengths(steps: int, batch: int) -> DeviceArray:
    """Lengths of sequences that all have `steps` steps."""
    return _full_lengths(steps, batch, current_device())


@functools.cache  # kept: a graph may read it later
def _full_lengths(steps: int, batch: int, device: int) -> DeviceArray:
    lengths = upload(np.full(batch, steps, np.int64))
    synchronize()  # the next call may be on another stream
    return lengths
