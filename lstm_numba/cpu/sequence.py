"""One layer and direction over a whole sequence on the CPU: plans, packs, runs the kernels."""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np

from lstm_numba.cpu import packing
from lstm_numba.cpu.arrays import aligned_empty, aligned_zeros, flatten
from lstm_numba.cpu.backward import backward_by_rows, backward_by_units
from lstm_numba.cpu.forward import forward_by_rows, forward_by_units
from lstm_numba.cpu.gemm import matmul
from lstm_numba.cpu.layout import Arrays, Gradients, Sizes, Weights
from lstm_numba.cpu.target import lanes, round_up

Array = np.ndarray[Any, Any]

#: Packed weights up to this many bytes stay in a core's level-2 cache while all its rows use them.
CACHE_BYTES = 1 << 20
#: A thread gets at least this many rows, or the register tiles are mostly empty.
MIN_ROWS = 4
#: Meeting after every step pays from about this many multiplications a step.
MIN_STEP_WORK = 1 << 19
#: Below this many multiplications in all, one thread is done before a second has started.
MIN_WORK = 1 << 17


class Trace(NamedTuple):
    """What `forward_sequence` keeps for `backward_sequence`."""

    cell: Any
    params: dict[str, Array]
    x: Array
    arrays: Arrays
    sizes: Sizes


class _Plan(NamedTuple):
    by_units: bool
    parts: int
    project: bool


def _plan(cell: Any, sizes: tuple[int, int, int, int], dtype: Any) -> _Plan:
    """Choose what the threads share, and whether the input product goes into the step."""
    steps, batch, inputs, hidden = sizes
    threads = numba.get_num_threads()
    recurrent = sum(len(stage.gates) for stage in cell.stages) * hidden * hidden
    work = batch * recurrent
    size = np.dtype(dtype).itemsize
    fits = recurrent * size <= CACHE_BYTES
    with_input = (recurrent + len(cell.input_gates) * hidden * inputs) * size <= CACHE_BYTES // 2
    if threads == 1 or steps * work < MIN_WORK:
        return _Plan(False, 1, with_input)
    if work >= MIN_STEP_WORK and not (fits and batch >= MIN_ROWS * threads):
        return _Plan(True, threads, False)
    return _Plan(False, max(1, min(threads, batch // MIN_ROWS)), with_input)


def history(arrays: Arrays, sizes: Sizes) -> Array:
    """All values of h, shape (T + 1, B, H); in reverse the initial state is the last."""
    return arrays.h.reshape(sizes.steps + 1, sizes.batch, sizes.hidden)


def output(arrays: Arrays, sizes: Sizes) -> Array:
    """The values of h after each step, shape (T, B, H), a view."""
    return history(arrays, sizes)[:-1] if sizes.reverse else history(arrays, sizes)[1:]


def _memory(arrays: Arrays, sizes: Sizes) -> Array:
    """The states other than h, shape (states - 1, T + 1 or 1, B, H)."""
    depth = sizes.memory_state // (sizes.batch * sizes.hidden)
    return arrays.memory.reshape(-1 if arrays.memory.size else 0, depth, sizes.batch, sizes.hidden)


def _final_states(cell: Any, arrays: Arrays, sizes: Sizes) -> list[Array]:
    last = 0 if sizes.reverse else sizes.steps
    entry = last if sizes.memory_step else 0
    return [history(arrays, sizes)[last].copy(), *(m[entry].copy() for m in _memory(arrays, sizes))]


def forward_sequence(
    cell: Any,
    params: dict[str, Array],
    x: Array,
    states: list[Array],
    lengths: Array | None,
    reverse: bool,
    keep: bool,
) -> tuple[Array, list[Array], Trace | None]:
    """Run one layer and direction.

    Parameters
    ----------
    cell : Cell
    params : dict
        ``weight_ih`` (G*H, I), ``weight_hh`` (G*H, H), optionally ``bias_ih``, ``bias_hh`` (G*H,) and
        ``weight_ph`` (P*H,).
    x : ndarray, shape (T, B, I)
    states : list of ndarray, shape (B, H)
        Initial states, in the order of ``cell.states``.
    lengths : ndarray of int64, shape (B,), or None
    reverse : bool
        From the last step to the first.
    keep : bool
        Keep what the backward pass needs.

    Returns
    -------
    output : ndarray, shape (T, B, H)
        A view of the kept history; beyond a sequence's end it repeats the last state.
    states : list of ndarray, shape (B, H)
    trace : Trace or None
    """
    steps, batch, inputs = x.shape
    hidden = states[0].shape[1]
    dtype = x.dtype
    plan = _plan(cell, (steps, batch, inputs, hidden), dtype)
    sizes, arrays = _allocate(cell, (steps, batch, inputs, hidden), dtype, plan, reverse, keep, lengths)
    start = steps if reverse else 0
    history(arrays, sizes)[start] = states[0]
    for kept, state in zip(_memory(arrays, sizes), states[1:], strict=True):
        kept[start if sizes.memory_step else 0] = state

    empty = aligned_empty((0,), dtype)
    second = len(cell.stages) > 1
    weights = Weights(
        packing.pack_gates(params["weight_ih"], cell.input_gates, hidden) if plan.project else empty,
        packing.pack_gates(params["weight_hh"], cell.stages[0].gates, hidden),
        packing.pack_gates(params["weight_hh"], cell.stages[1].gates, hidden) if second else empty,
        packing.slot_bias(cell, params, hidden, dtype),
        packing.padded_peephole(cell, params, hidden, dtype),
    )
    rows = x.reshape(steps * batch, inputs)
    projection = None if plan.project else packing.pad_slots(params["weight_ih"], cell.input_gates, hidden)
    block = steps if plan.project or not sizes.slot_step else len(arrays.slots) // sizes.slot_step
    x_flat, _, _ = flatten(np.ascontiguousarray(rows))
    for begin in range(0, steps, block):
        end = min(steps, begin + block)
        if projection is not None:
            first = steps - end if reverse else begin
            sizes = sizes._replace(origin=first)
            slots = arrays.slots.reshape(-1, len(cell.slots) * sizes.padded)[: (end - begin) * batch]
            matmul(
                rows[first * batch : (first + end - begin) * batch], projection.T, slots[:, : len(projection)]
            )
        if plan.by_units:
            forward_by_units(cell, weights, arrays, sizes, x_flat, begin, end, plan.parts, second)
        else:
            forward_by_rows(cell, weights, arrays, sizes, x_flat, begin, end, plan.parts)
    trace = Trace(cell, params, x, arrays, sizes) if keep else None
    return output(arrays, sizes), _final_states(cell, arrays, sizes), trace


def _allocate(
    cell: Any,
    shape: tuple[int, int, int, int],
    dtype: Any,
    plan: _Plan,
    reverse: bool,
    keep: bool,
    lengths: Array | None,
) -> tuple[Sizes, Arrays]:
    """Arrays for a sequence, and how to address them; without `keep` no more than inference needs."""
    steps, batch, inputs, hidden = shape
    padded = packing.padded_size(hidden, dtype)
    step = batch * len(cell.slots) * padded
    if keep:
        depth = steps
    elif plan.project:
        depth = 1
    else:  # as many steps a block as stay in the caches between the input product and the step
        depth = max(1, min(steps, 2 * CACHE_BYTES // (step * np.dtype(dtype).itemsize)))
    memory_depth = steps + 1 if keep else 1
    message = batch * hidden if len(cell.stages) > 1 else 0
    stepping = keep or not plan.project
    sizes = Sizes(
        steps=steps,
        batch=batch,
        inputs=inputs,
        hidden=hidden,
        padded=padded,
        lanes=lanes(dtype),
        reverse=reverse,
        project=plan.project,
        origin=0,
        slot_step=step if stepping else 0,
        message_step=message if stepping else 0,
        memory_step=batch * hidden if keep else 0,
        memory_state=memory_depth * batch * hidden,
    )
    arrays = Arrays(
        slots=aligned_empty((depth * step,), dtype),
        h=aligned_empty(((steps + 1) * batch * hidden,), dtype),
        memory=aligned_empty(((len(cell.states) - 1) * memory_depth * batch * hidden,), dtype),
        message=aligned_empty((depth * message,), dtype),
        lengths=np.full(batch, steps, np.int64) if lengths is None else lengths,
    )
    return sizes, arrays


def backward_sequence(
    trace: Trace, dy: Array, dstates: list[Array]
) -> tuple[Array, list[Array], dict[str, Array]]:
    """Back-propagate through one layer and direction; uses the trace up.

    Parameters
    ----------
    trace : Trace
    dy : ndarray, shape (T, B, H)
        Gradient of the output; rows may lie apart. What lies beyond a sequence's end is ignored.
    dstates : list of ndarray, shape (B, H)
        Gradients of the final states.

    Returns
    -------
    dx : ndarray, shape (T, B, I)
    dstates : list of ndarray, shape (B, H)
        Gradients of the initial states.
    grads : dict
        Gradients of the parameters, keys as in ``params``.
    """
    cell, params, x, arrays, sizes = trace
    dtype, hidden, batch, steps = x.dtype, sizes.hidden, sizes.batch, sizes.steps
    plan = _plan(cell, (steps, batch, sizes.inputs, hidden), dtype)
    second = len(cell.stages) > 1
    empty = aligned_empty((0,), dtype)
    weights = Weights(
        empty,
        packing.pack_transposed(params["weight_hh"], cell.stages[0].gates, hidden),
        packing.pack_transposed(params["weight_hh"], cell.stages[1].gates, hidden) if second else empty,
        empty,
        packing.padded_peephole(cell, params, hidden, dtype),
    )
    row = round_up(hidden, packing.BACK_VECTORS * sizes.lanes)
    carried = aligned_zeros((len(cell.states), batch, row), dtype)
    for target, source in zip(carried, dstates, strict=True):
        target[:, :hidden] = source
    sums = aligned_zeros((plan.parts, len(cell.slots) + len(cell.peepholes), sizes.padded), dtype)
    dy_flat, dy_row, _ = flatten(dy.reshape(steps * batch, hidden) if dy.flags.c_contiguous else _rows(dy))
    gradients = Gradients(
        dh=carried[0].reshape(-1),
        dmemory=carried[1:].reshape(-1),
        dmessage=aligned_empty((batch * row if second else 0,), dtype),
        sums=sums.reshape(-1),
        dy=dy_flat,
        dy_row=dy_row,
        row=row,
        state=batch * row,
    )
    run = backward_by_units if plan.by_units else backward_by_rows
    run(cell, weights, arrays, gradients, sizes._replace(origin=0), plan.parts, second)

    dslots = arrays.slots.reshape(steps * batch, len(cell.slots) * sizes.padded)
    dinput = dslots[:, : len(cell.input_gates) * sizes.padded]
    dx = matmul(dinput, packing.pad_slots(params["weight_ih"], cell.input_gates, hidden))
    grads = _weight_gradients(trace, dslots, sums.sum(axis=0))
    return dx.reshape(x.shape), [c[:, :hidden].copy() for c in carried], grads


def _rows(dy: Array) -> Array:
    """(T, B, H) as (T * B, H): a view where time and batch are evenly spaced, else a copy."""
    steps, batch, hidden = dy.shape
    if dy.strides[0] == batch * dy.strides[1] and dy.strides[2] == dy.itemsize:
        return np.lib.stride_tricks.as_strided(
            dy, (steps * batch, hidden), (dy.strides[1], dy.strides[2]), writeable=False
        )
    return np.ascontiguousarray(dy).reshape(steps * batch, hidden)


def _weight_gradients(trace: Trace, dslots: Array, sums: Array) -> dict[str, Array]:
    """Gradients of the parameters from the slots' gradients of all steps, each as one product."""
    cell, params, x, arrays, sizes = trace
    hidden, padded, rows = sizes.hidden, sizes.padded, sizes.steps * sizes.batch
    every = history(arrays, sizes)
    before = (every[1:] if sizes.reverse else every[:-1]).reshape(rows, hidden)
    operands = [before, arrays.message.reshape(rows, hidden) if len(cell.stages) > 1 else before]

    def product(first: int, gates: tuple[int, ...], operand: Array, out: Array) -> None:
        slots = dslots[:, first * padded : (first + len(gates)) * padded]
        if padded == hidden and gates == tuple(range(len(cell.gates))):
            matmul(slots.T, operand, out)
        else:
            packing.unpad_slots(matmul(slots.T, operand), gates, hidden, out)

    grads = {name: np.empty_like(value) for name, value in params.items()}
    product(0, cell.input_gates, x.reshape(rows, -1), grads["weight_ih"])
    for stage, operand in zip(cell.stages, operands, strict=False):
        product(stage.first, stage.gates, operand, grads["weight_hh"])
    if "bias_ih" in params:
        count = len(cell.input_gates)
        packing.unpad_slots(sums[:count].reshape(-1), cell.input_gates, hidden, grads["bias_ih"])
        for stage in cell.stages:
            part = sums[stage.first : stage.first + len(stage.gates)]
            packing.unpad_slots(part.reshape(-1), stage.gates, hidden, grads["bias_hh"])
    if cell.peepholes:
        grads["weight_ph"][:] = sums[len(cell.slots) :, :hidden].reshape(-1)
    return grads
