"""One layer and direction over a whole sequence on the CPU: plans, packs, runs the kernels."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numba
import numpy as np

from lstm_numba.cpu import meeting, serial
from lstm_numba.cpu.arrays import address, aligned_empty, aligned_zeros, strided
from lstm_numba.cpu.backward import backward_by_rows, backward_by_units, backward_serial
from lstm_numba.cpu.forward import forward_by_rows, forward_by_units, forward_serial
from lstm_numba.cpu.gemm import products
from lstm_numba.cpu.layout import Arrays, Gradients, Sizes, Weights, job
from lstm_numba.cpu.packed import (
    Parameters,
    pack_parallel,
    pack_part,
    packed_numbers,
    packed_places,
)
from lstm_numba.cpu.packing import BACK_VECTORS
from lstm_numba.cpu.places import CACHE_BYTES, MIN_ROWS, NOTES, Blocks, Layer, Sequence, blocking
from lstm_numba.cpu.prepared import Prepared
from lstm_numba.cpu.target import lanes, round_up
from lstm_numba.cpu.tile import tile_address

Array = np.ndarray[Any, Any]

#: Meeting after every step pays from about this many multiplications a step.
MIN_STEP_WORK = 1 << 15
#: Below this many multiplications in all, one thread is done before a second has started.
MIN_WORK = 1 << 17
#: After so many sequences for which the threads did not come together they are not asked again.
MAX_APART = 3


class _Apart:
    """Counts the sequences for which threads that should meet did not run at the same time."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


_apart = _Apart()


class Trace(NamedTuple):
    """What `forward_sequence` keeps for `backward_sequence`."""

    cell: Any
    params: dict[str, Array]
    arrays: Arrays
    sizes: Sizes


class Kept(NamedTuple):
    """What a sequence on one thread keeps, as pieces of memory whose parts compiled code knows."""

    cell: Any
    params: dict[str, Array]
    x: Array
    h: Array
    rest: Array
    lengths: Array
    reverse: bool
    blocks: Blocks


class _Plan(NamedTuple):
    """Who does what: one thread all (one part), or each its rows or its units; the rest as in `Sizes`."""

    by_units: bool
    parts: int
    block: int
    chunks: int


def _kind(cell: Any) -> Any:
    """A cell's class, by which results are kept: cells are empty tuples, all of them equal."""
    return type(cell)


def _padded(units: int, dtype: Any) -> int:
    """Units rounded up to whole vectors."""
    return round_up(units, lanes(dtype))


def _plan(cell: Any, shape: tuple[int, int, int, int], dtype: Any) -> _Plan:
    """Choose what the threads share, and how much a thread takes on at once."""
    threads = numba.get_num_threads()
    return _choose(_kind(cell), shape, dtype, threads, threads > 1 and _apart.count < MAX_APART)


@functools.lru_cache(maxsize=1024)
def _choose(cell: Any, shape: tuple[int, int, int, int], dtype: Any, threads: int, meeting: bool) -> _Plan:
    steps, batch, inputs, hidden = shape
    size = np.dtype(dtype).itemsize
    recurrent = sum(len(stage.gates) for stage in cell.stages) * hidden * hidden
    work = batch * recurrent
    fits = recurrent * size <= CACHE_BYTES
    row = len(cell.slots) * _padded(hidden, dtype) * size
    both = (recurrent + len(cell.input_gates) * hidden * inputs) * size
    enough = steps * work >= MIN_WORK
    if meeting and enough and work >= MIN_STEP_WORK and not (fits and batch >= MIN_ROWS * threads):
        return _Plan(True, threads, blocking.py_func(steps, batch, both, row, 1)[0], 1)
    parts = max(1, min(threads, batch // MIN_ROWS)) if enough else 1
    return _Plan(False, parts, *blocking.py_func(steps, batch, both, row, parts))


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
    prepared: Prepared | None = None,
) -> tuple[Array, list[Array], Trace | Kept | None]:
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
    prepared : Prepared, optional
        Keeps the packed weights for the next call with the same parameters.

    Returns
    -------
    output : ndarray, shape (T, B, H)
        A view of the kept history; beyond a sequence's end it repeats the last state.
    states : list of ndarray, shape (B, H)
    trace : Trace, Kept or None
    """
    steps, batch, inputs = x.shape
    hidden = states[0].shape[1]
    dtype = x.dtype
    plan = _plan(cell, (steps, batch, inputs, hidden), dtype)
    if plan.parts == 1:
        blocks = Blocks(plan.block, plan.chunks)
        return _forward_alone(cell, params, x, states, lengths, reverse, keep, prepared, blocks)
    sizes, arrays = _allocate(cell, x, hidden, plan, reverse, keep, lengths)
    start = steps if reverse else 0
    history(arrays, sizes)[start] = states[0]
    for kept, state in zip(_memory(arrays, sizes), states[1:], strict=True):
        kept[start if sizes.memory_step else 0] = state

    packed = _prepare(cell, params, x, hidden, plan.parts, prepared)
    weights = weights_of(cell, packed, inputs, hidden, False)
    run_forward(cell, job(sizes, weights, arrays), dtype.type(0), plan)
    trace = Trace(cell, params, arrays, sizes) if keep else None
    return output(arrays, sizes), _final_states(cell, arrays, sizes), trace


def _prepare(
    cell: Any, params: dict[str, Array], x: Array, hidden: int, parts: int, prepared: Prepared | None
) -> Array:
    """Packed weights for the way forward, from an earlier call if the parameters are the same."""

    def make() -> Array:
        return pack(cell, params, x, hidden, False, parts)

    packed: Array = make() if prepared is None else prepared.weights(params, make)
    return packed


@functools.lru_cache(maxsize=1024)
def _alone_bytes(
    kind: Any, shape: tuple[int, int, int, int], dtype: Any, keep: bool, blocks: Blocks
) -> tuple[int, int]:
    """Bytes of what a sequence on one thread keeps beside h, and of scratch on its way back."""
    steps, batch, inputs, hidden = shape
    cell, zero = kind(), dtype.type(0)
    kept = serial.kept_bytes(cell, batch, inputs, hidden, steps, 0, zero, keep, blocks)
    return kept, serial.scratch_bytes(cell, batch, inputs, hidden, steps, zero, True) if keep else 0


def _located(params: dict[str, Array]) -> Parameters:
    """Addresses of parameters or their gradients; 0 for what is not there."""
    return Parameters(*(address(params[name]) if name in params else 0 for name in Parameters._fields))


def pack(cell: Any, params: dict[str, Array], x: Array, hidden: int, back: bool, parts: int) -> Array:
    """Packed weights for the way forward or back; `x` is an input, (..., I).

    Raises
    ------
    TypeError, ValueError
        A parameter has another dtype than the input, or not its shape.
    """
    _check_parameters(cell, params, x, hidden)
    inputs, zero = x.shape[-1], x.dtype.type(0)
    packed = aligned_empty((_packed_numbers(_kind(cell), inputs, hidden, back, x.dtype),), x.dtype)
    whole = {
        name: np.ascontiguousarray(array) for name, array in params.items()
    }  # alive until they are packed
    notes = np.empty((parts, NOTES), np.int64)
    where = (cell, _located(whole), inputs, hidden, back, address(packed), address(notes))
    if parts == 1:
        pack_part(*where, 0, 1, zero)
    else:
        pack_parallel(*where, parts, zero)
    return packed


@functools.lru_cache(maxsize=1024)
def _packed_numbers(kind: Any, inputs: int, hidden: int, back: bool, dtype: Any) -> int:
    numbers: int = packed_numbers(kind(), inputs, hidden, back, dtype.type(0))
    return numbers


def weights_of(cell: Any, packed: Array, inputs: int, hidden: int, back: bool) -> Weights:
    """Packed weights by their addresses: keep the array alive."""
    zero, tiles = packed.dtype.type(0), product_tiles(cell, packed.dtype)
    return Weights(*packed_places(cell, inputs, hidden, back, address(packed), zero), *tiles.tolist())


def _forward_alone(
    cell: Any,
    params: dict[str, Array],
    x: Array,
    states: list[Array],
    lengths: Array | None,
    reverse: bool,
    keep: bool,
    prepared: Prepared | None,
    blocks: Blocks,
) -> tuple[Array, list[Array], Kept | None]:
    """`forward_sequence` on the calling thread: the less is left to Python the better for short sequences."""
    steps, batch, inputs = x.shape
    hidden, dtype = states[0].shape[1], x.dtype
    kept, _ = _alone_bytes(_kind(cell), (steps, batch, inputs, hidden), dtype, keep, blocks)
    packed = _prepare(cell, params, x, hidden, 1, prepared)
    x, states = np.ascontiguousarray(x), [np.ascontiguousarray(state) for state in states]
    h, rest = aligned_empty((steps + 1, batch, hidden), dtype), aligned_empty((kept,), np.uint8)
    ends, finals = (_full(batch, steps) if lengths is None else lengths), [np.empty_like(s) for s in states]
    layer = Layer(batch, inputs, hidden, address(packed), address(product_tiles(cell, dtype)), 0)
    where = Sequence(steps, int(reverse), address(x), address(ends), address(h), address(rest), blocks)
    first, last = tuple(map(address, states)), tuple(map(address, finals))
    serial.run_forward(cell, layer, where, first, last, 0, keep, dtype.type(0))
    trace = Kept(cell, params, x, h, rest, ends, reverse, blocks) if keep else None
    return (h[:-1] if reverse else h[1:]), finals, trace


def _backward_alone(
    trace: Kept, dy: Array, dstates: list[Array]
) -> tuple[Array, list[Array], dict[str, Array]]:
    """`backward_sequence` on the calling thread."""
    cell, x, dtype = trace.cell, trace.x, trace.x.dtype
    (steps, batch, inputs), hidden = x.shape, trace.h.shape[2]
    _, working = _alone_bytes(_kind(cell), (steps, batch, inputs, hidden), dtype, True, trace.blocks)
    scratch, wide = aligned_empty((working,), np.uint8), _padded(inputs, dtype)
    dx = aligned_empty((steps, batch, wide), dtype)
    grads = {name: np.empty(array.shape, dtype) for name, array in trace.params.items()}
    last = [np.ascontiguousarray(state) for state in dstates]
    first = [np.empty_like(state) for state in last]
    rows, dy_row, _ = strided(dy.reshape(steps * batch, hidden) if dy.flags.c_contiguous else _rows(dy))
    tiles = address(product_tiles(cell, dtype))
    packed = pack(cell, trace.params, x, hidden, True, 1)
    layer = Layer(batch, inputs, hidden, address(packed), tiles, address(scratch))
    where = Sequence(
        steps, int(trace.reverse), address(x), address(trace.lengths), address(trace.h), address(trace.rest),
        trace.blocks,
    )  # fmt: skip
    serial.run_backward(
        cell, layer, where, 0, serial.Incoming(address(rows), dy_row), tuple(map(address, last)),
        tuple(map(address, first)), serial.Outgoing(address(dx), wide, _located(grads), 0), dtype.type(0),
    )  # fmt: skip
    return dx[..., :inputs], first, grads


def run_forward(cell: Any, what: Array, zero: Any, plan: _Plan) -> None:
    """Call the kernel that a plan asks for; see `lstm_numba.cpu.layout.job`."""
    if plan.by_units and not forward_by_units(cell, what, zero, plan.parts):
        _apart()
        forward_serial(cell, what, zero)
    elif not plan.by_units and plan.parts == 1:
        forward_serial(cell, what, zero)
    elif not plan.by_units:
        forward_by_rows(cell, what, zero, plan.parts)


def _check_parameters(cell: Any, params: dict[str, Array], x: Array, hidden: int) -> None:
    """Refuse what the kernels would read beyond.

    Raises
    ------
    TypeError, ValueError
        A parameter has another dtype than the input, or not its shape.
    """
    gates = len(cell.gates) * hidden
    shapes: dict[str, tuple[int, ...]] = {"weight_ih": (gates, x.shape[-1]), "weight_hh": (gates, hidden)}
    shapes["weight_ph"] = (len(cell.peepholes) * hidden,)
    for name, array in params.items():
        if array.dtype != x.dtype:
            raise TypeError(f"{name}: expected {x.dtype}, as the layer, got {array.dtype}")
        if array.shape != shapes.get(name, (gates,)):
            raise ValueError(f"{name}: expected shape {shapes.get(name, (gates,))}, got {array.shape}")


def product_tiles(cell: Any, dtype: Any) -> Array:
    """Addresses of the tiles of a cell's products, in the order of the fields of `Weights`, as int64."""
    tiles: Array = _tiles(_kind(cell), dtype)
    return tiles


@functools.cache
def _tiles(cell: Any, dtype: Any) -> Array:
    widths = [len(cell.input_gates), *(len(stage.gates) for stage in cell.stages)]
    if len(cell.stages) == 1:
        widths.append(1)  # of the second stage that there is not
    widths += [max(1, len(cell.slots) - len(cell.input_gates)), BACK_VECTORS, 1]
    return np.array([tile_address(width, dtype) for width in widths], np.int64)


def step_arrays(cell: Any, x: Array, hidden: int) -> tuple[_Plan, Sizes, Arrays]:
    """Arrays for single steps, each from where the last one ended; `x`, shape (1, B, I), is used as it is."""
    plan = _plan(cell, (*x.shape, hidden), x.dtype)._replace(block=1, chunks=1)
    return (plan, *_allocate(cell, x, hidden, plan, False, False, None))


def _allocate(
    cell: Any,
    x: Array,
    hidden: int,
    plan: _Plan,
    reverse: bool,
    keep: bool,
    lengths: Array | None,
) -> tuple[Sizes, Arrays]:
    """Arrays for a sequence, and how to address them; without `keep` no more than inference needs."""
    steps, batch, inputs = x.shape
    dtype = x.dtype
    padded = _padded(hidden, dtype)
    step = batch * len(cell.slots) * padded
    depth = steps if keep else plan.block
    memory_depth = steps + 1 if keep else 1
    message = batch * hidden if len(cell.stages) > 1 else 0
    sizes = Sizes(
        steps=steps,
        batch=batch,
        inputs=inputs,
        hidden=hidden,
        padded=padded,
        lanes=lanes(dtype),
        reverse=int(reverse),
        chunks=plan.chunks,
        block=plan.block,
        depth=depth,
        slot_step=step,
        message_step=message,
        memory_step=batch * hidden if keep else 0,
        memory_state=memory_depth * batch * hidden,
    )
    arrays = Arrays(
        x=np.ascontiguousarray(x),
        slots=aligned_empty((depth * step,), dtype),
        h=aligned_empty(((steps + 1) * batch * hidden,), dtype),
        memory=aligned_empty(((len(cell.states) - 1) * memory_depth * batch * hidden,), dtype),
        message=aligned_empty((depth * message,), dtype),
        lengths=_full(batch, steps) if lengths is None else lengths,
        meeting=np.zeros(meeting.NUMBERS, np.int64),
    )
    return sizes, arrays


def _full(count: int, value: int) -> Array:
    """`numpy.full` of integers, without its detours."""
    array = np.empty(count, np.int64)
    array.fill(value)
    return array


def backward_sequence(
    trace: Trace | Kept, dy: Array, dstates: list[Array]
) -> tuple[Array, list[Array], dict[str, Array]]:
    """Back-propagate through one layer and direction; uses the trace up.

    Parameters
    ----------
    trace : Trace or Kept
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
    if isinstance(trace, Kept):
        return _backward_alone(trace, dy, dstates)
    cell, params, arrays, sizes = trace
    dtype, hidden, batch, steps = arrays.x.dtype, sizes.hidden, sizes.batch, sizes.steps
    plan = _plan(cell, (steps, batch, sizes.inputs, hidden), dtype)
    two_stages = len(cell.stages) > 1
    packed = pack(cell, params, arrays.x, hidden, True, plan.parts)
    weights = weights_of(cell, packed, sizes.inputs, hidden, True)
    arrays.meeting.fill(0)
    carried = aligned_zeros((len(cell.states), batch, sizes.padded), dtype)
    for target, source in zip(carried, dstates, strict=True):
        target[:, :hidden] = source
    dx = aligned_empty((steps, batch, _padded(sizes.inputs, dtype)), dtype)
    sums = aligned_zeros((plan.parts, len(cell.slots) + len(cell.peepholes), sizes.padded), dtype)
    rows, dy_row, _ = strided(dy.reshape(steps * batch, hidden) if dy.flags.c_contiguous else _rows(dy))
    gradients = Gradients(
        dh=carried[0],
        dmemory=carried[1:],
        dmessage=aligned_empty((batch * sizes.padded if two_stages else 0,), dtype),
        sums=sums,
        dy=rows,
        dx=dx,
        dy_row=dy_row,
        state=batch * sizes.padded,
    )
    what, zero = job(sizes, weights, arrays, gradients), dtype.type(0)
    if plan.by_units and not backward_by_units(cell, what, zero, two_stages, plan.parts):
        _apart()
        backward_serial(cell, what, zero, two_stages)
    elif not plan.by_units:
        backward_by_rows(cell, what, zero, two_stages, plan.parts)
    grads = _weight_gradients(trace, sums.sum(axis=0))
    return dx[..., : sizes.inputs], [c[:, :hidden].copy() for c in carried], grads


def _rows(dy: Array) -> Array:
    """(T, B, H) as (T * B, H): a view where time and batch are evenly spaced, else a copy."""
    steps, batch, hidden = dy.shape
    if dy.strides[0] == batch * dy.strides[1] and dy.strides[2] == dy.itemsize:
        return np.lib.stride_tricks.as_strided(
            dy, (steps * batch, hidden), (dy.strides[1], dy.strides[2]), writeable=False
        )
    return np.ascontiguousarray(dy).reshape(steps * batch, hidden)


def _weight_gradients(trace: Trace, sums: Array) -> dict[str, Array]:
    """Gradients of the parameters from the slots' gradients of all steps, each as one product."""
    cell, params, arrays, sizes = trace
    hidden, padded, rows = sizes.hidden, sizes.padded, sizes.steps * sizes.batch
    dslots = arrays.slots.reshape(rows, len(cell.slots) * padded)
    every = history(arrays, sizes)
    before = (every[1:] if sizes.reverse else every[:-1]).reshape(rows, hidden)
    grads = {name: aligned_empty(value.shape, value.dtype) for name, value in params.items()}
    operands = [(arrays.x.reshape(rows, -1), grads["weight_ih"]), (before, grads["weight_hh"])]
    if len(cell.stages) > 1:
        operands.append((arrays.message.reshape(rows, hidden), grads["weight_hh"]))
    products(dslots.T, operands, _segments(cell, hidden, padded), False)
    if "bias_ih" in params:
        count = len(cell.input_gates)
        _per_gate(sums[:count], cell.input_gates, hidden, grads["bias_ih"])
        for stage in cell.stages:
            part = sums[stage.first : stage.first + len(stage.gates)]
            _per_gate(part, stage.gates, hidden, grads["bias_hh"])
    if cell.peepholes:
        grads["weight_ph"][:] = sums[len(cell.slots) :, :hidden].reshape(-1)
    return grads


def _segments(cell: Any, hidden: int, padded: int) -> list[tuple[int, int, tuple[int, ...]]]:
    """Per slot its units, and the gate's rows in the gradients of the input weights and of each stage's."""
    feeds = [dict(enumerate(cell.input_gates))]
    feeds += [dict(enumerate(stage.gates, stage.first)) for stage in cell.stages]
    result: list[tuple[int, int, tuple[int, ...]]] = []
    for slot in range(len(cell.slots)):
        targets = tuple(gates[slot] * hidden if slot in gates else -1 for gates in feeds)
        if result and padded == hidden:  # neighbours everywhere make one longer segment
            first, count, before = result[-1]
            if all(t == b + count if t >= 0 else b < 0 for t, b in zip(targets, before, strict=True)):
                result[-1] = (first, count + hidden, before)
                continue
        result.append((slot * padded, hidden, targets))
    return result


def _per_gate(slots: Array, gates: tuple[int, ...], hidden: int, out: Array) -> None:
    """Copy numbers of slots and padded units to where their gates stand."""
    for slot, gate in zip(slots, gates, strict=True):
        out[gate * hidden : (gate + 1) * hidden] = slot[:hidden]
