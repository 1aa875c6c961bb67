"""Errors that a user can cause and mend; each carries one line of text."""

from __future__ import annotations

import json


def printable(text: str, limit: int = 1000) -> str:
    """Text out of a foreign file for a terminal: it may hold line ends, a terminal's commands, a megabyte."""
    return "".join(c if c.isprintable() else "?" for c in text[:limit])


def printable_json(value: object) -> str:
    """A value out of JSON for a message."""
    return printable(json.dumps(value), 80)


class UserError(Exception):
    """Base of the errors that the command line prints as one line, without a traceback."""


class DataError(UserError):
    """A data file is missing, damaged or not what it claims to be; the text names the file and the fault."""


class CheckpointError(UserError):
    """A checkpoint or run folder is missing, damaged or unfit; the text names the file and the fault."""


class WeightsError(UserError, ValueError):
    """Weights cannot be read, or not be said in a format; the text names file or argument and the fault."""

    def __init__(self, text: str) -> None:
        super().__init__(printable(text))


class CellError(UserError, ValueError):
    """A cell of a user's own cannot be found or is none; the text names module and class, and why."""


class GradientError(UserError, AssertionError):
    """A cell's backward pass is not its forward pass's derivative; the text names the gate and numbers."""


class TrainingDiverged(UserError):
    """Loss or gradient norm is no finite number; the text names step, learning rate and norm."""


class DeviceError(UserError, RuntimeError):
    """CUDA cannot be used, or the device has not the memory; the text says why and what would help."""


class CacheWarning(UserWarning):
    """Compiled kernels cannot be kept on disk; the text says where and why, and what would help."""
