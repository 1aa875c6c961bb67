"""The tasks of a sequence: its forward pass, before which weights may be packed, and its backward pass.

Each is a task (`lstm_numba.engines.cpu.thread_team`) of a cell and dtype, whose job is a record.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from lstm_numba.engines.cpu.backward import backward_by_batch, backward_by_units
from lstm_numba.engines.cpu.forward import forward_by_batch, forward_by_units
from lstm_numba.engines.cpu.function_pointers import call_pointer, once
from lstm_numba.engines.cpu.offsets import DESCRIPTOR_SIZE, addresses_at
from lstm_numba.engines.cpu.options import INLINE
from lstm_numba.engines.cpu.passes import (
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
from lstm_numba.engines.cpu.records import (
    PACKED,
    BackwardJob,
    FunctionTable,
    Numbers,
    Packing,
    SequenceJob,
    Team,
    index_of,
    read_record,
    size_of,
)
from lstm_numba.engines.cpu.specialize import state_count
from lstm_numba.engines.cpu.thread_team import (
    AFTER,
    BEGIN,
    CHECK,
    END,
    PREPARE,
    WORK,
    Phases,
    compile_task,
    run_task,
)
from lstm_numba.engines.cpu.vector import pointer_to
from lstm_numba.engines.cpu.waiting import atomic_load, atomic_store
from lstm_numba.engines.cpu.weights import pack_part

#: Positions in the jobs: of what a check sets, and of the states behind them.
_STALE = index_of(SequenceJob, "stale")
_STATES, _DSTATES = size_of(SequenceJob), size_of(BackwardJob)


@njit(**INLINE)
def _check(job, part):
    """One of the parts of the check whether the packed weights are out of date."""
    record = read_record(SequenceJob, job, 0)
    packing = record.packing
    sums, found = pointer_to(packing.sums, part), pointer_to(packing.found, part)
    functions = read_record(FunctionTable, record.layer.functions, 0)
    call_pointer(
        functions.checksum, (pointer_to(packing.words, part), packing.arrays, found, part, packing.checks)
    )
    if atomic_load(sums, 0) != packing.checks or atomic_load(sums, 1 + part) != found[part]:
        job[_STALE] = 1


@njit(**INLINE)
def _remember(packing):
    """Store the checksums of the parameters that the weights are packed from now."""
    sums, found = pointer_to(packing.sums, packing.checks), pointer_to(packing.found, packing.checks)
    for part in range(packing.checks):
        atomic_store(sums, 1 + part, found[part])
    atomic_store(sums, 0, packing.checks)


@njit(**INLINE)
def _pack(cell, zero, layer, packing, part):
    """One of the parts of packing a layer's weights."""
    descriptor = packing.descriptor + 8 * DESCRIPTOR_SIZE * part
    parts, params = packing.parts, packing.params
    pack_part(cell, layer, params, np.bool_(False), layer.weights, descriptor, part, parts, zero)
    if packing.back != 0:
        pack_part(cell, layer, params, np.bool_(True), packing.back, descriptor, part, parts, zero)


@njit(**INLINE)
def _forward(cell, zero, job, phase, part):
    record = read_record(SequenceJob, job, 0)
    layer, sequence, team = record.layer, record.sequence, record.team
    if phase == CHECK:
        _check(job, part)
    elif phase == PREPARE:
        _pack(cell, zero, layer, record.packing, part)
    elif phase == BEGIN:
        if record.stale != 0:
            _remember(record.packing)
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
    record = read_record(BackwardJob, job, 0)
    layer, team = record.layer, record.team
    if phase == BEGIN:
        backward_prologue(cell, record, addresses_at(cell, job, _DSTATES), zero)
    elif phase == WORK:
        sizes, _, arrays, gradients = backward_arrays(cell, record, zero)
        weights = backward_weights(cell, layer, zero)
        if team.by_units != 0:
            backward_by_units(cell, weights, arrays, gradients, sizes, team.parts, part)
        else:
            backward_by_batch(cell, weights, arrays, gradients, sizes, team.parts, part)
    elif phase == END:
        backward_epilogue(cell, record, addresses_at(cell, job, _DSTATES + state_count(cell)), zero)
    elif phase == AFTER:
        weights_part(layer, part)


# The tasks. Numba finds on disk what it compiled by all that a function encloses: a cell and a zero, which
# are the same in every process, but not another compiled function. `kind` is a cell's class.


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


def run_job(task: int, job: Numbers, team: Team, workers: int, packing: Packing = PACKED) -> None:
    """Do a sequence's job by a team, whose `workers` share what follows the backward pass."""
    where = job.buffer_info()[0]
    stale = where + 8 * _STALE if packing.checks else 0
    phases = Phases(packing.checks, packing.parts, 1, team.parts, 1, workers)
    run_task(task, where, phases, bool(team.by_units), stale)
