"""Sequences of different lengths as one table of steps, padded batch by batch; missing numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Sequences:
    """Sequences one after the other.

    Attributes
    ----------
    rows : ndarray (R, F)
        The steps of all sequences.
    lengths : ndarray (N,), int64
        Steps of each sequence; their sum is R.
    """

    rows: Array
    lengths: Array

    @classmethod
    def join(cls, arrays: Sequence[Array]) -> Sequences:
        """From one array (T_i, F) for each sequence."""
        lengths = np.array([len(array) for array in arrays], np.int64)
        return cls(np.concatenate(arrays), lengths)

    @classmethod
    def of_equal_length(cls, array: Array) -> Sequences:
        """From an array (N, T, F)."""
        count, steps, features = array.shape
        return cls(array.reshape(count * steps, features), np.full(count, steps, np.int64))

    def __len__(self) -> int:
        return len(self.lengths)

    @cached_property
    def starts(self) -> Array:
        """First row of each sequence, (N,)."""
        return np.cumsum(self.lengths) - self.lengths

    @property
    def owners(self) -> Array:
        """Sequence that each row belongs to, (R,)."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    def padded(self, chosen: Array, dtype: npt.DTypeLike) -> tuple[Array, Array | None]:
        """A batch of the sequences `chosen`.

        Returns
        -------
        x : ndarray (T, B, F)
            Zero beyond a sequence's end.
        lengths : ndarray (B,) or None
            None if all are of one length.
        """
        lengths, starts = self.lengths[chosen], self.starts[chosen]
        steps = int(lengths.max())
        places = np.arange(steps)[:, None]
        inside = places < lengths
        x = self.rows[np.where(inside, starts + places, 0)].astype(dtype)
        if inside.all():
            return x, None
        x[~inside] = 0
        return x, lengths

    def take(self, chosen: Array) -> Sequences:
        """Some of the sequences."""
        lengths, starts = self.lengths[chosen], self.starts[chosen]
        within = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return Sequences(self.rows[np.repeat(starts, lengths) + within], lengths)

    def without_missing_steps(self) -> tuple[Sequences, Array]:
        """Without the steps of which nothing is known, all NaN; and which rows are left, (R,) bool."""
        known: Array = np.asarray(~np.isnan(self.rows).all(axis=1))
        if known.all():
            return self, known
        lengths = np.bincount(self.owners, weights=known, minlength=len(self.lengths)).astype(np.int64)
        return Sequences(self.rows[known], lengths), known

    def filled(self, before: float = 0.0) -> Sequences:
        """NaN replaced by the last number of its feature in the sequence; `before` where there is none."""
        missing = np.isnan(self.rows)
        if not missing.any():
            return self
        places = np.arange(len(self.rows))[:, None]
        last = np.maximum.accumulate(np.where(missing, -1, places), axis=0)
        first = np.repeat(self.starts, self.lengths)[:, None]
        rows = np.where(last >= first, np.take_along_axis(self.rows, np.maximum(last, 0), axis=0), before)
        return Sequences(rows, self.lengths)
