"""What does not fit: how a function of this package answers, in compiled code and to Python.

An exception that compiled code raises inside a ``prange`` is lost, or ends the program in a `SystemError`. So
compiled code gets a status, an int, and arrays of NaN where results would be; Python gets a `ValueError`.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba.core import types
from numba.extending import overload

from lstm_numba.engines.cpu.options import INLINE
from lstm_numba.engines.cpu.vector import pointer_to
from lstm_numba.kernels.argument_types import Rule, check_before_compiling
from lstm_numba.kernels.memory import address_of

#: Statuses. Everything fits; or what does not.
FITS, X, STATE, Y, SCRATCH, TAPE, DY, DX, GRADS, PARAMETERS, STREAM = range(11)
WEIGHT_HH, WEIGHT_IH, BIASES, WEIGHT_PH = range(11, 15)

_REASONS = {
    X: "x: expected shape (T, B, I) or (T, I), of a step (B, I) or (I,), with the weights' I",
    STATE: "state: expected shape (B, H) each, or (H,) without a batch",
    Y: "y: expected shape (T, B, H), or (T, H) without a batch",
    SCRATCH: "scratch: expected as many numbers as scratch_size says for these weights, T, B and use",
    TAPE: "tape: expected as many numbers as tape_size says for these weights, T and B",
    DY: "dy: expected the shape of y",
    DX: "dx: expected the shape of x",
    GRADS: "grads: expected Parameters of the weights' shapes",
    PARAMETERS: "parameters: expected the sizes that the weights were packed with",
    STREAM: "x or out: another size than the stream's",
    WEIGHT_HH: "weight_hh: expected shape (G*H, H), G gates of H units",
    WEIGHT_IH: "weight_ih: expected shape (G*H, I), with the H of weight_hh",
    BIASES: "bias_ih, bias_hh: expected shape (G*H,), or (0,) both",
    WEIGHT_PH: "weight_ph: expected shape (P*H,), P peepholes of H units",
}


def reason(status: int) -> str:
    """What a status of this package's functions means.

    Parameters
    ----------
    status : int
        As `step` and the others return it to compiled code.

    Returns
    -------
    str
        Which argument does not fit and what was expected; empty for 0.
    """
    return "" if status == FITS else _REASONS[int(status)]


def raise_reason(status: int) -> None:
    """Raise `ValueError` where something does not fit."""
    if status != FITS:
        raise ValueError(reason(status))


class Typed:
    """A compiled function that refuses arguments of other types in one line, from Python and compiled code.

    Parameters
    ----------
    compiled : numba.core.dispatcher.Dispatcher
    rules : callable
        Of arguments that are something else than their names say elsewhere: see
        `lstm_numba.kernels.argument_types`.
    """

    def __init__(self, compiled: Any, **rules: Rule) -> None:
        check_before_compiling(compiled, rules)
        self.compiled = compiled
        functools.update_wrapper(self, compiled.py_func)
        #: Where Numba looks for the type of an object first: to it this is the compiled function.
        self._numba_type_ = types.Dispatcher(compiled)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it."""
        return self.compiled(*args, **kwargs)

    def __reduce__(self) -> str:
        """By name."""
        name: str = self.compiled.py_func.__qualname__
        return name


class Checked(Typed):
    """The same of a function that returns a status: in compiled code as it is, from Python an exception."""

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Call it, and raise `ValueError` where something does not fit."""
        raise_reason(self.compiled(*args, **kwargs))


def spoil(target: Any, zero: Any) -> Any:
    """Fill an array, or each of a tuple of arrays of one type, with NaN, which nobody takes for a result."""
    raise NotImplementedError


@overload(spoil, INLINE)
def _(target, zero):
    def array(target, zero):
        numbers = pointer_to(address_of(target), zero)
        for n in range(target.size):
            numbers[n] = np.nan

    def arrays(target, zero):
        for n in range(len(target)):
            spoil(target[n], zero)

    return array if isinstance(target, types.Array) else arrays
