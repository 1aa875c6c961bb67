"""One layer and direction over a whole sequence on the CPU: plans, packs, runs the kernels."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from lstm_numba.engines.cpu import passes
from lstm_numba.engines.cpu import task as jobs
from lstm_numba.engines.cpu.cpu_features import lanes, round_up
from lstm_numba.engines.cpu.function_table import compiled_functions
from lstm_numba.engines.cpu.gemm import SERIAL_LIMIT
from lstm_numba.engines.cpu.memory import ALIGNMENT, address, allocate, reserve, strided
from lstm_numba.engines.cpu.offsets import (
    BARRIER_BYTES,
    CACHE_BYTES,
    DESCRIPTOR_SIZE,
    MIN_ROWS,
    Layer,
    Sequence,
    blocking,
)
from lstm_numba.engines.cpu.passes import ALONE, GradientTargets, OutputGradient, Team
from lstm_numba.engines.cpu.task import Packing
from lstm_numba.engines.cpu.thread_team import run_task
from lstm_numba.engines.cpu.threads import thread_count
from lstm_numba.engines.cpu.weight_cache import Located, WeightCache, locate
from lstm_numba.engines.cpu.weights import Parameters, packed_numbers

Array = np.ndarray[Any, Any]

#: Meeting after every step pays from about this many multiplications a step.
MIN_STEP_WORK = 1 << 15
#: Below this many multiplications in all, one thread is done before a second has started.
MIN_WORK = 1 << 19
#: After so many sequences for which the threads did not come together they are not asked again.
MAX_COMPILED_APART = 3


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


class Setting(NamedTuple):
    """What calls of one shape have in common; bytes are whole cache lines."""

    functions: int  # address of `compiled_functions`,
    task: int  # and of the task of the way forward
    ends: Array  # steps of each row where all have as many
    ends_at: int
    rest: int  # bytes of what is kept beside h,
    descriptor: int  # of those for packing,
    found: int  # of checksums,
    forward: int  # of packed weights for the way forward,
    back: int  # of those for the way back,
    scratch: int  # and of scratch on it


class Saved(NamedTuple):
    """What `forward_sequence` keeps for `backward_sequence`."""

    cell: Any
    located: Located
    alive: tuple[Array, ...]  # what the addresses in `layer` and `sequence` lead to; the input is the first
    layer: Layer
    sequence: Sequence
    team: Team
    scratch: int
    barrier: int


def _kind(cell: Any) -> Any:
    """A cell's class, by which results are kept: cells are empty tuples, all of them equal."""
    return type(cell)


def _padded(units: int, dtype: Any) -> int:
    """Units rounded up to whole vectors."""
    return round_up(units, lanes(dtype))


def choose_plan(cell: Any, shape: tuple[int, int, int, int], dtype: Any, keep: bool = False) -> Plan:
    """Choose what the threads share, and how much a thread takes on at once; `shape` is (T, B, I, H)."""
    threads = thread_count()
    return _choose(
        _kind(cell), shape, dtype.char, keep, threads, threads > 1 and _apart.count < MAX_COMPILED_APART
    )


@functools.lru_cache(maxsize=1024)
def _choose(
    cell: Any, shape: tuple[int, int, int, int], char: str, keep: bool, threads: int, barrier: bool
) -> Plan:
    steps, batch, inputs, hidden = shape
    dtype = np.dtype(char)
    size = dtype.itemsize
    recurrent = sum(len(stage.gates) for stage in cell.stages) * hidden * hidden
    work = batch * recurrent
    fits = recurrent * size <= CACHE_BYTES
    row = len(cell.slots) * _padded(hidden, dtype) * size
    both = recurrent + len(cell.input_gates) * hidden * inputs
    enough = steps * work >= MIN_WORK
    by_units = barrier and enough and work >= MIN_STEP_WORK and not (fits and batch >= MIN_ROWS * threads)
    rows = max(1, min(threads, batch // MIN_ROWS)) if enough else 1
    parts = threads if by_units else rows
    workers = threads if parts > 1 and steps * batch * both >= SERIAL_LIMIT else 1
    block, chunks = blocking.py_func(steps, batch, both * size, row, 1 if by_units else parts, keep)
    return Plan(Team(int(by_units), parts, workers), block, 1 if by_units else chunks)


def forward_sequence(
    cell: Any,
    params: dict[str, Array],
    x: Array,
    hidden: int,
    first: tuple[int, ...],
    last: tuple[int, ...],
    lengths: Array | None,
    reverse: bool,
    keep: bool,
    weight_cache: WeightCache | None = None,
) -> tuple[Array, Saved | None]:
    """Run one layer and direction.

    Parameters
    ----------
    cell : Cell
    params : dict
        ``weight_ih`` (G*H, I), ``weight_hh`` (G*H, H), optionally ``bias_ih``, ``bias_hh`` (G*H,) and
        ``weight_ph`` (P*H,).
    x : ndarray, shape (T, B, I)
    hidden : int
        H.
    first, last : tuple of int
        Addresses of the initial states (B, H), in the order of ``cell.states``, 0 for zeros; and of where the
        final ones go.
    lengths : ndarray of int64, shape (B,), or None
    reverse : bool
        From the last step to the first.
    keep : bool
        Keep what the backward pass needs.
    prepared : Prepared, optional
        Remembers the parameters and, without `keep`, packed weights for the next call with the same.

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
    (steps, batch, inputs), dtype = x.shape, x.dtype
    shape = (steps, batch, inputs, hidden)
    team, block, chunks = plan = choose_plan(cell, shape, dtype, keep)
    setting = _setting(_kind(cell), shape, dtype, plan, keep)
    weight_cache = weight_cache or WeightCache()
    located = weight_cache.locate(cell, params, inputs, hidden, dtype)
    x = np.ascontiguousarray(x)
    ends, ends_at = (setting.ends, setting.ends_at) if lengths is None else (lengths, address(lengths))
    h, h_at = allocate((steps + 1, batch, hidden), dtype)
    memory, _, rest = reserve(setting.rest + setting.descriptor + setting.found + setting.back)
    descriptor = rest + setting.rest
    found = descriptor + setting.descriptor
    if keep:  # what is packed for a training step alone is let go when the way forward ends
        back, (_packed, weights) = found + setting.found, allocate((setting.forward,), np.uint8)
        packing = Packing(located.places, back, descriptor, team.parts)
    else:
        back, kept = 0, weight_cache.packed(located, setting.forward)
        weights, checks = kept.weights, team.parts if located.large else 1
        look = checks, located.words_at, len(located.arrays), kept.sums, found
        packing = Packing(located.places, 0, descriptor, team.parts, *look)
    layer = Layer(batch, inputs, hidden, weights, setting.functions, 0)
    where = Sequence(steps, int(reverse), int(keep), address(x), ends_at, h_at, rest, 0, block, chunks)
    job = jobs.sequence_job(layer, where, team, packing, first, last)
    barrier = descriptor - BARRIER_BYTES
    if not jobs.run_job(setting.task, job, team, 0, barrier, packing):
        _apart()
    output = h[:-1] if reverse else h[1:]
    if not keep:
        return output, None
    layer = Layer(batch, inputs, hidden, back, setting.functions, 0)
    return output, Saved(cell, located, (x, h, memory, ends), layer, where, team, setting.scratch, barrier)


@functools.lru_cache(maxsize=1024)
def _setting(kind: Any, shape: tuple[int, int, int, int], dtype: Any, plan: Plan, keep: bool) -> Setting:
    steps, batch, inputs, hidden = shape
    cell, layer, zero = kind(), Layer(batch, inputs, hidden, 0, 0, 0), dtype.type(0)
    sequence = Sequence(steps, 0, int(keep), 0, 0, 0, 0, 0, plan.block, plan.chunks)
    numbers = [
        passes.kept_bytes(cell, layer, sequence, zero),
        plan.team.parts * DESCRIPTOR_SIZE * 8,
        0 if keep else plan.team.parts * 8,
        packed_numbers(cell, inputs, hidden, False, zero) * dtype.itemsize,
        packed_numbers(cell, inputs, hidden, True, zero) * dtype.itemsize if keep else 0,
        passes.scratch_bytes(cell, layer, steps, True, plan.team, zero) if keep else 0,
    ]
    ends = np.full(batch, steps, np.int64)
    return Setting(
        address(compiled_functions(cell, dtype, keep)),
        jobs.forward_task(kind, dtype),
        ends,
        address(ends),
        *(round_up(number, ALIGNMENT) for number in numbers),
    )


def pack(cell: Any, params: dict[str, Array], inputs: int, hidden: int, dtype: Any) -> Array:
    """Packed weights for the way forward.

    Raises
    ------
    TypeError, ValueError
        A parameter has another dtype, or not its shape.
    """
    located = locate(cell, params, inputs, hidden, dtype)
    setting = _setting(_kind(cell), (1, 1, inputs, hidden), dtype, Plan(ALONE, 1, 1), False)
    (packed, weights), descriptor = (
        allocate((setting.forward,), np.uint8),
        np.empty(DESCRIPTOR_SIZE, np.int64),
    )
    layer = Layer(1, inputs, hidden, weights, setting.functions, 0)
    packing = Packing(located.places, 0, address(descriptor), 1)
    nothing = Sequence(*(0 for _ in Sequence._fields))
    job = jobs.sequence_job(layer, nothing, ALONE, packing, (), ())
    run_task(setting.task, job.buffer_info()[0], parts=0, prepare=1)
    return packed


def backward_sequence(
    trace: Saved,
    dy: Array | None,
    dlast: tuple[int, ...],
    dfirst: tuple[int, ...],
    input_gradient: bool = True,
) -> tuple[Array | None, dict[str, Array]]:
    """Back-propagate through one layer and direction, with the weights of the way forward; uses the trace up.

    Parameters
    ----------
    trace : Trace
    dy : ndarray, shape (T, B, H), or None
        Gradient of the output; rows may lie apart; None for zeros. What lies beyond a sequence's end is
        ignored.
    dlast, dfirst : tuple of int
        Addresses of the gradients of the final states (B, H), 0 for zeros; and of where those of the initial
        ones go.
    input_gradient : bool
        Whether the gradient of the input is wanted.

    Returns
    -------
    dx : ndarray, shape (T, B, I), or None
    grads : dict
        Gradients of the parameters, keys as in ``params``.
    """
    x, team = trace.alive[0], trace.team
    (steps, batch, inputs), dtype = x.shape, x.dtype
    wide = _padded(inputs, dtype)
    _scratch, _, where = reserve(trace.scratch)
    dx, dx_at = allocate((steps, batch, wide), dtype) if input_gradient else (None, 0)
    grads, places = _gradients(trace.located, dtype)
    output_gradient, _rows = _incoming(dy)
    layer = Layer(*trace.layer[:5], where)
    job = jobs.backward_job(
        layer, trace.sequence, team, dlast, dfirst, output_gradient,
        GradientTargets(dx_at, wide, places, 0),
    )  # fmt: skip
    task = jobs.backward_task(_kind(trace.cell), dtype)
    if not jobs.run_job(task, job, team, team.workers, trace.barrier):
        _apart()
    return None if dx is None else dx[..., :inputs], grads


def _gradients(located: Located, dtype: Any) -> tuple[dict[str, Array], Parameters]:
    """Arrays of the parameters' shapes in one piece of memory, and their addresses."""
    ends, params = located.ends, located.whole
    memory, offset, where = reserve(max(ends.values()))
    starts = dict(zip(ends, (0, *ends.values()), strict=False))
    views = {n: np.ndarray(params[n].shape, dtype, memory, offset + start) for n, start in starts.items()}
    return views, Parameters(*(where + starts[n] if n in starts else 0 for n in Parameters._fields))


def _incoming(dy: Array | None) -> tuple[OutputGradient, Array | None]:
    """Where the output's gradient (T, B, H) lies as (T * B, H), and what keeps that true."""
    if dy is None:
        return OutputGradient(0, 0), None
    steps, batch, hidden = dy.shape
    if dy.flags.c_contiguous:
        return OutputGradient(address(dy), hidden), dy
    if dy.strides[0] != batch * dy.strides[1] or dy.strides[2] != dy.itemsize:
        dy = np.ascontiguousarray(dy)
    rows = np.lib.stride_tricks.as_strided(dy, (steps * batch, hidden), dy.strides[1:], writeable=False)
    rows, row, _ = strided(rows)
    return OutputGradient(address(rows), row), rows
