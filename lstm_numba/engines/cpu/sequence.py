"""One layer and direction over a whole sequence on the CPU: plans, packs, runs the kernels."""

from __future__ import annotations

import functools
from array import array
from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np

from lstm_numba.engines.cpu import passes, task
from lstm_numba.engines.cpu.blocking import Plan, cell_class, choose_plan, padded
from lstm_numba.engines.cpu.cpu_features import round_up
from lstm_numba.engines.cpu.function_table import compiled_functions
from lstm_numba.engines.cpu.memory import ALIGNMENT, address, allocate, reserve, strided
from lstm_numba.engines.cpu.offsets import DESCRIPTOR_SIZE
from lstm_numba.engines.cpu.records import (
    ALONE,
    Addresses,
    BackwardJob,
    GradientTargets,
    Layer,
    Numbers,
    OutputGradient,
    Packing,
    Sequence,
    SequenceJob,
    Team,
    numbers,
)
from lstm_numba.engines.cpu.thread_team import Phases, run_task
from lstm_numba.engines.cpu.weight_cache import Located, WeightCache, field_names, locate
from lstm_numba.engines.cpu.weights import packed_numbers

Array = np.ndarray[Any, Any]
#: What `_table` returns for cells without extras.
_NO_EXTRAS: Numbers = array("q")


class Setting(NamedTuple):
    """What calls of one shape have in common; bytes are whole cache lines."""

    functions: int  # address of `compiled_functions`,
    task: int  # and of the task of the forward pass
    ends: Array  # steps of each row where all have as many
    ends_at: int
    rest: int  # bytes of what is kept beside h,
    descriptor: int  # of those for packing,
    found: int  # of checksums,
    forward: int  # of packed weights for the forward pass,
    back: int  # of those for the backward pass,
    scratch: int  # and of scratch on it


class Saved(NamedTuple):
    """What `forward_sequence` keeps for `backward_sequence`, or for a trace."""

    cell: Any
    located: Located
    alive: tuple[Any, ...]  # what the addresses in `layer` and `sequence` lead to; the input is the first
    layer: Layer  # with the weights of the backward pass, or without one with those of the forward pass
    sequence: Sequence
    team: Team
    scratch: int


def forward_sequence(
    cell: Any,
    params: dict[str, Array],
    x: Array,
    sizes: tuple[int, int],
    first: tuple[int, ...],
    last: tuple[int, ...],
    lengths: Array | None,
    reverse: bool,
    keep: bool,
    weight_cache: WeightCache | None = None,
    extras: Collection[Array] = (),
    back: bool = True,
) -> tuple[Array, Saved | None]:
    """Run one layer and direction.

    Parameters
    ----------
    cell : Cell
    params : dict
        ``weight_ih`` (G*H, I), ``weight_hh`` (G*H, H), optionally ``bias_ih``, ``bias_hh`` (G*H,) and
        ``weight_ph`` (P*H,).
    x : ndarray, shape (T, B, I)
    sizes : (int, int)
        Hidden units H, and those of h: H, or fewer where it is projected.
    first, last : tuple of int
        Addresses of the initial states (B, units), in the order of ``cell.states``, 0 for zeros; and of where
        the final ones go.
    lengths : ndarray of int64, shape (B,), or None
    reverse : bool
        From the last step to the first.
    keep : bool
        Keep what the backward pass needs.
    weight_cache : WeightCache, optional
        Remembers the parameters and, without a backward pass, packed weights for the next call with the same.
    extras : collection of ndarray, shape (T or 1, B or 1, H or 1)
        In the order of ``cell.extras``; contiguous.
    back : bool
        Whether the backward pass follows where `keep`; False keeps all but its weights.

    Returns
    -------
    output : ndarray, shape (T, B, units of h)
        A view of the kept history; beyond a sequence's end it repeats the last state.
    saved : Saved or None

    Raises
    ------
    TypeError, ValueError
        A parameter has another dtype than the input, or not its shape.
    """
    (steps, batch, inputs), dtype = x.shape, x.dtype
    hidden, units = sizes
    shape = (steps, batch, inputs, hidden)
    team, block, chunks = plan = choose_plan(cell, shape, dtype, keep)
    back = keep and back
    setting = setting_of(cell_class(cell), shape, units, dtype, plan, keep, back)
    weight_cache = weight_cache or WeightCache()
    located = weight_cache.locate(cell, params, inputs, hidden, units, dtype)
    ends, ends_at = (setting.ends, setting.ends_at) if lengths is None else (lengths, address(lengths))
    h, h_at = allocate((steps + 1, batch, units), dtype)
    memory, _, rest = reserve(setting.rest + setting.descriptor + setting.found + setting.back)
    descriptor = rest + setting.rest
    if back:  # what is packed for one training step is freed when the forward pass ends
        later = descriptor + setting.descriptor
        _packed, weights = allocate((setting.forward,), np.uint8)
        packing = Packing(located.addresses, later, descriptor, team.parts)
    else:
        weights, packing = checked_packing(weight_cache, located, setting, team, descriptor)
        later = weights
    layer = Layer(batch, inputs, hidden, units, weights, setting.functions, 0)
    table = _table(extras) if cell.extras else _NO_EXTRAS
    where = Sequence(
        steps, int(reverse), int(keep), address(x), ends_at, h_at, rest, 0, block, chunks,
        table.buffer_info()[0], team.parts if team.by_units else 1,
    )  # fmt: skip
    job = numbers(SequenceJob(layer, where, team, packing), first + last)
    task.run_job(setting.task, job, team, 0, packing)
    output = h[:-1] if reverse else h[1:]
    if not keep:
        return output, None
    layer = Layer(batch, inputs, hidden, units, later, setting.functions, 0)
    return output, Saved(
        cell, located, (x, h, memory, ends, table, *extras, weight_cache), layer, where, team, setting.scratch
    )


def checked_packing(
    weight_cache: WeightCache, located: Located, setting: Setting, team: Team, descriptor: int
) -> tuple[int, Packing]:
    """Address of kept weights, and how they are packed again where they are out of date; `descriptor` is the
    address of descriptors and, behind them, checksums.
    """
    kept = weight_cache.packed(located, setting.forward)
    checks, found = team.parts if located.large else 1, descriptor + setting.descriptor
    look = checks, located.words_at, len(located.words) // 2, kept.sums, found
    return kept.weights, Packing(located.addresses, 0, descriptor, team.parts, *look)


def _table(extras: Collection[Array]) -> Numbers:
    """What `Sequence.extras` leads to; strides are 0 along an axis of length 1."""
    found = array("q")
    for extra in extras:
        steps, batch, units = extra.shape
        found.extend((address(extra), batch * units if steps > 1 else 0, units if batch > 1 else 0, units))
    return found


@functools.lru_cache(maxsize=1024)
def setting_of(
    kind: Any,
    shape: tuple[int, int, int, int],
    units: int,
    dtype: Any,
    plan: Plan,
    keep: bool,
    back: bool,
) -> Setting:
    """What calls of a shape have in common; `keep` and `back` as for `forward_sequence`."""
    steps, batch, inputs, hidden = shape
    cell, layer, zero = kind(), Layer(batch, inputs, hidden, units, 0, 0, 0), dtype.type(0)
    sequence = Sequence(
        steps, 0, int(keep), 0, 0, 0, 0, 0, plan.block, plan.chunks, 0,
        plan.team.parts if plan.team.by_units else 1,
    )  # fmt: skip
    sizes = [
        passes.kept_bytes(cell, layer, sequence, zero),
        plan.team.parts * DESCRIPTOR_SIZE * 8,
        0 if back else plan.team.parts * 8,
        packed_numbers(cell, inputs, hidden, units, False, zero) * dtype.itemsize,
        packed_numbers(cell, inputs, hidden, units, True, zero) * dtype.itemsize if back else 0,
        passes.scratch_bytes(cell, layer, steps, True, plan.team, zero) if back else 0,
    ]
    ends = np.full(batch, steps, np.int64)
    return Setting(
        address(compiled_functions(cell, dtype, back)),
        task.forward_task(kind, dtype),
        ends,
        address(ends),
        *(round_up(size, ALIGNMENT) for size in sizes),
    )


def pack(cell: Any, params: dict[str, Array], inputs: int, hidden: int, output: int, dtype: Any) -> Array:
    """Packed weights for the forward pass; `output`: units of h.

    Raises
    ------
    TypeError, ValueError
        A parameter has another dtype, or not its shape.
    """
    located = locate(cell, params, inputs, hidden, output, dtype)
    plan = Plan(ALONE, 1, 1)
    setting = setting_of(cell_class(cell), (1, 1, inputs, hidden), output, dtype, plan, False, False)
    (packed, weights), descriptor = (
        allocate((setting.forward,), np.uint8),
        np.empty(DESCRIPTOR_SIZE, np.int64),
    )
    layer = Layer(1, inputs, hidden, output, weights, setting.functions, 0)
    packing = Packing(located.addresses, 0, address(descriptor), 1)
    nothing = Sequence(*(0 for _ in Sequence._fields))
    job = numbers(SequenceJob(layer, nothing, ALONE, packing))
    run_task(setting.task, job.buffer_info()[0], Phases(prepare=1))
    return packed


def backward_sequence(
    saved: Saved,
    dy: Array | None,
    dlast: tuple[int, ...],
    dfirst: tuple[int, ...],
    input_gradient: bool = True,
) -> tuple[Array | None, dict[str, Array]]:
    """Back-propagate through one layer and direction, with the weights of the forward pass; uses the saved
    state up.

    Parameters
    ----------
    saved : Saved
    dy : ndarray, shape (T, B, units of h), or None
        Gradient of the output; rows need not be adjacent; None for zeros. What is beyond a sequence's end is
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
    x, team = saved.alive[0], saved.team
    (steps, batch, inputs), dtype = x.shape, x.dtype
    wide = padded(inputs, dtype)
    _scratch, _, where = reserve(saved.scratch)
    dx, dx_at = allocate((steps, batch, wide), dtype) if input_gradient else (None, 0)
    grads, addresses = _gradients(saved.located, dtype)
    output_gradient, _rows = _incoming(dy)
    layer = Layer(*saved.layer[:-1], where)
    targets = GradientTargets(dx_at, wide, addresses, 0)
    job = numbers(BackwardJob(layer, saved.sequence, team, output_gradient, targets), dlast + dfirst)
    backward = task.backward_task(cell_class(saved.cell), dtype)
    task.run_job(backward, job, team, team.workers)
    return None if dx is None else dx[..., :inputs], grads


def _gradients(located: Located, dtype: Any) -> tuple[dict[str, Array], Addresses]:
    """Arrays of the parameters' shapes in one piece of memory, and their addresses."""
    ends, params = located.ends, located.whole
    memory, offset, where = reserve(max(ends.values()))
    starts = dict(zip(ends, (0, *ends.values()), strict=False))
    views = {n: np.ndarray(params[n].shape, dtype, memory, offset + start) for n, start in starts.items()}
    return views, Addresses(*(where + starts[n] if n in starts else 0 for n in field_names(located.cell)))


def _incoming(dy: Array | None) -> tuple[OutputGradient, Array | None]:
    """Address and stride of the output's gradient (T, B, H) as (T * B, H), and the array that owns it."""
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
