"""Cells for your own compiled code: functions to call from ``@njit`` code, on arrays that you own.

Nothing is copied behind your back, so what a forward pass read must be unchanged in the backward pass. There
are no lengths: all numbers of all T steps count, and a shorter sequence is a call with a smaller T.
"""

from lstm_numba.engines.cpu.records import Parameters
from lstm_numba.kernels.backward import sequence_backward, step_backward
from lstm_numba.kernels.c_functions import CStep, c_step
from lstm_numba.kernels.forward import (
    scratch_size,
    sequence,
    sequence_forward,
    step,
    step_forward,
    tape_size,
)
from lstm_numba.kernels.status import reason
from lstm_numba.kernels.types import with_parameters
from lstm_numba.kernels.weights import (
    Packed,
    Plain,
    pack,
    parameter_count,
    plain,
    repack,
    unflatten,
)

__all__ = [
    "CStep",
    "Packed",
    "Parameters",
    "Plain",
    "c_step",
    "pack",
    "parameter_count",
    "plain",
    "reason",
    "repack",
    "scratch_size",
    "sequence",
    "sequence_backward",
    "sequence_forward",
    "step",
    "step_backward",
    "step_forward",
    "tape_size",
    "unflatten",
    "with_parameters",
]
