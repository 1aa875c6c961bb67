"""Errors that a user can cause and fix; each has a one-line message."""

from __future__ import annotations

import json
import sys
import warnings


def printable(text: str, limit: int = 1000) -> str:
    """Text from an untrusted file, made safe for a terminal: no control characters, limited length."""
    return "".join(c if c.isprintable() else "?" for c in text[:limit])


def printable_json(value: object) -> str:
    """A value out of JSON for a message."""
    return printable(json.dumps(value), 80)


class UserError(Exception):
    """Base of the errors that the command line prints as one line, without a traceback."""


class DataError(UserError):
    """A data file is missing, damaged or of another kind; the message names the file and the fault."""


class CheckpointError(UserError):
    """A checkpoint or run folder is missing, damaged or does not fit; the message names file and fault."""


class WeightsError(UserError, ValueError):
    """Weights cannot be read or written in a format; the message names file or argument and the fault.

    Parameters
    ----------
    text : str
        The message; what cannot be printed in it is replaced by ``?``.
    """

    def __init__(self, text: str) -> None:
        super().__init__(printable(text))


class CellError(UserError, ValueError):
    """A user's cell is not found or not valid; the message names module, class and the fault."""


class GradientError(UserError, AssertionError):
    """A backward pass is not the derivative of its forward pass; the message names gate and numbers."""


class TrainingDiverged(UserError):
    """Loss or gradient norm is not finite; the message gives step, learning rate and norm."""


class DeviceError(UserError, RuntimeError):
    """CUDA cannot be used, or device memory does not suffice; the message says why and how to fix it."""


class CacheWarning(UserWarning):
    """Compiled kernels cannot be cached on disk; the message says where, why and how to fix it."""


class WeightsWarning(UserWarning):
    """Weights went over, something else did not: a condition, a kind of dropout; the message says what."""


def warn(text: str, category: type[Warning] = UserWarning) -> None:
    """Warn of what a caller does, at the caller's line: the nearest one outside of this package and Numba."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and _is_inside(frame.f_globals.get("__name__")):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, category, stacklevel=level)


def _is_inside(module: object) -> bool:
    return str(module).partition(".")[0] in ("lstm_numba", "numba")
