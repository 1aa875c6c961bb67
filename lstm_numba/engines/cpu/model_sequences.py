"""One layer and direction of many models over their sequences: see `lstm_numba.engines.cpu.many_models`.

What `lstm_numba.engines.cpu.sequence` says of one model holds of each. Arrays have a leading axis of models.
What the forward pass keeps only until its end, and all that the backward pass works on, each thread has once.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np

from lstm_numba.arguments import float_array
from lstm_numba.cells.parameters import parameter_shape
from lstm_numba.engines.cpu import task
from lstm_numba.engines.cpu.blocking import cell_class, choose_plan, padded
from lstm_numba.engines.cpu.many_models import run_models, threads_for
from lstm_numba.engines.cpu.memory import ALIGNMENT, address, allocate, reserve
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
    numbers,
)
from lstm_numba.engines.cpu.sequence import setting_of
from lstm_numba.engines.cpu.thread_team import Phases
from lstm_numba.engines.cpu.weight_cache import field_names

Array = np.ndarray[Any, Any]
#: Where an array's first model is, and bytes from one model to the next; zeros for what is not there.
Place = tuple[int, int]
NOWHERE: Place = (0, 0)

_FORWARD, _BACKWARD = Phases(prepare=1, begin=1, work=1, end=1), Phases(begin=1, work=1, end=1, after=1)


class SavedModels(NamedTuple):
    """What `forward_models` keeps for `backward_models`."""

    cell: Any
    params: dict[str, Array]
    x: Array
    alive: tuple[Any, ...]  # what the addresses lead to
    layer: Layer  # of the first model, with the weights of the backward pass,
    sequence: Sequence
    layer_step: Layer  # and what is added from one model to the next
    sequence_step: Sequence
    models: int
    scratch: int


def forward_models(
    cell: Any,
    params: dict[str, Array],
    x: Array,
    models: int,
    sizes: tuple[int, int],
    first: tuple[Place, ...],
    last: tuple[Place, ...],
    lengths: Array | None,
    reverse: bool,
    keep: bool,
    extras: Collection[Array] = (),
) -> tuple[Array, SavedModels | None]:
    """Run one layer and direction of each model.

    Parameters
    ----------
    cell : Cell
    params : dict of ndarray, shape (N, ...)
        As for one model.
    x : ndarray, shape (N, T, B, I), or (T, B, I) for one that all models read
    models : int
        N.
    sizes : (int, int)
        Hidden units H, and those of h.
    first, last : tuple of (int, int)
        Where the initial states (B, units) are, in the order of ``cell.states``, and where the final ones go.
    lengths : ndarray of int64, shape (N, B) or (B,), or None
    reverse, keep : bool
    extras : collection of ndarray, shape (N, T or 1, B or 1, H or 1), or without N

    Returns
    -------
    output : ndarray, shape (N, T, B, units of h)
        A view of the kept history; beyond a sequence's end it repeats the last state.
    saved : SavedModels or None

    Raises
    ------
    TypeError, ValueError
        A parameter has another dtype than the input, or not its shape.
    """
    (steps, batch, inputs), dtype, (hidden, units) = x.shape[-3:], x.dtype, sizes
    shape = (steps, batch, inputs, hidden)
    plan = choose_plan(cell, shape, dtype, keep, threads=1)
    setting = setting_of(cell_class(cell), shape, units, dtype, plan, keep, keep)
    params = _whole(cell, params, models, inputs, hidden, units, dtype)
    ends, (ends_at, ends_step) = lengths, NOWHERE if lengths is None else place(lengths, 1)
    if lengths is None:
        ends, ends_at = setting.ends, setting.ends_at
    h, h_at = allocate((models, steps + 1, batch, units), dtype)
    table, table_step = _table(extras, models)
    # What is kept of each model; what each thread needs meanwhile.
    kept = setting.rest + setting.back if keep else 0
    meanwhile = setting.forward + 8 * DESCRIPTOR_SIZE + (0 if keep else setting.rest)
    meanwhile = -(-meanwhile // ALIGNMENT) * ALIGNMENT
    memory, _, kept_at = reserve(models * kept)
    _memory, _, weights = reserve(threads_for(models) * meanwhile)
    descriptor, scratch = weights + setting.forward, weights + setting.forward + 8 * DESCRIPTOR_SIZE
    rest, back = (kept_at, kept_at + setting.rest) if keep else (scratch, 0)
    where, step = _addresses(cell, params)
    x_at, x_step = place(x, 3)
    layer = Layer(batch, inputs, hidden, units, weights, setting.functions, 0)
    sequence = Sequence(
        steps, int(reverse), int(keep), x_at, ends_at, h_at, rest, 0, plan.block, plan.chunks,
        table.buffer_info()[0] if extras else 0, 1,
    )  # fmt: skip
    sequence_step = Sequence(0, 0, 0, x_step, ends_step, h.strides[0], kept, 0, 0, 0, table_step, 0)
    nothing, nowhere = Layer(0, 0, 0, 0, 0, 0, 0), Sequence(*[0] * len(Sequence._fields))
    run_models(
        setting.task,
        _FORWARD,
        numbers(
            SequenceJob(layer, sequence, ALONE, Packing(where, back, descriptor, 1)), _firsts(first + last)
        ),
        numbers(
            SequenceJob(nothing, sequence_step, _NO_TEAM, Packing(step, kept, 0, 0)), _steps(first + last)
        ),
        numbers(
            SequenceJob(
                nothing._replace(weights=meanwhile), nowhere._replace(rest=0 if keep else meanwhile),
                _NO_TEAM, Packing(_NO_ADDRESSES, 0, meanwhile, 0),
            ),
            (0,) * len(first + last),
        ),
        models,
    )  # fmt: skip
    output = h[:, :-1] if reverse else h[:, 1:]
    if not keep:
        return output, None
    alive = (h, memory, ends, table, *extras)
    return output, SavedModels(
        cell, params, x, alive, layer._replace(weights=back), sequence, nothing._replace(weights=kept),
        sequence_step, models, setting.scratch,
    )  # fmt: skip


def backward_models(
    saved: SavedModels,
    dy: Array | None,
    dlast: tuple[Place, ...],
    dfirst: tuple[Place, ...],
    input_gradient: bool = True,
) -> tuple[Array | None, dict[str, Array]]:
    """Back-propagate through one layer and direction of each model, with the weights of the forward pass.

    Parameters
    ----------
    saved : SavedModels
    dy : ndarray, shape (N, T, B, units of h), or None
        Gradient of the output, None for zeros. What is beyond a sequence's end is ignored.
    dlast, dfirst : tuple of (int, int)
        Where the gradients of the final states (B, H) are, and where those of the initial ones go.
    input_gradient : bool
        Whether the gradient of the input is wanted.

    Returns
    -------
    dx : ndarray, shape (N, T, B, I), or None
        Each model's, also of an input that all read.
    grads : dict of ndarray, shape (N, ...)
        Gradients of the parameters, keys as in ``params``.
    """
    x, models = saved.x, saved.models
    (steps, batch, inputs), dtype = x.shape[-3:], x.dtype
    wide = padded(inputs, dtype)
    dx, dx_at = allocate((models, steps, batch, wide), dtype) if input_gradient else (None, 0)
    dx_step = 0 if dx is None else dx.strides[0]
    grads = {name: allocate(array.shape, dtype)[0] for name, array in saved.params.items()}
    where, step = _addresses(saved.cell, grads)
    dy, (dy_at, dy_step), row = _incoming(dy)
    _scratch, _, scratch = reserve(threads_for(models) * saved.scratch)
    nowhere = Sequence(*[0] * len(Sequence._fields))
    run_models(
        task.backward_task(cell_class(saved.cell), dtype),
        _BACKWARD,
        numbers(
            BackwardJob(
                saved.layer._replace(scratch=scratch), saved.sequence, ALONE, OutputGradient(dy_at, row),
                GradientTargets(dx_at, wide, where, 0),
            ),
            _firsts(dlast + dfirst),
        ),
        numbers(
            BackwardJob(
                saved.layer_step, saved.sequence_step, _NO_TEAM, OutputGradient(dy_step, 0),
                GradientTargets(dx_step, 0, step, 0),
            ),
            _steps(dlast + dfirst),
        ),
        numbers(
            BackwardJob(
                Layer(0, 0, 0, 0, 0, 0, saved.scratch), nowhere, _NO_TEAM, OutputGradient(0, 0),
                GradientTargets(0, 0, _NO_ADDRESSES, 0),
            ),
            (0,) * len(dlast + dfirst),
        ),
        models,
    )  # fmt: skip
    return None if dx is None else dx[..., :inputs], grads


_NO_TEAM = type(ALONE)(0, 0, 0)
_NO_ADDRESSES = Addresses(*[0] * len(Addresses._fields))


def place(array: Array | None, axes: int) -> Place:
    """Where an array of so many axes, or of one more for models, is; without one it is that of all models."""
    if array is None:
        return NOWHERE
    return address(array), array.strides[0] if array.ndim > axes else 0


def _firsts(places: tuple[Place, ...]) -> tuple[int, ...]:
    return tuple([first for first, _ in places])


def _steps(places: tuple[Place, ...]) -> tuple[int, ...]:
    return tuple([step for _, step in places])


def _whole(
    cell: Any, params: dict[str, Array], models: int, inputs: int, hidden: int, units: int, dtype: Any
) -> dict[str, Array]:
    """The parameters, each model's C-contiguous: the same arrays, or copies.

    Raises
    ------
    TypeError, ValueError
        One has another dtype, or not its shape.
    """
    found = {}
    for name, values in params.items():
        float_array(name, values, dtype)
        expected = (models, *parameter_shape(cell, name, inputs, hidden, units))
        if values.shape != expected:
            raise ValueError(f"{name}: expected shape {expected}, got {values.shape}")
        found[name] = values if values[0].flags.c_contiguous else np.ascontiguousarray(values)
    return found


def _addresses(cell: Any, arrays: dict[str, Array]) -> tuple[Addresses, Addresses]:
    """Where the first model's parameters or gradients are; bytes from one model to the next."""
    places = [place(arrays.get(name), 0) for name in field_names(cell)]
    return Addresses(*(first for first, _ in places)), Addresses(*(step for _, step in places))


def _table(extras: Collection[Array], models: int) -> tuple[Numbers, int]:
    """What each model's `Sequence.extras` leads to, one model after the other, and bytes of a model's."""
    found = array("q")
    for n in range(models if extras else 0):
        for extra in extras:
            (steps, batch, units), (first, step) = extra.shape[-3:], place(extra, 3)
            strides = (batch * units if steps > 1 else 0, units if batch > 1 else 0)
            found.extend((first + n * step, *strides, units))
    return found, 8 * 4 * len(extras)


def _incoming(dy: Array | None) -> tuple[Array | None, Place, int]:
    """The output's gradient with rows a whole number of numbers apart, where it is, and how many that is."""
    if dy is None:
        return None, NOWHERE, 0
    _, steps, batch, _ = dy.shape
    model, step, row, number = dy.strides
    size = dy.itemsize
    fits = number == size and row % size == 0 and row > 0 and (steps == 1 or step == batch * row)
    if not (fits and model % size == 0 and dy.flags.aligned):
        dy = np.ascontiguousarray(dy)
    return dy, place(dy, 3), dy.strides[2] // size
