"""What Python has the processor do: a sequence forward, before which weights may be packed, or backward.

Each is a task (`lstm_numba.engines.cpu.thread_team`) of a cell and dtype, with a job: numbers that say where
things lie.
"""

from __future__ import annotations

from array import array
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numba import njit

from lstm_numba.engines.cpu.backward import backward_by_batch, backward_by_units
from lstm_numba.engines.cpu.barrier import atomic_load, atomic_store
from lstm_numba.engines.cpu.forward import forward_by_batch, forward_by_units
from lstm_numba.engines.cpu.function_pointers import call_pointer, once
from lstm_numba.engines.cpu.function_table import CHECKSUM
from lstm_numba.engines.cpu.offsets import DESCRIPTOR_SIZE, LAYER_NUMBERS, Layer, Sequence, addresses_at
from lstm_numba.engines.cpu.options import INLINE
from lstm_numba.engines.cpu.passes import (
    ALONE,
    GradientTargets,
    OutputGradient,
    Team,
    backward_arrays,
    backward_epilogue,
    backward_prologue,
    backward_weights,
    begin,
    end,
    forward_arrays,
    forward_weights,
    weights_part,
)
from lstm_numba.engines.cpu.specialize import state_count
from lstm_numba.engines.cpu.thread_team import AFTER, BEGIN, CHECK, END, PREPARE, WORK, compile_task, run_task
from lstm_numba.engines.cpu.vector import pointer_to
from lstm_numba.engines.cpu.weights import Parameters, pack_part

#: Numbers of int64.
Numbers: TypeAlias = "array[int]"


class Packing(NamedTuple):
    """What weights are packed from; where they go and for what is the layer's.

    Attributes
    ----------
    params : Parameters
        Addresses, 0 for what there is not.
    back : int
        Where the weights for the way back go; 0 if they are not wanted.
    notes : int
        Address of `DESCRIPTOR_SIZE` numbers of int64 for each of the parts.
    parts : int
        Parts that the packing has.
    checks : int
        Parts of the look whether there is anything to pack; 0 to pack without.
    words : int
        Where the checksum's arrays are listed: address and bytes of each.
    arrays : int
        How many these are.
    sums : int
        Where it stands of which parameters the weights were packed last: the parts of these checksums, 0 if
        there are none, then the checksums.
    found : int
        Where the checksums of now go.
    """

    params: Parameters
    back: int
    descriptor: int
    parts: int
    checks: int = 0
    words: int = 0
    arrays: int = 0
    sums: int = 0
    found: int = 0


#: For weights that are packed already.
PACKED = Packing(Parameters(0, 0, 0, 0, 0), 0, 0, 0)

# Where things stand in the job of a sequence; on the way back its states' gradients follow the team.
_SEQUENCE = LAYER_NUMBERS
_TEAM = _SEQUENCE + len(Sequence._fields)
_PACKING = _TEAM + len(Team._fields)
_BACK = _PACKING
_STALE = (
    _PACKING + len(Parameters._fields) + len(Packing._fields) - 1
)  # whether packed weights are out of date
_STATES = _STALE + 1


def sequence_job(
    layer: Layer, sequence: Sequence, team: Team, packing: Packing, first: tuple[int, ...],
    last: tuple[int, ...],
) -> Numbers:  # fmt: skip
    """The job of a sequence forward; `first` and `last` are addresses of its initial and final states."""
    params, *rest = packing
    return array("q", (*layer, *sequence, *team, *params, *rest, 0, *first, *last))


def backward_job(
    layer: Layer, sequence: Sequence, team: Team, dlast: tuple[int, ...], dfirst: tuple[int, ...],
    output_gradient: OutputGradient, targets: GradientTargets,
) -> Numbers:  # fmt: skip
    """The job of the way back: `dlast` and `dfirst` are addresses of the states' gradients."""
    dx, row, grads, add = targets
    return array("q", (*layer, *sequence, *team, *dlast, *dfirst, *output_gradient, dx, row, *grads, add))


@njit(**INLINE)
def _shape(job):
    """Layer, sequence and team of a job."""
    s, t = _SEQUENCE, _TEAM
    layer = Layer(job[0], job[1], job[2], job[3], job[4], job[5])
    sequence = Sequence(
        job[s], job[s + 1], job[s + 2], job[s + 3], job[s + 4], job[s + 5], job[s + 6], job[s + 7],
        job[s + 8], job[s + 9],
    )  # fmt: skip
    return layer, sequence, Team(job[t], job[t + 1], job[t + 2])


@njit(**INLINE)
def _check(job, part):
    """One of the parts of finding out whether the packed weights are out of date."""
    p = _PACKING
    parts, sums, found = job[p + 8], pointer_to(job[p + 11], part), pointer_to(job[p + 12], part)
    functions = pointer_to(job[4], part)
    call_pointer(functions[CHECKSUM], (pointer_to(job[p + 9], part), job[p + 10], found, part, parts))
    if atomic_load(sums, 0) != parts or atomic_load(sums, 1 + part) != found[part]:
        job[_STALE] = 1


@njit(**INLINE)
def _remember(job):
    """Note of which parameters the weights are packed now."""
    p = _PACKING
    parts, sums, found = job[p + 8], pointer_to(job[p + 11], job[0]), pointer_to(job[p + 12], job[0])
    for part in range(parts):
        atomic_store(sums, 1 + part, found[part])
    atomic_store(sums, 0, parts)


@njit(**INLINE)
def _pack(cell, zero, job, part):
    """One of the parts of packing a layer's weights."""
    p = _PACKING
    params = Parameters(job[p], job[p + 1], job[p + 2], job[p + 3], job[p + 4])
    back, descriptor, parts = job[p + 5], job[p + 6] + 8 * DESCRIPTOR_SIZE * part, job[p + 7]
    layer, _, _ = _shape(job)
    sizes, functions = (layer.inputs, layer.hidden), layer.functions
    pack_part(cell, functions, params, *sizes, np.bool_(False), layer.weights, descriptor, part, parts, zero)
    if back != 0:
        pack_part(cell, functions, params, *sizes, np.bool_(True), back, descriptor, part, parts, zero)


@njit(**INLINE)
def _passing(cell, job):
    """What comes in from the output and what goes out."""
    n = _BACK + 2 * state_count(cell)
    grads = Parameters(job[n + 4], job[n + 5], job[n + 6], job[n + 7], job[n + 8])
    return OutputGradient(job[n], job[n + 1]), GradientTargets(job[n + 2], job[n + 3], grads, job[n + 9])


@njit(**INLINE)
def _forward(cell, zero, job, phase, part):
    layer, sequence, team = _shape(job)
    if phase == CHECK:
        _check(job, part)
    elif phase == PREPARE:
        _pack(cell, zero, job, part)
    elif phase == BEGIN:
        if job[_STALE] != 0:
            _remember(job)
        begin(cell, layer, sequence, addresses_at(cell, job, _STATES), zero)
    elif phase == WORK:
        sizes, arrays = forward_arrays(cell, layer, sequence, zero)
        weights = forward_weights(cell, layer, zero)
        if team.by_units != 0:
            forward_by_units(cell, weights, arrays, sizes, team.parts, part)
        else:
            forward_by_batch(cell, weights, arrays, sizes, team.parts, part)
    elif phase == END:
        end(cell, layer, sequence, addresses_at(cell, job, _STATES + state_count(cell)), zero)


@njit(**INLINE)
def _backward(cell, zero, job, phase, part):
    layer, sequence, team = _shape(job)
    output_gradient, targets = _passing(cell, job)
    if phase == BEGIN:
        dlast = addresses_at(cell, job, _BACK)
        backward_prologue(cell, layer, sequence, output_gradient, dlast, targets, team, zero)
    elif phase == WORK:
        sizes, _, arrays, gradients = backward_arrays(
            cell, layer, sequence, output_gradient, targets, team, zero
        )
        weights = backward_weights(cell, layer, zero)
        if team.by_units != 0:
            backward_by_units(cell, weights, arrays, gradients, sizes, team.parts, part)
        else:
            backward_by_batch(cell, weights, arrays, gradients, sizes, team.parts, part)
    elif phase == END:
        dfirst = addresses_at(cell, job, _BACK + state_count(cell))
        backward_epilogue(cell, layer, sequence, output_gradient, dfirst, targets, team, zero)
    elif phase == AFTER:
        weights_part(layer, part)


# Where the tasks lie. Numba tells what it has on disk by all that a function encloses: a cell and a zero,
# which are the same in every process, but not another compiled function. `kind` is a cell's class.


@once
def forward_task(kind: Any, dtype: Any) -> int:
    """Address of the task of a sequence forward."""
    cell, zero = kind(), dtype.type(0)

    def forward(job, phase, part):
        _forward(cell, zero, job, phase, part)

    return compile_task(forward)


@once
def backward_task(kind: Any, dtype: Any) -> int:
    """Address of the task of a sequence backward."""
    cell, zero = kind(), dtype.type(0)

    def backward(job, phase, part):
        _backward(cell, zero, job, phase, part)

    return compile_task(backward)


def run_job(
    task: int, job: Numbers, team: Team, workers: int, barrier: int, packing: Packing = PACKED
) -> bool:
    """Do a sequence's job by a team, or where its threads do not come together, alone.

    Returns
    -------
    bool
        Whether they came together, if they had to.
    """
    where = job.buffer_info()[0]
    barrier, stale = barrier if team.by_units else 0, where + 8 * _STALE if packing.checks else 0
    if run_task(task, where, team.parts, workers, barrier, packing.parts, packing.checks, stale):
        return True
    job[_TEAM:_PACKING] = array("q", ALONE)
    run_task(task, where)
    return False
