"""Windows over sequences, gathered batch by batch; what overlaps is stored once."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lstm_numba.data.sequences import Sequences
from lstm_numba.data.series_types import Sequence
from lstm_numba.data.tables import Array


class Windows(NamedTuple):
    """A batch of windows, or of whole sequences.

    Attributes
    ----------
    x : ndarray (T, B, F)
        Zero beyond a sequence's end.
    y : ndarray
        Targets: (B, H, M) of a forecast, the H steps after each window; (B, 1, M), at the last step; or
        (T, B, M), at every step. 0 where missing.
    weights : ndarray, float64, as `y`
        0 where a target is missing, else 1.
    lengths : ndarray (B,), int64, optional
        Steps of each sequence; None where all have T.
    """

    x: Array
    y: Array
    weights: Array
    lengths: npt.NDArray[np.int64] | None


class Place(NamedTuple):
    """Where an item stands: its piece, and the piece's first and last step of the window, last excluded."""

    piece: int
    first: int
    last: int


class WindowIndex:
    """All windows of some pieces, as the numbers of their first rows.

    Parameters
    ----------
    pieces : sequence of Sequence
        A window lies in one of them. Shorter ones have none.
    window : int, optional
        Steps of a window; None: each piece as a whole.
    horizon : int
        Steps after a window that are its target; 0: the target is at its last step.
    stride : int
        Steps between the beginnings of two windows.
    per_step : bool
        The target is at every step of a window.
    before : ndarray (F,), optional
        What a missing number is replaced by where there is none before it in the piece; 0 by default.
    all_items : bool
        Keep the windows without any target.
    """

    def __init__(
        self,
        pieces: SequenceOf[Sequence],
        window: int | None,
        horizon: int = 0,
        stride: int = 1,
        *,
        per_step: bool = False,
        before: Array | None = None,
        all_items: bool = False,
    ) -> None:
        self.pieces = tuple(pieces)
        self.window, self.horizon, self.per_step = window, horizon, per_step
        filled = Sequences.join([piece.x for piece in pieces]).filled(np.nan)
        means = np.zeros(filled.rows.shape[1]) if before is None else np.asarray(before, np.float64)
        self._x = Sequences(np.where(np.isnan(filled.rows), means, filled.rows), filled.lengths)
        self._y = np.concatenate([piece.y for piece in pieces])
        starts = self._x.starts
        if window is None:
            self._first, self._owner = starts, np.arange(len(pieces))
        else:
            counts = np.maximum(self._x.lengths - window - horizon + stride, 0) // stride
            self._owner = np.repeat(np.arange(len(pieces)), counts)
            within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
            self._first = starts[self._owner] + stride * within
        if not all_items:
            known = self._any_target()
            self._first, self._owner = self._first[known], self._owner[known]

    def __len__(self) -> int:
        return len(self._first)

    @property
    def longest(self) -> int:
        """Steps of the longest item."""
        return self.window if self.window is not None else int(self._x.lengths.max())

    def _lengths(self, items: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        if self.window is not None:
            return np.full(len(items), self.window)
        found: npt.NDArray[np.int64] = self._x.lengths[self._owner[items]]
        return found

    def _any_target(self) -> npt.NDArray[np.bool_]:
        """Whether each item has a target; from running sums, not from copies."""
        items = np.arange(len(self._first))
        ends = self._first + self._lengths(items)
        first = ends if self.horizon else self._first if self.per_step else ends - 1
        last = ends + self.horizon
        total = np.concatenate([[0], np.cumsum((~np.isnan(self._y)).any(axis=1))])
        known: npt.NDArray[np.bool_] = total[last] > total[first]
        return known

    def place(self, item: int) -> Place:
        """Where an item stands."""
        owner = int(self._owner[item])
        first = int(self._first[item] - self._x.starts[owner])
        return Place(owner, first, first + int(self._lengths(np.array([item]))[0]))

    def last_items(self) -> npt.NDArray[np.int64]:
        """The last item of each piece that has any."""
        found: npt.NDArray[np.int64] = np.flatnonzero(np.diff(self._owner, append=-1))
        return found

    def gather(self, items: npt.NDArray[np.int64], dtype: npt.DTypeLike = np.float64) -> Windows:
        """The items of a batch.

        Parameters
        ----------
        items : ndarray (B,), int
            Numbers from 0.
        dtype : dtype
            Of `x`.
        """
        items = np.asarray(items)
        lengths: npt.NDArray[np.int64] | None
        if self.window is None:
            x, lengths = self._x.padded(self._owner[items], dtype)
        else:
            rows = self._first[items] + np.arange(self.window)[:, None]
            x, lengths = self._x.rows[rows].astype(dtype), None
        y = self._targets(items, len(x))
        missing = np.isnan(y)
        return Windows(x, np.where(missing, 0.0, y), (~missing).astype(np.float64), lengths)

    def _targets(self, items: npt.NDArray[np.int64], steps: int) -> Array:
        first, lengths = self._first[items], self._lengths(items)
        if self.per_step:
            places = np.arange(steps)[:, None]
            inside = places < lengths
            return np.where(inside[..., None], self._y[np.where(inside, first + places, 0)], np.nan)
        last = (first + lengths)[:, None]
        rows = last + np.arange(self.horizon) if self.horizon else last - 1
        found: Array = self._y[rows]
        return found
