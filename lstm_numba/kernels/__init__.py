"""Cells for your own compiled code: functions to call from ``@njit`` code, on arrays that you own."""

from lstm_numba.kernels import native as native  # Registers the weights' types with Numba.
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
from lstm_numba.kernels.weights import (
    Packed,
    Parameters,
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
]
