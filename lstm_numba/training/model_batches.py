"""Batches of many models as one, with a leading axis of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_numba.models.base import SequenceBatch

Array = npt.NDArray[Any]


def stacked(batches: Sequence[SequenceBatch], per_step: bool) -> SequenceBatch:
    """One batch of those of each model.

    Where they differ in steps or sequences, the smaller ones are padded: their lengths say where a sequence
    ends, and sequences that are not there have no weight.

    Parameters
    ----------
    batches : sequence of SequenceBatch
        One for each model; all of the same kind.
    per_step : bool
        Whether labels are those of every step.

    Returns
    -------
    SequenceBatch
        Arrays (N, ...).
    """
    plain = all(one.lengths is None and one.weights is None for one in batches)
    if plain and len({one.x.shape for one in batches}) == 1:
        return SequenceBatch(np.stack([one.x for one in batches]), np.stack([one.labels for one in batches]))
    axes = max(1, *(0 if one.weights is None else np.ndim(one.weights) for one in batches))
    return SequenceBatch(
        _padded([one.x for one in batches]),
        _padded([one.labels for one in batches]),
        _padded([_lengths(one) for one in batches]),
        _padded([_weights(one, axes, per_step) for one in batches]),
    )


def _padded(arrays: Sequence[Array]) -> Array:
    """Arrays as one, (N, ...), zero where one is smaller than others."""
    shape = np.max([array.shape for array in arrays], axis=0)
    found = np.zeros((len(arrays), *shape), arrays[0].dtype)
    for n, array in enumerate(arrays):
        found[n][tuple(map(slice, array.shape))] = array
    return found


def _lengths(batch: SequenceBatch) -> Array:
    steps, sequences, _ = batch.x.shape
    return np.full(sequences, steps, np.int64) if batch.lengths is None else np.asarray(batch.lengths)


def _weights(batch: SequenceBatch, axes: int, per_step: bool) -> Array:
    """Weights with so many axes: (B,) or (B, M), of labels of every step (B,), (T, B) or (T, B, M)."""
    steps, sequences, _ = batch.x.shape
    found = np.ones(sequences) if batch.weights is None else np.asarray(batch.weights, np.float64)
    if per_step and found.ndim == 1 < axes:
        found = np.broadcast_to(found, (steps, sequences))
    while found.ndim < axes:
        found = np.repeat(found[..., None], batch.labels.shape[-1], axis=-1)
    return found
