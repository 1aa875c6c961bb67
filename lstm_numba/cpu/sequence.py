"""One layer and direction over a whole sequence on the CPU: plans, packs, runs the kernels."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numba
import numpy as np

from lstm_numba.cpu import jobs, passes
from lstm_numba.cpu.arrays import ALIGNMENT, address, aligned_empty, strided
from lstm_numba.cpu.functions import compiled_functions
from lstm_numba.cpu.gemm import SERIAL_LIMIT
from lstm_numba.cpu.packed import Parameters, packed_numbers
from lstm_numba.cpu.passes import Incoming, Outgoing, Team
from lstm_numba.cpu.places import CACHE_BYTES, MEETING_BYTES, MIN_ROWS, NOTES, Layer, Sequence, blocking
from lstm_numba.cpu.prepared import Prepared
from lstm_numba.cpu.target import lanes, round_up
from lstm_numba.cpu.tasks import run_task

Array = np.ndarray[Any, Any]

#: Meeting after every step pays from about this many multiplications a step.
MIN_STEP_WORK = 1 << 15
#: Below this many multiplications in all, one thread is done before a second has started.
MIN_WORK = 1 << 19
#: After so many sequences for which the threads did not come together they are not asked again.
MAX_APART = 3


class _Apart:
    """Counts the sequences for which threads that should meet did not run at the same time."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


_apart = _Apart()


class Plan(NamedTuple):
    """Who does what, and how much of it at once: the block and the chunks of `Sequence`."""

    team: Team
    block: int
    chunks: int


class Needs(NamedTuple):
    """Bytes of memory that a sequence needs, as whole cache lines."""

    rest: int  # beside h
    forward: int  # packed weights for the way forward,
    back: int  # and for the way back
    scratch: int  # on the way back


class Trace(NamedTuple):
    """What `forward_sequence` keeps for `backward_sequence`."""

    cell: Any
    params: dict[str, Array]
    alive: tuple[Array, ...]  # what the addresses in `layer` and `sequence` lead to; the input is the first
    layer: Layer
    sequence: Sequence
    team: Team
    scratch: int
    meeting: int


def _kind(cell: Any) -> Any:
    """A cell's class, by which results are kept: cells are empty tuples, all of them equal."""
    return type(cell)


def _padded(units: int, dtype: Any) -> int:
    """Units rounded up to whole vectors."""
    return round_up(units, lanes(dtype))


def choose_plan(cell: Any, shape: tuple[int, int, int, int], dtype: Any) -> Plan:
    """Choose what the threads share, and how much a thread takes on at once; `shape` is (T, B, I, H)."""
    threads = numba.get_num_threads()
    return _choose(_kind(cell), shape, dtype.char, threads, threads > 1 and _apart.count < MAX_APART)


@functools.lru_cache(maxsize=1024)
def _choose(cell: Any, shape: tuple[int, int, int, int], char: str, threads: int, meeting: bool) -> Plan:
    steps, batch, inputs, hidden = shape
    dtype = np.dtype(char)
    size = dtype.itemsize
    recurrent = sum(len(stage.gates) for stage in cell.stages) * hidden * hidden
    work = batch * recurrent
    fits = recurrent * size <= CACHE_BYTES
    row = len(cell.slots) * _padded(hidden, dtype) * size
    both = recurrent + len(cell.input_gates) * hidden * inputs
    enough = steps * work >= MIN_WORK
    by_units = meeting and enough and work >= MIN_STEP_WORK and not (fits and batch >= MIN_ROWS * threads)
    rows = max(1, min(threads, batch // MIN_ROWS)) if enough else 1
    parts = threads if by_units else rows
    workers = threads if parts > 1 and steps * batch * both >= SERIAL_LIMIT else 1
    block, chunks = blocking.py_func(steps, batch, both * size, row, 1 if by_units else parts)
    return Plan(Team(int(by_units), parts, workers), block, 1 if by_units else chunks)


def forward_sequence(
    cell: Any,
    params: dict[str, Array],
    x: Array,
    states: list[Array],
    finals: list[Array],
    lengths: Array | None,
    reverse: bool,
    keep: bool,
    prepared: Prepared | None = None,
) -> tuple[Array, Trace | None]:
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
    finals : list of ndarray, shape (B, H)
        Where the final states go; C-contiguous.
    lengths : ndarray of int64, shape (B,), or None
    reverse : bool
        From the last step to the first.
    keep : bool
        Keep what the backward pass needs.
    prepared : Prepared, optional
        Keeps the packed weights for the next call with the same parameters; without `keep` only.

    Returns
    -------
    output : ndarray, shape (T, B, H)
        A view of the kept history; beyond a sequence's end it repeats the last state.
    trace : Trace or None

    Raises
    ------
    TypeError, ValueError
        A parameter has another dtype than the input, or not its shape.
    """
    steps, batch, inputs = x.shape
    hidden, dtype = states[0].shape[1], x.dtype
    shape = (steps, batch, inputs, hidden)
    functions = address(compiled_functions(cell, dtype, keep))
    team, block, chunks = plan = choose_plan(cell, shape, dtype)
    needs = _needs(_kind(cell), shape, dtype.char, plan, keep)
    x, states = np.ascontiguousarray(x), [np.ascontiguousarray(state) for state in states]
    h = aligned_empty((steps + 1, batch, hidden), dtype)
    memory = aligned_empty((needs.rest + (needs.forward + needs.back if keep else 0),), np.uint8)
    ends = _full(batch, steps) if lengths is None else lengths
    rest = address(memory)
    if keep:
        weights = rest + needs.rest
        _pack_at(weights, cell, params, inputs, hidden, dtype, True, team.parts)
    elif prepared is None:
        packed = pack(cell, params, inputs, hidden, dtype, team.parts)
        weights = address(packed)
    else:
        packed = prepared.weights(params, lambda: pack(cell, params, inputs, hidden, dtype, team.parts))
        weights = address(packed)
    layer = Layer(batch, inputs, hidden, weights, functions, 0)
    where = Sequence(
        steps, int(reverse), int(keep), address(x), address(ends), address(h), rest, 0, block, chunks
    )
    first, last = tuple(map(address, states)), tuple(map(address, finals))
    job = jobs.sequence_job(layer, where, team, first, last)
    meeting = rest + needs.rest - MEETING_BYTES
    if not jobs.run_sequence_job(jobs.forward_task(_kind(cell), dtype), job, team, 0, meeting):
        _apart()
    output = h[:-1] if reverse else h[1:]
    if not keep:
        return output, None
    layer = Layer(batch, inputs, hidden, weights + needs.forward, functions, 0)
    return output, Trace(cell, params, (x, h, memory, ends), layer, where, team, needs.scratch, meeting)


@functools.lru_cache(maxsize=1024)
def _needs(kind: Any, shape: tuple[int, int, int, int], char: str, plan: Plan, keep: bool) -> Needs:
    steps, batch, inputs, hidden = shape
    dtype = np.dtype(char)
    cell, layer, zero = kind(), Layer(batch, inputs, hidden, 0, 0, 0), dtype.type(0)
    sequence = Sequence(steps, 0, int(keep), 0, 0, 0, 0, 0, plan.block, plan.chunks)
    numbers = [
        passes.kept_bytes(cell, layer, sequence, zero),
        packed_numbers(cell, inputs, hidden, False, zero) * dtype.itemsize,
        packed_numbers(cell, inputs, hidden, True, zero) * dtype.itemsize if keep else 0,
        passes.scratch_bytes(cell, layer, steps, True, plan.team, zero) if keep else 0,
    ]
    return Needs(*(round_up(number, ALIGNMENT) for number in numbers))


def _places(params: dict[str, Array]) -> Parameters:
    """Addresses of parameters; 0 for what is not there."""
    return Parameters(*(address(params[name]) if name in params else 0 for name in Parameters._fields))


def pack(cell: Any, params: dict[str, Array], inputs: int, hidden: int, dtype: Any, parts: int = 1) -> Array:
    """Packed weights for the way forward.

    Raises
    ------
    TypeError, ValueError
        A parameter has another dtype, or not its shape.
    """
    packed = aligned_empty((_packed_bytes(_kind(cell), inputs, hidden, dtype.char),), np.uint8)
    _pack_at(address(packed), cell, params, inputs, hidden, dtype, False, parts)
    return packed


@functools.lru_cache(maxsize=1024)
def _packed_bytes(kind: Any, inputs: int, hidden: int, char: str) -> int:
    dtype = np.dtype(char)
    return int(packed_numbers(kind(), inputs, hidden, False, dtype.type(0)) * dtype.itemsize)


def _pack_at(
    where: int, cell: Any, params: dict[str, Array], inputs: int, hidden: int, dtype: Any, both: bool,
    parts: int,
) -> None:  # fmt: skip
    """Pack weights for the way forward to an address, and behind them those for the way back where `both`."""
    _check_parameters(cell, params, inputs, hidden, dtype)
    whole = {name: np.ascontiguousarray(array) for name, array in params.items()}
    notes = np.empty((parts, NOTES), np.int64)
    functions = address(compiled_functions(cell, dtype, both))
    job = jobs.packing_job(functions, _places(whole), inputs, hidden, both, where, address(notes), parts)
    run_task(jobs.packing_task(_kind(cell), dtype), job, parts, 0)


def _check_parameters(cell: Any, params: dict[str, Array], inputs: int, hidden: int, dtype: Any) -> None:
    """Refuse what the kernels would read beyond.

    Raises
    ------
    TypeError, ValueError
        A parameter has another dtype, or not its shape.
    """
    gates = len(cell.gates) * hidden
    shapes: dict[str, tuple[int, ...]] = {"weight_ih": (gates, inputs), "weight_hh": (gates, hidden)}
    shapes["weight_ph"] = (len(cell.peepholes) * hidden,)
    for name, array in params.items():
        if array.dtype != dtype:
            raise TypeError(f"{name}: expected {dtype}, as the layer, got {array.dtype}")
        if array.shape != shapes.get(name, (gates,)):
            raise ValueError(f"{name}: expected shape {shapes.get(name, (gates,))}, got {array.shape}")


def _full(count: int, value: int) -> Array:
    """`numpy.full` of integers, without its detours."""
    array = np.empty(count, np.int64)
    array.fill(value)
    return array


def backward_sequence(
    trace: Trace, dy: Array, dlast: list[Array], dfirst: list[Array]
) -> tuple[Array, dict[str, Array]]:
    """Back-propagate through one layer and direction, with the weights of the way forward; uses the trace up.

    Parameters
    ----------
    trace : Trace
    dy : ndarray, shape (T, B, H)
        Gradient of the output; rows may lie apart. What lies beyond a sequence's end is ignored.
    dlast, dfirst : list of ndarray, shape (B, H)
        Gradients of the final states, and where those of the initial states go; the latter C-contiguous.

    Returns
    -------
    dx : ndarray, shape (T, B, I)
    grads : dict
        Gradients of the parameters, keys as in ``params``.
    """
    x = trace.alive[0]
    (steps, batch, inputs), hidden, dtype = x.shape, trace.layer.hidden, x.dtype
    scratch, wide = aligned_empty((trace.scratch,), np.uint8), _padded(inputs, dtype)
    dx = aligned_empty((steps, batch, wide), dtype)
    grads, places = _gradients(trace.params, dtype)
    dlast = [np.ascontiguousarray(state) for state in dlast]
    rows, dy_row, _ = strided(dy.reshape(steps * batch, hidden) if dy.flags.c_contiguous else _rows(dy))
    layer, team = Layer(*trace.layer[:5], address(scratch)), trace.team
    job = jobs.backward_job(
        layer, trace.sequence, team, tuple(map(address, dlast)), tuple(map(address, dfirst)),
        Incoming(address(rows), dy_row), Outgoing(address(dx), wide, places, 0),
    )  # fmt: skip
    if not jobs.run_sequence_job(
        jobs.backward_task(_kind(trace.cell), dtype), job, team, team.workers, trace.meeting
    ):
        _apart()
    return dx[..., :inputs], grads


def _gradients(params: dict[str, Array], dtype: Any) -> tuple[dict[str, Array], Parameters]:
    """Arrays of the parameters' shapes in one piece of memory, and their addresses."""
    starts, end = {}, 0
    for name, array in params.items():
        starts[name], end = end, end + round_up(array.nbytes, ALIGNMENT)
    memory = aligned_empty((end,), np.uint8)
    begin = address(memory)
    places = Parameters(*(begin + starts[name] if name in starts else 0 for name in Parameters._fields))
    views = {name: np.ndarray(params[name].shape, dtype, memory, start) for name, start in starts.items()}
    return views, places


def _rows(dy: Array) -> Array:
    """(T, B, H) as (T * B, H): a view where time and batch are evenly spaced, else a copy."""
    steps, batch, hidden = dy.shape
    if dy.strides[0] == batch * dy.strides[1] and dy.strides[2] == dy.itemsize:
        return np.lib.stride_tricks.as_strided(
            dy, (steps * batch, hidden), (dy.strides[1], dy.strides[2]), writeable=False
        )
    return np.ascontiguousarray(dy).reshape(steps * batch, hidden)
