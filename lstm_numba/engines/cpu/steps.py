"""Copies between arrays whose steps are at other times."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstm_numba.engines.base import Steps

Array = np.ndarray[Any, Any]


def copy_steps(source: Array, begin: int, out: Array, column: int, width: int, steps: Steps) -> None:
    """See `Engine.copy_steps`."""
    part, given, count = out[..., column : column + width], source[..., begin : begin + width], out.shape[-3]
    if steps.divide == 1:
        part[...] = given[..., steps.add :: steps.multiply, :, :][..., :count, :, :]
    else:
        part[...] = given[..., steps.of(count), :, :]


def add_steps(source: Array, begin: int, out: Array, column: int, width: int, steps: Steps) -> None:
    """See `Engine.add_steps`."""
    part, given = out[..., column : column + width], source[..., begin : begin + width]
    steps_given = given.shape[-3]
    if steps.divide == 1:
        part[..., steps.add :: steps.multiply, :, :][..., :steps_given, :, :] += given
        return
    targets, starts = np.unique(steps.of(steps_given), return_index=True)
    counts = np.diff(starts, append=steps_given)
    if counts.max(initial=0) <= len(targets):
        for n in range(counts.max(initial=0)):
            chosen = counts > n
            part[..., targets[chosen], :, :] += given[..., starts[chosen] + n, :, :]
    else:
        for target, start, count in zip(targets, starts, counts, strict=True):
            part[..., target, :, :] += given[..., start : start + count, :, :].sum(axis=-3)
